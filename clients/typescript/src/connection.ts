/** Address, trust, token -> what a channel is made of. */

import { readFileSync } from "node:fs";

import { type ChannelOptions, type ClientOptions, Metadata, credentials } from "@grpc/grpc-js";

export const VERSION = "0.1.0";

// UNAVAILABLE: nobody answered, or the server stops. RESOURCE_EXHAUSTED: an overloaded server says when to come again, and
// one that refuses for good sends a pushback of -1 (gRFC A6). To judge a text twice does no harm.
export const SERVICE_CONFIG = {
  methodConfig: [
    {
      name: [{ service: "cascade.v1.CascadeService" }, { service: "grpc.health.v1.Health" }],
      retryPolicy: {
        maxAttempts: 5,
        initialBackoff: "0.1s",
        maxBackoff: "2s",
        backoffMultiplier: 2,
        retryableStatusCodes: ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
      },
    },
  ],
  retryThrottling: { maxTokens: 1000, tokenRatio: 0.1 },
};

const CHANNEL: ChannelOptions = {
  "grpc.service_config": JSON.stringify(SERVICE_CONFIG),
  "grpc.per_rpc_retry_buffer_size": 4 * 2 ** 20, // more than the largest text: a longer request is not repeated
  "grpc.max_receive_message_length": 64 * 2 ** 20,
  "grpc.keepalive_time_ms": 30_000, // finds a server that vanished with an open stream
  "grpc.keepalive_timeout_ms": 10_000,
  "grpc.primary_user_agent": `cascade-client-node/${VERSION}`,
};

/** How a server is reached. */
export interface ConnectionOptions {
  /** Sent as `authorization: Bearer TOKEN`. */
  token?: string;
  /** Whether to encrypt. Implied by `ca` and `certificate`. */
  tls?: boolean;
  /** File of the authorities that the server's certificate is checked by. Default: those that Node.js knows. */
  ca?: string;
  /** Files of the caller's own certificate chain and key, for servers that ask for one. */
  certificate?: { chain: string; key: string };
  /** Further channel options; they go before this client's own. */
  channel?: ChannelOptions;
}

/**
 * What the generated client's constructor takes, and the metadata that every call carries.
 *
 * @throws Error if the token would go over a network unencrypted, or a file cannot be read.
 */
export function connect(target: string, options: ConnectionOptions) {
  const { token, ca, certificate } = options;
  const secure = options.tls || ca !== undefined || certificate !== undefined;
  if (token !== undefined && !secure && !isLocal(target)) {
    throw new Error("a token goes over a network with TLS only: pass tls: true or ca: FILE");
  }
  const read = (path?: string) => (path === undefined ? null : readFileSync(path));
  const trust = secure
    ? credentials.createSsl(read(ca), read(certificate?.key), read(certificate?.chain))
    : credentials.createInsecure();
  const settings: Partial<ClientOptions> = { ...CHANNEL, ...options.channel };
  const metadata = new Metadata();
  if (token !== undefined) metadata.set("authorization", `Bearer ${token}`);
  return { credentials: trust, settings, metadata };
}

/** Whether a target never leaves this machine. */
function isLocal(target: string): boolean {
  if (target.startsWith("unix:")) return true;
  const host = target.slice(target.lastIndexOf("/") + 1).replace(/:\d+$/, "").replace(/^\[|\]$/g, "");
  return host === "localhost" || host === "::1" || /^127(\.\d{1,3}){3}$/.test(host);
}

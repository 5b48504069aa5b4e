/** Where the servers are that the tests talk to: run-tests says it in the environment. */

import { Client, type ConnectionOptions } from "../src/index.js";

const { CASCADE_TEST_PLAIN, CASCADE_TEST_SECURE, CASCADE_TEST_CA, CASCADE_TEST_TOKEN } = process.env;

export const plainTarget = CASCADE_TEST_PLAIN ?? "127.0.0.1:50051";
export const secureTarget = CASCADE_TEST_SECURE;
export const PATIENCE_MS = 60_000; // the machine may be busy
export const noSecure = secureTarget ? false : "no secured server was named";

/** Options for the server with TLS that wants a token; an empty one is not sent. */
export const trusting = (token = CASCADE_TEST_TOKEN): ConnectionOptions & { timeoutMs: number } => ({
  ...(CASCADE_TEST_CA === undefined ? {} : { ca: CASCADE_TEST_CA }),
  ...(token ? { token } : {}),
  timeoutMs: PATIENCE_MS,
});

/** A client of the server that anybody may call. */
export const plain = () => new Client(plainTarget, { timeoutMs: PATIENCE_MS });

/** All that a stream gives. */
export async function collect<T>(stream: AsyncIterable<T>): Promise<T[]> {
  const all = [];
  for await (const message of stream) all.push(message);
  return all;
}

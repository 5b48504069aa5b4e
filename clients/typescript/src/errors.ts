/** gRPC status with its details -> an error that says what went wrong, where, and whether to come again. */

import { type ServiceError, status } from "@grpc/grpc-js";

import { BadRequest, ErrorInfo, RetryInfo } from "./generated/google/rpc/error_details.js";
import { Status } from "./generated/google/rpc/status.js";

const DETAILS_KEY = "grpc-status-details-bin";

/** A field of the request that is at fault, for instance `conversation.turns[1].role`. */
export interface Violation {
  field: string;
  description: string;
}

/** Name of a gRPC code, for instance "NOT_FOUND". */
export type Code = keyof typeof status;

/** A call, or one item of it, failed. */
export class CascadeError extends Error {
  override readonly name = "CascadeError";

  /**
   * @param code the gRPC code by name.
   * @param description for people; never holds the text that was judged.
   * @param reason a stable name for programs, for instance "LIMIT_EXCEEDED"; empty if the server was not reached.
   * @param metadata what belongs to the reason, for instance the limit.
   * @param fields the fields at fault.
   * @param retryAfterMs after so many milliseconds another try may succeed; undefined if the server does not say.
   */
  constructor(
    readonly code: Code,
    readonly description: string,
    readonly reason = "",
    readonly metadata: Readonly<Record<string, string>> = {},
    readonly fields: readonly Violation[] = [],
    readonly retryAfterMs?: number,
  ) {
    super(`${code}${reason && ` (${reason})`}: ${description}`);
  }
}

/** The error that a `google.rpc.Status` describes. */
export function fromStatus(found: Status): CascadeError {
  let info = ErrorInfo.create();
  let bad = BadRequest.create();
  let retryAfterMs: number | undefined;
  for (const { typeUrl, value } of found.details) {
    if (typeUrl.endsWith("/google.rpc.ErrorInfo")) info = ErrorInfo.decode(value);
    if (typeUrl.endsWith("/google.rpc.BadRequest")) bad = BadRequest.decode(value);
    if (typeUrl.endsWith("/google.rpc.RetryInfo")) {
      const delay = RetryInfo.decode(value).retryDelay;
      if (delay) retryAfterMs = 1000 * delay.seconds + delay.nanos / 1e6;
    }
  }
  const fields = bad.fieldViolations.map(({ field, description }) => ({ field, description }));
  const code = (status[found.code] ?? "UNKNOWN") as Code;
  return new CascadeError(code, found.message, info.reason, info.metadata, fields, retryAfterMs);
}

/** The error of a call that failed; one without details comes from gRPC itself. */
export function fromCall(error: ServiceError): CascadeError {
  const [details] = error.metadata?.get(DETAILS_KEY) ?? [];
  if (Buffer.isBuffer(details)) return fromStatus(Status.decode(details));
  return new CascadeError((status[error.code] ?? "UNKNOWN") as Code, error.details ?? error.message);
}

/** What a caller wants judged -> requests; items of batches and streams -> answers or errors. */

import type { BatchCheckItem, CheckStreamResponse } from "./generated/cascade/v1/cascade_service.js";
import { CheckOptions, CheckRequest, type CheckResponse, type Exchange, Turn } from "./generated/cascade/v1/check.js";
import { type CascadeError, fromStatus } from "./errors.js";

/** A text, a prompt with its answer, the turns of a conversation, or a whole request. */
export type Content = string | Exchange | readonly Partial<Turn>[] | CheckRequest;

/** How contents are to be judged, see `CheckOptions` in the contract. What is left out is the server's default. */
export interface JudgeOptions extends Partial<CheckOptions> {
  /** Name of the policy. */
  policy?: string;
}

/** One answer of a batch or stream. */
export type Item =
  | { requestId: string; response: CheckResponse; error?: undefined }
  | { requestId: string; response?: undefined; error: CascadeError };

/**
 * Makes a request; one that is a request already is taken as it is.
 *
 * @throws TypeError if a whole request is given and something else beside it.
 */
export function requestOf(content: Content, judge?: JudgeOptions, requestId = ""): CheckRequest {
  if (isRequest(content)) {
    if (judge || requestId) throw new TypeError("a CheckRequest has an id and options of its own: set them there");
    return content;
  }
  const { policy = "", ...options } = judge ?? {};
  return { requestId, content: contentOf(content), policy, options: CheckOptions.fromPartial(options) };
}

/** An item as the server sent it. */
export function itemOf({ requestId, result }: BatchCheckItem | CheckStreamResponse): Item {
  if (result?.$case === "response") return { requestId, response: result.value };
  if (result?.$case === "error") return { requestId, error: fromStatus(result.value) };
  throw new Error("the server sent an item that is neither an answer nor an error");
}

function isRequest(content: Content): content is CheckRequest {
  return typeof content === "object" && "requestId" in content;
}

function contentOf(content: Exclude<Content, CheckRequest>): CheckRequest["content"] {
  if (typeof content === "string") return { $case: "text", value: content };
  if ("prompt" in content) return { $case: "exchange", value: content };
  return { $case: "conversation", value: { turns: content.map((turn) => Turn.fromPartial(turn)) } };
}

/** A client of Cascade, the text-safety service: `await new Client("HOST:PORT").check("text")`. */

export { type CallSettings, type CheckSettings, Client, type ModerateSettings } from "./client.js";
export { type ConnectionOptions, SERVICE_CONFIG, VERSION } from "./connection.js";
export type { Content, Item, JudgeOptions } from "./contents.js";
export { CascadeError, type Code, type Violation } from "./errors.js";
export { ModerateStreamResponse } from "./generated/cascade/v1/cascade_service.js";
export {
  Action,
  CheckOptions,
  CheckRequest,
  CheckResponse,
  Conversation,
  Exchange,
  Hazard,
  RouteReason,
  Turn,
  Verdict,
} from "./generated/cascade/v1/check.js";

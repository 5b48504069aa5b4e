// Calls of the gateway: token, errors in words, and one more try once a token was given.

const ERRORS = {
  0: "There is no answer from the server.",
  401: "The server asks for a token.",
  400: "The server did not take the request.",
  403: "The token may not do this.",
  404: "The server has no such thing.",
  408: "The server took too long.",
  413: "The text is longer than the server takes.",
  429: "The server has too much to do, or the quota is used up.",
  500: "The server failed.",
  503: "The server cannot answer right now.",
  504: "The server took too long.",
};

let token = "";
let ask = async () => null;

/** A call that ended badly: `status` is the HTTP status (0: no answer), `lines` say more. */
export class ApiError extends Error {
  constructor(status, lines = []) {
    super(ERRORS[status] ?? `The server answered with HTTP ${status}.`);
    Object.assign(this, { status, lines });
  }
}

/** Takes what asks for a token: a function of what is wrong that resolves to one, or to null. */
export function onTokenWanted(asking) {
  ask = asking;
}

/** Keeps the token, in memory alone. */
export function setToken(given) {
  token = given.trim();
}

export const hasToken = () => token !== "";

/** The body of a GET as text. `quiet` calls never ask for a token. */
export async function getText(path, { quiet = false } = {}) {
  return (await call(path, {}, quiet)).text();
}

/** The body of a GET as JSON. */
export async function getJson(path, options) {
  return parsed(await getText(path, options));
}

/** What the server makes of a CheckRequest. */
export async function check(request) {
  const body = JSON.stringify(request);
  const response = await call("/v1/check", { method: "POST", body, headers: { "Content-Type": "application/json" } });
  return parsed(await response.text());
}

async function call(path, options, quiet = false) {
  const response = await send(path, options);
  if (response.status === 401 && !quiet) {
    const given = await ask(token ? "The server does not know this token." : "This server asks for a token.");
    if (given === null) throw new ApiError(401, ["A token is wanted for this."]);
    setToken(given);
    return call(path, options);
  }
  if (!response.ok) throw new ApiError(response.status, await reasons(response));
  return response;
}

async function send(path, options) {
  try {
    const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
    return await fetch(path, { ...options, headers, cache: "no-store", credentials: "omit" });
  } catch (error) {
    // A token with characters that no header can hold is refused before anything is sent.
    throw new ApiError(0, [error instanceof TypeError && /[^\x20-\x7e]/.test(token) ? "The token has characters that no token has." : ""].filter(Boolean));
  }
}

/** What a google.rpc.Status in JSON says, the violations of its details too. */
async function reasons(response) {
  let body;
  try {
    body = JSON.parse(await response.text());
  } catch {
    return [];
  }
  const status = body?.error ?? body;
  const violations = (Array.isArray(status?.details) ? status.details : [])
    .flatMap((detail) => detail?.fieldViolations ?? [])
    .map((fault) => [fault.field, fault.description].filter(Boolean).join(": "));
  const wait = response.headers.get("Retry-After");
  return [...new Set([status?.message, ...violations, wait && `Try again in ${wait} s.`])].filter((line) => typeof line === "string" && line);
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    throw new ApiError(0, ["The answer is no JSON: is something between this page and the server?"]);
  }
}

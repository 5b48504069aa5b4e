/** Every vector of clients/vectors.json, on the plain and on the secured server. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { stream } from "../src/client.js";
import { connect } from "../src/connection.js";
import { CascadeServiceClient, ModerateStreamRequest } from "../src/generated/cascade/v1/cascade_service.js";
import {
  CascadeError,
  CheckRequest,
  CheckResponse,
  Client,
  type ConnectionOptions,
  type Item,
  ModerateStreamResponse,
} from "../src/index.js";
import { collect, noSecure, plainTarget, secureTarget, trusting } from "./servers.js";

type Json = any;

const VECTORS: Json[] = JSON.parse(readFileSync(new URL("../../../vectors.json", import.meta.url), "utf8"));
const DEFAULTS = new Set([undefined, null, "", 0, "0", false]);

for (const vector of VECTORS) {
  test(`plain: ${vector.name}`, { skip: "token" in vector && "for the secured server" }, () =>
    holds(vector, plainTarget, {}),
  );
  test(`secured: ${vector.name}`, { skip: noSecure }, () =>
    holds(vector, secureTarget ?? "", trusting(vector.token)),
  );
}

async function holds(vector: Json, target: string, options: ConnectionOptions): Promise<void> {
  const client = new Client(target, options);
  const { rpc, expect } = vector;
  const request = structuredClone(vector.request);
  for (const [member, times] of Object.entries<number>(vector.repeat ?? {})) {
    const value = request[member];
    request[member] = typeof value === "string" ? value.repeat(times) : Array(times).fill(value[0]);
  }
  try {
    if (expect.answers) {
      const items = await itemsOf(client, rpc, request);
      assert.equal(items.length, expect.answers.length);
      items.forEach((item, index) => compare(item.error ?? CheckResponse.toJSON(item.response), expect.answers[index]));
    } else {
      const startless = rpc === "ModerateStream" && !request[0].start;
      const result = startless ? sendAll(target, options, request) : resultOf(client, rpc, request);
      compare(await result.catch((error: unknown) => error), expect);
    }
  } finally {
    client.close();
  }
}

async function itemsOf(client: Client, rpc: string, request: Json): Promise<Item[]> {
  if (rpc === "BatchCheck") return client.checkBatch(request.requests.map(CheckRequest.fromJSON), { timeoutMs: 60_000 });
  const contents: CheckRequest[] = request.map((message: Json) => CheckRequest.fromJSON(message.request));
  const items = await collect(client.checkStream(contents, { timeoutMs: 60_000 }));
  const ids = contents.map(({ requestId }) => requestId);
  return items.sort((one, other) => ids.indexOf(one.requestId) - ids.indexOf(other.requestId));
}

async function resultOf(client: Client, rpc: string, request: Json): Promise<unknown> {
  const settings = { timeoutMs: 60_000 };
  if (rpc === "Check") return CheckResponse.toJSON(await client.check(CheckRequest.fromJSON(request), settings));
  if (rpc !== "ModerateStream") return itemsOf(client, rpc, request);
  const deltas = request.flatMap((message: Json) => message.delta ?? []);
  const { requestId, prompt, policy = "" } = request[0].start;
  const call = client.moderateStream(deltas, { ...settings, requestId, prompt, judge: { policy } });
  const states = await collect(call);
  const released = states.map((state) => state.releasedUpto);
  assert.deepEqual(released, [...released].sort((one, other) => one - other));
  return ModerateStreamResponse.toJSON(states.at(-1)!);
}

/** Sends the messages of a generation as they are: the client's own function would not leave out the start. */
async function sendAll(target: string, options: ConnectionOptions, request: Json[]): Promise<unknown> {
  const { credentials, settings, metadata } = connect(target, options);
  const raw = new CascadeServiceClient(target, credentials, settings);
  async function* messages() {
    for (const message of request) yield ModerateStreamRequest.fromJSON(message);
  }
  try {
    return await collect(stream((call) => raw.moderateStream(metadata, call), messages(), {}));
  } finally {
    raw.close();
  }
}

function compare(result: unknown, expect: Json): void {
  if (expect.code) {
    assert.ok(result instanceof CascadeError, `${expect.code} was expected`);
    assert.deepEqual([result.code, result.reason], [expect.code, expect.reason]);
    if (expect.field) assert.equal(result.fields[0]?.field, expect.field);
    for (const [key, value] of Object.entries(expect.metadata ?? {})) assert.equal(result.metadata[key], value);
    if ("retry" in expect) assert.equal(result.retryAfterMs !== undefined, expect.retry);
    return;
  }
  if (result instanceof Error) throw result;
  const reply = result as Json;
  if (expect.verdict) assert.equal(reply.verdict.verdict ?? reply.verdict, expect.verdict);
  for (const path of expect.present ?? []) assert.ok(!isDefault(at(reply, path)), `${path} is missing`);
  for (const path of expect.absent ?? []) assert.ok(isDefault(at(reply, path)), `${path} is there`);
  for (const [path, value] of Object.entries(expect.equal ?? {})) {
    assert.equal(String(at(reply, path)), String(value), path); // 64-bit integers are numbers here, strings there
  }
}

/** What lies at a path; undefined if nothing does. */
function at(reply: Json, path: string): Json {
  return path.split(".").reduce((value, step) => value?.[step], reply);
}

function isDefault(value: Json): boolean {
  return DEFAULTS.has(value) || (typeof value === "object" && Object.keys(value).length === 0);
}

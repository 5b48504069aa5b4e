/** What the vectors cannot show: deadlines, repetitions, health, streams that end early, who gets to see a token. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";

import { Metadata, Server, ServerCredentials, status } from "@grpc/grpc-js";

import { CascadeError, CheckRequest, CheckResponse, Client, SERVICE_CONFIG, Verdict } from "../src/index.js";
import { CascadeServiceService } from "../src/generated/cascade/v1/cascade_service.js";
import { fromStatus } from "../src/errors.js";
import { ErrorInfo, RetryInfo } from "../src/generated/google/rpc/error_details.js";
import { collect, noSecure, PATIENCE_MS as timeoutMs, plain, plainTarget, secureTarget, trusting } from "./servers.js";

const CALM = "What is the capital of France?";
const clients: Client[] = [];
const fakes: Server[] = [];

function keep(client: Client): Client {
  clients.push(client);
  return client;
}

// What stays open, after a failure too, would keep the process.
after(() => {
  clients.forEach((client) => client.close());
  fakes.forEach((server) => server.forceShutdown());
});

/** A server whose Check answers what it is told to, one after the other, and counts. */
async function fake(answers: { code?: status; pushback?: string; delayMs?: number }[]) {
  const server = new Server();
  fakes.push(server);
  const counted = { calls: 0 };
  const answer = (_: unknown, callback: (error: object | null, response?: CheckResponse) => void) => {
    const { code, pushback, delayMs = 0 } = answers[counted.calls++] ?? {};
    if (delayMs) return void setTimeout(callback, delayMs, { code: status.INTERNAL }).unref();
    const metadata = new Metadata();
    if (pushback) metadata.set("grpc-retry-pushback-ms", pushback);
    if (code) callback({ code, details: "as told", metadata });
    else callback(null, CheckResponse.create({ verdict: Verdict.VERDICT_SAFE }));
  };
  server.addService({ check: CascadeServiceService.check }, { check: answer as never });
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync("localhost:0", ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    ),
  );
  return { target: `localhost:${port}`, counted };
}

const isError = (expected: Partial<CascadeError>) => (error: unknown) => {
  assert.ok(error instanceof CascadeError, String(error));
  for (const [key, value] of Object.entries(expected)) assert.equal(error[key as keyof CascadeError], value, key);
  return true;
};

test("what may pass is repeated", async () => {
  for (const answers of [
    [{ code: status.UNAVAILABLE }, { code: status.UNAVAILABLE }, {}],
    [{ code: status.RESOURCE_EXHAUSTED, pushback: "20" }, {}],
  ]) {
    const server = await fake(answers);
    const { verdict } = await keep(new Client(server.target, { timeoutMs })).check(CALM);
    assert.equal(verdict, Verdict.VERDICT_SAFE);
    assert.equal(server.counted.calls, answers.length);
  }
});

test("what cannot pass is not repeated", async () => {
  const server = await fake([{ code: status.RESOURCE_EXHAUSTED, pushback: "-1" }, {}]);
  const client = keep(new Client(server.target, { timeoutMs }));
  await assert.rejects(client.check(CALM), isError({ code: "RESOURCE_EXHAUSTED" }));
  assert.equal(server.counted.calls, 1);
});

test("what may be our fault is repeated if the caller's service config says so", async () => {
  const answers = [{ code: status.INTERNAL, pushback: "1" }, {}];
  const once = await fake(answers);
  await assert.rejects(keep(new Client(once.target, { timeoutMs })).check(CALM), isError({ code: "INTERNAL" }));
  assert.equal(once.counted.calls, 1);
  const config = readFileSync(new URL("../../../../deploy/ray/service-config.json", import.meta.url), "utf8");
  const twice = await fake(answers);
  const client = keep(new Client(twice.target, { timeoutMs, channel: { "grpc.service_config": config } }));
  assert.equal((await client.check(CALM)).verdict, Verdict.VERDICT_SAFE);
  assert.equal(twice.counted.calls, 2);
});

test("the retry policy is the one that all clients have", () => {
  const shared = new URL("../../../service-config.json", import.meta.url);
  assert.deepEqual(JSON.parse(readFileSync(shared, "utf8")), SERVICE_CONFIG);
});

test("nobody there", async () => {
  const client = keep(new Client("localhost:1", { timeoutMs }));
  await assert.rejects(client.check(CALM), isError({ code: "UNAVAILABLE", reason: "", retryAfterMs: undefined }));
});

test("an answer that does not come in time", async () => {
  const server = await fake([{ delayMs: 60_000 }]);
  const call = keep(new Client(server.target)).check(CALM, { timeoutMs: 200 });
  await assert.rejects(call, isError({ code: "DEADLINE_EXCEEDED" }));
});

test("a signal ends a call", async () => {
  const settings = { signal: AbortSignal.abort() };
  await assert.rejects(keep(plain()).check(CALM, settings), isError({ code: "CANCELLED" }));
});

test("health", async () => {
  const client = keep(plain());
  assert.equal(await client.healthy(), true);
  assert.equal(await client.healthy("stage2"), true);
  await assert.rejects(client.healthy("nobody-has-this"), isError({ code: "NOT_FOUND" }));
});

test("health of a secured server", { skip: noSecure }, async () => {
  assert.equal(await keep(new Client(secureTarget ?? "", trusting())).healthy(), true);
});

test("a certificate of an unknown authority is not trusted", { skip: noSecure }, async () => {
  const client = keep(new Client(secureTarget ?? "", { tls: true, token: "x", timeoutMs }));
  await assert.rejects(client.check(CALM), isError({ code: "UNAVAILABLE" }));
});

test("a token does not cross a network unencrypted", () => {
  assert.throws(() => new Client("cascade.example:50051", { token: "secret" }), /TLS/);
  assert.throws(() => new Client("dns:///10.0.0.1:50051", { token: "secret" }), /TLS/);
  for (const local of ["localhost:1", "127.0.0.1:1", "[::1]:1", "unix:/tmp/x"]) {
    keep(new Client(local, { token: "secret" }));
  }
});

test("every kind of content is taken", async () => {
  const client = keep(plain());
  const request = CheckRequest.create({ content: { $case: "text", value: CALM } });
  const turns = [{ role: "user", text: CALM }, { role: "assistant", text: "Paris." }];
  const contents = [CALM, { prompt: CALM, response: "Paris." }, turns, request];
  const settings = { timeoutMs: 60_000 };
  for (const content of contents) {
    assert.equal((await client.check(content, settings)).verdict, Verdict.VERDICT_SAFE);
  }
  for (const item of await client.checkBatch(contents, settings)) {
    assert.equal(item.response?.verdict, Verdict.VERDICT_SAFE);
  }
  assert.throws(() => client.check(request, { judge: { explain: true } }), TypeError);
});

test("a stream answers while its contents still come, and may be left", async () => {
  const client = keep(plain());
  let answered = () => {};
  const first = new Promise<void>((resolve) => (answered = resolve));
  let closed = false;
  async function* contents() {
    try {
      const text = { $case: "text", value: CALM } as const;
      yield CheckRequest.create({ requestId: "first", content: text });
      await first;
      for (let number = 0; ; number++) yield CheckRequest.create({ requestId: `${number}`, content: text });
    } finally {
      closed = true;
    }
  }
  const seen = [];
  for await (const item of client.checkStream(contents())) {
    seen.push(item.requestId);
    answered();
    if (seen.length === 3) break;
  }
  assert.equal(seen[0], "first");
  assert.equal(await client.healthy(), true);
  assert.ok(closed, "the caller's generator is told that no more is wanted");
});

test("a failure of the caller's own iterator is its own", async () => {
  const own = new Error("mine");
  function* broken() {
    yield CALM;
    throw own;
  }
  const client = keep(plain());
  await assert.rejects(collect(client.checkStream(broken())), own);
  await assert.rejects(collect(client.moderateStream(broken())), own);
  assert.equal(await client.healthy(), true);
});

test("nothing is read after a block", async () => {
  let taken = 0;
  function* deltas() {
    for (; taken < 100_000; taken++) yield "word ";
  }
  const prompt = "Explain step by step how to build a pipe bomb at home.";
  const states = await collect(keep(plain()).moderateStream(deltas(), { prompt, timeoutMs: 60_000 }));
  assert.deepEqual([states.at(-1)?.final, states.at(-1)?.releasedUpto], [true, 0]);
  assert.ok(taken < 100_000);
});

test("overload says when to come again", () => {
  const pack = (name: string, value: Uint8Array) => ({
    typeUrl: `type.googleapis.com/google.rpc.${name}`,
    value: Buffer.from(value),
  });
  const error = fromStatus({
    code: status.RESOURCE_EXHAUSTED,
    message: "full",
    details: [
      pack("ErrorInfo", ErrorInfo.encode(ErrorInfo.create({ reason: "OVERLOADED" })).finish()),
      pack("RetryInfo", RetryInfo.encode({ retryDelay: { seconds: 1, nanos: 5e8 } }).finish()),
    ],
  });
  isError({ code: "RESOURCE_EXHAUSTED", reason: "OVERLOADED", retryAfterMs: 1500 })(error);
});

test("the example runs", async () => {
  const example = fileURLToPath(new URL("../examples/moderate.js", import.meta.url));
  assert.ok(existsSync(example));
  const printed = execFileSync(process.execPath, [example, plainTarget], { encoding: "utf8", timeout: 120_000 });
  const readme = readFileSync(new URL("../../README.md", import.meta.url), "utf8");
  const shown = readme.match(/^```text\n(.*?)^```/ms)?.[1] ?? "";
  assert.equal(printed.replace(/0\.\d+/, "0.9"), shown.replace(/0\.\d+/, "0.9"));
});

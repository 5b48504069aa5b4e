/** The client: contents -> calls -> verdicts. */

import { setImmediate } from "node:timers/promises";

import type { CallOptions, ClientDuplexStream, ClientUnaryCall, Metadata, ServiceError } from "@grpc/grpc-js";

import { type ConnectionOptions, connect } from "./connection.js";
import { type Content, type Item, type JudgeOptions, itemOf, requestOf } from "./contents.js";
import { fromCall } from "./errors.js";
import {
  CascadeServiceClient,
  CheckStreamRequest,
  ModerateStreamRequest,
  type ModerateStreamResponse,
} from "./generated/cascade/v1/cascade_service.js";
import { CheckOptions, type CheckRequest, type CheckResponse } from "./generated/cascade/v1/check.js";
import { HealthCheckResponse_ServingStatus, HealthClient } from "./generated/grpc/health/v1/health.js";

const TIMEOUT_MS = 10_000;

/** What belongs to one call. */
export interface CallSettings {
  /** Milliseconds that the call may take, repetitions included. */
  timeoutMs?: number;
  /** Ends the call early, with the code CANCELLED. */
  signal?: AbortSignal;
}

/** What belongs to one call that has contents judged. */
export interface CheckSettings extends CallSettings {
  /** How they are to be judged. */
  judge?: JudgeOptions;
}

/** The start of a moderated generation. */
export interface ModerateSettings extends CheckSettings {
  /** The prompt that is being answered. */
  prompt?: string;
  requestId?: string;
}

type Unary<Request, Response> = (
  request: Request,
  metadata: Metadata,
  options: Partial<CallOptions>,
  callback: (error: ServiceError | null, response: Response) => void,
) => ClientUnaryCall;

/** A client of one server, or of one name that stands for several. Close it at the end. Calls reject with CascadeError. */
export class Client {
  readonly #cascade: CascadeServiceClient;
  readonly #health: HealthClient;
  readonly #metadata: Metadata;
  readonly #timeoutMs: number;

  /**
   * @param target "HOST:PORT", or another name that gRPC knows.
   * @param options.timeoutMs for a check, a batch or a question for health, unless the call says otherwise (10 s).
   *   Streams have a deadline only if the call gives one.
   */
  constructor(target: string, options: ConnectionOptions & { timeoutMs?: number } = {}) {
    const { credentials, settings, metadata } = connect(target, options);
    this.#cascade = new CascadeServiceClient(target, credentials, settings);
    this.#health = new HealthClient(target, credentials, { ...settings, channelOverride: this.#cascade.getChannel() });
    this.#metadata = metadata;
    this.#timeoutMs = options.timeoutMs ?? TIMEOUT_MS;
  }

  /** Ends the connection when the calls under way have ended. */
  close(): void {
    this.#cascade.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Judges one content: a text, an exchange, the turns of a conversation, or a whole request. */
  check(content: Content, settings: CheckSettings & { requestId?: string } = {}): Promise<CheckResponse> {
    const request = requestOf(content, settings.judge, settings.requestId);
    return this.#call<CheckRequest, CheckResponse>(this.#cascade.check.bind(this.#cascade), request, settings);
  }

  /** Judges several contents; there is an item for each, in their order. */
  async checkBatch(contents: Iterable<Content>, settings: CheckSettings = {}): Promise<Item[]> {
    const requests = Array.from(contents, (content) => requestOf(content, settings.judge));
    const { items } = await this.#call(this.#cascade.batchCheck.bind(this.#cascade), { requests }, settings);
    return items.map(itemOf);
  }

  /**
   * Judges contents as they come. Items come as they are ready: give requests ids to tell them apart. Leaving the loop
   * ends the call.
   */
  async *checkStream(
    contents: Iterable<Content> | AsyncIterable<Content>,
    settings: CheckSettings = {},
  ): AsyncGenerator<Item, void, undefined> {
    async function* requests() {
      for await (const content of contents) {
        yield CheckStreamRequest.create({ request: requestOf(content, settings.judge) });
      }
    }
    const open = (options: Partial<CallOptions>) => this.#cascade.checkStream(this.#metadata, options);
    for await (const message of stream(open, requests(), settings)) yield itemOf(message);
  }

  /**
   * Judges one generation while it is written; show no more of it than `releasedUpto` code points (not UTF-16 units:
   * `[...text].slice(0, n)`). The last state is `final`: after a block no further delta is judged.
   */
  async *moderateStream(
    deltas: Iterable<string> | AsyncIterable<string>,
    settings: ModerateSettings = {},
  ): AsyncGenerator<ModerateStreamResponse, void, undefined> {
    const { policy = "", ...options } = settings.judge ?? {};
    const { prompt = "", requestId = "" } = settings;
    async function* requests(): AsyncGenerator<ModerateStreamRequest> {
      const start = { requestId, prompt, policy, options: CheckOptions.fromPartial(options) };
      yield { event: { $case: "start", value: start } };
      for await (const delta of deltas) yield { event: { $case: "delta", value: delta } };
      yield { event: { $case: "end", value: {} } };
    }
    const open = (call: Partial<CallOptions>) => this.#cascade.moderateStream(this.#metadata, call);
    yield* stream(open, requests(), settings);
  }

  /** Whether the server says that it, or one service or stage of it ("stage1", "stage2"), is serving. */
  async healthy(service = "", settings: CallSettings = {}): Promise<boolean> {
    const { status } = await this.#call(this.#health.check.bind(this.#health), { service }, settings);
    return status === HealthCheckResponse_ServingStatus.SERVING;
  }

  #call<Request, Response>(
    method: Unary<Request, Response>,
    request: Request,
    { timeoutMs = this.#timeoutMs, signal }: CallSettings,
  ): Promise<Response> {
    return new Promise((resolve, reject) => {
      const call = method(request, this.#metadata, { deadline: Date.now() + timeoutMs }, (error, response) => {
        signal?.removeEventListener("abort", cancel);
        if (error) reject(fromCall(error));
        else resolve(response);
      });
      const cancel = () => call.cancel();
      if (signal?.aborted) cancel();
      signal?.addEventListener("abort", cancel);
    });
  }
}

/** Sends requests as the call takes them, and gives what is answered. What the requests throw is thrown. */
export async function* stream<Request, Response>(
  open: (options: Partial<CallOptions>) => ClientDuplexStream<Request, Response>,
  requests: AsyncIterator<Request>,
  { timeoutMs, signal }: CallSettings,
): AsyncGenerator<Response, void, undefined> {
  const call = open(timeoutMs === undefined ? {} : { deadline: Date.now() + timeoutMs });
  const cancel = () => call.cancel();
  if (signal?.aborted) cancel();
  signal?.addEventListener("abort", cancel);
  const failed: unknown[] = [];
  const ended = new Promise<void>((resolve) => call.once("close", resolve).once("status", () => resolve()));
  const sent = send(call, requests, ended).catch((error: unknown) => {
    failed.push(error);
    cancel();
  });
  try {
    for await (const message of call) yield message as Response;
    if (failed.length) throw failed[0];
  } catch (error) {
    throw failed.length ? failed[0] : fromCall(error as ServiceError);
  } finally {
    signal?.removeEventListener("abort", cancel);
    cancel(); // without effect on a call that has ended
    void sent;
  }
}

/** Writes the requests, each when there is room for it, until the call has ended. */
async function send<Request, Response>(
  call: ClientDuplexStream<Request, Response>,
  requests: AsyncIterator<Request>,
  ended: Promise<void>,
): Promise<void> {
  let over = false;
  void ended.then(() => (over = true));
  while (!over) {
    const next = await requests.next();
    if (over) break;
    if (next.done) {
      call.end();
      return;
    }
    const hasRoom = call.write(next.value);
    // With room, too, others get their turn: else requests that are all there would keep answers from being heard.
    await (hasRoom ? setImmediate() : Promise.race([ended, new Promise((resolve) => call.once("drain", resolve))]));
  }
  await requests.return?.();
}

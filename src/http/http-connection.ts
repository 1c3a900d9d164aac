/**
 * One connection of the HTTP port. Requests are answered one after the other, and no more is read
 * than that takes: a body when it is asked for, and an answer is made as it is sent.
 */
import type { Socket } from "bun";
import { releaseLarge, releaseLargeOf } from "../core/bytes.ts";
import { LARGE_CHUNK_BYTES, type ReadingTurns, type Sender } from "../reading-turns.ts";
import { SendQueue } from "../send-queue.ts";
import { SocketReading } from "../socket-reading.ts";
import { nextTurn, type Timing } from "../timing.ts";
import { bodyBytes, isStream } from "./api-json.ts";
import { BodyProblem, RequestBody } from "./request-body.ts";
import {
  endOfHead,
  MAX_HEAD_BYTES,
  parseHead,
  type HeadProblem,
  type RequestHead,
} from "./request-head.ts";

/** Who sends a request. */
export interface Caller {
  /** `host:port`. */
  readonly address: string;
  /** The name in its certificate, which was verified; null without one. */
  readonly certificateName: string | null;
}

/** A request, as those see it who answer it: what they need of the class of that name. */
export interface HttpRequest extends Pick<RequestHead, "method" | "url" | "headers" | "bodyBytes"> {
  /** Aborted when the client has gone. */
  readonly signal: AbortSignal;
  /** The body. Rejects with a BodyProblem when it makes no sense, or when the client has gone. */
  bytes(mostBytes: number): Promise<Uint8Array<ArrayBuffer>>;
}

/** What a connection is made with. */
export interface HttpConnectionOptions {
  readonly timing: Timing;
  /** Those of all connections of the port. */
  readonly readingTurns: ReadingTurns;
  /** What an answer says of the time; null where nobody knows it. */
  date(): string | null;
  /** Answers a request. */
  answer(request: HttpRequest): Promise<Response>;
  /** So many bytes of an answer were sent, or wait to be. */
  onSent(bytes: number): void;
  /** Something went wrong that should never have. */
  onBug(error: unknown): void;
}

/** How long a client may be silent between requests, take over a head, and read nothing, in ms. */
const IDLE_MS = 30_000;
const HEAD_MS = 10_000;
const UNREAD_MS = 20_000;
/** How long it may go on sending when all is said. */
const LINGER_MS = 2_000;
/** What may come before it is asked for. */
const MOST_AHEAD_BYTES = 64 * 1024;

/** See the file header. */
export class HttpConnection implements Sender {
  /** The name in the client's certificate, which was verified; null without one. */
  certificateName: string | null = null;
  /** Since when the client is waited for; Infinity while it waits for the node. */
  waitingSinceMs: number;
  /** Since when an answer is being made of which nothing is there yet; Infinity while none is. */
  askedSinceMs = Infinity;
  private waitsForMs = IDLE_MS;
  private input: Uint8Array = NOTHING;
  private current: CurrentRequest | null = null;
  private readonly output: SendQueue;
  private readonly reading: SocketReading;
  private onDrained: (() => void) | null = null;
  private isRunning = false;
  /** Waits for its turn to take more of a body. */
  private isFeeding = false;
  private isLastRequest = false;
  private isEnding = false;
  private isOver = false;

  constructor(
    private readonly socket: Socket<HttpConnection | null>,
    private readonly options: HttpConnectionOptions,
  ) {
    this.output = new SendQueue(socket, () => this.cut());
    this.reading = new SocketReading(socket, options.readingTurns);
    this.waitingSinceMs = options.timing.nowMs();
  }

  /** Bytes have come, which are this connection's to keep. */
  onData(bytes: Uint8Array): void {
    if (bytes.length >= LARGE_CHUNK_BYTES) this.reading.awaitTurn();
    if (this.isEnding) return releaseLarge(bytes);
    const { input } = this;
    if (input.length === 0) this.input = bytes;
    else {
      this.input = Buffer.concat([input, bytes]);
      releaseLargeOf(input);
      releaseLarge(bytes);
    }
    if (this.current === null) this.goOn();
    else if (!this.isFeeding) this.feed();
  }

  /** The kernel takes bytes again. */
  onDrain(): void {
    this.output.flush();
    this.waitingSinceMs = this.options.timing.nowMs();
    if (this.output.length === 0) this.onDrained?.();
  }

  /** The client says no more. It may wait for what it has asked. */
  onEnd(): void {
    if (this.current === null) this.end();
    else this.isLastRequest = true;
  }

  /** The connection is gone. */
  onClose(): void {
    this.isOver = this.isEnding = true;
    this.current?.abort();
    this.onDrained?.();
    this.output.clear();
    this.reading.forget();
    this.options.readingTurns.forget(this);
    this.forgetInput();
  }

  /** Whether the client has taken too long. */
  isLate(nowMs: number): boolean {
    return nowMs - this.waitingSinceMs > this.waitsForMs;
  }

  /** Whether nothing of a request is there, and all answers are read. */
  get isIdle(): boolean {
    return this.waitsForMs === IDLE_MS || this.isEnding;
  }

  /** Bytes that came behind the request that is answered now. */
  get aheadBytes(): number {
    return this.input.length;
  }

  /** Ends it at once. */
  cut(): void {
    this.socket.terminate();
  }

  /** The next bytes are those of the body, or wait until the answer is sent. */
  private feed(): void {
    const { current, input } = this;
    try {
      const taken = current!.take(input);
      if (taken > 0) this.input = input.subarray(taken);
      if (taken === input.length) this.forgetInput();
    } catch (error) {
      current!.fail(error as Error);
    }
    this.isFeeding = current!.takesMore && this.input.length > 0;
    if (this.isFeeding) this.options.readingTurns.wait(this);
    if (this.isFeeding || this.input.length > MOST_AHEAD_BYTES) this.reading.pause();
    else if (current!.takesMore) this.reading.resume();
  }

  /** There is more of a body in what has come. */
  onReadingTurn(): void {
    this.isFeeding = false;
    if (this.current !== null) this.feed();
  }

  private goOn(): void {
    this.run().catch((error: unknown) => {
      this.options.onBug(error);
      this.cut();
    });
  }

  /** Answers what has come. */
  private async run(): Promise<void> {
    if (this.isRunning) return;
    this.isRunning = true;
    while (!this.isEnding) {
      const head = this.nextHead();
      if (head === null) break;
      if ("reason" in head) {
        const body = `${head.reason}\n`;
        await this.send(new Response(body, { status: head.status }), "GET", false, true);
        break;
      }
      await this.serve(head);
    }
    this.isRunning = false;
  }

  /** Null when it is not all there. */
  private nextHead(): RequestHead | HeadProblem | null {
    let start = 0;
    while (this.input[start] === CR && this.input[start + 1] === LF) start += 2;
    if (start > 0) this.input = this.input.subarray(start);
    const { input } = this;
    const end = endOfHead(input);
    if (end < 0 && input.length <= MAX_HEAD_BYTES) {
      this.waitFor(input.length === 0 ? IDLE_MS : HEAD_MS);
      this.reading.resume();
      return null;
    }
    this.waitFor(Infinity);
    if (end < 0 || end > MAX_HEAD_BYTES) {
      return { status: 431, reason: `A head has ${MAX_HEAD_BYTES} bytes at most` };
    }
    this.input = input.subarray(end);
    const text = Buffer.from(input.buffer, input.byteOffset, end - 4).toString("latin1");
    if (end === input.length) this.forgetInput();
    return parseHead(text);
  }

  /** From now on the client is waited for, so long; from its first byte on, over a head. */
  private waitFor(ms: number): void {
    if (ms === this.waitsForMs && ms === HEAD_MS) return;
    this.waitsForMs = ms;
    this.waitingSinceMs = ms === Infinity ? Infinity : this.options.timing.nowMs();
  }

  private async serve(head: RequestHead): Promise<void> {
    const request = new CurrentRequest(head, () => {
      if (head.awaitsContinue) this.output.send(CONTINUE);
      this.feed();
    });
    this.current = request;
    this.askedSinceMs = this.options.timing.nowMs();
    const response = await this.options.answer(request);
    this.askedSinceMs = Infinity;
    // What of the body nobody wanted is passed over if it is short.
    const isRead = request.isOver || (await this.passOver(request));
    if (!isRead) request.fail(new BodyProblem(400, "It is answered without"));
    const isLast = !head.keepsAlive || !isRead || (this.isLastRequest && this.input.length === 0);
    await this.send(response, head.method, head.knowsChunks, isLast);
    this.current = null;
    if (!this.isEnding && this.input.length <= MOST_AHEAD_BYTES) this.reading.resume();
  }

  private async passOver(request: CurrentRequest): Promise<boolean> {
    const { bodyBytes, awaitsContinue } = request.head;
    if (bodyBytes === null || bodyBytes > MOST_AHEAD_BYTES || awaitsContinue) return false;
    if (request.isAsked) return false;
    this.waitFor(HEAD_MS);
    const isRead = await request.bytes(bodyBytes).then(
      () => true,
      () => false,
    );
    this.waitFor(Infinity);
    return isRead;
  }

  private async send(
    response: Response,
    method: string,
    knowsChunks: boolean,
    isLast: boolean,
  ): Promise<void> {
    const { body, status } = response;
    const isWithout = method === "HEAD" || status === 204 || status === 304;
    const streams = !isWithout && body !== null && isStream(body);
    const all = isWithout || streams ? NOTHING : await bodyBytes(response);
    const ends = isLast || (streams && !knowsChunks);
    const { headers } = response;
    if (streams && knowsChunks) headers.set("transfer-encoding", "chunked");
    else if (!streams && !isWithout) headers.set("content-length", String(all.length));
    headers.set("connection", ends ? "close" : "keep-alive");
    const date = this.options.date();
    if (date !== null) headers.set("date", date);
    this.output.send(encoder.encode(headText(status, headers)));
    this.output.send(all);
    this.options.onSent(all.length);
    releaseLarge(all);
    if (streams) await this.stream(body, knowsChunks);
    else if (isWithout) void body?.cancel();
    await this.drained();
    if (ends) this.end();
  }

  /** Sends a stream as it is made, and makes it as it is read. Its pieces are its reader's. */
  private async stream(body: ReadableStream<Uint8Array>, inChunks: boolean): Promise<void> {
    const reader = body.getReader();
    const stop = (): void => void reader.cancel().catch(() => {});
    this.current?.signal.addEventListener("abort", stop);
    try {
      for (;;) {
        await this.drained();
        if (this.isOver) return stop();
        const { done, value } = await reader.read();
        if (this.isOver || done) break;
        // A chunk of nothing would be the last one.
        if (value.length === 0) continue;
        if (inChunks) this.output.send(encoder.encode(`${value.length.toString(16)}\r\n`));
        this.output.send(value);
        this.options.onSent(value.length);
        releaseLarge(value);
        if (inChunks) this.output.send(LINE_END);
        // Others have their turn, too, when the client reads as fast as this is made.
        await nextTurn(this.options.timing);
      }
      if (inChunks && !this.isOver) this.output.send(LAST_CHUNK);
    } catch {
      // It was ended early: the client is not to take it for whole.
      this.cut();
    }
  }

  /** Resolves when all that was sent is on its way. */
  private async drained(): Promise<void> {
    if (this.output.length === 0 || this.isOver) return;
    this.waitFor(UNREAD_MS);
    await new Promise<void>((resolve) => (this.onDrained = resolve));
    this.onDrained = null;
    this.waitFor(Infinity);
  }

  private forgetInput(): void {
    releaseLargeOf(this.input);
    this.input = NOTHING;
  }

  /** All is said. What still comes is not read, so that the client can read what it was told. */
  private end(): void {
    if (this.isOver) return;
    this.isEnding = true;
    this.forgetInput();
    this.waitFor(LINGER_MS);
    this.reading.resume();
    this.socket.shutdown();
  }
}

/** A request whose answer is on its way. */
class CurrentRequest implements HttpRequest {
  readonly method: string;
  readonly url: URL;
  readonly headers: Headers;
  readonly bodyBytes: number | null;
  /** Whether somebody has asked for the body. */
  isAsked = false;
  private readonly abortion = new AbortController();
  private body: RequestBody | null = null;
  private whole: PromiseWithResolvers<Uint8Array<ArrayBuffer>> | null = null;

  constructor(
    readonly head: RequestHead,
    private readonly onAsked: () => void,
  ) {
    this.method = head.method;
    this.url = head.url;
    this.headers = head.headers;
    this.bodyBytes = head.bodyBytes;
  }

  get signal(): AbortSignal {
    return this.abortion.signal;
  }

  /** Whether nothing of the body is still to come. */
  get isOver(): boolean {
    return this.bodyBytes === 0 || this.body?.isOver === true;
  }

  /** Whether there is somebody who wants more of the body. */
  get takesMore(): boolean {
    return this.whole !== null && this.body?.isOver === false;
  }

  async bytes(mostBytes: number): Promise<Uint8Array<ArrayBuffer>> {
    this.isAsked = true;
    this.body = new RequestBody(this.bodyBytes, mostBytes);
    if (this.body.isOver) return this.body.bytes();
    this.whole = Promise.withResolvers();
    this.onAsked();
    return this.whole.promise;
  }

  /** Takes bytes of the body, if it was asked for. Throws a BodyProblem. */
  take(bytes: Uint8Array): number {
    const { body, whole } = this;
    if (body === null || whole === null || body.isOver) return 0;
    const taken = body.take(bytes);
    if (body.isOver) whole.resolve(body.bytes());
    return taken;
  }

  fail(error: Error): void {
    if (this.body?.isOver === false) this.body.discard();
    this.body = null;
    this.whole?.reject(error);
  }

  abort(): void {
    this.abortion.abort();
    if (!this.isOver) this.fail(new BodyProblem(400, "The client has gone"));
  }
}

function headText(status: number, headers: Headers): string {
  let text = `HTTP/1.1 ${status} ${REASONS[status] ?? ""}\r\n`;
  headers.forEach((value, name) => (text += `${name}: ${value}\r\n`));
  return `${text}\r\n`;
}

const REASONS: Readonly<Record<number, string>> = {
  200: "OK",
  201: "Created",
  204: "No Content",
  304: "Not Modified",
  400: "Bad Request",
  401: "Unauthorized",
  403: "Forbidden",
  404: "Not Found",
  405: "Method Not Allowed",
  408: "Request Timeout",
  409: "Conflict",
  412: "Precondition Failed",
  413: "Content Too Large",
  415: "Unsupported Media Type",
  431: "Request Header Fields Too Large",
  500: "Internal Server Error",
  501: "Not Implemented",
  503: "Service Unavailable",
  505: "HTTP Version Not Supported",
  507: "Insufficient Storage",
};
const encoder = new TextEncoder();
const NOTHING = new Uint8Array(0);
const LINE_END = encoder.encode("\r\n");
const LAST_CHUNK = encoder.encode("0\r\n\r\n");
const CONTINUE = encoder.encode("HTTP/1.1 100 Continue\r\n\r\n");
const CR = 0x0d;
const LF = 0x0a;

/**
 * Reads requests from a connection's inbox, be they lines or RESP arrays, and has them run. Holds
 * what must be remembered between two chunks of input, and knows what ends a connection.
 */
import type { Context, ReplyContinuation } from "../commands/command.ts";
import { executeArray, executeLine, type Execution } from "../commands/execute.ts";
import type { ClientSession } from "../commands/client-session.ts";
import { httpAnswer, isHttp, isTlsHello } from "../protocol/other-protocols.ts";
import type { Reply } from "../protocol/reply.ts";
import { Request } from "../protocol/request.ts";
import {
  COMPLETE,
  INCOMPLETE,
  MALFORMED,
  PAUSED,
  STRANGERS_BYTES,
  type ParseStatus,
  type RespParser,
} from "../protocol/resp-parser.ts";
import type { InputBuffer } from "./input-buffer.ts";
import type { ThrottledWarnings } from "./throttled-warnings.ts";

/** Limits of a connection, all in bytes. */
export interface ConnectionLimits {
  maxLineBytes: number;
  maxOutputBytes: number;
}

/** What all readers share. */
export interface SharedByReaders {
  readonly context: Context;
  readonly limits: ConnectionLimits;
  readonly parser: RespParser;
  readonly notices: ThrottledWarnings;
  /** Told of input that was thrown away unread, in bytes. */
  onDiscarded(bytes: number): void;
}

/**
 * What became of an attempt to run the next request: true, it was run; false, nothing more can be
 * run for now; or it was begun and will be answered later.
 */
export type ReadProgress = boolean | Promise<ReplyContinuation>;

const CR = 0x0d;
/** A UTF-8 byte order mark, which some editors put at the start of a file that is then piped in. */
const MARK = [0xef, 0xbb, 0xbf];
const STAR = 0x2a;

/** See the file header. Requests that end the connection set `session.isClosing`. */
export class RequestReader {
  /** Bytes of an unfinished line already searched for its end. */
  private searchedBytes = 0;
  /** The rest of a line that is too long is being skipped. */
  private isSkippingLine = false;
  /** Nothing has come yet, not even a byte order mark; no request has come yet. */
  private isFresh = true;
  private isFirst = true;
  /** A RESP request came on this connection. */
  private speaksResp = false;
  /** The request being read or run is one. */
  speaksRespNow = false;
  /** A RESP request that has arrived in part. */
  private partial: Request | undefined;
  /** More of a request could be read, but it is long. */
  isReadingOn = false;

  constructor(
    private readonly input: InputBuffer,
    private readonly session: ClientSession,
    private readonly shared: SharedByReaders,
  ) {}

  /** Whether a request has begun of which nothing may be left in the inbox. */
  get isMidway(): boolean {
    return this.partial !== undefined || this.isSkippingLine;
  }

  /** Memory taken by the places of parts, in bytes. */
  get rangeBytes(): number {
    return this.partial?.rangeBytes ?? 0;
  }

  /** Forgets a request that has come in part. */
  forget(): void {
    this.partial?.reset();
    this.partial = undefined;
  }

  /** Runs the next request in the inbox, which is not empty. */
  next(reply: Reply): ReadProgress {
    this.isReadingOn = false;
    if (this.isFresh && !this.begin(reply)) return false;
    const { bytes, start, end } = this.input;
    if (start === end) return false;
    const isArray = this.partial !== undefined || bytes[start] === STAR;
    return isArray && !this.isSkippingLine ? this.readArray(reply) : this.readLine(reply);
  }

  /**
   * Skips a byte order mark, and refuses TLS; false when that ends the connection, or when too
   * little has come to tell.
   */
  private begin(reply: Reply): boolean {
    const { bytes, start, end, length } = this.input;
    const isTls = isTlsHello(bytes, start, end);
    if (isTls === undefined) return false;
    if (isTls) return this.refuseTls(reply);
    let matched = 0;
    while (matched < Math.min(length, 3) && bytes[start + matched] === MARK[matched]) matched++;
    if (matched === length && matched < 3) return false;
    if (matched === 3) this.input.start += 3;
    this.isFresh = false;
    return true;
  }

  private readArray(reply: Reply): ReadProgress {
    const { parser } = this.shared;
    let request = this.partial;
    if (request === undefined) {
      request = sharedRequest;
      request.reset();
    }
    // What was read of a refused request is not kept; of any other, all is.
    request.base = this.input.start - (request.isRefused ? request.readBytes : 0);
    const isStranger = !this.session.user.isSomebody;
    const status = parser.parse(request, this.input.bytes, this.input.end, isStranger);
    if (status === INCOMPLETE || status === PAUSED) {
      this.isReadingOn = status === PAUSED;
      this.speaksRespNow = true;
      this.input.expectedBytes = request.isRefused ? 0 : request.neededBytes;
      if (request === sharedRequest) {
        this.partial = request;
        sharedRequest = new Request();
      }
      if (request.isRefused) this.discard(request.base + request.readBytes);
      return false;
    }
    this.partial = undefined;
    this.input.expectedBytes = 0;
    this.input.start = request.base + request.readBytes;
    const progress = this.runArray(request, status, reply);
    // The places of a million parts take 8 MB, which the collector might leave for long.
    if (request !== sharedRequest) request.reset();
    return progress;
  }

  /** Runs a request that has come as an array, to its end, or says what is wrong with it. */
  private runArray(request: Request, status: ParseStatus, reply: Reply): ReadProgress {
    const { parser, context } = this.shared;
    if (status === MALFORMED) {
      context.services.statistics.protocolErrors++;
      reply.dialect = this.session.respDialect;
      reply.respError(`ERR Protocol error: ${parser.problem}`);
      this.session.isClosing = true;
      return false;
    }
    this.isFirst = false;
    if (request.expectedParts === 0) return true;
    if (status !== COMPLETE) {
      context.services.statistics.protocolErrors++;
      reply.dialect = this.session.respDialect;
      reply.error("Value too large", "see network.max_value_bytes");
      return true;
    }
    this.speaksResp = this.speaksRespNow = true;
    context.session = this.session;
    return done(executeArray(request, reply, context));
  }

  /** Longest line that is taken now. */
  private get maxLineBytes(): number {
    const { maxLineBytes } = this.shared.limits;
    return this.session.user.isSomebody ? maxLineBytes : Math.min(maxLineBytes, STRANGERS_BYTES);
  }

  private readLine(reply: Reply): ReadProgress {
    const { context } = this.shared;
    this.speaksRespNow = false;
    const lineEnd = this.input.findLineEnd(this.input.start + this.searchedBytes);
    if (lineEnd < 0) {
      const length = this.input.length;
      // A CR in the last place may be half of the line's end.
      const isBeforeEnd = length > 0 && this.input.bytes[this.input.end - 1] === CR;
      const lineLength = isBeforeEnd ? length - 1 : length;
      if (!this.isSkippingLine && lineLength > this.maxLineBytes) {
        const { bytes, start, end } = this.input;
        if (isHttp(bytes, start, end, false)) return this.refuseHttp(reply);
        this.isFirst = false;
        this.refuseLine(reply);
      }
      if (this.isSkippingLine) this.discard(this.input.end);
      else this.searchedBytes = length;
      return false;
    }
    const start = this.input.start;
    this.input.start = lineEnd + 1;
    this.searchedBytes = 0;
    if (this.isSkippingLine) {
      this.isSkippingLine = false;
      return true;
    }
    const end = lineEnd > start && this.input.bytes[lineEnd - 1] === CR ? lineEnd - 1 : lineEnd;
    if (isHttp(this.input.bytes, start, end, this.isFirst)) return this.refuseHttp(reply);
    // An empty line may come before a request of HTTP, too.
    if (end > start) this.isFirst = false;
    if (end - start > this.maxLineBytes) {
      this.refuseLine(reply);
      this.isSkippingLine = false;
      return true;
    }
    // `redis-cli --pipe` sends an empty line between two arrays, to which Redis says nothing.
    if (end === start && this.speaksResp) return true;
    const request = sharedRequest;
    request.reset();
    context.session = this.session;
    return done(executeLine(request, this.input.bytes, start, end, reply, context));
  }

  /** Skips input up to there. */
  private discard(end: number): void {
    this.shared.onDiscarded(end - this.input.start);
    this.input.start = end;
  }

  /** Ends the connection: what follows may be commands that somebody else made a browser send. */
  private refuseHttp(reply: Reply): boolean {
    const { context, notices } = this.shared;
    context.services.statistics.protocolErrors++;
    const { address } = this.session;
    notices.warn("Closed a connection that speaks HTTP; this port does not", { address });
    reply.dialect = this.session.lineDialect;
    if (this.isFirst) reply.raw(httpAnswer());
    else reply.error("Invalid command", "this is HTTP; closing the connection");
    this.session.isClosing = true;
    return false;
  }

  /** Ends the connection. To a client of TLS any answer in plain text says "wrong version". */
  private refuseTls(reply: Reply): boolean {
    const { context, notices } = this.shared;
    context.services.statistics.protocolErrors++;
    const { address } = this.session;
    const hint = "TLS has a port of its own, network.tls_port";
    notices.warn("Closed a connection that speaks TLS; this port does not", { address, hint });
    reply.dialect = this.session.lineDialect;
    reply.error("Invalid command", "this is TLS, which this port does not speak");
    this.session.isClosing = true;
    return false;
  }

  private refuseLine(reply: Reply): void {
    const { context, limits } = this.shared;
    context.services.statistics.protocolErrors++;
    reply.dialect = this.session.lineDialect;
    const least = `before a login a line has at most ${STRANGERS_BYTES} bytes`;
    const most = `network.max_line_bytes is ${limits.maxLineBytes}`;
    reply.error("Line too long", this.maxLineBytes < limits.maxLineBytes ? least : most);
    this.isSkippingLine = true;
    this.searchedBytes = 0;
  }
}

function done(execution: Execution): ReadProgress {
  return execution === undefined ? true : execution;
}

/** The request all connections parse into, as long as they find theirs complete. */
let sharedRequest = new Request();

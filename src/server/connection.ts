/**
 * One client connection: bytes in, requests run in order, replies out.
 *
 * Input is parsed where it lies, in the chunk the runtime delivered; only what is left of an
 * incomplete request is copied and kept, within the limits. Replies of one chunk are
 * gathered in a buffer shared by all connections and sent with one write. What the kernel
 * does not take is queued; while anything is queued no further request is run and
 * reading pauses, so a client that does not read is held back, and one reply larger than
 * `maxOutputBytes` ends the connection.
 *
 * A reply leaves when all that it may show is safe from a crash: until then it is queued like
 * one that the kernel does not take.
 *
 * A command may take the connection out of this protocol (`session.takeOver`); from then on it
 * only carries bytes between the socket and a LinkHandler.
 */
import type { Socket } from "bun";
import type { Context, LateReply } from "../commands/command.ts";
import { executeArray, executeLine, type Execution } from "../commands/execute.ts";
import type { LinkHandler, SafeWaiter } from "../commands/services.ts";
import type { Session } from "../commands/session.ts";
import type { Dialect, Reply } from "../protocol/reply.ts";
import { Request } from "../protocol/request.ts";
import { COMPLETE, INCOMPLETE, MALFORMED, type RespParser } from "../protocol/resp-parser.ts";
import type { ReadAhead } from "./read-ahead.ts";

/** Limits of a connection, all in bytes. */
export interface ConnectionLimits {
  readonly maxLineBytes: number;
  readonly maxOutputBytes: number;
}

/** What all connections of a listener share. */
export interface Shared {
  readonly context: Context;
  readonly limits: ConnectionLimits;
  readonly parser: RespParser;
  readonly reply: Reply;
  readonly readAhead: ReadAhead;
  /** Connections with a request begun and not finished, oldest first. */
  readonly halfSent: Set<Connection>;
  /** Connections that have said all and are being closed, oldest first. */
  readonly closing: Set<Connection>;
  nowMs(): number;
  /** Told of input that was thrown away unread, in bytes. */
  onDiscarded(bytes: number): void;
}

/** Replies are sent in the middle of a chunk when this many bytes have gathered. */
const SEND_AT_BYTES = 256 * 1024;
const LF = 0x0a;
const CR = 0x0d;
const STAR = 0x2a;

/** See the file header. The listener calls `onData`, `onDrain` and `onClose`. */
export class Connection implements SafeWaiter {
  /** When the request in `halfSent`, or the closing in `closing`, began. */
  sinceMs = 0;
  /** When the last bytes came. */
  lastActiveMs: number;

  /** Input not consumed yet: `input[inputStart]` to `input[inputEnd]`. */
  private input: Uint8Array = NOTHING;
  private inputStart = 0;
  private inputEnd = 0;
  /** Whether `input` is a buffer of our own, with room beyond `inputEnd`. */
  private hasRoom = false;
  /** Bytes of an unfinished line already searched for its end. */
  private searchedBytes = 0;
  /** The rest of a line that is too long is being skipped. */
  private isSkippingLine = false;
  /** A RESP request came on this connection. */
  private speaksResp = false;
  /** A RESP request that has arrived in part. */
  private partial: Request | undefined;

  private queue: Uint8Array[] = [];
  private queuedBytes = 0;
  /** What is queued shows writes that are not safe yet. */
  private isHeld = false;
  /** Where the journal stood before the requests being run now. */
  private positionBefore = 0;
  private isPaused = false;
  /** Requests are being run; their replies are not sent yet. */
  private isWorking = false;
  /** A command's reply is still to come, or to be sent in part. */
  private isWaiting = false;
  /** The rest of a reply that is sent in pieces, and how it is written. */
  private rest: LateReply | null = null;
  private restDialect: Dialect = 0;
  private isClosed = false;
  private peerHasEnded = false;
  private hasEnded = false;
  /** Who took the connection over. */
  private handler: LinkHandler | null = null;

  constructor(
    private readonly socket: Socket<Connection>,
    readonly session: Session,
    private readonly shared: Shared,
  ) {
    this.lastActiveMs = session.connectedAtMs;
  }

  /** Takes a chunk of input, which is this connection's to keep. */
  onData(chunk: Uint8Array): void {
    if (this.isClosed || this.hasEnded) return;
    this.lastActiveMs = this.shared.nowMs();
    if (this.handler !== null) return this.handler.receive(chunk);
    if (this.inputStart === this.inputEnd) this.keep(chunk, chunk.length);
    else this.append(chunk);
    if (this.isHeld && this.inputEnd - this.inputStart > HELD_INPUT_BYTES) this.pause();
    this.work();
  }

  /** What was written is safe: replies to it may leave. */
  onSafe(): void {
    this.isHeld = false;
    this.onDrain();
  }

  /** Cuts the connection if it waits for writes to be safe that never will be. */
  cutIfHeld(): void {
    if (this.isHeld) this.cut();
  }

  /** The kernel takes bytes again. */
  onDrain(): void {
    if (this.isClosed || this.isHeld) return;
    this.sendQueue();
    if (this.queuedBytes > 0) return;
    if (this.handler !== null) this.handler.drained();
    else if (this.rest !== null) this.sendRest();
    else this.work();
  }

  /** The other side says no more, but may still be reading. */
  onEnd(): void {
    this.peerHasEnded = true;
    if (this.handler !== null) this.end();
    else this.work();
  }

  /** The connection is gone. */
  onClose(): void {
    this.isClosed = true;
    this.session.isOver = true;
    this.rest = null;
    this.shared.halfSent.delete(this);
    this.shared.closing.delete(this);
    this.keep(NOTHING, 0);
    this.partial = undefined;
    this.queue = [];
    this.queuedBytes = 0;
    this.releaseHandler();
  }

  /** Cuts the connection without regard to what is queued. */
  cut(): void {
    if (this.isClosed) return;
    this.onClose();
    this.socket.terminate();
  }

  /**
   * Ends the connection once everything is sent, replies still to come included. A last line may
   * be given, for a client that is told why.
   */
  end(lastWords?: (reply: Reply) => void): void {
    if (this.isClosed || this.hasEnded) return;
    const { closing } = this.shared;
    if (!closing.has(this)) {
      this.sinceMs = this.shared.nowMs();
      closing.add(this);
    }
    this.shared.halfSent.delete(this);
    if (this.isWorking || this.isWaiting) {
      // SHUTDOWN and CLIENT KILL come from within: the replies of the chunk go out first.
      this.session.isClosing = true;
      return;
    }
    if (lastWords !== undefined) {
      const { reply } = this.shared;
      reply.reset();
      const { lineDialect, respDialect } = this.session;
      reply.dialect = this.partial === undefined ? lineDialect : respDialect;
      lastWords(reply);
      this.send(reply);
    }
    this.hasEnded = true;
    this.keep(NOTHING, 0);
    this.partial = undefined;
    // What still arrives is read and dropped: a close with input unread would reset the
    // connection and might take the last reply with it.
    this.resume();
    if (this.queuedBytes === 0) this.socket.shutdown();
    this.releaseHandler();
  }

  /** Runs every complete request there is, as long as replies can be sent. */
  private work(): void {
    if (this.isWaiting || this.hasEnded || this.queuedBytes > 0) return;
    const { reply } = this.shared;
    reply.reset();
    let hasCompleted = false;
    this.positionBefore = this.shared.context.services.durability.position;
    this.isWorking = true;
    let lookedTo = this.inputStart;
    while (this.inputStart < this.inputEnd) {
      if (this.inputStart >= lookedTo) {
        lookedTo = this.shared.readAhead.look(this.input, this.inputStart, this.inputEnd);
      }
      const isArray = this.partial !== undefined || this.input[this.inputStart] === STAR;
      const goesOn = isArray && !this.isSkippingLine ? this.runArray(reply) : this.runLine(reply);
      if (goesOn) hasCompleted = true;
      if (!goesOn || this.session.isClosing || this.session.takeOver !== null) break;
      if (reply.length >= SEND_AT_BYTES && !this.send(reply)) break;
    }
    if (reply.length > 0) this.send(reply);
    this.isWorking = false;
    if (this.isClosed) return;
    if (this.session.takeOver !== null) return this.handOver();
    const saysNoMore = this.session.isClosing || (this.peerHasEnded && this.queuedBytes === 0);
    if (saysNoMore && !this.isWaiting) return this.end();
    this.keepRest(hasCompleted);
  }

  /** Lets go of the client protocol. */
  private handOver(): void {
    const rest = this.input.slice(this.inputStart, this.inputEnd);
    this.keep(NOTHING, 0);
    this.shared.halfSent.delete(this);
    this.resume();
    const connection = this;
    this.handler = this.session.takeOver!({
      address: this.session.address,
      get queuedBytes() {
        return connection.queuedBytes;
      },
      send: (bytes) => this.transmit(bytes),
      pause: () => this.pause(),
      resume: () => this.resume(),
      end: () => this.end(),
    });
    if (this.hasEnded) return this.releaseHandler();
    if (rest.length > 0) this.handler.receive(rest);
    if (this.peerHasEnded) this.end();
  }

  private releaseHandler(): void {
    const { handler } = this;
    this.handler = null;
    handler?.closed();
  }

  /** True when the next request may be looked at. */
  private runArray(reply: Reply): boolean {
    const { parser, context } = this.shared;
    let request = this.partial;
    if (request === undefined) {
      request = sharedRequest;
      request.reset();
    }
    // What was read of a refused request is not kept; of any other, all is.
    request.base = this.inputStart - (request.isRefused ? request.readBytes : 0);
    const status = parser.parse(request, this.input, this.inputEnd);
    if (status === INCOMPLETE) {
      if (request === sharedRequest) {
        this.partial = request;
        sharedRequest = new Request();
      }
      if (request.isRefused) this.discard(request.base + request.readBytes);
      return false;
    }
    this.partial = undefined;
    this.inputStart = request.base + request.readBytes;
    if (status === MALFORMED) {
      context.services.statistics.protocolErrors++;
      reply.dialect = this.session.respDialect;
      reply.respError(`ERR Protocol error: ${parser.problem}`);
      this.session.isClosing = true;
      return false;
    }
    if (request.expectedParts === 0) return true;
    if (status !== COMPLETE) {
      context.services.statistics.protocolErrors++;
      reply.dialect = this.session.respDialect;
      reply.error("Value too large", "see network.max_value_bytes");
      return true;
    }
    this.speaksResp = true;
    context.session = this.session;
    return this.settled(executeArray(request, reply, context));
  }

  private runLine(reply: Reply): boolean {
    const { context, limits } = this.shared;
    const lineEnd = this.findLineEnd();
    if (lineEnd < 0) {
      const length = this.inputEnd - this.inputStart;
      // A CR in the last place may be half of the line's end.
      const isBeforeEnd = length > 0 && this.input[this.inputEnd - 1] === CR;
      const lineLength = isBeforeEnd ? length - 1 : length;
      if (!this.isSkippingLine && lineLength > limits.maxLineBytes) this.refuseLine(reply);
      if (this.isSkippingLine) this.discard(this.inputEnd);
      else this.searchedBytes = length;
      return false;
    }
    const start = this.inputStart;
    this.inputStart = lineEnd + 1;
    this.searchedBytes = 0;
    if (this.isSkippingLine) {
      this.isSkippingLine = false;
      return true;
    }
    const end = lineEnd > start && this.input[lineEnd - 1] === CR ? lineEnd - 1 : lineEnd;
    if (end - start > limits.maxLineBytes) {
      this.refuseLine(reply);
      this.isSkippingLine = false;
      return true;
    }
    // `redis-cli --pipe` sends an empty line between two arrays, to which Redis says nothing.
    if (end === start && this.speaksResp) return true;
    const request = sharedRequest;
    request.reset();
    context.session = this.session;
    return this.settled(executeLine(request, this.input, start, end, reply, context));
  }

  /** Skips input up to there. */
  private discard(end: number): void {
    this.shared.onDiscarded(end - this.inputStart);
    this.inputStart = end;
  }

  private refuseLine(reply: Reply): void {
    const { context, limits } = this.shared;
    context.services.statistics.protocolErrors++;
    reply.dialect = this.session.lineDialect;
    reply.error("Line too long", `network.max_line_bytes is ${limits.maxLineBytes}`);
    this.isSkippingLine = true;
    this.searchedBytes = 0;
  }

  /** The position of the next LF, or -1. Short lines are searched here, long ones natively. */
  private findLineEnd(): number {
    const { input, inputEnd } = this;
    let at = this.inputStart + this.searchedBytes;
    for (const near = Math.min(at + 64, inputEnd); at < near; at++) {
      if (input[at] === LF) return at;
    }
    if (at === inputEnd) return -1;
    const found = input.indexOf(LF, at);
    return found < inputEnd ? found : -1;
  }

  /** Whether the command is done; if its reply comes later, sees to that. */
  private settled(execution: Execution): boolean {
    if (execution === undefined) return true;
    this.isWaiting = true;
    const { respDialect, lineDialect } = this.session;
    const dialect = this.shared.reply.isResp ? respDialect : lineDialect;
    void execution.then((write) => {
      this.rest = write;
      this.restDialect = dialect;
      this.sendRest();
    });
    return false;
  }

  /** Sends a reply that came late, a piece at a time, each when the one before is on its way. */
  private sendRest(): void {
    if (this.isClosed || this.hasEnded || this.rest === null) return;
    // `onDrain` comes back to it.
    if (this.queuedBytes > 0) return;
    const { reply } = this.shared;
    this.positionBefore = this.shared.context.services.durability.position;
    reply.reset();
    reply.dialect = this.restDialect;
    const hasMore = this.rest(reply) === true;
    if (!hasMore) {
      this.rest = null;
      this.isWaiting = false;
    }
    const isSent = this.send(reply);
    if (hasMore) return void (isSent && setImmediate(() => this.sendRest()));
    if (this.session.isClosing) this.end();
    else this.work();
  }

  /**
   * Keeps what is left of the input, compact, and holds the client to its time limit, which
   * begins anew with every request completed.
   */
  private keepRest(hasCompleted: boolean): void {
    const { halfSent } = this.shared;
    const length = this.inputEnd - this.inputStart;
    const isHeldBack = this.isWaiting || this.queuedBytes > 0;
    // Writes are safe in a moment: not worth two system calls.
    if (isHeldBack && !this.isHeld) this.pause();
    else this.resume();
    if (length === 0) this.keep(NOTHING, 0);
    // A few bytes must not keep the large chunk they came in.
    else if (this.input.length > length * 4 + 1024) {
      this.keep(this.input.slice(this.inputStart, this.inputEnd), length);
    }
    const isHalfSent =
      !isHeldBack && (length > 0 || this.partial !== undefined || this.isSkippingLine);
    if (!isHalfSent) {
      if (halfSent.size > 0) halfSent.delete(this);
    } else if (hasCompleted || !halfSent.has(this)) {
      this.sinceMs = this.shared.nowMs();
      halfSent.delete(this);
      halfSent.add(this);
    }
  }

  /** Joins a new chunk to the input that was kept, in a buffer with room for more. */
  private append(chunk: Uint8Array): void {
    const needed = this.inputEnd + chunk.length;
    if (this.hasRoom && needed <= this.input.length) {
      this.input.set(chunk, this.inputEnd);
      this.inputEnd = needed;
      return;
    }
    const kept = this.input.subarray(this.inputStart, this.inputEnd);
    const length = kept.length + chunk.length;
    // Doubling keeps the copying of a long request linear.
    const larger = new Uint8Array(Math.min(length * 2, length + MOST_ROOM_BYTES));
    larger.set(kept);
    larger.set(chunk, kept.length);
    this.keep(larger, length);
    this.hasRoom = true;
  }

  private keep(input: Uint8Array, length: number): void {
    this.input = input;
    this.inputStart = 0;
    this.inputEnd = length;
    this.hasRoom = false;
  }

  /** Sends what the reply holds and empties it. False when some of it had to be queued. */
  private send(reply: Reply): boolean {
    if (reply.length === 0 || this.isClosed) return true;
    this.holdUntilSafe();
    this.transmit(reply.bytes.subarray(0, reply.length));
    reply.length = 0;
    if (this.queuedBytes > this.shared.limits.maxOutputBytes) {
      this.shared.context.services.statistics.cutConnections++;
      this.cut();
      return false;
    }
    return this.queuedBytes === 0;
  }

  private holdUntilSafe(): void {
    const { durability } = this.shared.context.services;
    const { position } = durability;
    if (durability.safePosition >= position) return;
    // What was read may be what another connection wrote. Only while nothing can be kept, reads go on.
    if (durability.failure !== null && position === this.positionBefore) return;
    this.isHeld = true;
    durability.whenSafe(this);
  }

  /** Sends bytes, or queues a copy of what the system does not take. */
  private transmit(bytes: Uint8Array): void {
    if (this.isClosed || this.hasEnded) return;
    let sent = 0;
    if (this.queuedBytes === 0 && !this.isHeld) {
      sent = this.socket.write(bytes);
      if (sent < 0) return;
    }
    if (sent === bytes.length) return;
    // Not slice(), which in a Buffer makes no copy.
    this.queue.push(new Uint8Array(bytes.subarray(sent)));
    this.queuedBytes += bytes.length - sent;
  }

  private sendQueue(): void {
    while (this.queue.length > 0) {
      const bytes = this.queue[0]!;
      const sent = this.socket.write(bytes);
      if (sent < 0) return;
      this.queuedBytes -= sent;
      if (sent < bytes.length) {
        this.queue[0] = bytes.subarray(sent);
        return;
      }
      this.queue.shift();
    }
    if (this.hasEnded) this.socket.shutdown();
  }

  private pause(): void {
    if (!this.isPaused) this.socket.pause();
    this.isPaused = true;
  }

  private resume(): void {
    if (this.isPaused) this.socket.resume();
    this.isPaused = false;
  }
}

const NOTHING = new Uint8Array(0);
/** More input than this is not taken while replies wait for writes to be safe. */
const HELD_INPUT_BYTES = 1024 * 1024;
const MOST_ROOM_BYTES = 4 * 1024 * 1024;
/** The request all connections parse into, as long as they find theirs complete. */
let sharedRequest = new Request();

/**
 * One client connection: bytes in, requests run in order, replies out.
 *
 * Input is parsed where it lies, in the chunk the runtime delivered; only what is left of an
 * incomplete request is copied and kept, within the limits (`request-runner.ts`). What the kernel
 * does not accept of the replies is queued (`reply-output.ts`). While that is so no further request
 * is run and reading pauses, so a client that does not read is held back, and one reply larger than
 * `maxOutputBytes` ends the connection.
 *
 * A command may take the connection out of this protocol (`session.upgrade`); from then on it
 * only carries bytes between the socket and a LinkHandler.
 */
import type { Socket } from "bun";
import type { ClientSession } from "../commands/client-session.ts";
import type { LinkHandler, SafeWaiter } from "../ports.ts";
import type { Reply } from "../protocol/reply.ts";
import { LARGE_CHUNK_BYTES, type ReadingTurns } from "../reading-turns.ts";
import type { ClientMemory, MemoryHolder } from "./client-memory.ts";
import { releaseLarge } from "../core/bytes.ts";
import { ReplyOutput } from "./reply-output.ts";
import { RequestRunner, type RequestSource, type SharedByRunners } from "./request-runner.ts";
import type { SocketHandler } from "./socket-handler.ts";
import { SocketReading } from "../socket-reading.ts";

/** What all connections of a listener share. */
export interface SharedByConnections extends SharedByRunners {
  readonly readingTurns: ReadingTurns;
  readonly memory: ClientMemory;
  nowMs(): number;
}

const UNREAD = "what was sent is not read; closing the connection";
/** Nothing more is read while so much waits to be run. */
const MOST_WAITING_BYTES = 64 * 1024;

/** See the file header. The listener calls `onData`, `onDrain` and `onClose`. */
export class Connection implements SocketHandler, MemoryHolder, SafeWaiter, RequestSource {
  /** When the last bytes came. */
  lastActiveMs: number;
  chargedBytes = 0;
  clientHasEnded = false;
  readonly output: ReplyOutput;

  private readonly reading: SocketReading;
  private readonly runner: RequestRunner;
  /** Waits in the run queue to send on. */
  private isSendingDue = false;
  private isClosed = false;
  private hasEnded = false;
  private isShutDown = false;
  /** Who took the connection over. */
  private handler: LinkHandler | null = null;

  constructor(
    private readonly socket: Socket<SocketHandler>,
    readonly session: ClientSession,
    private readonly shared: SharedByConnections,
  ) {
    this.lastActiveMs = session.connectedAtMs;
    this.output = new ReplyOutput(socket, shared.context.services.durability, this);
    this.reading = new SocketReading(socket, shared.readingTurns);
    this.runner = new RequestRunner(this, shared);
    session.onHeld = () => this.account();
    session.push = (bytes, mostUnreadBytes) => this.push(bytes, mostUnreadBytes);
    shared.deadlines.noteOpened(this);
  }

  /** Whether it is a client from which nothing has come that is not answered. */
  get isIdle(): boolean {
    const { late, waitingBytes } = this.runner;
    const isBusy = late.isPending || waitingBytes > 0 || this.output.length > 0;
    return this.handler === null && !this.hasEnded && !isBusy;
  }

  /** Peers have bounds of their own. */
  get isExpendable(): boolean {
    return this.handler === null && !this.isClosed;
  }

  get isOver(): boolean {
    return this.isClosed || this.hasEnded;
  }

  get isUpgraded(): boolean {
    return this.handler !== null;
  }

  get hasNews(): boolean {
    return this.reading.isPaused || this.clientHasEnded;
  }

  /** Memory has become free. */
  onRoom(): void {
    if (!this.isOver && this.handler === null) this.pauseOrResume();
  }

  /** Its memory is needed for others. */
  makeRoom(isMidwork: boolean): void {
    const { statistics } = this.shared.context.services;
    const { address } = this.session;
    const { late } = this.runner;
    statistics.cutConnections++;
    statistics.memoryCutConnections++;
    const bytes = this.chargedBytes;
    this.shared.notices.warn("Cut a connection: clients hold more than may be", { address, bytes });
    // In the middle of a reply an error would be taken for a part of it.
    const isMidway = this.output.length > 0 || this.hasEnded || late.isReady;
    if (isMidway || isMidwork) return this.cut();
    const words = "network.max_client_memory_mb is used up; closing the connection";
    late.abandon();
    this.end((reply) => {
      if (reply.isResp) reply.respError(`OOM ${words}`);
      else reply.error("Storage full", words);
    });
  }

  /** Takes a chunk of input, which is this connection's to keep. */
  onData(chunk: Uint8Array): void {
    if (this.isOver) return releaseLarge(chunk);
    const { runner, handler } = this;
    this.lastActiveMs = this.shared.nowMs();
    if (handler === null) this.shared.context.services.statistics.receivedBytes += chunk.length;
    if (chunk.length >= LARGE_CHUNK_BYTES) this.reading.awaitTurn();
    if (handler !== null) {
      handler.receive(chunk);
      return releaseLarge(chunk);
    }
    runner.add(chunk);
    const { runQueue } = this.shared;
    if (runQueue.isSpent) runner.goOn();
    if (runner.isInLine) return this.pauseOrResume();
    // To look through so much, and to keep it, is work, too.
    if (chunk.length >= LARGE_CHUNK_BYTES) runQueue.spend();
    runner.work();
  }

  /** What was written is safe: replies to it may leave. */
  onSafe(): void {
    if (this.isClosed) return;
    this.output.flush();
    if (this.hasEnded) this.shutDownWhenSent();
    else if (this.runner.late.isReady) this.runner.sendLate();
    else if (this.handler === null) this.runner.goOn();
    else if (this.output.length === 0) this.handler.drained();
  }

  /**
   * Nothing can be written. Cuts the connection if it waits for writes to be safe that never will
   * be; else it goes on with what needs no writing.
   */
  onFailure(): void {
    if (this.output.isHeld) this.cut();
    else this.runner.goOn();
  }

  /** The kernel accepts bytes again. It may be megabytes: those who have so many take turns. */
  onDrain(): void {
    const { runQueue } = this.shared;
    if (this.output.length < LARGE_CHUNK_BYTES) return void this.sendOn();
    if (!runQueue.isSpent) {
      // So that what the room is for comes in a turn of its own.
      runQueue.spend();
      return void this.sendOn();
    }
    if (this.isSendingDue) return;
    this.isSendingDue = true;
    runQueue.add(() => {
      this.isSendingDue = false;
      this.sendOn();
    });
  }

  /** Sends what the kernel takes now, and goes on with what that makes room for. */
  sendOn(): boolean {
    if (this.isClosed) return false;
    const { output } = this;
    const { deadlines } = this.shared;
    const queuedBytes = output.length;
    output.flush();
    const hasSent = output.length < queuedBytes;
    this.account();
    if (this.handler === null) deadlines.noteUnread(this, output.isUnread, hasSent);
    if (this.hasEnded && hasSent) deadlines.noteClosing(this, true);
    this.goOn();
    return hasSent;
  }

  private goOn(): void {
    const { runner, output } = this;
    if (this.hasEnded) return this.shutDownWhenSent();
    if (this.handler === null && this.shared.runQueue.isSpent) return runner.goOn();
    if (runner.late.isReady) return runner.sendLate();
    if (this.handler === null && !runner.isInLine) runner.work();
    else if (output.length === 0) this.handler?.drained();
  }

  /** The other side says no more, but may still be reading. */
  onEnd(): void {
    this.clientHasEnded = true;
    if (this.handler !== null) this.end();
    else if (!this.runner.isInLine) this.runner.work();
  }

  /** The connection is gone. */
  onClose(): void {
    this.isClosed = true;
    this.session.end();
    this.runner.late.abandon();
    this.shared.deadlines.forget(this);
    this.reading.forget();
    this.runner.clear();
    this.output.clear();
    this.shared.memory.forget(this);
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
    if (this.isOver) return;
    this.shared.deadlines.noteClosing(this, false);
    if (this.runner.isBusy) {
      // SHUTDOWN and CLIENT KILL come from within: the replies of the chunk go out first.
      this.session.isClosing = true;
      return;
    }
    if (lastWords !== undefined && this.session.wantedReplies !== "none") {
      const { reply } = this.shared;
      reply.reset();
      const { lineDialect, respDialect } = this.session;
      reply.dialect = this.runner.speaksResp ? respDialect : lineDialect;
      lastWords(reply);
      this.send(reply);
    }
    this.hasEnded = true;
    this.output.close();
    this.runner.clear();
    this.session.end();
    this.account();
    // What still arrives is read and dropped: a close with input unread would reset the
    // connection and might take the last reply with it.
    this.reading.resume();
    this.shutDownWhenSent();
    this.releaseHandler();
  }

  /** Notes what is held for this connection. What is handed over has bounds of its own. */
  private account(): void {
    if (this.isClosed) return;
    const { runner, output, session } = this;
    const bytes = runner.heldBytes + output.heldBytes + session.heldBytes;
    this.shared.memory.charge(this, this.handler === null ? bytes : 0);
  }

  private shutDownWhenSent(): void {
    if (this.output.length > 0 || this.isShutDown) return;
    this.isShutDown = true;
    this.socket.shutdown();
  }

  handOver(): void {
    const rest = this.runner.takeRest();
    const { output, reading } = this;
    this.shared.deadlines.noteHalfSent(this, false, false);
    reading.resume();
    this.handler = this.session.upgrade!({
      address: this.session.address,
      get queuedBytes() {
        return output.length;
      },
      send: (bytes) => output.transmit(bytes),
      pause: () => reading.pause(),
      resume: () => reading.resume(),
      end: () => this.end(),
    });
    if (this.hasEnded) return this.releaseHandler();
    if (rest.length > 0) this.handler.receive(rest);
    this.account();
    if (this.clientHasEnded) this.end();
  }

  private releaseHandler(): void {
    const { handler } = this;
    this.handler = null;
    handler?.closed();
  }

  /**
   * Whether nothing is held for it, nor was when that was looked at last: so after most requests.
   */
  private get holdsNothing(): boolean {
    const { output, runner, session } = this;
    if (runner.heldBytes + output.length + session.heldBytes + this.chargedBytes > 0) return false;
    if (this.reading.isPaused || runner.late.isPending) return false;
    return !this.shared.deadlines.isUnread(this);
  }

  /** Reads on unless what has come cannot be run for now, or too much memory is held. */
  pauseOrResume(): void {
    if (this.isClosed || this.holdsNothing) return;
    this.account();
    const { runner, output } = this;
    const { isHeld, isUnread } = output;
    // Writes are safe in a moment, and a turn comes soon: not worth two system calls.
    const isBrief = runner.isInLine || runner.isAtGate || isHeld;
    const isStuck = runner.late.isPending || isUnread;
    const isFull = isBrief && runner.waitingBytes > MOST_WAITING_BYTES;
    if (isStuck || isFull || this.shared.memory.isHeldBack(this)) this.reading.pause();
    else this.reading.resume();
    this.shared.deadlines.noteUnread(this, isUnread, false);
  }

  /** Sends what the reply holds, as far as it may leave, and empties it. */
  send(reply: Reply): void {
    if (reply.length === 0 || this.isClosed) return;
    this.shared.context.services.statistics.sentBytes += reply.length;
    this.output.send(reply);
    this.cutIfUnread();
  }

  /** Sends what is no reply, unless one is under way. */
  private push(bytes: Uint8Array, mostUnreadBytes: number): boolean {
    if (this.runner.isBusy) return false;
    if (this.isOver || this.handler !== null) return true;
    if (this.output.length > mostUnreadBytes) {
      this.shared.context.services.statistics.cutConnections++;
      this.end((reply) => reply.error("Connection failed", UNREAD));
      return true;
    }
    if (this.session.wantedReplies === "none") return true;
    this.shared.context.services.statistics.sentBytes += bytes.length;
    this.output.transmit(bytes);
    this.cutIfUnread();
    this.pauseOrResume();
    return true;
  }

  private cutIfUnread(): void {
    if (this.isClosed || this.output.length <= this.shared.limits.maxOutputBytes) return;
    this.shared.context.services.statistics.cutConnections++;
    this.cut();
  }
}

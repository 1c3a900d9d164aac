/**
 * One client connection: bytes in, requests run in order, replies out.
 *
 * Input is parsed where it lies, in the chunk the runtime delivered; only what is left of an
 * incomplete request is copied and kept, within the limits. Replies of one run of requests are
 * gathered in a buffer shared by all connections and sent with one write. What the kernel
 * does not take is queued; while that is so no further request is run and
 * reading pauses, so a client that does not read is held back, and one reply larger than
 * `maxOutputBytes` ends the connection.
 *
 * A run is a slice of time (see `pipeline-slice.ts`). What is left then waits in the queue that
 * all long work shares, so that one client's pipeline is not what all others wait for.
 *
 * A reply leaves when all that it may show is safe from a crash. Until then requests go on to be
 * run, up to a bound of replies, and as long as the journal is not too far behind.
 *
 * A command may take the connection out of this protocol (`session.upgrade`); from then on it
 * only carries bytes between the socket and a LinkHandler.
 */
import type { Socket } from "bun";
import type { ReplyContinuation } from "../commands/command.ts";
import type { LinkHandler, SafeWaiter } from "../ports.ts";
import type { ClientSession } from "../commands/client-session.ts";
import type { Dialect, Reply } from "../protocol/reply.ts";
import type { RunQueue } from "../timing.ts";
import type { ClientMemory, MemoryHolder } from "./client-memory.ts";
import type { SocketHandler } from "./socket-handler.ts";
import { InputBuffer, releaseLarge } from "./input-buffer.ts";
import { SendQueue } from "../send-queue.ts";
import type { JournalGate } from "./journal-gate.ts";
import type { ReadAhead } from "./read-ahead.ts";
import { LARGE_CHUNK_BYTES, type ReadingTurns, type Sender } from "../reading-turns.ts";
import { RequestReader, type SharedByReaders } from "./request-reader.ts";
import type { PipelineSlice } from "./pipeline-slice.ts";

/** What all connections of a listener share. */
export interface SharedByConnections extends SharedByReaders {
  readonly reply: Reply;
  readonly readAhead: ReadAhead;
  readonly runQueue: RunQueue;
  readonly readingTurns: ReadingTurns;
  readonly journalGate: JournalGate;
  readonly slice: PipelineSlice;
  /** Connections with a request begun and not finished, oldest first. */
  readonly halfSent: Set<Connection>;
  /** Connections whose replies the kernel does not take, the longest first. */
  readonly unread: Set<Connection>;
  readonly memory: ClientMemory;
  /** Connections that have said all and are being closed, oldest first. */
  readonly closing: Set<Connection>;
  nowMs(): number;
}

/** A run ends when this many bytes of replies have gathered. */
const SEND_AT_BYTES = 256 * 1024;
/** No more requests are run while so many bytes of replies wait for writes to be safe. */
const MOST_HELD_BYTES = 256 * 1024;
/** Nothing more is read while so much waits to be run. */
const MOST_WAITING_BYTES = 64 * 1024;

/** See the file header. The listener calls `onData`, `onDrain` and `onClose`. */
export class Connection implements SocketHandler, MemoryHolder, SafeWaiter, Sender {
  /** When the request in `halfSent`, or the closing in `closing`, began. */
  sinceMs = 0;
  /** When the last bytes came. */
  lastActiveMs: number;
  /** When the client in `unread` last read something. */
  unreadSinceMs = 0;
  chargedBytes = 0;

  private readonly input = new InputBuffer();
  private readonly output: SendQueue;
  private readonly reader: RequestReader;
  /** Bytes of a request that is being carried out slice by slice. */
  private keptBytes = 0;
  /** The last run used up its slice. Nobody is trusted before the first one. */
  private isHeavy = true;
  /** Waits in the run queue. */
  private isInLine = false;
  /** Waits at the journal's gate, or was let in. */
  private isAtGate = false;
  private isAdmitted = false;
  /** Where the journal stood before the requests being run now. */
  private positionBefore = 0;
  /**
   * Nothing is to be read: for what is held here, or until its turn comes; and whether that is so.
   */
  private isPaused = false;
  private awaitsReading = false;
  private isStopped = false;
  /** Waits in the run queue to send on. */
  private isSendingDue = false;
  /** Requests are being run; their replies are not sent yet. */
  private isWorking = false;
  /** A command's reply is still to come, or to be sent in part. */
  private isWaiting = false;
  /** The rest of a reply that is sent in pieces, and how it is written. */
  private rest: ReplyContinuation | null = null;
  private restDialect: Dialect = 0;
  private isClosed = false;
  private clientHasEnded = false;
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
    this.output = new SendQueue(socket);
    this.reader = new RequestReader(this.input, session, shared);
    session.onHeld = () => this.account();
  }

  /** Whether it is a client from which nothing has come that is not answered. */
  get isIdle(): boolean {
    const isBusy = this.isWaiting || this.input.length > 0 || this.output.length > 0;
    return this.handler === null && !this.hasEnded && !isBusy;
  }

  /** Peers have bounds of their own. */
  get isExpendable(): boolean {
    return this.handler === null && !this.isClosed;
  }

  /** Memory has become free. */
  onRoom(): void {
    if (!this.isClosed && !this.hasEnded && this.handler === null) this.pauseOrResume();
  }

  /** Its memory is needed for others. */
  makeRoom(isMidwork: boolean): void {
    const { statistics } = this.shared.context.services;
    const { address } = this.session;
    statistics.cutConnections++;
    statistics.memoryCutConnections++;
    const bytes = this.chargedBytes;
    this.shared.notices.warn("Cut a connection: clients hold more than may be", { address, bytes });
    // In the middle of a reply an error would be taken for a part of it.
    const isMidway = this.output.length > 0 || this.hasEnded || this.rest !== null;
    if (isMidway || isMidwork) return this.cut();
    const words = "network.max_client_memory_mb is used up; closing the connection";
    this.isWaiting = false;
    this.keptBytes = 0;
    this.end((reply) => {
      if (reply.isResp) reply.respError(`OOM ${words}`);
      else reply.error("Storage full", words);
    });
  }

  /** Takes a chunk of input, which is this connection's to keep. */
  onData(chunk: Uint8Array): void {
    if (this.isClosed || this.hasEnded) return releaseLarge(chunk);
    this.lastActiveMs = this.shared.nowMs();
    if (chunk.length >= LARGE_CHUNK_BYTES) this.awaitReading();
    if (this.handler !== null) return this.handler.receive(chunk);
    this.input.add(chunk);
    if (this.isInLine) return this.pauseOrResume();
    const { runQueue } = this.shared;
    if (runQueue.isSpent) return this.goOn();
    // To look through so much, and to keep it, is work, too.
    if (chunk.length >= LARGE_CHUNK_BYTES) runQueue.spend();
    this.work();
  }

  /** Its turn has come to be read from. */
  onReadingTurn(): void {
    this.awaitsReading = false;
    this.stopOrGo();
  }

  /** What was written is safe: replies to it may leave. */
  onSafe(): void {
    if (this.isClosed) return;
    this.output.flush(this.safePosition);
    if (this.hasEnded) this.shutDownWhenSent();
    else if (this.rest !== null) this.sendRest();
    else if (this.handler === null) this.goOn();
    else if (this.output.length === 0) this.handler.drained();
  }

  /**
   * Nothing can be written. Cuts the connection if it waits for writes to be safe that never will
   * be; else it goes on with what needs no writing.
   */
  onFailure(): void {
    if (this.output.isHeld(this.safePosition)) this.cut();
    else this.goOn();
  }

  /** The kernel takes bytes again. It may be megabytes: those who have so many take turns. */
  onDrain(): void {
    const { runQueue } = this.shared;
    if (this.output.length < LARGE_CHUNK_BYTES) return this.sendOn();
    if (!runQueue.isSpent) {
      this.sendOn();
      return runQueue.spend();
    }
    if (this.isSendingDue) return;
    this.isSendingDue = true;
    runQueue.add(() => {
      this.isSendingDue = false;
      this.sendOn();
    });
  }

  private sendOn(): void {
    if (this.isClosed) return;
    this.output.flush(this.safePosition);
    this.account();
    if (this.handler === null) this.noteUnread(true);
    if (this.hasEnded) return this.shutDownWhenSent();
    if (this.handler === null && this.shared.runQueue.isSpent) return this.goOn();
    if (this.rest !== null) return this.sendRest();
    if (this.handler === null && !this.isInLine) this.work();
    else if (this.output.length === 0) this.handler?.drained();
  }

  /** The other side says no more, but may still be reading. */
  onEnd(): void {
    this.clientHasEnded = true;
    if (this.handler !== null) this.end();
    else if (!this.isInLine) this.work();
  }

  /** The connection is gone. */
  onClose(): void {
    this.isClosed = true;
    this.session.end();
    this.rest = null;
    this.shared.halfSent.delete(this);
    this.shared.closing.delete(this);
    this.shared.unread.delete(this);
    this.shared.readingTurns.forget(this);
    this.input.clear();
    this.reader.forget();
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
      reply.dialect = this.reader.speaksRespNow ? respDialect : lineDialect;
      lastWords(reply);
      this.send(reply);
    }
    this.hasEnded = true;
    this.input.clear();
    this.reader.forget();
    this.session.end();
    this.account();
    // What still arrives is read and dropped: a close with input unread would reset the
    // connection and might take the last reply with it.
    this.resume();
    this.shutDownWhenSent();
    this.releaseHandler();
  }

  /** Notes what is held for this connection. What is handed over has bounds of its own. */
  private account(): void {
    if (this.isClosed) return;
    let bytes = this.input.bytes.length + this.output.heldBytes + this.keptBytes;
    bytes += this.session.heldBytes + this.reader.rangeBytes;
    if (this.handler !== null) bytes = 0;
    this.shared.memory.charge(this, bytes);
  }

  private shutDownWhenSent(): void {
    if (this.output.length > 0 || this.isShutDown) return;
    this.isShutDown = true;
    this.socket.shutdown();
  }

  /** Goes on, when it is this connection's turn, with what had to wait. */
  private goOn(): void {
    if (this.isInLine || this.isClosed || this.hasEnded || !this.hasMore()) return;
    this.isInLine = true;
    this.shared.runQueue.add(() => {
      this.isInLine = false;
      this.runTurn();
    }, !this.isHeavy);
  }

  /** The journal's gate lets this connection in. */
  private enter(): void {
    this.isAtGate = false;
    if (this.isInLine) return;
    this.isAdmitted = true;
    this.runTurn();
    this.isAdmitted = false;
  }

  private runTurn(): void {
    try {
      if (this.rest !== null) this.sendRest();
      else if (this.handler === null) this.work();
    } catch (error) {
      this.shared.context.services.reportBug(error);
      this.cut();
    }
  }

  /** Whether there is anything to look at: most clients wait for their reply before they go on. */
  private hasMore(): boolean {
    return this.input.length > 0 || this.reader.isMidway || this.isPaused || this.clientHasEnded;
  }

  /** Whether a request may be run now. If not, something is on its way that calls `goOn`. */
  private mayRun(): boolean {
    if (this.isClosed || this.hasEnded || this.isWaiting) return false;
    const { length } = this.output;
    if (length >= MOST_HELD_BYTES || (length > 0 && !this.output.isHeld(this.safePosition))) {
      return false;
    }
    const { journalGate } = this.shared;
    if (this.isAdmitted || journalGate.canEnter) return true;
    if (!this.isAtGate) journalGate.wait(() => this.enter(), !this.isHeavy);
    this.isAtGate = true;
    return false;
  }

  /** Runs the complete requests there are, for a slice of time. */
  private work(): void {
    if (!this.mayRun()) {
      this.shared.halfSent.delete(this);
      return this.pauseOrResume();
    }
    const { reply, slice, context, runQueue } = this.shared;
    const { durability } = context.services;
    const { clock } = context.store;
    const { input, reader } = this;
    reply.reset();
    let hasCompleted = false;
    let isOver = false;
    this.positionBefore = durability.position;
    slice.begin(this.positionBefore + context.copiedBytes);
    this.isWorking = true;
    let lookedTo = input.start;
    clock.hold();
    try {
      while (input.start < input.end && !isOver) {
        if (input.start >= lookedTo) {
          lookedTo = this.shared.readAhead.look(input.bytes, input.start, input.end);
        }
        const progress = reader.next(reply);
        if (typeof progress === "object") this.replyLater(progress);
        const goesOn = progress === true;
        if (goesOn) hasCompleted = true;
        // Of a request with very many parts the rest is read when others had their turn.
        isOver = reader.isReadingOn;
        if (!goesOn || this.session.isClosing || this.session.upgrade !== null) break;
        isOver =
          reply.length >= SEND_AT_BYTES || slice.isOver(durability.position + context.copiedBytes);
      }
    } finally {
      clock.release();
    }
    this.send(reply);
    this.isWorking = false;
    if (this.isClosed) return;
    if (this.session.upgrade !== null) return this.handOver();
    const goesOn = isOver && input.length > 0;
    const hasSaidAll = this.clientHasEnded && !goesOn && this.output.length === 0;
    if ((this.session.isClosing || hasSaidAll) && !this.isWaiting) return this.end();
    this.isHeavy = isOver;
    // A command that goes on in slices has used up its first one.
    if (isOver || this.isWaiting) runQueue.spend();
    if (goesOn) this.goOn();
    this.keepRest(hasCompleted);
  }

  /** Lets go of the client protocol. */
  private handOver(): void {
    const rest = new Uint8Array(this.input.bytes.subarray(this.input.start, this.input.end));
    this.input.clear();
    this.shared.halfSent.delete(this);
    this.resume();
    const connection = this;
    this.handler = this.session.upgrade!({
      address: this.session.address,
      get queuedBytes() {
        return connection.output.length;
      },
      send: (bytes) => this.transmit(bytes, 0),
      pause: () => this.pause(),
      resume: () => this.resume(),
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

  /** Sees to a reply that comes later. */
  private replyLater(execution: Promise<ReplyContinuation>): void {
    this.isWaiting = true;
    // The places of its parts take about as much as the smallest parts themselves.
    this.keptBytes = 2 * this.input.bytes.length;
    const { respDialect, lineDialect } = this.session;
    const dialect = this.shared.reply.isResp ? respDialect : lineDialect;
    this.input.lend();
    void execution.then((write) => {
      if (this.isClosed || this.hasEnded) return;
      this.rest = write;
      this.restDialect = dialect;
      this.sendRest();
    });
  }

  /** Sends a reply that came late, a piece at a time, each when the one before is on its way. */
  private sendRest(): void {
    if (this.isClosed || this.hasEnded || this.rest === null) return;
    // `onDrain` or `onSafe` comes back to it.
    if (this.output.length > 0) return;
    const { reply } = this.shared;
    this.positionBefore = this.shared.context.services.durability.position;
    reply.reset();
    reply.dialect = this.restDialect;
    const hasMore = this.rest(reply) === true;
    if (!hasMore) {
      this.rest = null;
      this.isWaiting = false;
      this.keptBytes = 0;
    }
    this.send(reply);
    if (hasMore) {
      this.pauseOrResume();
      if (this.output.length === 0) this.shared.runQueue.add(() => this.sendRest());
    } else if (this.session.isClosing) this.end();
    else this.work();
  }

  /**
   * Keeps what is left of the input, compact, and holds the client to its time limit, which
   * begins anew with every request completed.
   */
  private keepRest(hasCompleted: boolean): void {
    const { halfSent } = this.shared;
    this.input.compact();
    this.pauseOrResume();
    const isHeldBack = this.isInLine || this.isWaiting || this.output.length > 0;
    const isHalfSent = !isHeldBack && (this.input.length > 0 || this.reader.isMidway);
    if (!isHalfSent) {
      if (halfSent.size > 0) halfSent.delete(this);
    } else if (hasCompleted || !halfSent.has(this)) {
      this.sinceMs = this.shared.nowMs();
      halfSent.delete(this);
      halfSent.add(this);
    }
  }

  /**
   * Whether nothing is held for it, nor was when that was looked at last: so after most requests.
   */
  private get holdsNothing(): boolean {
    const { input, output, session } = this;
    if (input.bytes.length + output.length + this.chargedBytes > 0) return false;
    if (this.isPaused || this.isWaiting) return false;
    if (session.heldBytes + this.keptBytes + this.reader.rangeBytes > 0) return false;
    const { unread } = this.shared;
    return unread.size === 0 || !unread.has(this);
  }

  /** Reads on unless what has come cannot be run for now, or too much memory is held. */
  private pauseOrResume(): void {
    if (this.holdsNothing) return;
    this.account();
    const isHeld = this.output.isHeld(this.safePosition);
    // Writes are safe in a moment, and a turn comes soon: not worth two system calls.
    const isBrief = this.isInLine || this.isAtGate || isHeld;
    const isStuck = this.isWaiting || (this.output.length > 0 && !isHeld);
    const isFull = isBrief && this.input.length > MOST_WAITING_BYTES;
    if (isStuck || isFull || this.shared.memory.isHeldBack(this)) this.pause();
    else this.resume();
    this.noteUnread(false);
  }

  /** Keeps the time for which replies have not been read. */
  private noteUnread(hasRead: boolean): void {
    const { unread } = this.shared;
    const isUnread = this.output.length > 0 && !this.output.isHeld(this.safePosition);
    if (unread.has(this) === isUnread && !hasRead) return;
    unread.delete(this);
    if (!isUnread) return;
    this.unreadSinceMs = this.shared.nowMs();
    unread.add(this);
  }

  /** Sends what the reply holds, as far as it may leave, and empties it. */
  private send(reply: Reply): void {
    if (reply.length === 0 || this.isClosed) return;
    const bytes = reply.bytes.subarray(0, reply.length);
    const position = this.positionToShow();
    if (this.hasEnded || !reply.isLarge) this.transmit(bytes, position);
    else {
      const sent = this.output.trySend(bytes, position, this.safePosition);
      // Not copied: the buffer would not be kept anyway.
      if (sent < bytes.length) this.output.queue(reply.handOver().subarray(sent), position);
    }
    reply.reset();
    if (this.output.length <= this.shared.limits.maxOutputBytes) return;
    this.shared.context.services.statistics.cutConnections++;
    this.cut();
  }

  /** How far the journal must be safe before what was just run may be shown. */
  private positionToShow(): number {
    const { durability } = this.shared.context.services;
    const { position } = durability;
    if (durability.safePosition >= position) return 0;
    // What was read may be what another connection wrote. Only while nothing can be kept, reads go
    // on.
    if (durability.failure !== null && position === this.positionBefore) return 0;
    durability.whenSafe(this);
    return position;
  }

  private get safePosition(): number {
    return this.shared.context.services.durability.safePosition;
  }

  private transmit(bytes: Uint8Array, position: number): void {
    if (this.isClosed || this.hasEnded) return;
    this.output.send(bytes, position, this.safePosition);
  }

  private pause(): void {
    this.isPaused = true;
    this.stopOrGo();
  }

  private resume(): void {
    this.isPaused = false;
    this.stopOrGo();
  }

  /** Lets others be read from before more is. */
  private awaitReading(): void {
    if (this.awaitsReading) return;
    this.awaitsReading = true;
    this.stopOrGo();
    this.shared.readingTurns.wait(this);
  }

  private stopOrGo(): void {
    const isStopped = this.isPaused || this.awaitsReading;
    if (isStopped === this.isStopped) return;
    this.isStopped = isStopped;
    if (isStopped) this.socket.pause();
    else this.socket.resume();
  }
}

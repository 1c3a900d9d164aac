/**
 * Runs the requests of one connection, in order.
 *
 * A run is a slice of time (see `pipeline-slice.ts`). What is left then waits in the queue that
 * all long work shares, so that one client's pipeline is not what all others wait for. The replies
 * of one run are gathered in a buffer shared by all connections and sent with one write.
 *
 * Requests go on to be run while replies wait for writes to be safe, up to a bound of replies, and
 * as long as the journal is not too far behind.
 */
import type { ClientSession } from "../commands/client-session.ts";
import type { ReplyContinuation } from "../commands/command.ts";
import type { Reply } from "../protocol/reply.ts";
import type { RunQueue } from "../timing.ts";
import type { Deadlines, DeadlineHolder } from "./deadlines.ts";
import { InputBuffer } from "./input-buffer.ts";
import type { JournalGate } from "./journal-gate.ts";
import { LateReply } from "./late-reply.ts";
import type { PipelineSlice } from "./pipeline-slice.ts";
import type { ReadAhead } from "./read-ahead.ts";
import type { ReplyOutput } from "./reply-output.ts";
import { RequestReader, type ReadProgress, type SharedByReaders } from "./request-reader.ts";

/** A run ends when this many bytes of replies have gathered. */
const SEND_AT_BYTES = 256 * 1024;
/** No more requests are run while so many bytes of replies wait for writes to be safe. */
const MOST_HELD_BYTES = 256 * 1024;

/** What the runners of all connections share. */
export interface SharedByRunners extends SharedByReaders {
  readonly reply: Reply;
  readonly readAhead: ReadAhead;
  readonly runQueue: RunQueue;
  readonly journalGate: JournalGate;
  readonly slice: PipelineSlice;
  readonly deadlines: Deadlines;
}

/** A connection, as the runner of its requests sees it. */
export interface RequestSource extends DeadlineHolder {
  readonly session: ClientSession;
  readonly output: ReplyOutput;
  /** It is closed or has been told its end: no request is run any more. */
  readonly isOver: boolean;
  /** It was taken over: what comes is no request. */
  readonly isUpgraded: boolean;
  /** Something waits to be looked at beside its requests: it is not read from, or has said all. */
  readonly hasNews: boolean;
  /** The other side says no more. */
  readonly clientHasEnded: boolean;
  send(reply: Reply): void;
  /** Lets go of the client protocol. */
  handOver(): void;
  /** Reads on, or not, by what is held now. */
  pauseOrResume(): void;
}

/** See the file header. */
export class RequestRunner {
  readonly late = new LateReply();
  /** Waits in the run queue. */
  isInLine = false;
  /** Waits at the journal's gate. */
  isAtGate = false;
  private readonly input = new InputBuffer();
  private readonly reader: RequestReader;
  /** The last run used up its slice. Nobody is trusted before the first one. */
  private isHeavy = true;
  /** A whole request has come. */
  private hasSpoken = false;
  /** The journal's gate has let it in. */
  private isAdmitted = false;
  /** Requests are being run; their replies are not sent yet. */
  private isWorking = false;

  constructor(
    private readonly source: RequestSource,
    private readonly shared: SharedByRunners,
  ) {
    this.reader = new RequestReader(this.input, source.session, shared);
  }

  /** Bytes of input that no request was read from yet. */
  get waitingBytes(): number {
    return this.input.length;
  }

  /** Memory held for requests, in bytes. */
  get heldBytes(): number {
    return this.input.bytes.length + this.late.keptBytes + this.reader.rangeBytes;
  }

  /** Whether requests are being run, or a reply is still to come. */
  get isBusy(): boolean {
    return this.isWorking || this.late.isPending;
  }

  /** Whether the client speaks RESP just now. */
  get speaksResp(): boolean {
    return this.reader.speaksRespNow;
  }

  /** Takes a chunk of input, which is the runner's to keep. `work` has to follow. */
  add(chunk: Uint8Array): void {
    this.input.add(chunk);
  }

  /** Forgets all input. */
  clear(): void {
    this.input.clear();
    this.reader.forget();
  }

  /** Removes the input that no request was read from, and returns a copy. */
  takeRest(): Uint8Array {
    const rest = new Uint8Array(this.input.bytes.subarray(this.input.start, this.input.end));
    this.input.clear();
    return rest;
  }

  /** Goes on, when it is this connection's turn, with what had to wait. */
  goOn(): void {
    if (this.isInLine || this.source.isOver || !this.hasMore()) return;
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
      if (this.late.isReady) this.sendLate();
      else if (!this.source.isUpgraded) this.work();
    } catch (error) {
      this.shared.context.services.reportBug(error);
      this.source.cut();
    }
  }

  /** Whether there is anything to look at: most clients wait for their reply before they go on. */
  private hasMore(): boolean {
    return this.input.length > 0 || this.reader.isMidway || this.source.hasNews;
  }

  /** Whether a request may be run now. If not, something is on its way that calls `goOn`. */
  private mayRun(): boolean {
    if (this.source.isOver || this.late.isPending) return false;
    const { output } = this.source;
    if (output.length >= MOST_HELD_BYTES || output.isUnread) return false;
    const { journalGate } = this.shared;
    if (this.isAdmitted || journalGate.canEnter) return true;
    if (!this.isAtGate) journalGate.wait(() => this.enter(), !this.isHeavy);
    this.isAtGate = true;
    return false;
  }

  /** Runs the complete requests there are, for a slice of time. */
  work(): void {
    const { source, input, reader } = this;
    const { session, output } = source;
    const { reply, slice, context, deadlines } = this.shared;
    if (!this.mayRun()) {
      deadlines.noteHalfSent(source, false, false);
      return source.pauseOrResume();
    }
    const { durability } = context.services;
    const { store } = context;
    reply.reset();
    let hasCompleted = false;
    let isOver = false;
    slice.begin(output.beginRun() + context.copiedBytes + store.workedBytes);
    this.isWorking = true;
    let lookedTo = input.start;
    store.beginRun();
    try {
      while (input.start < input.end && !isOver) {
        if (input.start >= lookedTo) {
          lookedTo = this.shared.readAhead.look(input.bytes, input.start, input.end);
        }
        const progress =
          session.wantedReplies === "all" ? reader.next(reply) : this.nextUnanswered(reply);
        if (typeof progress === "object") this.replyLater(progress);
        const goesOn = progress === true;
        if (goesOn) hasCompleted = true;
        if (!this.hasSpoken && progress !== false) this.noteSpoken();
        // Of a request with very many parts the rest is read when others had their turn.
        isOver = reader.isReadingOn;
        if (!goesOn || session.isClosing || session.upgrade !== null) break;
        const bytes = durability.position + context.copiedBytes + store.workedBytes;
        isOver = reply.length >= SEND_AT_BYTES || slice.isOver(bytes + reply.length);
      }
    } finally {
      store.endRun();
    }
    source.send(reply);
    this.isWorking = false;
    this.endRun(isOver, hasCompleted);
  }

  /** The next request of a client that does not want a reply to it. */
  private nextUnanswered(reply: Reply): ReadProgress {
    const { session } = this.source;
    const { length } = reply;
    const before = session.wantedReplies;
    if (before === "all but the next") session.wantedReplies = "all but this";
    const progress = this.reader.next(reply);
    // It was CLIENT REPLY ON.
    if (session.wantedReplies === "all") return progress;
    const isMidway = progress === false && reply.length === length;
    if (isMidway) session.wantedReplies = before;
    else if (session.wantedReplies === "all but this") session.wantedReplies = "all";
    reply.length = length;
    return typeof progress === "object" ? progress.then(unanswered) : progress;
  }

  /** What follows when the replies of a run are sent. `isOver`: the slice was used up. */
  private endRun(isOver: boolean, hasCompleted: boolean): void {
    const { source, input, late } = this;
    if (source.isOver) return;
    if (source.session.upgrade !== null) return source.handOver();
    const goesOn = isOver && input.length > 0;
    const hasSaidAll = source.clientHasEnded && !goesOn && source.output.length === 0;
    if ((source.session.isClosing || hasSaidAll) && !late.isPending) return source.end();
    this.isHeavy = isOver;
    // A command that goes on in slices has used up its first one.
    if (isOver || late.isPending) this.shared.runQueue.spend();
    if (goesOn) this.goOn();
    this.keepRest(hasCompleted);
  }

  private noteSpoken(): void {
    this.hasSpoken = true;
    this.shared.deadlines.noteSpoken(this.source);
  }

  /** Sees to a reply that comes later. */
  private replyLater(execution: Promise<ReplyContinuation>): void {
    const { input, late, source } = this;
    const { respDialect, lineDialect } = source.session;
    const dialect = this.shared.reply.isResp ? respDialect : lineDialect;
    // The places of its parts take about as much as the smallest parts themselves.
    const keptBytes = 2 * input.bytes.length;
    input.lend();
    late.begin(execution, dialect, keptBytes, (write) => {
      if (source.isOver) return;
      late.setReady(write);
      this.sendLate();
    });
  }

  /** Sends a reply that came late, a piece at a time, each when the one before is on its way. */
  sendLate(): void {
    const { source, late } = this;
    const { output } = source;
    // If replies are queued, `onDrain` or `onSafe` of the connection comes back to it.
    if (source.isOver || !late.isReady || output.length > 0) return;
    const { reply } = this.shared;
    output.beginRun();
    reply.reset();
    const hasMore = late.writeNext(reply);
    source.send(reply);
    if (hasMore) {
      source.pauseOrResume();
      if (output.length === 0) this.shared.runQueue.add(() => this.sendLate());
    } else if (source.session.isClosing) source.end();
    // One that came at once came in the turn of its request: what follows has another one.
    else if (this.input.length > 0) this.goOn();
    else this.work();
  }

  /**
   * Keeps what is left of the input, compact, and holds the client to its time limit, which
   * begins anew with every request completed.
   */
  private keepRest(hasCompleted: boolean): void {
    const { input, source } = this;
    input.compact();
    source.pauseOrResume();
    const isHeldBack = this.isInLine || this.late.isPending || source.output.length > 0;
    const isHalfSent = !isHeldBack && (input.length > 0 || this.reader.isMidway);
    this.shared.deadlines.noteHalfSent(source, isHalfSent, hasCompleted);
  }
}

/** A reply that is made, for what it takes and gives back on the way, and is not sent. */
function unanswered(write: ReplyContinuation): ReplyContinuation {
  return (reply) => {
    const { length } = reply;
    const hasMore = write(reply);
    reply.length = length;
    return hasMore;
  };
}

/**
 * Turns the outbox into batches and sees them to the broker.
 *
 * A write that comes after a quiet while leaves at once, with what else the same turn of the event
 * loop brings. Otherwise a batch leaves `batchMs` after the first write that waits, or as soon as
 * there is a batch's worth. So a lone write is not delayed, and many share their messages. (Nagle
 * did the same for TCP in RFC 896.)
 *
 * The events of a batch are read from the store when it is made: own writes that a newer foreign
 * one has replaced are passed over, for whoever wrote that publishes it.
 *
 * Where the broker takes only so many messages a second, a batch leaves when the next one may, with
 * all that waits by then and fits: the more is written, the longer batches are.
 *
 * The messages in flight are bounded in number and bytes. When the broker cannot keep
 * up, nothing is encoded until it acknowledges; meanwhile writes gather in the outbox,
 * where they are only ids, so memory stays flat.
 *
 * A message is remembered by the ids it holds until it is certain that it arrived
 * (`sent-messages.ts`): when the connection breaks, these go back into the outbox. What was not
 * acknowledged when the broker ended the connection is suspected to be why (`suspects.ts`): it goes
 * again by itself, between turns of what is new, and what ends the connection once more is too
 * long, as far as one can tell.
 *
 * A while after the last batch an empty one follows, with a number of its own, and then another,
 * later and later: by it who missed the last batches learns that he did (`heartbeat.ts`).
 */
import { READS_COMPRESSED, type Agreement } from "../core/data/capabilities.ts";
import { Compressor } from "../core/data/compression.ts";
import type { Store } from "../core/store/store.ts";
import { counter, type Fact } from "../fact.ts";
import { formatTraceparent } from "../trace-context.ts";
import { noTracer, type Tracer } from "../tracer.ts";
import { BatchFiller, type BatchFillerOptions, type BatchLimits } from "./batch-filler.ts";
import { BatchTraces, WaitingTraces } from "./batch-traces.ts";
import { Heartbeat } from "./heartbeat.ts";
import { Outbox } from "./outbox.ts";
import { SentMessages, type SentMessage } from "./sent-messages.ts";
import { Suspects } from "./suspects.ts";
import type { PublishProblem } from "./transport.ts";
import type { Cancel, Timing } from "../timing.ts";

/** How long one slice of encoding may hold up the event loop, in ms. */
const SLICE_MS = 2;
/** Between two suspects what is new has its turn for so long, in ms. */
const FRESH_TURN_MS = 100;
/** A message that ended so many connections by itself, for whatever reason, is not sent again. */
const MAX_KILLS = 3;
/** After that nothing is sent for so long, in ms; twice as long each time, up to an hour. */
const MUTE_MS = 30_000;
const MAX_MUTE_MS = 3_600_000;
/** A value that went without its bytes is fetched by then, in ms, where there is anybody. */
const FETCHED_MS = 60_000;
/** Kept free in a batch to say what it is a part of; as much as a few traces take. */
const TRACES_BYTES = 256;
/** While nothing is sent, others are told that often that they miss something, in ms. */
const TELL_MS = 1_000;

/** What waits, and for how long. */
export interface PublisherLimits extends BatchLimits {
  /** How long a write may wait for company, in ms. */
  readonly batchMs: number;
  /** A batch is closed when it is at least this long, in bytes. */
  readonly batchBytes: number;
  /** Most ids in the outbox. */
  readonly maxOutboxEvents: number;
}

/** What the publisher is made with. */
export interface PublisherOptions extends BatchFillerOptions {
  readonly store: Pick<Store, "read" | "floor" | "origin">;
  readonly limits: PublisherLimits;
  readonly timing: Timing;
  /** Calls back, in order, once all that is written by now is safe from a crash. */
  readonly whenSafe: (callback: () => void) => void;
  /** Nothing was published for a moment. */
  readonly onQuiet?: () => void;
  /** So many events will reach nobody over the broker, for this reason; others have to be told. */
  readonly onMissed?: (events: number, reason: string) => void;
  /** Told what becomes of traced writes; nobody is unless given. */
  readonly tracer?: Tracer;
}

/** Where messages go. */
export interface MessageSink {
  /** Most messages the broker takes unacknowledged. */
  readonly receiveMaximum: number;
  /** What is sent comes back, unless the broker drops it. */
  readonly isEchoing: boolean;
  /** In what way messages are to be written, for everybody who is there to read them. */
  readonly agreement: Agreement;
  /** Longest message the broker takes, in bytes, as far as is known; it may change. */
  readonly maxMessageBytes: number;
  /** Only so many messages may be sent in a second: each is to be as long as it may. */
  readonly isPaced: boolean;
  /** For how long nothing may be sent for that reason, in ms. */
  pauseMs(): number;
  /**
   * `acknowledged` is called once, with the problem when it was refused. `traceparent` is what the
   * broker may take part in a trace by.
   */
  send(
    message: Buffer,
    acknowledged: (problem?: PublishProblem) => void,
    traceparent?: string,
  ): void;
  /** A message of that length arrived. */
  notePassed(bytes: number): void;
  /** One of that length did not. False when its length cannot be why. */
  noteTooLong(bytes: number): boolean;
}

/** Publishes this node's writes. */
export class Publisher {
  /** Observes the store and holds what waits. */
  readonly outbox: Outbox;
  /** Traced writes among them. */
  readonly traces = new WaitingTraces();
  /** Batches and events sent since the start, and how long the batches were. */
  publishedBatches = 0;
  publishedEvents = 0;
  publishedBytes = 0;
  /** Batches that were refused. */
  failures = 0;
  /** The number of the batch sent last. */
  sequence = 0;

  /** For INFO. */
  static readonly facts: readonly Fact<Publisher>[] = [
    counter(
      "replication_published_batches",
      "batches",
      "Batches of events that were sent.",
      (it) => it.publishedBatches,
    ),
    counter(
      "replication_published_events",
      "events",
      "Events that were sent, in batches.",
      (it) => it.publishedEvents,
    ),
    counter(
      "replication_published_references",
      "events",
      "Of those, without their value, which is too large to travel; peers fetch it.",
      (it) => it.filler.references,
    ),
    counter(
      "replication_published_bytes",
      "bytes",
      "Length of the batches that were sent.",
      (it) => it.publishedBytes,
    ),
    counter(
      "replication_publish_failures",
      "batches",
      "Batches that the broker refused; peers find what is missing by comparing.",
      (it) => it.failures,
    ),
  ];

  private readonly filler: BatchFiller;
  private readonly compressor = new Compressor();
  private readonly heartbeat: Heartbeat;
  private readonly suspects: Suspects;
  private sink: MessageSink | null = null;
  private readonly sent: SentMessages;
  /** When the last batch was made, by the timing's clock. */
  private lastSentMs = -Infinity;
  /** The window was full when the last slice ended: the next acknowledgement goes on. */
  private stalled = false;
  /** While there are suspects: until when what is new has its turn. */
  private freshUntilMs = 0;
  /** Nothing is sent before, for it only ends connections; and how long the next time. */
  private mutedUntilMs = -Infinity;
  private muteMs = MUTE_MS;
  /** An empty batch is under way, and how many connections in a row ended with nothing but one. */
  private isBeating = false;
  private beatKills = 0;
  /** Calls off the next slice; it comes with the end of the batch's time, or soon. */
  private cancelTimer: Cancel | null = null;
  private cancelSoon: Cancel | null = null;
  private drained: (() => void)[] = [];
  /** How many values went without their bytes, and when the last of them did. */
  private referred = 0;
  private referredMs = -Infinity;

  constructor(private readonly options: PublisherOptions) {
    this.filler = new BatchFiller(options);
    this.sent = new SentMessages(options.timing);
    this.outbox = new Outbox(
      () => options.limits.maxOutboxEvents,
      (full) => this.wake(full),
    );
    this.suspects = new Suspects(this.outbox);
    this.heartbeat = new Heartbeat(options.timing, (isFirst) => {
      this.beat();
      if (isFirst) options.onQuiet?.();
    });
  }

  /** Messages sent and not yet acknowledged. */
  get unacknowledged(): number {
    return this.sent.underWay;
  }

  /** Whether writes wait though nothing but the broker, or this thread, keeps them from leaving. */
  get isBehind(): boolean {
    return this.stalled || this.cancelSoon !== null;
  }

  /** Writes that wait to be sent. */
  get waiting(): number {
    return this.outbox.size + this.suspects.idCount;
  }

  /** Of the events sent, those without their value. */
  get publishedReferences(): number {
    return this.filler.references;
  }

  /** A value went without its bytes so lately that nobody may have fetched them. */
  get hasUnfetched(): boolean {
    return this.options.timing.nowMs() - this.referredMs < FETCHED_MS;
  }

  /** Starts publishing what waits and what comes. */
  start(sink: MessageSink): void {
    this.sink = sink;
    // The suspects first: what is new may end this connection like the one before.
    this.freshUntilMs = 0;
    this.isBeating = false;
    if (!this.isIdle) this.pumpSoon();
  }

  /**
   * Stops publishing; what may not have arrived waits again. `isHungUp`: the broker ended the
   * connection, perhaps for something it was sent. True when it is known now for what, so that the
   * next connection may last longer.
   */
  stop(isHungUp = false): boolean {
    const { sink } = this;
    this.sink = null;
    this.cancel();
    this.heartbeat.stop();
    const { unanswered, uncertain } = this.sent.takeAll();
    const isSolved = isHungUp && sink !== null && this.suspect(unanswered, sink);
    for (const message of unanswered) message.traces?.end("the connection to the broker ended");
    for (const message of isHungUp ? [] : unanswered) this.restore(message);
    for (const message of uncertain) this.restore(message);
    this.resolveDrained();
    return isSolved;
  }

  /** Resolves when nothing waits and nothing is in flight, or when publishing stops. */
  drain(): Promise<void> {
    return new Promise((resolve) => {
      this.drained.push(resolve);
      this.pump();
    });
  }

  /** Nothing is sent for now: whatever is sent ends the connection. */
  get isMuted(): boolean {
    return this.options.timing.nowMs() < this.mutedUntilMs;
  }

  /**
   * Sends an empty batch, by whose number others see whether they missed something. Returns that
   * number; 0 when nothing was sent, for batches are under way, or nothing can be.
   */
  beat(acknowledged: (problem?: PublishProblem) => void = () => {}): number {
    const { sink } = this;
    if (sink === null || this.sent.underWay > 0 || this.isMuted) return 0;
    this.filler.begin(sink.maxMessageBytes, false, sink.agreement.version);
    this.isBeating = true;
    sink.send(this.filler.finish(++this.sequence), (problem) => {
      this.isBeating = false;
      this.noteAnswered();
      acknowledged(problem);
    });
    return this.sequence;
  }

  /**
   * A batch of this node's came back from the broker. Batches keep their order, so those before it
   * that did not come will not: the broker acknowledged them and dropped them.
   */
  noteHeard(sequence: number): void {
    const { sink } = this;
    const { dropped, heard } = this.sent.takeHeard(sequence);
    if (sink === null) return;
    if (heard !== null) sink.notePassed(heard.bytes);
    for (const message of dropped) {
      this.noteRefused(sink, message, {
        message: "it is acknowledged and dropped",
        isTooLong: true,
      });
    }
  }

  private get isIdle(): boolean {
    return this.outbox.isEmpty && this.suspects.size === 0;
  }

  /** For as long as a write may wait for company nothing was sent: it would wait alone. */
  private get isQuiet(): boolean {
    const { timing, limits } = this.options;
    return this.sent.underWay === 0 && timing.nowMs() - this.lastSentMs >= limits.batchMs;
  }

  /** The limits in the options are others than before: what waits may be due. */
  reconfigure(): void {
    if (this.cancelTimer !== null) this.pumpSoon();
  }

  private wake(full: boolean): void {
    if (this.sink === null || this.cancelSoon !== null) return;
    if (full || this.isQuiet) this.pumpSoon();
    else this.cancelTimer ??= this.options.timing.after(this.options.limits.batchMs, this.pump);
  }

  private pumpSoon(): void {
    this.cancel();
    this.cancelSoon = this.options.timing.soon(this.pump);
  }

  private cancel(): void {
    this.cancelTimer?.();
    this.cancelSoon?.();
    this.cancelTimer = null;
    this.cancelSoon = null;
  }

  /** One slice: sends batches until nothing waits, the window is full or time is up. */
  private readonly pump = (): void => {
    this.cancel();
    const { sink, outbox } = this;
    const { timing } = this.options;
    if (sink === null) return this.resolveDrained();
    if (this.isMuted) return this.stayMute();
    const deadline = timing.nowMs() + SLICE_MS;
    let pauseMs = 0;
    while (!outbox.isEmpty && this.mayGoOn(sink)) {
      // Not asked for again below: it might be over, and nothing would go on with what is left.
      pauseMs = sink.pauseMs();
      if (pauseMs > 0) break;
      if (timing.nowMs() > deadline) return this.pumpSoon();
      this.sendBatch(sink);
    }
    if (pauseMs === 0) pauseMs = sink.pauseMs();
    const isFree = pauseMs === 0 && this.sent.underWay === 0;
    if (this.suspects.size > 0 && isFree) this.sendSuspect(sink);
    this.stalled = !this.isIdle;
    if (this.stalled && pauseMs > 0) this.cancelTimer ??= timing.after(pauseMs, this.pump);
    if (this.isIdle && this.sent.underWay === 0) this.resolveDrained();
  };

  private stayMute(): void {
    this.resolveDrained();
    if (this.outbox.isEmpty) return;
    this.options.onMissed?.(this.outbox.size, "messages on this topic end the connection");
    this.cancelTimer = this.options.timing.after(TELL_MS, this.pump);
  }

  /** Whether there is room for one more of what is new, and no suspect's turn. */
  private mayGoOn(sink: MessageSink): boolean {
    if (this.sent.isFull(sink.receiveMaximum)) return false;
    return this.suspects.size === 0 || this.options.timing.nowMs() < this.freshUntilMs;
  }

  private sendBatch(sink: MessageSink): void {
    const { outbox, filler } = this;
    const flush = outbox.flushPending;
    outbox.flushPending = false;
    const fullBytes = this.fullBytes(sink);
    filler.begin(sink.maxMessageBytes, flush, sink.agreement.version);
    const isTraced = !this.traces.isEmpty;
    // So that there is room to say so, where a batch is as long as it may be.
    const leavesRoom = isTraced && fullBytes > 8 * TRACES_BYTES;
    filler.fill(outbox, leavesRoom ? fullBytes - TRACES_BYTES : fullBytes);
    this.noteUnsendable();
    if (filler.count === 0) return;
    // A number nobody will see tells the receivers that something was lost.
    if (outbox.takeLoss()) this.sequence++;
    const eventBytes = filler.length / filler.count;
    outbox.fullAt = Math.max(2, Math.ceil(fullBytes / eventBytes));
    const traces = isTraced ? this.takeTraces(flush) : null;
    this.send(sink, { ...filler.taken(), flush, kills: 0, isAlone: false, traces });
  }

  private sendSuspect(sink: MessageSink): void {
    const { suspects, filler } = this;
    const { flush, kills } = suspects.next();
    filler.begin(sink.maxMessageBytes, flush, sink.agreement.version);
    filler.fill(suspects, this.fullBytes(sink));
    suspects.finish();
    this.noteUnsendable();
    if (filler.count === 0) return this.pumpSoon();
    this.send(sink, { ...filler.taken(), flush, kills, isAlone: true, traces: null });
  }

  /** What is traced of the batch that was just filled, which then says so. */
  private takeTraces(flush: boolean): BatchTraces | null {
    const { filler, traces, outbox } = this;
    const { tracer = noTracer } = this.options;
    const taken = traces.take(filler.takenIds, flush);
    // What was not taken belongs to entries that are gone.
    if (outbox.isEmpty) traces.clear();
    if (!tracer.isOn || (taken.writes.size === 0 && taken.flush === null)) return null;
    const made = new BatchTraces(tracer, taken, {
      "messaging.system": "mqtt",
      "messaging.batch.message_count": filler.count,
      "merklekv.batch.sequence": this.sequence + 1,
    });
    filler.addTraces(made.contexts);
    return made;
  }

  /** A batch is closed when it is at least so long. */
  private fullBytes({ isPaced, maxMessageBytes }: MessageSink): number {
    const { batchBytes } = this.options.limits;
    return isPaced ? maxMessageBytes : Math.min(batchBytes, maxMessageBytes);
  }

  private noteUnsendable(): void {
    const events = this.filler.unsendable;
    if (events === 0) return;
    this.filler.unsendable = 0;
    this.options.onMissed?.(events, "a key is too long for a message");
  }

  private send(
    sink: MessageSink,
    held: Pick<SentMessage, "ids" | "expiries" | "flush" | "kills" | "isAlone" | "traces">,
  ): void {
    const batch = this.filler.finish(++this.sequence);
    const isCompressing = (sink.agreement.features & READS_COMPRESSED) !== 0;
    const packed = isCompressing ? this.compressor.compress(batch) : null;
    const bytes =
      packed === null ? batch : Buffer.from(packed.buffer, packed.byteOffset, packed.length);
    const { length } = bytes;
    const { sequence, filler } = this;
    const events = filler.count;
    if (filler.references !== this.referred) this.referredMs = this.options.timing.nowMs();
    this.referred = filler.references;
    const message = { ...held, bytes: length, sequence, events, acknowledgedAtMs: Infinity };
    this.sent.add(message);
    this.publishedBatches++;
    this.publishedEvents += events;
    this.publishedBytes += length;
    this.lastSentMs = this.options.timing.nowMs();
    this.heartbeat.restart();
    const deliver = (): void => {
      // The connection this was meant for, or sent over, may be gone, and with it this account.
      if (!this.sent.isUnderWay(message)) return;
      if (sink.isEchoing) this.sent.awaitReturn(message);
      const { traces } = message;
      traces?.sent();
      const acknowledged = (problem?: PublishProblem): void => {
        traces?.end(problem?.message);
        if (this.sent.conclude(message)) this.acknowledge(sink, message, problem);
      };
      if (traces === null) sink.send(bytes, acknowledged);
      else sink.send(bytes, acknowledged, formatTraceparent(traces.contexts[0]!));
    };
    // Nobody learns of a write that a crash could still undo.
    this.options.whenSafe(deliver);
  }

  private acknowledge(sink: MessageSink, message: SentMessage, problem?: PublishProblem): void {
    if (message.isAlone) this.freshUntilMs = this.options.timing.nowMs() + FRESH_TURN_MS;
    this.noteAnswered();
    if (problem !== undefined) {
      this.noteRefused(sink, message, problem);
    } else {
      if (!sink.isEchoing) sink.notePassed(message.bytes);
      this.sent.remember(message);
    }
    // Not stalled, what waits has its timer and gathers company until then.
    if (this.stalled || message.isAlone) this.pumpSoon();
    else if (this.isIdle && this.sent.underWay === 0) this.resolveDrained();
  }

  /** Its number is used up, so the receivers will know. */
  private noteRefused(sink: MessageSink, message: SentMessage, problem: PublishProblem): void {
    if (problem.isTooLong && sink.noteTooLong(message.bytes)) return this.restore(message);
    this.failures++;
    this.options.onMissed?.(message.events, problem.message);
  }

  /**
   * Of what was in flight when the broker ended the connection. True when something was learned:
   * what is sent from now on is shorter, or the one message is given up.
   */
  private suspect(unanswered: readonly SentMessage[], sink: MessageSink): boolean {
    const wasBeating = this.isBeating;
    this.isBeating = false;
    if (wasBeating && unanswered.length === 0 && ++this.beatKills >= MAX_KILLS) this.mute(0);
    const [only] = unanswered;
    const kills = (only?.kills ?? 0) + 1;
    const isCaught = unanswered.length === 1 && (only.isAlone || kills > 1);
    if (!isCaught) {
      const isOne = unanswered.length === 1;
      this.suspects.add(unanswered.map((it) => (isOne ? { ...it, kills } : it)));
      return false;
    }
    if (sink.noteTooLong(only.bytes)) {
      this.suspects.add([{ ...only, kills: 0 }]);
      return true;
    }
    if (kills < MAX_KILLS) {
      this.suspects.add([{ ...only, kills }]);
      return false;
    }
    this.failures++;
    this.mute(only.events);
    return true;
  }

  private mute(events: number): void {
    this.options.onMissed?.(events, "it ends the connection whenever this is sent");
    this.mutedUntilMs = this.options.timing.nowMs() + this.muteMs;
    this.muteMs = Math.min(2 * this.muteMs, MAX_MUTE_MS);
  }

  private noteAnswered(): void {
    this.muteMs = MUTE_MS;
    this.beatKills = 0;
  }

  private restore({ ids, expiries, flush, traces }: SentMessage): void {
    this.outbox.restore(ids, expiries);
    if (traces?.isDelivered === false) this.traces.putBack(traces.taken);
    if (flush) this.outbox.flushPending = true;
  }

  private resolveDrained(): void {
    for (const resolve of this.drained.splice(0)) resolve();
  }
}

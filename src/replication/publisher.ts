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
 * acknowledged when the broker ended the connection is suspected to be why, and goes again by
 * itself (`suspects.ts`).
 *
 * A while after the last batch an empty one follows, with a number of its own, and then another,
 * later and later: by it who missed the last batches learns that he did (`heartbeat.ts`).
 */
import { READS_COMPRESSED } from "../core/data/capabilities.ts";
import { Compressor } from "../core/data/compression.ts";
import { counter, type Fact } from "../fact.ts";
import { formatTraceparent } from "../trace-context.ts";
import { noTracer } from "../tracer.ts";
import { BatchFiller } from "./batch-filler.ts";
import { BatchTraces, WaitingTraces } from "./batch-traces.ts";
import { Heartbeat } from "./heartbeat.ts";
import { Outbox } from "./outbox.ts";
import type { MessageSink, PublisherOptions } from "./publisher-options.ts";
import { SentMessages, type SentMessage } from "./sent-messages.ts";
import { Suspects } from "./suspects.ts";
import type { PublishProblem } from "./transport.ts";
import type { Cancel } from "../timing.ts";

/** How long one slice of encoding may hold up the event loop, in ms. */
const SLICE_MS = 2;
/** A value that went without its bytes is fetched by then, in ms, where there is anybody. */
const FETCHED_MS = 60_000;
/** Kept free in a batch to say what it is a part of; as much as a few traces take. */
const TRACES_BYTES = 256;
/** While nothing is sent, others are told that often that they miss something, in ms. */
const TELL_MS = 1_000;

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
  private refusedBatches = 0;
  private readonly sent: SentMessages;
  /** When the last batch was made, by the timing's clock. */
  private lastSentMs = -Infinity;
  /** The window was full when the last slice ended: the next acknowledgement goes on. */
  private stalled = false;
  /** An empty batch is under way. */
  private isBeating = false;
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
    this.suspects = new Suspects(this.outbox, options.timing.nowMs, (events, reason) =>
      options.onMissed?.(events, reason),
    );
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

  /** Batches that were refused, or end the connection whenever they are sent. */
  get failures(): number {
    return this.refusedBatches + this.suspects.givenUp;
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
    this.suspects.begin();
    this.isBeating = false;
    if (!this.isIdle) this.pumpSoon();
  }

  /**
   * Stops publishing; what may not have arrived waits again. `isHungUp`: the broker ended the
   * connection, perhaps for something it was sent. True when it is known now for what, so that the
   * next connection may last longer.
   */
  stop(isHungUp = false): boolean {
    const { sink, isBeating } = this;
    this.sink = null;
    this.cancel();
    this.heartbeat.stop();
    const { unanswered, uncertain } = this.sent.takeAll();
    const isSolved = isHungUp && sink !== null && this.suspects.blame(unanswered, isBeating, sink);
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
    return this.suspects.isMuted;
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
      this.suspects.noteAnswered(false);
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
    return !this.suspects.isTheirTurn;
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
      else sink.send(bytes, acknowledged, formatTraceparent(traces.contexts[0]));
    };
    // Nobody learns of a write that a crash could still undo.
    this.options.whenSafe(deliver);
  }

  private acknowledge(sink: MessageSink, message: SentMessage, problem?: PublishProblem): void {
    this.suspects.noteAnswered(message.isAlone);
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
    this.refusedBatches++;
    this.options.onMissed?.(message.events, problem.message);
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

/**
 * Turns the outbox into batches and sees them to the broker.
 *
 * A batch leaves `batchMs` after the first write that waits, or as soon as there is a
 * batch's worth. Its events are read from the store at that moment: own writes that a
 * newer foreign one has replaced are passed over, for whoever wrote that publishes it.
 *
 * The messages in flight are bounded in number and bytes. When the broker cannot keep
 * up, nothing is encoded until it acknowledges; meanwhile writes gather in the outbox,
 * where they are only ids, so memory stays flat.
 *
 * A message is remembered by the ids it holds until it is acknowledged and REMEMBER_MS
 * have passed: when the connection breaks, these go back into the outbox. For what a
 * dying broker acknowledged it may not have passed on.
 */
import { Entry, KIND_COUNTER, MAX_KEY_BYTES, type Kind } from "../core/data/entry.ts";
import type { Store } from "../core/store/store.ts";
import { counter, type Fact } from "../fact.ts";
import { BatchWriter } from "./batch-writer.ts";
import { Outbox } from "./outbox.ts";
import type { Cancel, Timing } from "../timing.ts";

/** Most messages in flight. */
const WINDOW_MESSAGES = 64;
/** No further message is sent while more bytes than this are in flight. */
const WINDOW_BYTES = 4 * 1024 * 1024;
/** How long an acknowledged message is remembered, in ms, and how many of them at most. */
const REMEMBER_MS = 1_000;
const MAX_REMEMBERED_MESSAGES = 256;
/** How long one slice of encoding may hold up the event loop, in ms. */
const SLICE_MS = 2;
/** Most ids looked at for one batch, so that passing over many takes slices too. */
const MAX_BATCH_IDS = 16_384;
/** Room in a packet for topic and headers and for the longest key, generously. */
const PACKET_OVERHEAD_BYTES = 2 * MAX_KEY_BYTES;

/** What the publisher is made with. */
export interface PublisherOptions {
  readonly store: Pick<Store, "read" | "floor" | "origin">;
  readonly nodeId: string;
  /** New at each start, a positive safe integer. */
  readonly epoch: number;
  /** How long a write may wait for company, in ms. */
  readonly batchMs: number;
  /** A batch is closed when it is at least this long. */
  readonly batchBytes: number;
  /** Values above this travel as a bare version. */
  readonly maxEventBytes: number;
  /** Most ids in the outbox. */
  readonly maxOutboxEvents: number;
  readonly timing: Timing;
  /** Calls back, in order, once all that is written by now is safe from a crash. */
  readonly whenSafe: (callback: () => void) => void;
}

/** Where messages go; `acknowledged` is called once, with an error when it was refused. */
export interface MessageSink {
  /** Most messages the broker takes unacknowledged. */
  readonly receiveMaximum: number;
  /** Longest packet the broker takes, in bytes. */
  readonly maxPacketBytes: number;
  send(message: Buffer, acknowledged: (error?: Error) => void): void;
}

interface SentMessage {
  readonly ids: Int32Array;
  readonly flush: boolean;
  readonly bytes: number;
  /** By the timing's clock, once it is. */
  acknowledgedAt: number;
}

/** Publishes this node's writes. */
export class Publisher {
  /** Observes the store and holds what waits. */
  readonly outbox: Outbox;
  /** Batches and events sent since the start, and how long the batches were. */
  publishedBatches = 0;
  publishedEvents = 0;
  publishedBytes = 0;
  /** Of the events, those without their value. */
  publishedReferences = 0;
  /** Batches that were refused. */
  failures = 0;

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
      (it) => it.publishedReferences,
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

  private readonly writer: BatchWriter;
  private readonly entry = new Entry();
  private sink: MessageSink | null = null;
  private sequence = 0;
  private readonly ids = new Int32Array(MAX_BATCH_IDS);
  /** Sent and not acknowledged; no more than the window. */
  private readonly inFlight = new Set<SentMessage>();
  private inFlightBytes = 0;
  /** Acknowledged a moment ago, in that order; no more than SETTLING_MESSAGES. */
  private acknowledged: SentMessage[] = [];
  /** The window was full when the last slice ended: the next acknowledgement goes on. */
  private stalled = false;
  /** Calls off the next slice; it comes with the end of the batch's time, or soon. */
  private cancelTimer: Cancel | null = null;
  private cancelSoon: Cancel | null = null;
  private drained: (() => void)[] = [];

  constructor(private readonly options: PublisherOptions) {
    this.writer = new BatchWriter(options.nodeId, options.epoch);
    this.outbox = new Outbox(options.maxOutboxEvents, (full) => this.wake(full));
  }

  /** Messages sent and not yet acknowledged. */
  get unacknowledged(): number {
    return this.inFlight.size;
  }

  /** Whether writes wait though nothing but the broker, or this thread, keeps them from leaving. */
  get isBehind(): boolean {
    return this.stalled || this.cancelSoon !== null;
  }

  /** Starts publishing what waits and what comes. */
  start(sink: MessageSink): void {
    this.sink = sink;
    if (!this.outbox.isEmpty) this.pumpSoon();
  }

  /** Stops publishing; what may not have arrived waits again. */
  stop(): void {
    this.sink = null;
    this.cancel();
    this.forgetOld();
    const uncertain = [...this.inFlight, ...this.acknowledged];
    this.acknowledged = [];
    this.inFlight.clear();
    this.inFlightBytes = 0;
    for (const message of uncertain) {
      this.outbox.restore(message.ids);
      if (message.flush) this.outbox.flushPending = true;
    }
    this.resolveDrained();
  }

  /** Resolves when nothing waits and nothing is in flight, or when publishing stops. */
  drain(): Promise<void> {
    return new Promise((resolve) => {
      this.drained.push(resolve);
      this.pump();
    });
  }

  private wake(full: boolean): void {
    if (this.sink === null || this.cancelSoon !== null) return;
    if (full) this.pumpSoon();
    else this.cancelTimer ??= this.options.timing.after(this.options.batchMs, this.pump);
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
    const window = Math.min(WINDOW_MESSAGES, sink.receiveMaximum);
    const deadline = timing.nowMs() + SLICE_MS;
    while (!outbox.isEmpty && this.inFlight.size < window && this.inFlightBytes < WINDOW_BYTES) {
      if (timing.nowMs() > deadline) return this.pumpSoon();
      this.sendBatch(sink);
    }
    this.stalled = !outbox.isEmpty;
    if (outbox.isEmpty && this.inFlight.size === 0) this.resolveDrained();
  };

  private sendBatch(sink: MessageSink): void {
    const { outbox, writer } = this;
    const { batchBytes } = this.options;
    const maxValueBytes = Math.min(
      this.options.maxEventBytes,
      sink.maxPacketBytes - batchBytes - PACKET_OVERHEAD_BYTES,
    );
    writer.begin();
    const flush = outbox.flushPending;
    outbox.flushPending = false;
    if (flush) this.addFlush();
    let count = 0;
    while (writer.length < batchBytes && count < MAX_BATCH_IDS) {
      const id = outbox.take();
      if (id < 0) break;
      this.ids[count++] = id;
      this.addEntry(id, maxValueBytes);
    }
    if (writer.count === 0) return;
    // A number nobody will see tells the receivers that something was lost.
    if (outbox.takeLoss()) this.sequence++;
    this.send(sink, this.ids.slice(0, count), flush);
    const eventBytes = writer.length / writer.count;
    outbox.fullAt = Math.max(2, Math.ceil(batchBytes / eventBytes));
  }

  private addEntry(id: number, maxValueBytes: number): void {
    const { entry } = this;
    this.options.store.read(id, entry);
    if (!this.isOwn(entry.originHigh, entry.originLow, entry.kind)) return;
    if (entry.valueLength > maxValueBytes) {
      this.writer.addReference(entry);
      this.publishedReferences++;
    } else {
      this.writer.addEntry(entry);
    }
  }

  private addFlush(): void {
    const { floor } = this.options.store;
    if (!this.isOwn(floor.originHigh, floor.originLow)) return;
    this.writer.addFlush(floor.timeHigh, floor.timeLow);
  }

  /** A counter carries everybody's increments, so ours are in it whoever came last. */
  private isOwn(originHigh: number, originLow: number, kind?: Kind): boolean {
    const { origin } = this.options.store;
    return kind === KIND_COUNTER || (originHigh === origin.high && originLow === origin.low);
  }

  private send(sink: MessageSink, ids: Int32Array, flush: boolean): void {
    const bytes = this.writer.finish(++this.sequence);
    const message: SentMessage = { ids, flush, bytes: bytes.length, acknowledgedAt: Infinity };
    this.inFlight.add(message);
    this.inFlightBytes += bytes.length;
    this.publishedBatches++;
    this.publishedEvents += this.writer.count;
    this.publishedBytes += bytes.length;
    const deliver = (): void => {
      // The connection this was meant for, or sent over, may be gone, and with it this account.
      if (!this.inFlight.has(message)) return;
      sink.send(bytes, (error) => {
        if (this.inFlight.delete(message)) this.acknowledge(message, error);
      });
    };
    // Nobody learns of a write that a crash could still undo.
    this.options.whenSafe(deliver);
  }

  private acknowledge(message: SentMessage, error?: Error): void {
    // Its number is used up, so the receivers will know.
    if (error) this.failures++;
    message.acknowledgedAt = this.options.timing.nowMs();
    this.inFlightBytes -= message.bytes;
    this.acknowledged.push(message);
    this.forgetOld();
    // Not stalled, what waits has its timer and gathers company until then.
    if (this.stalled) this.pumpSoon();
    else if (this.outbox.isEmpty && this.inFlight.size === 0) this.resolveDrained();
  }

  private forgetOld(): void {
    const { acknowledged } = this;
    const sinceMs = this.options.timing.nowMs() - REMEMBER_MS;
    let old = Math.max(0, acknowledged.length - MAX_REMEMBERED_MESSAGES);
    while (old < acknowledged.length && acknowledged[old].acknowledgedAt < sinceMs) old++;
    if (old > 0) acknowledged.splice(0, old);
  }

  private resolveDrained(): void {
    for (const resolve of this.drained.splice(0)) resolve();
  }
}

/**
 * Puts what others publish into the store. Nothing that arrives is trusted: an event
 * that cannot be read, is too large, comes from the future or is refused by the store
 * changes nothing and is counted by its reason.
 *
 * Long messages are applied in slices, and the next message is only asked for when one
 * is done, so the broker feels how fast this node really is.
 */
import { CURRENT, READS_COMPRESSED, type Capabilities } from "../core/data/capabilities.ts";
import { decompress, isCompressed, MAX_UNPACKED_BYTES } from "../core/data/compression.ts";
import type { Store } from "../core/store/store.ts";
import { unixMsOf } from "../core/data/clock.ts";
import type { Entry } from "../core/data/entry.ts";
import { byPeer, counter, type Fact, type Series } from "../fact.ts";
import { Histogram, TRAVEL_BOUNDS_MS } from "../histogram.ts";
import {
  REFUSED_FULL,
  REFUSED_FUTURE,
  REFUSED_LARGE,
  REFUSED_MISSING,
  REFUSED_READ_ONLY,
  APPLIED,
  UNCHANGED,
  type Outcome,
} from "../core/store/outcome.ts";
import {
  BatchReader,
  EVENT_DROPPED,
  EVENT_END,
  EVENT_ENTRY,
  EVENT_EXPIRY,
  EVENT_FLUSH,
  type EventKind,
} from "./batch-reader.ts";
import { BatchSequences } from "./batch-sequences.ts";
import type { TraceContext } from "../trace-context.ts";
import { inTrace, noTracer, type Span, type Tracer } from "../tracer.ts";
import type { Timing } from "../timing.ts";
import { DROPPED, DROP_REASONS, type DropReason } from "./wire.ts";
import { EventReader } from "./event-codec.ts";

/** How long one slice may hold up the event loop, in ms. */
const SLICE_MS = 2;
/** The time is looked at once in so many events. */
const EVENTS_A_LOOK = 32;
/** Sources whose newest write is remembered; beyond it one of them is forgotten. */
const MAX_SOURCES = 10_000;

/** What the receiver is made with. */
export interface ReceiverOptions {
  readonly store: Pick<
    Store,
    | "apply"
    | "applyExpiry"
    | "applyFloor"
    | "clock"
    | "isLive"
    | "isMissing"
    | "locate"
    | "deletions"
  >;
  readonly nodeId: string;
  /** This node's own epoch, by which it knows its own batches. */
  readonly epoch: number;
  /** Values above this are dropped. */
  readonly maxEventBytes: number;
  /** Messages above this are dropped unread. */
  readonly maxMessageBytes: number;
  /** Whether single events of other implementations are taken. */
  readonly acceptsForeign?: boolean;
  /** Events of that source were lost, or left out as `forgotten`. */
  readonly onGap: (source: string) => void;
  /** The source holds a version of the key too large to send; the entry is valid for the call. */
  readonly onReference: (source: string, entry: Entry) => void;
  /**
   * An entry, or a flush of that version, is dated too far ahead and was not applied; it is valid
   * for the call. The source has it, unless that is null: another implementation, which has sent it
   * off.
   */
  readonly onFuture?: (entry: Entry, source: string | null) => void;
  /** Something was dropped; the source is "" when it is not known. */
  readonly onDropped: (reason: DropReason, source: string) => void;
  /** A batch of that many bytes came, as it travelled, of whom it says. */
  readonly onReceived?: (source: string, bytes: number) => void;
  /** A batch of this node's came back, of that number. */
  readonly onOwnBatch?: (sequence: number) => void;
  /** Whether a node may have been started with this epoch, by now and by the clocks. */
  readonly isPossibleEpoch: (epoch: number) => boolean;
  /** A node with this node's id, started later than this one, published something. */
  readonly onDuplicateNodeId: () => void;
  readonly timing: Timing;
  /** What this node speaks; what the program does, unless given. */
  readonly capabilities?: Capabilities;
  /** Told of batches that belong to traces; nobody is unless given. */
  readonly tracer?: Tracer;
}

/** Applies what arrives. */
export class Receiver {
  /** Batches and events that came, soundly written, since the start. */
  receivedBatches = 0;
  receivedEvents = 0;
  /** Of the events, those that changed something, and those that did not. */
  appliedEvents = 0;
  knownEvents = 0;
  /** Of the events, those that came without their value. */
  receivedReferences = 0;
  /** Events, or whole messages, dropped since the start, by reason. */
  readonly dropped: Record<DropReason, number> = {
    malformed: 0,
    foreign: 0,
    unknown: 0,
    oversized: 0,
    future: 0,
    forgotten: 0,
    full: 0,
    read_only: 0,
    invalid: 0,
  };

  /** For INFO. */
  static readonly facts: readonly Fact<Receiver>[] = [
    counter(
      "replication_received_batches",
      "batches",
      "Batches of other nodes that came, soundly written.",
      (it) => it.receivedBatches,
    ),
    counter(
      "replication_received_events",
      "events",
      "Events that came.",
      (it) => it.receivedEvents,
    ),
    counter(
      "replication_applied_events",
      "events",
      "Of those, the ones that changed something here.",
      (it) => it.appliedEvents,
    ),
    counter(
      "replication_known_events",
      "events",
      "Of those, the ones that changed nothing: this node had the same or a newer version.",
      (it) => it.knownEvents,
    ),
    counter(
      "replication_received_references",
      "events",
      "Of those, the ones without their value, which is fetched from the node that has it.",
      (it) => it.receivedReferences,
    ),
    counter(
      "replication_gaps",
      "",
      "How often events were found to be lost on the way; the nodes are then compared.",
      (it) => it.sequences.gaps,
    ),
  ];

  /** For INFO, too: why something was dropped. */
  static readonly droppedFacts: readonly Fact<Receiver>[] = DROP_REASONS.map((reason) =>
    counter(
      `replication_dropped_${reason}`,
      "events",
      `Events, or whole messages, that were not taken: ${DROPPED[reason]}.`,
      (it) => it.dropped[reason],
      {
        metric: {
          name: "replication_dropped_events",
          help: "Events, or whole messages, that were not taken, by reason.",
          labels: { reason },
        },
      },
    ),
  );

  /** For metrics. */
  static readonly series: readonly Series<Receiver>[] = [
    {
      name: "replication_delay_ms",
      kind: "histogram",
      unit: "ms",
      help: "How long after its newest write each batch of a peer arrived, by the clocks of both.",
      labels: [],
      read: (it) => [[[], it.delays]],
    },
    {
      name: "replication_lag_seconds",
      kind: "gauge",
      unit: "seconds",
      help: "How long ago the newest write was that this node heard of by a peer's batches.",
      labels: ["peer"],
      read: ({ newestMs, options }) =>
        byPeer(agesOf(newestMs, options.store.clock.nowMs()), Math.max),
    },
  ];

  private readonly delays = new Histogram(TRAVEL_BOUNDS_MS);
  /** When the newest write was made of which each source has told, in Unix ms. */
  private readonly newestMs = new Map<string, number>();
  /** The same of the batch under work; 0 before its first event. */
  private newestOfBatchMs = 0;
  private readonly batches: BatchReader;
  private readonly events: EventReader;
  private readonly sequences: BatchSequences;
  /** Set while a batch is being read and applied. */
  private done: (() => void) | null = null;
  /** Batches that came meanwhile: one for each connection that was lost with one under way. */
  private readonly waiting: { message: Uint8Array; done: () => void }[] = [];
  /** Length of the batch under work, as it travelled. */
  private messageBytes = 0;
  /** The batch is still being looked through; none of it is applied. */
  private isLooking = false;
  /** Of the batch under work, in the traces that it says it belongs to. */
  private spans: readonly Span[] = [];
  private appliedBefore = 0;

  constructor(private readonly options: ReceiverOptions) {
    this.batches = new BatchReader(options.maxEventBytes, options.capabilities);
    this.events = new EventReader(options.maxEventBytes);
    this.sequences = new BatchSequences(options.timing, options.onGap);
  }

  /** The limits in the options are others than before. */
  reconfigure(): void {
    this.batches.maxValueBytes = this.options.maxEventBytes;
    this.events.maxValueBytes = this.options.maxEventBytes;
  }

  /**
   * Takes a batch; `done` is called when all of it is applied. Usually that comes before
   * the next batch; one that comes sooner, over a new connection, waits until it is.
   */
  receiveBatch(message: Uint8Array, done: () => void): void {
    if (message.length > this.options.maxMessageBytes) {
      this.drop("oversized", "");
      return done();
    }
    if (this.done === null) this.start(message, done);
    else this.waiting.push({ message, done });
  }

  private start(message: Uint8Array, done: () => void): void {
    const batch = this.unpack(message);
    if (typeof batch === "string") {
      this.drop(batch, "");
      return this.finish(done);
    }
    this.messageBytes = message.length;
    this.batches.start(batch);
    this.isLooking = true;
    this.done = done;
    this.goOn(this.options.timing.nowMs() + SLICE_MS);
  }

  /** A batch as it was before it was compressed; else why it is dropped. */
  private unpack(message: Uint8Array): Uint8Array | DropReason {
    const { maxMessageBytes, capabilities = CURRENT } = this.options;
    if (!isCompressed(message)) return message;
    if ((capabilities.features & READS_COMPRESSED) === 0) return "unknown";
    return decompress(message, Math.min(maxMessageBytes, MAX_UNPACKED_BYTES));
  }

  /** Takes a single event of another implementation. */
  receiveEvent(message: Uint8Array): void {
    const { events, options } = this;
    if (options.acceptsForeign === false) return this.drop("foreign", "");
    const refusal = message.length > options.maxMessageBytes ? "oversized" : events.read(message);
    if (refusal !== null) {
      this.drop(refusal, "");
    } else if (events.source !== options.nodeId) {
      this.receivedEvents++;
      this.applyEntry(events.entry, events.source, null);
    }
  }

  /** Looks through the batch, then applies it, until the deadline, and later goes on. */
  private goOn(deadline: number): void {
    const { done } = this;
    const { timing } = this.options;
    if (done === null) return;
    if (!this.look(deadline) || !inTrace(this.trace, () => this.apply(deadline))) {
      timing.soon(() => this.goOn(timing.nowMs() + SLICE_MS));
      return;
    }
    this.done = null;
    this.finish(done);
  }

  /** A batch is done with: the next one that waits, unless another has begun meanwhile. */
  private finish(done: () => void): void {
    done();
    const next = this.done === null ? this.waiting.shift() : undefined;
    if (next !== undefined) this.start(next.message, next.done);
  }

  /** False when the deadline came before the batch was looked through. */
  private look(deadline: number): boolean {
    const { batches, options } = this;
    while (this.isLooking) {
      const refusal = batches.look();
      if (refusal === undefined) {
        if (options.timing.nowMs() > deadline) return false;
        continue;
      }
      this.isLooking = false;
      if (refusal !== null) this.drop(refusal, "");
      else this.begin();
    }
    return true;
  }

  /** The batch is sound: its events are next, unless they are our own. */
  private begin(): void {
    const { batches, options } = this;
    options.onReceived?.(batches.source, this.messageBytes);
    if (batches.source !== options.nodeId) {
      this.sequences.note(batches.source, batches.epoch, batches.sequence);
    } else if (batches.epoch === options.epoch) {
      options.onOwnBatch?.(batches.sequence);
      return batches.skipRest();
    } else if (!options.isPossibleEpoch(batches.epoch)) {
      // Nobody was ever started then: it was made up.
      this.drop("invalid", batches.source);
      return batches.skipRest();
    } else if (batches.epoch > options.epoch) {
      // Somebody else writes as us. What they wrote is as good as anybody's. (An earlier run of
      // this node may have left batches with the broker, and is no twin.)
      options.onDuplicateNodeId();
    }
    this.receivedBatches++;
    const { tracer = noTracer } = options;
    if (tracer.isOn) this.beginSpans(tracer);
  }

  private beginSpans(tracer: Tracer): void {
    const { batches } = this;
    this.appliedBefore = this.appliedEvents;
    const facts = {
      "messaging.system": "mqtt",
      "merklekv.batch.source": batches.source,
      "merklekv.batch.sequence": batches.sequence,
    };
    const wanted = batches.traces().filter(({ isSampled }) => isSampled);
    this.spans = wanted.map((parent) => tracer.begin("apply", "consumer", parent, facts));
  }

  private endSpans(): void {
    const applied = this.appliedEvents - this.appliedBefore;
    for (const span of this.spans) span.end({ "merklekv.batch.applied_events": applied });
    this.spans = [];
  }

  /** The trace that what is logged of the batch belongs to. */
  private get trace(): TraceContext | null {
    return this.spans[0]?.context ?? null;
  }

  /** False when the deadline came before all events were applied. */
  private apply(deadline: number): boolean {
    const { timing } = this.options;
    for (let applied = 1; ; applied++) {
      const kind = this.batches.next();
      if (kind === EVENT_END) {
        this.noteNewest();
        this.endSpans();
        return true;
      }
      const { timeHigh, timeLow } = this.batches.entry;
      this.newestOfBatchMs = Math.max(this.newestOfBatchMs, unixMsOf(timeHigh, timeLow));
      this.receivedEvents++;
      this.applyEvent(kind);
      if (applied % EVENTS_A_LOOK === 0 && timing.nowMs() > deadline) return false;
    }
  }

  /** A batch was applied. What is dated ahead of this node's clock has taken no time. */
  private noteNewest(): void {
    const { newestMs, newestOfBatchMs: ms } = this;
    const { source } = this.batches;
    this.newestOfBatchMs = 0;
    if (ms === 0) return;
    this.delays.note(this.options.store.clock.nowMs() - ms);
    newestMs.set(source, Math.max(newestMs.get(source) ?? 0, ms));
    if (newestMs.size > MAX_SOURCES) newestMs.delete(newestMs.keys().next().value!);
  }

  private applyEvent(kind: EventKind): void {
    const { batches, options } = this;
    const entry = batches.entry;
    if (kind === EVENT_ENTRY) {
      this.applyEntry(entry, batches.source);
    } else if (kind === EVENT_FLUSH) {
      const { timeHigh, timeLow, originHigh, originLow } = entry;
      const outcome = options.store.applyFloor(timeHigh, timeLow, originHigh, originLow);
      if (outcome === REFUSED_FUTURE) options.onFuture?.(entry, batches.source);
      this.count(outcome, batches.source);
    } else if (kind === EVENT_EXPIRY) {
      this.applyExpiry(entry, batches.source);
    } else if (kind === EVENT_DROPPED) {
      this.drop(batches.dropped, batches.source);
      // Perhaps a comparison can bring what an event of a later version says.
      if (batches.dropped === "unknown") options.onGap(batches.source);
    } else {
      this.receivedReferences++;
      options.onReference(batches.source, entry);
    }
  }

  /** Whoever gave a key another expiry has its value, should that not be here. */
  private applyExpiry(entry: Entry, source: string): void {
    const { store, onFuture, onReference } = this.options;
    const outcome = store.applyExpiry(entry);
    if (outcome === REFUSED_FUTURE) onFuture?.(entry, source);
    if (outcome !== REFUSED_MISSING) this.count(outcome, source);
    const id = store.locate(entry.key, entry.keyOffset, entry.keyLength);
    const isMissed = outcome === APPLIED && id >= 0 && store.isMissing(id);
    if (outcome !== REFUSED_MISSING && !isMissed) return;
    this.receivedReferences++;
    onReference(source, entry);
  }

  /** `keeper` is the node that holds the entry, whatever becomes of it here. */
  private applyEntry(entry: Entry, source: string, keeper: string | null = source): void {
    if (this.isForgotten(entry)) {
      this.drop("forgotten", source);
      this.options.onGap(source);
      return;
    }
    const outcome = this.options.store.apply(entry, false);
    if (outcome === REFUSED_FUTURE) this.options.onFuture?.(entry, keeper);
    this.count(outcome, source);
  }

  /** A node that was away, or a broker that kept messages for long, may not know of a deletion. */
  private isForgotten(entry: Entry): boolean {
    const { store } = this.options;
    if (!store.deletions.mayHaveForgotten(entry)) return false;
    const id = store.locate(entry.key, entry.keyOffset, entry.keyLength);
    // A deletion that is here need not be the latest that was known.
    return id < 0 || !store.isLive(id);
  }

  private count(outcome: Outcome, source: string): void {
    if (outcome === APPLIED) this.appliedEvents++;
    else if (outcome === UNCHANGED) this.knownEvents++;
    else if (outcome === REFUSED_FUTURE) this.drop("future", source);
    else if (outcome === REFUSED_FULL) this.drop("full", source);
    else if (outcome === REFUSED_READ_ONLY) this.drop("read_only", source);
    else if (outcome === REFUSED_LARGE) this.drop("oversized", source);
    else this.drop("invalid", source);
  }

  /** A source says that it has published so many batches: those that do not come were lost. */
  noteAnnounced(source: string, epoch: number, sequence: number): void {
    this.sequences.noteAnnounced(source, epoch, sequence);
  }

  private drop(reason: DropReason, source: string): void {
    this.dropped[reason]++;
    this.options.onDropped(reason, source);
  }
}

/** How long ago something was, in seconds, never less than 0. */
function* agesOf(timesMs: ReadonlyMap<string, number>, nowMs: number): Iterable<[string, number]> {
  for (const [source, ms] of timesMs) yield [source, Math.max(0, nowMs - ms) / 1000];
}

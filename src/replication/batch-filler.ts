/**
 * Fills a batch with what this node wrote, read from the store at that moment, and no longer than
 * the broker takes: what does not fit any more is for the next one, what does not fit at all goes
 * without its value, and what does not fit even so is left to comparisons.
 */
import { Entry, KIND_COUNTER, newVersion, type Kind } from "../core/data/entry.ts";
import { expiryVersionOf } from "../core/data/merge.ts";
import type { Store } from "../core/store/store.ts";
import type { TraceContext } from "../trace-context.ts";
import { BatchWriter } from "./batch-writer.ts";

/** Most ids looked at for one batch, so that passing over many takes slices too. */
const MAX_BATCH_IDS = 16_384;

/** What a filler is made with. */
export interface BatchFillerOptions {
  readonly store: Pick<Store, "read" | "floor" | "origin">;
  readonly nodeId: string;
  /** New at each start, a positive safe integer. */
  readonly epoch: number;
  /** They may change meanwhile. */
  readonly limits: BatchLimits;
}

/** How much goes into a batch. */
export interface BatchLimits {
  /** Values above this travel as a bare version. */
  readonly maxEventBytes: number;
}

/** Where ids come from: the outbox, or what was sent before. */
export interface IdSource {
  /** The next one, taken out; -1 when there is none. */
  take(): number;
  /** Of what was taken last only the expiry was written. */
  readonly isExpiryOnly: boolean;
  /** Puts back what was taken last. */
  putBack(id: number): void;
}

/** What was taken from such a source. */
export interface TakenIds {
  readonly ids: Int32Array;
  /** For each of those, not 0 when only its expiry was to be sent. */
  readonly expiries: Uint8Array;
}

/** Fills one batch after the other. */
export class BatchFiller {
  /** Events that went without their value, and those that did not fit even so. */
  references = 0;
  unsendable = 0;
  private readonly writer: BatchWriter;
  private readonly entry = new Entry();
  private readonly ids = new Int32Array(MAX_BATCH_IDS);
  private readonly expiries = new Uint8Array(MAX_BATCH_IDS);
  private readonly expiryVersion = newVersion();
  private idCount = 0;
  private maxBytes = 0;

  constructor(private readonly options: BatchFillerOptions) {
    this.writer = new BatchWriter(options.nodeId, options.epoch);
  }

  /** Events in the batch. */
  get count(): number {
    return this.writer.count;
  }

  /** Bytes of the batch. */
  get length(): number {
    return this.writer.length;
  }

  /**
   * Begins a batch of up to `maxBytes` in the form of that version, with this node's flush in front
   * if `flush`.
   */
  begin(maxBytes: number, flush: boolean, version: number): void {
    this.writer.begin(version);
    this.idCount = 0;
    this.maxBytes = maxBytes;
    const { floor } = this.options.store;
    if (flush && this.isOwn(floor.originHigh, floor.originLow)) {
      this.writer.addFlush(floor.timeHigh, floor.timeLow);
    }
  }

  /** Takes ids until the batch is `fullBytes` long or there are no more. */
  fill(source: IdSource, fullBytes: number): void {
    const { writer } = this;
    while (writer.length < fullBytes && this.idCount < MAX_BATCH_IDS) {
      const id = source.take();
      if (id < 0) return;
      const { isExpiryOnly } = source;
      if (!this.add(id, isExpiryOnly)) return source.putBack(id);
      this.ids[this.idCount] = id;
      this.expiries[this.idCount++] = isExpiryOnly ? 1 : 0;
    }
  }

  /** What went into the batch, in arrays of their own. */
  taken(): TakenIds {
    return {
      ids: this.ids.slice(0, this.idCount),
      expiries: this.expiries.slice(0, this.idCount),
    };
  }

  /** The ids in the batch; valid until the next one begins. */
  get takenIds(): Int32Array {
    return this.ids.subarray(0, this.idCount);
  }

  /** Tells of traces that the batch's events belong to, as far as there is room. */
  addTraces(contexts: readonly TraceContext[]): void {
    this.writer.addTraces(contexts, this.maxBytes);
  }

  /** The batch as bytes of its own. */
  finish(sequence: number): Buffer {
    return this.writer.finish(sequence);
  }

  /** False when it is for the next batch, this one having no room for it. */
  private add(id: number, isExpiryOnly: boolean): boolean {
    const { entry, writer, maxBytes } = this;
    this.options.store.read(id, entry);
    const isFirst = writer.count === 0;
    if (isExpiryOnly || !this.isOwn(entry.originHigh, entry.originLow, entry.kind)) {
      if (this.addExpiry()) return true;
      if (isFirst) this.unsendable++;
      return isFirst;
    }
    const contentBytes = entry.keyLength + entry.valueLength;
    const mayFit =
      entry.valueLength <= this.options.limits.maxEventBytes &&
      writer.emptyLength + contentBytes < maxBytes;
    if (mayFit) {
      if (this.addWhole()) return true;
      if (!isFirst) return false;
    }
    if (this.addReference()) return true;
    if (!isFirst) return false;
    this.unsendable++;
    return true;
  }

  /** Copied and taken back rather than reckoned: only the writer knows how long it gets. */
  private addWhole(): boolean {
    const { entry, writer, maxBytes } = this;
    const { length, count } = writer;
    if (length + entry.keyLength + entry.valueLength >= maxBytes) return false;
    writer.addEntry(entry);
    if (writer.length <= maxBytes) return true;
    writer.rollBack(length, count);
    return false;
  }

  /** Of an entry whose value is not to be sent, the expiry if this node wrote it. */
  private addExpiry(): boolean {
    const { entry, expiryVersion, writer, maxBytes } = this;
    expiryVersionOf(entry, expiryVersion);
    if (!this.isOwn(expiryVersion.originHigh, expiryVersion.originLow)) return true;
    const { length, count } = writer;
    if (length + entry.keyLength >= maxBytes) return false;
    writer.addExpiry(entry, expiryVersion);
    if (writer.length <= maxBytes) return true;
    writer.rollBack(length, count);
    return false;
  }

  private addReference(): boolean {
    const { entry, writer, maxBytes } = this;
    const { length, count } = writer;
    if (length + entry.keyLength >= maxBytes) return false;
    writer.addReference(entry);
    if (writer.length > maxBytes) {
      writer.rollBack(length, count);
      return false;
    }
    this.references++;
    return true;
  }

  /** A counter carries everybody's increments, so ours are in it whoever came last. */
  private isOwn(originHigh: number, originLow: number, kind?: Kind): boolean {
    const { origin } = this.options.store;
    return kind === KIND_COUNTER || (originHigh === origin.high && originLow === origin.low);
  }
}

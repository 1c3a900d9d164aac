/**
 * What can be asked of a store: which keys live, what their values are, how much there is. Nothing
 * here changes an entry.
 */
import type { HybridClock } from "../data/clock.ts";
import { sumOf } from "../data/counter.ts";
import { Int64, MAX_NUMBER_TEXT_BYTES, formatInt64 } from "../data/int64.ts";
import { Entry, KIND_COUNTER, KIND_OTHER, KIND_STRING, type VersionWords } from "../data/entry.ts";
import { hasValue } from "../data/merge.ts";
import type { Origin } from "../data/origin.ts";
import type { BlockSkipList } from "./block-skip-list.ts";
import type { SharedValue } from "./entry-table.ts";
import { FlushFloor } from "./flush-floor.ts";
import type { KeySlice } from "./key-order.ts";
import { KeyedEntries, type StoreMemory } from "./keyed-entries.ts";
import type { ChangeObserver } from "./outcome.ts";
import type { StoreOptions } from "./store-options.ts";
import { UnknownKind } from "./unknown-kind.ts";

/** A store, as far as it is read. */
export abstract class StoreView {
  readonly clock: HybridClock;
  readonly origin: Origin;
  /** Told of every change, in this order. */
  readonly observers: ChangeObserver[];
  /** Ids of all entries that are not tombstones, by key. */
  readonly order: BlockSkipList;
  /**
   * Every entry whose base is below this version is gone; a counter begun after a flush has it as
   * its base.
   */
  readonly floor: VersionWords;
  /** The number that an increment arrived at, or `readValue` read. */
  readonly number = new Int64();
  /**
   * Bytes of counters that were gone through so far to add them up, and of strings that were moved
   * when some of them changed: work that no length of a reply tells of.
   */
  workedBytes = 0;

  protected readonly entries: KeyedEntries;
  protected readonly flushFloor = new FlushFloor();
  /** How many runs have begun and not ended, each within the one before. */
  private runs = 0;
  /** How many there were when keys were prefetched last. */
  private prefetchedIn = 0;
  private readonly flushed = new Entry();
  private readonly numberText = new Uint8Array(MAX_NUMBER_TEXT_BYTES);

  constructor({ clock, origin, hashSeed, random, memoryLimitBytes }: StoreOptions) {
    this.clock = clock;
    this.origin = origin;
    this.entries = new KeyedEntries(hashSeed, random, memoryLimitBytes);
    this.observers = this.entries.observers;
    this.order = this.entries.order;
    this.floor = this.flushFloor.version;
  }

  /** Number of keys that are not deleted. Keys past their expiry count until swept. */
  get size(): number {
    return this.entries.count - this.entries.tombstones;
  }

  /** Number of tombstones held. */
  get tombstoneCount(): number {
    return this.entries.tombstones;
  }

  /** Number of keys that have an expiry, those past it included until swept. */
  get expiringCount(): number {
    return this.entries.expiring;
  }

  /** Number of keys that live and whose value is not here (`isMissing`). */
  get missingCount(): number {
    return this.entries.missing;
  }

  /** An entry of another node did not fit into the memory limit, and nothing was removed since. */
  get isFull(): boolean {
    return this.entries.isFull;
  }

  /**
   * A client's write was refused as the memory limit is all but reached, and nothing was removed
   * since.
   */
  get isFullForClients(): boolean {
    return this.entries.isFullForClients;
  }

  /** Memory used by entries, index and order, in bytes. */
  bytes(): number {
    return this.entries.bytes();
  }

  /**
   * The blocks of memory that lookups go to; some may be empty by now. The store may change between
   * two of them.
   */
  blocks(): Iterable<Uint8Array | Uint32Array> {
    return this.entries.blocks();
  }

  /** The same by part. */
  memory(): StoreMemory {
    return this.entries.memory();
  }

  /** Writes are refused beyond this many bytes; 0 means no limit. */
  get limitBytes(): number {
    const { limitBytes } = this.entries;
    return limitBytes === Infinity ? 0 : limitBytes;
  }

  /** Every id in use is below this; `isUsed` tells which are. */
  get idLimit(): number {
    return this.entries.idLimit;
  }

  /** Whether an id names an entry now. */
  isUsed(id: number): boolean {
    return this.entries.isUsed(id);
  }

  /** Id of the live entry with this key, or -1 when it is missing, deleted or expired. */
  find(key: Uint8Array, offset: number, length: number): number {
    const { entries } = this;
    const id = entries.locate(entries.hash(key, offset, length), key, offset, length);
    return id >= 0 && this.isLive(id) ? id : -1;
  }

  /** Id of the entry with this key, a tombstone or an expired one too, or -1. */
  locate(key: Uint8Array, offset: number, length: number): number {
    const { entries } = this;
    return entries.locate(entries.hash(key, offset, length), key, offset, length);
  }

  /**
   * Begins a run of requests, which takes well below a millisecond: until `endRun` the time is
   * looked at once at the most (`HybridClock.hold`), and keys may be prefetched. Runs within a run
   * are a part of it.
   */
  beginRun(): void {
    if (this.runs++ === 0) this.clock.hold();
  }

  /** Ends what `beginRun` began. */
  endRun(): void {
    if (--this.runs === 0) this.clock.release();
    if (this.runs < this.prefetchedIn) this.entries.forgetHashes();
  }

  /**
   * Within a run: hashes keys, each in its own of `inputs`, and loads the memory that looking them
   * up will need, all keys a step at a time, so that the processor waits for many loads at once. At
   * most PREFETCH_KEYS keys, in the order in which they are looked up; their bytes stay as they are
   * until the run ends or more is prefetched. Returns a number of no meaning,
   * which keeps the loads from being optimised away.
   */
  prefetch(
    inputs: readonly Uint8Array[],
    starts: Int32Array,
    lengths: Int32Array,
    count: number,
  ): number {
    this.prefetchedIn = this.runs;
    return this.entries.prefetch(inputs, starts, lengths, count);
  }

  /** Whether a client sees the entry: not deleted, not expired, not flushed. */
  isLive(id: number): boolean {
    const { entries, clock } = this;
    if (!hasValue(entries.kindOf(id))) return false;
    // Most have no expiry, and to ask for the time takes longer than all the rest.
    if (entries.hasExpiry(id) && entries.hasExpired(id, clock.nowMs())) return false;
    return this.flushFloor.isCarriedOut || !this.isFlushed(id);
  }

  /**
   * Whether the value of an entry should be here and is not: it was let go as expired, by a clock
   * that was wrong, or before the key was given another expiry. A peer that has it gives it back.
   */
  isMissing(id: number): boolean {
    return this.entries.isMissing(id);
  }

  /** Whether a flush has deleted it, and its entry is still to be removed. */
  protected isFlushed(id: number): boolean {
    this.entries.read(id, this.flushed);
    return this.flushFloor.covers(this.flushed);
  }

  /** Points `into` at the entry as it is stored. Valid until the next write. */
  read(id: number, into: Entry): void {
    this.entries.read(id, into);
  }

  /** Points `into` at an entry's key, and reads nothing else. Valid until the next write. */
  locateKey(id: number, into: KeySlice): void {
    this.entries.locateKey(id, into);
  }

  /** Loads what `read` reads of an entry into the processor's caches. Returns no meaning. */
  touchRow(id: number): number {
    return this.entries.touchRow(id);
  }

  /**
   * The same of the keys and values of several entries, or of their beginnings and ends, once their
   * rows are there: of the first `count`, 64 at most, of which those below 0 are none.
   */
  touchSlots(ids: Int32Array, count: number): number {
    return this.entries.touchSlots(ids, count);
  }

  /**
   * Like `read`, but the value is what clients see: a counter's is its decimal text. Throws an
   * UnknownKind when there is none that this version could show.
   */
  readValue(id: number, into: Entry): void {
    this.entries.read(id, into);
    this.showValue(id, into);
  }

  /** The same, but of `into` only kind and value are set, which takes half the time. */
  readValueAlone(id: number, into: Entry): void {
    const { entries } = this;
    if (entries.isPacked(id)) into.kind = KIND_COUNTER;
    else entries.readValue(id, into);
    if (into.kind !== KIND_STRING) this.showValue(id, into);
  }

  private showValue(id: number, into: Entry): void {
    const { entries, number, numberText } = this;
    if (into.kind === KIND_OTHER) throw new UnknownKind(into);
    if (into.kind !== KIND_COUNTER) return;
    if (entries.isPacked(id)) entries.readNumber(id, number);
    else {
      this.workedBytes += into.valueLength;
      sumOf(into.value, into.valueOffset, into.valueLength, number);
    }
    into.setValue(numberText, 0, formatInt64(number, numberText, 0));
  }

  /**
   * The value that `readValue` has read of the entry `id`, to be read while others write; null for
   * one that is too short for that.
   */
  shareValue(id: number, value: Entry): SharedValue | null {
    return this.entries.shareValue(id, value);
  }
}

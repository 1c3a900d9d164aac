/**
 * The store: every entry enters through one gate, `apply`, which merges it with what is
 * there (`merge.ts`) and tells the observers. Local commands stamp an entry with the
 * next version and go through the same gate; a replicated event, an anti-entropy repair and
 * a log replay are nothing else.
 *
 * What it is made of: `keyed-entries.ts` holds the entries, `deletions.ts` says what may be
 * forgotten, `own-counts.ts` counts, `sweeper.ts` does what has to be done later.
 *
 * Invariants
 * - Every entry is well-formed (`entry-check.ts`).
 * - No entry has a base below the flush floor, except while `sweep` is still
 *   removing them; until then they read as absent.
 * - The version of a counter is that of its latest part.
 * - The clock has seen every version in the store (`clock.ts`).
 */
import { unixMsOf, type HybridClock } from "../data/clock.ts";
import {
  Int64,
  MAX_ENTRY_PARTS,
  MAX_NUMBER_TEXT_BYTES,
  formatInt64,
  partsOf,
  setVersionFromParts,
  sumOf,
} from "../data/counter.ts";
import {
  Entry,
  KIND_COUNTER,
  KIND_HUSK,
  KIND_OTHER,
  KIND_STRING,
  KIND_TOMBSTONE,
  compareVersions,
  isNoVersion,
  type VersionWords,
} from "../data/entry.ts";
import { flawOf } from "../data/entry-check.ts";
import { baseVersionOf, diedMs, hasValue, latestVersionOf, setExpiryOf } from "../data/merge.ts";
import type { Origin } from "../data/origin.ts";
import type { Patch } from "../data/patch.ts";
import type { BlockSkipList } from "./block-skip-list.ts";
import { Deletions } from "./deletions.ts";
import { FlushFloor } from "./flush-floor.ts";
import type { SharedValue } from "./entry-table.ts";
import { KeyedEntries } from "./keyed-entries.ts";
import { LARGE_COUNTER_BYTES, Merger } from "./merger.ts";
import {
  APPLIED,
  CHANGED_VALUE,
  NOT_A_NUMBER,
  OUT_OF_RANGE,
  REFUSED_FUTURE,
  REFUSED_INVALID,
  REFUSED_LARGE,
  REFUSED_MISSING,
  REFUSED_READ_ONLY,
  UNCHANGED,
  type ChangeObserver,
  type Outcome,
} from "./outcome.ts";
import type { StoreMemory } from "./keyed-entries.ts";
import { OwnCounts } from "./own-counts.ts";
import type { Pieces } from "./pieces.ts";
import { StringPatches } from "./string-patches.ts";
import { UnknownKind } from "./unknown-kind.ts";
import { Sweeper } from "./sweeper.ts";

const never = (): boolean => false;
/** In place of an expiry: the one that the key has. */
export const KEEP_EXPIRY = -1;
/** Rows that `sweep` goes over for what lies in slabs that are hardly used. */
const COMPACTED_ROWS = 16_384;

/** What a store is made with. */
export interface StoreOptions {
  readonly clock: HybridClock;
  readonly origin: Origin;
  /**
   * Whose increments this process adds up in counters; new at each start, `origin` by default.
   * A total is only ever added to by who holds all of it, and a process that came back
   * without its last increments, which peers may have, does not.
   */
  readonly counterOrigin?: Origin;
  /** Secret seed of the hash index, two 32-bit words. */
  readonly hashSeed: Origin;
  /** From 0 to below 1; decides the shape of the order, nothing else. */
  readonly random: () => number;
  /**
   * Writes are refused beyond this many bytes, and merges beyond a reserve above; 0 means no limit.
   */
  readonly memoryLimitBytes: number;
  /** Entries from further ahead than this are refused. */
  readonly maxClockSkewMs: number;
  /** How long a tombstone is kept. */
  readonly tombstoneGraceMs: number;
  /** Whether the time is certain enough to forget tombstones by it; it is by default. */
  readonly mayForget?: () => boolean;
  /** What has expired by then, in Unix ms, is let go of; by default by what the clock says. */
  readonly expiredMs?: () => number;
}

/** The data set of one node. */
export class Store {
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
  /** What may be forgotten, and was. */
  readonly deletions: Deletions;
  /** How this node counts. */
  readonly counts: OwnCounts;
  /** The number `increment` arrived at, or `readValue` read. */
  readonly number: Int64;
  /**
   * Bytes of counters that were gone through so far to add them up, and of strings that were moved
   * when some of them changed: work that no length of a reply tells of.
   */
  workedBytes = 0;

  private readonly entries: KeyedEntries;
  private readonly flushFloor = new FlushFloor();
  private readonly merger: Merger;
  private readonly patches: StringPatches;
  private readonly sweeper: Sweeper;
  private isRefusing = false;
  /** How many runs have begun and not ended, each within the one before. */
  private runs = 0;
  /** How many there were when keys were prefetched last. */
  private prefetchedIn = 0;
  private readonly base: VersionWords = { timeHigh: 0, timeLow: 0, originHigh: 0, originLow: 0 };

  // Scratch: every operation is synchronous, so one of each is enough.
  private readonly present = new Entry();
  private readonly own = new Entry();
  private readonly other = new Entry();
  /** See `readChange`; null when what came in is what is there. */
  private change: Entry | null = null;
  private readonly numberText = new Uint8Array(MAX_NUMBER_TEXT_BYTES);

  constructor(private readonly options: StoreOptions) {
    const { clock, origin, hashSeed, random, memoryLimitBytes, tombstoneGraceMs } = options;
    this.clock = clock;
    this.origin = origin;
    this.entries = new KeyedEntries(hashSeed, random, memoryLimitBytes);
    this.patches = new StringPatches(this.entries);
    this.observers = this.entries.observers;
    this.order = this.entries.order;
    this.floor = this.flushFloor.version;
    this.deletions = new Deletions(clock, tombstoneGraceMs, options.mayForget);
    this.merger = new Merger(this.entries, this.flushFloor, this.deletions, clock);
    this.counts = new OwnCounts(clock, options.counterOrigin ?? origin);
    this.number = this.counts.number;
    this.sweeper = new Sweeper(this.entries, this.flushFloor, this.deletions);
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

  /** Keys found to have expired, since the start. */
  get expiredCount(): number {
    return this.sweeper.expired;
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

  /** Another limit, in bytes, from now on; 0 for none. What is there stays. */
  setMemoryLimit(bytes: number): void {
    this.entries.setLimit(bytes);
  }

  /**
   * No entry but a client's own is accepted, and `sweep` changes none: that could not be written
   * down.
   */
  get isReadOnly(): boolean {
    return this.isRefusing;
  }

  /** See `isReadOnly`. */
  setReadOnly(isReadOnly: boolean): void {
    this.isRefusing = isReadOnly;
  }

  /** Memory used by entries, index and order, in bytes. */
  bytes(): number {
    return this.entries.bytes();
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

  /** Id of the live entry with this key, or -1 when it is missing, deleted or expired. */
  find(key: Uint8Array, offset: number, length: number): number {
    const { entries } = this;
    const id = entries.locate(entries.hash(key, offset, length), key, offset, length);
    return id >= 0 && this.isLive(id) ? id : -1;
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

  /** Id of the entry with this key, a tombstone or an expired one too, or -1. */
  locate(key: Uint8Array, offset: number, length: number): number {
    const { entries } = this;
    return entries.locate(entries.hash(key, offset, length), key, offset, length);
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

  /** Points `into` at the entry as it is stored. Valid until the next write. */
  read(id: number, into: Entry): void {
    this.entries.read(id, into);
  }

  /** Loads what `read` reads of an entry into the processor's caches. Returns no meaning. */
  touchRow(id: number): number {
    return this.entries.touchRow(id);
  }

  /** The same of its key and value, or of their beginning and end, once its row is there. */
  touchSlot(id: number): number {
    return this.entries.touchSlot(id);
  }

  /**
   * For an observer that is told of a change: points `into` at what came in. Merged with what was
   * there before, it gives what is there now, and is much less when a large counter changed in a
   * few parts.
   */
  readChange(id: number, into: Entry): void {
    const change = this.merger.change ?? this.change;
    if (change === null) return this.entries.read(id, into);
    into.pointAt(change);
  }

  /**
   * For an observer that is told of a change: what it changed of a long string, if that is all that
   * needs to be written down; null if it is not.
   */
  readPatch(id: number): Patch | null {
    return this.patches.read(id);
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

  /** Throws unless the invariants hold, of all parts too; for tests, for it looks at everything. */
  verify(): void {
    const { clock, entries, flushFloor, present } = this;
    entries.verify();
    for (let id = 0; id < entries.idLimit; id++) {
      if (!entries.isUsed(id)) continue;
      entries.read(id, present);
      const flaw = flawOf(present);
      if (flaw !== null) throw new Error(`store: entry ${id} is malformed: ${flaw}`);
      const { timeHigh, timeLow } = latestVersionOf(present);
      if (present.kind === KIND_COUNTER) {
        this.other.pointAt(present);
        setVersionFromParts(this.other);
        if (compareVersions(this.other, present) !== 0) {
          throw new Error(`store: the version of counter ${id} is not that of its latest part`);
        }
      }
      const { seenHigh, seenLow } = clock;
      if (timeHigh > seenHigh || (timeHigh === seenHigh && timeLow > seenLow)) {
        throw new Error(`store: entry ${id} is ahead of the clock`);
      }
      if (flushFloor.isCarriedOut && flushFloor.covers(present)) {
        throw new Error(`store: entry ${id} has outlived a flush`);
      }
    }
  }

  /** Every id in use is below this; `isUsed` tells which are. */
  get idLimit(): number {
    return this.entries.idLimit;
  }

  /** Whether an id names an entry now. */
  isUsed(id: number): boolean {
    return this.entries.isUsed(id);
  }

  /**
   * The gate: merges an entry. Its bytes are copied; they must not lie in this store.
   * `local` is for entries this node just made with the next version of its own clock;
   * all others are checked first and may be refused.
   */
  apply(entry: Entry, local = false): Outcome {
    if (!local) {
      const refused = this.inspect(entry);
      if (refused !== 0) return refused;
      const { timeHigh, timeLow } = latestVersionOf(entry);
      this.clock.observe(timeHigh, timeLow);
      if (this.flushFloor.covers(entry)) return UNCHANGED;
    }
    const { entries } = this;
    const hash = entries.hash(entry.key, entry.keyOffset, entry.keyLength);
    const id = entries.locate(hash, entry.key, entry.keyOffset, entry.keyLength);
    // What this node just wrote is above all it ever saw: there is nothing to compare.
    if (local) {
      if (id < 0) return entries.add(hash, entry, true);
      return entries.replace(id, entry, true, CHANGED_VALUE);
    }
    return id < 0 ? this.merger.add(hash, entry) : this.merger.merge(id, entry);
  }

  /**
   * The gate for an expiry that comes without a value: merges it with that of the key. The version
   * of `entry` is that of its expiry. REFUSED_MISSING when the key is not here.
   */
  applyExpiry(entry: Entry): Outcome {
    entry.kind = KIND_HUSK;
    entry.valueLength = 0;
    const refused = this.inspect(entry);
    if (refused !== 0) return refused;
    this.clock.observe(entry.timeHigh, entry.timeLow);
    const id = this.locate(entry.key, entry.keyOffset, entry.keyLength);
    const isHere = id >= 0 && (this.flushFloor.isCarriedOut || !this.isFlushed(id));
    if (!isHere) return REFUSED_MISSING;
    return this.merger.expire(id, entry, entry.expiresAtMs, entry, false);
  }

  /**
   * From here to `endRecovery` entries are accepted that this store has had before, as from a log:
   * however new or old they are, and beyond the memory limit. Meanwhile the order is empty.
   */
  beginRecovery(): void {
    this.entries.beginRecovery();
  }

  /** While recovering: there will be so many entries in all, about, and memory for finding them. */
  expect(count: number): void {
    this.entries.expect(count);
  }

  /**
   * Ends what `beginRecovery` began: makes the order, 0.1 s a million keys. Nothing may change
   * before all pieces of that are done.
   */
  endRecovery(): Pieces<void> {
    return this.entries.endRecovery();
  }

  /**
   * Writes a string. APPLIED or REFUSED_FULL. `expiresAtMs` is 0 for never; KEEP_EXPIRY writes the
   * value alone, unless there is no such key: then it never expires.
   */
  set(
    key: Uint8Array,
    keyOffset: number,
    keyLength: number,
    value: Uint8Array,
    valueOffset: number,
    valueLength: number,
    expiresAtMs: number,
  ): Outcome {
    const own = this.own;
    own.kind = KIND_STRING;
    own.setKey(key, keyOffset, keyLength).setValue(value, valueOffset, valueLength);
    own.setExpiry(expiresAtMs);
    this.stamp();
    if (expiresAtMs === KEEP_EXPIRY) this.keepExpiry();
    // As `apply` does; with one call more between, the lookup would not be compiled into this.
    const { entries } = this;
    const hash = entries.hash(key, keyOffset, keyLength);
    const id = entries.locate(hash, key, keyOffset, keyLength);
    if (id < 0) return entries.add(hash, own, true);
    return entries.replace(id, own, true, CHANGED_VALUE);
  }

  /** Gives `own` the expiry that its key has, if a client sees that. */
  private keepExpiry(): void {
    const { own, present } = this;
    own.expiresAtMs = 0;
    const id = this.find(own.key, own.keyOffset, own.keyLength);
    if (id < 0) return;
    this.entries.read(id, present);
    setExpiryOf(own, present);
  }

  /**
   * Gives a key another expiry, 0 for never, and writes nothing else. UNCHANGED when it is not
   * there; else APPLIED or REFUSED_FULL. The bytes of the key do not lie in this store.
   */
  expire(key: Uint8Array, offset: number, length: number, expiresAtMs: number): Outcome {
    const id = this.find(key, offset, length);
    if (id < 0) return UNCHANGED;
    const { own } = this;
    own.setKey(key, offset, length);
    this.stamp();
    return this.merger.expire(id, own, expiresAtMs, own, true);
  }

  /**
   * Puts bytes, which do not lie in this store, in the place of `removed` bytes of the string `id`,
   * from its byte `at` on, and moves as little as can be of the rest. APPLIED or REFUSED_FULL.
   */
  splice(
    id: number,
    at: number,
    removed: number,
    bytes: Uint8Array,
    offset: number,
    length: number,
  ): Outcome {
    const { entries, own, present } = this;
    entries.read(id, present);
    if (present.kind !== KIND_STRING || at + removed > present.valueLength) {
      throw new Error("there is no such part of a string");
    }
    own.kind = KIND_STRING;
    own.setKey(present.key, present.keyOffset, present.keyLength).setValue(bytes, offset, length);
    this.stamp();
    setExpiryOf(own, present);
    const { movedBytes } = entries;
    const outcome = this.patches.splice(id, present, own, at, removed);
    this.workedBytes += entries.movedBytes - movedBytes;
    return outcome;
  }

  /**
   * Deletes a key. False when it is not there. It is never refused: what is left takes no more
   * memory than what was there.
   */
  delete(key: Uint8Array, offset: number, length: number): boolean {
    const id = this.find(key, offset, length);
    if (id < 0) return false;
    const own = this.own;
    own.kind = KIND_TOMBSTONE;
    own.setKey(key, offset, length).setValue(key, 0, 0);
    own.setExpiry(0);
    this.stamp();
    own.learnedMs = this.deletions.learnedMs(own);
    const outcome = this.entries.replace(id, own, true, CHANGED_VALUE);
    own.learnedMs = 0;
    if (outcome !== APPLIED) throw new Error("a deletion was refused");
    return true;
  }

  /**
   * Adds `delta` to the number at the key; a missing key counts as 0. The result is in
   * `number`. APPLIED, NOT_A_NUMBER, OUT_OF_RANGE or REFUSED_FULL; nothing changes
   * unless APPLIED.
   */
  increment(key: Uint8Array, offset: number, length: number, delta: Int64): Outcome {
    const { counts, entries, own, present } = this;
    own.setKey(key, offset, length);
    const hash = entries.hash(key, offset, length);
    const id = entries.locate(hash, key, offset, length);
    const isLive = id >= 0 && this.isLive(id);
    if (isLive && entries.isPacked(id) && this.incrementPacked(id, delta)) return APPLIED;
    if (id >= 0) entries.read(id, present);
    if (isLive && present.kind === KIND_OTHER) throw new UnknownKind(present);
    if (isLive && present.kind === KIND_COUNTER && !entries.isPacked(id)) {
      if (this.incrementInPlace(id, delta)) return APPLIED;
    }
    if (!counts.start(id < 0 ? null : present, isLive, this.flushFloor, own)) return NOT_A_NUMBER;
    this.stamp();
    const isInRange = counts.add(own, delta);
    this.workedBytes += own.valueLength;
    if (!isInRange) return OUT_OF_RANGE;
    if (id < 0) return entries.add(hash, own, true);
    if (own.valueLength >= LARGE_COUNTER_BYTES) this.change = counts.changeOf(own);
    const outcome = entries.replace(id, own, true, CHANGED_VALUE);
    this.change = null;
    return outcome;
  }

  /** The same for one that lies packed. */
  private incrementPacked(id: number, delta: Int64): boolean {
    const { clock, counts, entries } = this;
    if (!entries.canAddToPacked(id, delta, counts.origin, this.number)) return false;
    clock.next();
    // Below what it has seen: then the next time has to be above what is here.
    if (clock.isOutrun) return false;
    entries.addToPacked(id, clock.high, clock.low);
    return true;
  }

  /** Adds to the counter in `present` where it lies. False, with nothing done, if it cannot be. */
  private incrementInPlace(id: number, delta: Int64): boolean {
    const { clock, counts, present } = this;
    if (!counts.addInPlace(present, delta)) return false;
    this.workedBytes += present.valueLength;
    if (present.valueLength >= LARGE_COUNTER_BYTES) {
      const { high, low } = counts.origin;
      present.setVersion(clock.high, clock.low, high, low);
      this.change = counts.changeOf(present);
    }
    this.entries.revise(id, clock.high, clock.low, counts.origin);
    this.change = null;
    return true;
  }

  /** Deletes everything, here and, as a floor that replicates, everywhere. */
  flush(): void {
    const { clock } = this;
    clock.next();
    if (clock.isOutrun) clock.raiseAbove(clock.seenHigh, clock.seenLow);
    this.raiseFloor(clock.high, clock.low, this.origin.high, this.origin.low, true);
  }

  /** Merges another node's flush floor. */
  applyFloor(timeHigh: number, timeLow: number, originHigh: number, originLow: number): Outcome {
    const given = { timeHigh, timeLow, originHigh, originLow };
    if (compareVersions(given, this.floor) <= 0) return UNCHANGED;
    if (this.isTooFarAhead(timeHigh, timeLow)) return REFUSED_FUTURE;
    if (this.isReadOnly) return REFUSED_READ_ONLY;
    this.raiseFloor(timeHigh, timeLow, originHigh, originLow, false);
    return APPLIED;
  }

  /** Unix milliseconds that nothing is written below any more. */
  clockMs(): number {
    return this.clock.latestMs();
  }

  /** See `StoreOptions`. */
  get maxClockSkewMs(): number {
    return this.options.maxClockSkewMs;
  }

  /** Up to when, in Unix ms, versions are accepted: what is later comes from the future. */
  acceptsUpToMs(): number {
    return this.clock.nowMs() + this.options.maxClockSkewMs;
  }

  /** Lets the clock see that of another node, unless it lies too far ahead. */
  observeClock(timeHigh: number, timeLow: number): void {
    if (!this.isTooFarAhead(timeHigh, timeLow)) this.clock.observe(timeHigh, timeLow);
  }

  /**
   * Drops an entry for good, without a trace: no deletion that others would learn of. For an
   * entry that was put away elsewhere because peers refuse it.
   */
  discard(id: number): void {
    // Peers may have this node's part of a counter that it was, or that it took the place of: the
    // next one must not seem to follow on that.
    if (this.isLive(id)) this.counts.beginAnew();
    this.entries.drop(id, false);
  }

  /**
   * In a recovery: drops what was dropped before, an entry of this key and version or an older one.
   */
  dropAgain(dropped: Entry): void {
    const id = this.locate(dropped.key, dropped.keyOffset, dropped.keyLength);
    if (id < 0) return;
    const { present } = this;
    this.entries.read(id, present);
    if (compareVersions(present, dropped) > 0) return;
    if (present.kind === KIND_TOMBSTONE || this.deletions.isPurgeable(present)) {
      this.deletions.notePurgedHere(diedMs(present));
    }
    this.entries.drop(id, false);
  }

  /**
   * In a recovery: changes a string again, if it is there in exactly the version that was changed.
   * If it is not, what came after it is there already, or it was dropped.
   */
  patchAgain(patch: Patch): void {
    const { entry } = patch;
    const id = this.locate(entry.key, entry.keyOffset, entry.keyLength);
    if (id < 0 || this.flushFloor.isAbove(entry)) return;
    this.clock.observe(entry.timeHigh, entry.timeLow);
    this.patches.repeat(id, patch);
  }

  /**
   * A slice of background work over the next `rows` rows: takes what has expired out of the order
   * and lets go of its value, purges what is dead past the grace, removes what a flush left, and
   * empties sparse slabs. True while a flush is still being carried out. While `isReadOnly`
   * no entry changes, and what a flush left stays until later. `isOver` says that time is up: it is
   * asked after each entry that was changed, and once in a while besides.
   */
  sweep(rows: number, isOver: () => boolean = never): boolean {
    this.entries.compact(COMPACTED_ROWS, isOver);
    // What cannot be written down is left as it is.
    if (this.isReadOnly) return false;
    this.sweeper.sweep(rows, this.options.expiredMs?.() ?? this.clock.nowMs(), isOver);
    return !this.flushFloor.isCarriedOut;
  }

  private inspect(entry: Entry): Outcome {
    if (flawOf(entry) !== null) return REFUSED_INVALID;
    if (entry.kind === KIND_COUNTER) {
      if (!this.entries.isRecovering && partsOf(entry.valueLength) > MAX_ENTRY_PARTS)
        return REFUSED_LARGE;
      setVersionFromParts(entry);
    }
    // There is one way to write an expiry down. What deletes writes that there is none.
    setExpiryOf(entry, entry);
    if (entry.kind === KIND_TOMBSTONE && isNoVersion(entry.expiryVersion)) entry.expiresAtMs = 0;
    if (this.isReadOnly) return REFUSED_READ_ONLY;
    const { timeHigh, timeLow } = latestVersionOf(entry);
    return this.isTooFarAhead(timeHigh, timeLow) ? REFUSED_FUTURE : 0;
  }

  /**
   * Until when, in Unix ms, nobody would take what is here of the key, nor what is written over it,
   * as it was written while this node's clock was ahead; 0 when it was not. Without a key: until
   * when something here may be dated so.
   */
  aheadUntilMs(key: Uint8Array | null = null, offset = 0, length = 0): number {
    const { base, clock, floor, other } = this;
    if (!clock.isOutrun) return 0;
    if (key === null) return this.untilTakenMs(clock.seenHigh, clock.seenLow);
    const id = this.locate(key, offset, length);
    const floorUntilMs = this.untilTakenMs(floor.timeHigh, floor.timeLow);
    if (id < 0) return floorUntilMs;
    this.entries.read(id, other);
    baseVersionOf(other, base);
    const { timeHigh, timeLow } = latestVersionOf(other);
    const untilMs = this.untilTakenMs(timeHigh, timeLow);
    return Math.max(floorUntilMs, untilMs, this.untilTakenMs(base.timeHigh, base.timeLow));
  }

  private untilTakenMs(timeHigh: number, timeLow: number): number {
    if (!this.isTooFarAhead(timeHigh, timeLow)) return 0;
    return unixMsOf(timeHigh, timeLow) - this.options.maxClockSkewMs;
  }

  /** Whether a version of that time would be refused as coming from the future. */
  isTooFarAhead(timeHigh: number, timeLow: number): boolean {
    if (this.entries.isRecovering) return false;
    return unixMsOf(timeHigh, timeLow) > this.acceptsUpToMs();
  }

  private raiseFloor(
    timeHigh: number,
    timeLow: number,
    originHigh: number,
    originLow: number,
    local: boolean,
  ): void {
    const { clock, entries } = this;
    const { seenHigh, seenLow } = clock;
    // A floor above all that the clock has seen is above every version here: drop all in one step.
    const clearsAll = local || timeHigh > seenHigh || (timeHigh === seenHigh && timeLow > seenLow);
    this.flushFloor.set(timeHigh, timeLow, originHigh, originLow);
    clock.observe(timeHigh, timeLow);
    if (clearsAll) entries.clear();
    this.flushFloor.isCarriedOut = clearsAll;
    this.sweeper.restart();
    entries.noteRoom();
    for (let i = 0; i < this.observers.length; i++) this.observers[i].flushed(local, clearsAll);
  }

  private isFlushed(id: number): boolean {
    this.entries.read(id, this.other);
    return this.flushFloor.covers(this.other);
  }

  /** Gives `own`, whose key is set, the next version. */
  private stamp(): void {
    const { clock, origin } = this;
    clock.next();
    if (clock.isOutrun) this.outdo();
    this.own.setVersion(clock.high, clock.low, origin.high, origin.low);
  }

  /**
   * Brings the clock above the flush floor, and above what is here of the key of `own`: the clock
   * has begun anew below some of what there is.
   */
  private outdo(): void {
    const { base, clock, entries, floor, other } = this;
    clock.raiseAbove(floor.timeHigh, floor.timeLow);
    const id = this.locate(this.own.key, this.own.keyOffset, this.own.keyLength);
    if (id < 0) return;
    entries.read(id, other);
    const { timeHigh, timeLow } = latestVersionOf(other);
    clock.raiseAbove(timeHigh, timeLow);
    baseVersionOf(other, base);
    clock.raiseAbove(base.timeHigh, base.timeLow);
  }
}

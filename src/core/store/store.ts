/**
 * The store: every entry enters through one gate, `apply`, which merges it with what is
 * there (`merge.ts`) and tells the observers. Local commands stamp an entry with the
 * next version and go through the same gate; a replicated event, an anti-entropy repair and
 * a log replay are nothing else.
 *
 * Invariants
 * - Every entry is in the table and in the hash index; every entry that is not a
 *   tombstone is in the order too, except while recovering.
 * - No entry has a base below the flush floor, except while `sweep` is still
 *   removing them; until then they read as absent.
 * - The clock is above every version in the store.
 */
import { BlockSkipList } from "./block-skip-list.ts";
import { HybridClock, unixMsOf } from "../data/clock.ts";
import {
  BASE_BYTES,
  BASE_NONE,
  BASE_STRING,
  Int64,
  MAX_NUMBER_TEXT_BYTES,
  PART_BYTES,
  addToPart,
  findPart,
  formatInt64,
  MAX_ENTRY_PARTS,
  MAX_JOINED_PARTS,
  parseInt64,
  partsOf,
  setVersionFromParts,
  sliceCounter,
  sumOf,
  writeBase,
} from "../data/counter.ts";
import { foldRuns, hasFold, nextRunOrigin, noteStart } from "../data/counter-fold.ts";
import { EntryTable } from "./entry-table.ts";
import {
  Entry,
  KIND_COUNTER,
  KIND_STRING,
  KIND_TOMBSTONE,
  compareVersions,
  copyBytes,
  equalBytes,
  type VersionWords,
} from "../data/entry.ts";
import { flawOf } from "../data/entry-check.ts";
import { HashIndex } from "./hash-index.ts";
import { hashKey } from "./key-hash.ts";
import { sortByKey } from "./key-sort.ts";
import {
  TAKE,
  KEEP,
  baseVersionOf,
  diedMs,
  joinCounters,
  joinedBytes,
  mergeRule,
} from "../data/merge.ts";
import type { Origin } from "../data/origin.ts";
import { Patch } from "../data/patch.ts";

/** The entry changed the store. */
export const APPLIED = 1;
/** The store already knew as much or more. */
export const UNCHANGED = 0;
/** The version lies further ahead of this node's time than `maxClockSkewMs`. */
export const REFUSED_FUTURE = -1;
/** The memory limit is reached, or the system has no more memory. */
export const REFUSED_FULL = -2;
/** The entry is not well-formed: key length, kind, expiry or counter bytes. */
export const REFUSED_INVALID = -3;
/** `increment`: the value is not a 64-bit integer. */
export const NOT_A_NUMBER = -4;
/** `increment`: the result would leave 64 bits. */
export const OUT_OF_RANGE = -5;
/** Nothing is taken for now: the disk is full or fails (`Store.isReadOnly`). */
export const REFUSED_READ_ONLY = -6;
/** A counter has, or would have, more parts than strangers may bring (`counter.ts`). */
export const REFUSED_LARGE = -7;

/** Most keys that `prefetch` takes: about as many loads as a processor has under way. */
export const PREFETCH_KEYS = 16;
/** Sessions hold back a purge for this part of the grace at most. */
const HELD_SHARE = 1 / 8;
/** How often `sweep` asks whether its time is over when there is nothing to do. */
const ROWS_A_LOOK = 64;
const never = (): boolean => false;
const NO_REFERENCE = -1;
const NO_PATCH = -1;
/** What may be taken above the memory limit so that nodes agree, as a share of it. */
const MERGE_RESERVE = 1 / 8;
/** The least of that: some rows and a slab of each of the small sizes. */
const LEAST_RESERVE_BYTES = 4 * 1024 * 1024;
/** Of a counter from this size on only what changed is written down, not all of it. */
const LARGE_COUNTER_BYTES = 1024;
/** The same of a string that another expiry, or bytes within it, leave as it is for the rest. */
const LONG_STRING_BYTES = 1024;
/** A scratch buffer that one large counter made larger than this is let go of. */
const KEPT_BYTES = 1024 * 1024;

/** What came of a write; one of the constants above. */
export type Outcome = 1 | 0 | -1 | -2 | -3 | -4 | -5 | -6 | -7;

/** Who wants to know of every change: the outbox, the Merkle tree, the log. */
export interface ChangeObserver {
  /**
   * An entry was added or replaced. `local`: written by a client of this node. `isJoined`: it is the
   * counter that it was, with increments of others.
   */
  changed(id: number, local: boolean, isJoined: boolean): void;
  /**
   * An entry is about to be dropped for good; its id may name another one later. `flushed`: the
   * flush floor says so already; else it was a deletion past its grace, or was discarded.
   */
  removed(id: number, flushed: boolean): void;
  /**
   * The flush floor moved: entries with a base below it are gone. With `cleared`, everything was dropped at once and no
   * `removed` follows; else `removed` comes for each entry as it goes.
   */
  flushed(local: boolean, cleared: boolean): void;
}

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
  /** Writes are refused beyond this many bytes, and merges beyond a reserve above; 0 means no limit. */
  readonly memoryLimitBytes: number;
  /** Entries from further ahead than this are refused. */
  readonly maxClockSkewMs: number;
  /** How long a tombstone is kept. */
  readonly tombstoneGraceMs: number;
}

/** The data set of one node. */
export class Store {
  readonly clock: HybridClock;
  readonly origin: Origin;
  /** Told of every change, in this order. */
  readonly observers: ChangeObserver[] = [];
  /** Ids of all entries that are not tombstones, by key. */
  readonly order: BlockSkipList;
  /** Every entry whose base is below this version is gone; a counter begun after a flush has it as its base. */
  readonly floor: VersionWords = { timeHigh: 0, timeLow: 0, originHigh: 0, originLow: 0 };
  /** The number `increment` arrived at. */
  readonly number = new Int64();
  /**
   * The latest death, in Unix milliseconds, among the tombstones that `sweep` has purged; 0 if
   * none. Of what died later this store knows all deletions; of what died before, it may not.
   */
  purgedUpToMs = 0;
  /** The same of those whose data this store has taken over since: what they purged is not here. */
  purgedElsewhereMs = 0;
  /**
   * Peers were told that they have every deletion known here that died up to then, in Unix ms.
   * A deletion learned of later counts as one that died at that later moment (`contacts.ts`).
   */
  vouchedMs = 0;
  /**
   * Sessions under way. While there are any nothing is purged, for they compare what is here; but
   * not for longer than a part of the grace (HELD_SHARE), whoever keeps them going.
   */
  sessions = 0;
  /** How many deletions were purged: a session in whose course it changes has to begin anew. */
  purges = 0;

  private readonly table = new EntryTable();
  private readonly index = new HashIndex(this.table);
  private readonly limitBytes: number;
  /**
   * While true, no entry but a client's own is taken, and `sweep` changes none: that could not be
   * written down.
   */
  isReadOnly = false;
  /** An entry of another node did not fit into the memory limit, and nothing was removed since. */
  isFull = false;
  /** See `StoreOptions.counterOrigin`. */
  counterOrigin: Origin;
  /** When runs of this node began that count under an origin of their own; see `counter-fold.ts`. */
  readonly runStartsMs: number[] = [];
  /** What this node counted before then is known here in full, in Unix ms; 0 while nothing is. */
  settledMs = 0;
  /** See `beginRecovery`. */
  private isRecovering = false;
  private tombstones = 0;
  private expiring = 0;
  private isFlushing = false;
  private sweepAt = 0;
  /** Since when a session has held back a purge, in Unix ms; 0 while none does. */
  private heldSinceMs = 0;
  /** This pass of the sweep purges whatever sessions there are. */
  private isPurgeDue = false;

  // Scratch: every operation is synchronous, so one of each is enough.
  private readonly present = new Entry();
  private readonly own = new Entry();
  private readonly joined = new Entry();
  private readonly part = new Entry();
  private readonly partBytes = new Uint8Array(BASE_BYTES + PART_BYTES);
  /** See `readChange`; null when what came in is what is there. */
  private change: Entry | null = null;
  /** See `readPatch`. */
  private readonly patch = new Patch();
  private patchedBytes = NO_PATCH;
  private readonly base: VersionWords = { timeHigh: 0, timeLow: 0, originHigh: 0, originLow: 0 };
  private readonly numberText = new Uint8Array(MAX_NUMBER_TEXT_BYTES);
  private scratch = new Uint8Array(1024);
  private readonly touched = new Float64Array(PREFETCH_KEYS);

  constructor(private readonly options: StoreOptions) {
    this.clock = options.clock;
    this.origin = options.origin;
    this.counterOrigin = options.counterOrigin ?? options.origin;
    this.order = new BlockSkipList(this.table, options.random);
    this.limitBytes = options.memoryLimitBytes === 0 ? Infinity : options.memoryLimitBytes;
  }

  /** Number of keys that are not deleted. Keys past their expiry count until swept. */
  get size(): number {
    return this.table.count - this.tombstones;
  }

  /** Number of tombstones held. */
  get tombstoneCount(): number {
    return this.tombstones;
  }

  /** Memory taken by entries, index and order, in bytes. */
  bytes(): number {
    return this.table.bytes() + this.index.bytes() + this.order.bytes();
  }

  /** Id of the live entry with this key, or -1 when it is missing, deleted or expired. */
  find(key: Uint8Array, offset: number, length: number): number {
    const id = this.locate(key, offset, length);
    return id >= 0 && this.isLive(id) ? id : -1;
  }

  /**
   * Loads the memory that looking up these keys will need, all keys a step at a time, so
   * that the processor waits for many loads at once. At most PREFETCH_KEYS keys. Returns a
   * number of no meaning, which keeps the loads from being optimised away.
   */
  prefetch(keys: Uint8Array, starts: Int32Array, lengths: Int32Array, count: number): number {
    const { touched, index, table } = this;
    for (let i = 0; i < count; i++) touched[i] = this.hash(keys, starts[i], lengths[i]);
    for (let i = 0; i < count; i++) touched[i] = index.candidate(touched[i]) + 1;
    for (let i = 0; i < count; i++) {
      if (touched[i] !== 0) touched[i] = table.referenceOf(touched[i] - 1);
      else touched[i] = NO_REFERENCE;
    }
    let sum = 0;
    for (let i = 0; i < count; i++) {
      if (touched[i] !== NO_REFERENCE) sum ^= table.idAt(touched[i]);
    }
    return sum;
  }

  /** Id of the entry with this key, a tombstone or an expired one too, or -1. */
  locate(key: Uint8Array, offset: number, length: number): number {
    return this.index.find(this.hash(key, offset, length), key, offset, length);
  }

  /** Whether a client sees the entry: not deleted, not expired, not flushed. */
  isLive(id: number): boolean {
    if (this.table.kindOf(id) === KIND_TOMBSTONE) return false;
    if (this.table.hasExpiry(id) && this.table.expiresAtMs(id) <= this.clock.nowMs()) return false;
    return !this.isFlushing || !this.isFlushed(id);
  }

  /** Points `into` at the entry as it is stored. Valid until the next write. */
  read(id: number, into: Entry): void {
    this.table.read(id, into);
  }

  /**
   * For an observer that is told of a change: points `into` at what came in. Merged with what was
   * there before, it gives what is there now, and is much less when a large counter changed in a few parts.
   */
  readChange(id: number, into: Entry): void {
    const { change } = this;
    if (change === null) return this.table.read(id, into);
    into.setKey(change.key, change.keyOffset, change.keyLength);
    into.setValue(change.value, change.valueOffset, change.valueLength);
    into.setVersion(change.timeHigh, change.timeLow, change.originHigh, change.originLow);
    into.kind = change.kind;
    into.expiresAtMs = change.expiresAtMs;
  }

  /**
   * For an observer that is told of a change: what it changed of a long string, if that is all that
   * needs to be written down; null if it is not.
   */
  readPatch(id: number): Patch | null {
    if (this.patchedBytes === NO_PATCH) return null;
    const { patch } = this;
    const { entry } = patch;
    this.table.read(id, entry);
    entry.setValue(entry.value, entry.valueOffset + patch.at, this.patchedBytes);
    return patch;
  }

  /** Like `read`, but the value is what clients see: a counter's is its decimal text. */
  readValue(id: number, into: Entry): void {
    this.table.read(id, into);
    if (into.kind === KIND_COUNTER) {
      sumOf(into.value, into.valueOffset, into.valueLength, this.number);
      into.setValue(this.numberText, 0, formatInt64(this.number, this.numberText, 0));
    }
  }

  /** Throws unless the invariants hold, of all parts too; for tests, for it looks at everything. */
  verify(): void {
    const { table, index, order, present } = this;
    table.verify();
    index.verify();
    if (!this.isRecovering) order.verify();
    let tombstones = 0;
    let expiring = 0;
    for (let id = 0; id < table.idLimit; id++) {
      if (!table.isUsed(id)) continue;
      table.read(id, present);
      const flaw = flawOf(present);
      if (flaw !== null) throw new Error(`store: entry ${id} is malformed: ${flaw}`);
      const { key, keyOffset, keyLength } = present;
      const hash = this.hash(key, keyOffset, keyLength);
      if (hash !== table.hashOf(id)) throw new Error(`store: the hash of entry ${id} is another's`);
      if (index.find(hash, key, keyOffset, keyLength) !== id) {
        throw new Error(`store: entry ${id} is not found by its key`);
      }
      if (present.kind === KIND_TOMBSTONE) tombstones++;
      else if (!this.isRecovering) this.verifyOrdered(id);
      if (present.expiresAtMs !== 0) expiring++;
      this.verifyTime(id);
    }
    if (index.size !== table.count)
      throw new Error("store: the index holds what the table does not");
    const size = this.isRecovering ? 0 : table.count - tombstones;
    if (order.size !== size) throw new Error(`store: ${order.size} keys in order, ${size} in all`);
    if (tombstones !== this.tombstones || expiring !== this.expiring) {
      throw new Error("store: what is deleted or expires is miscounted");
    }
  }

  /** Entry `id` is in `present`. */
  private verifyOrdered(id: number): void {
    const { key, keyOffset, keyLength } = this.present;
    const position = this.order.seek(key, keyOffset, keyLength);
    if (position < 0 || this.order.at(position) !== id) {
      throw new Error(`store: entry ${id} is not in the order`);
    }
  }

  private verifyTime(id: number): void {
    const { clock, present } = this;
    const { timeHigh, timeLow } = present;
    if (timeHigh > clock.high || (timeHigh === clock.high && timeLow > clock.low)) {
      throw new Error(`store: entry ${id} is ahead of the clock`);
    }
    if (!this.isFlushing && this.isFlushed(id)) {
      throw new Error(`store: entry ${id} has outlived a flush`);
    }
  }

  /** Every id in use is below this; `isUsed` tells which are. */
  get idLimit(): number {
    return this.table.idLimit;
  }

  /** Whether an id names an entry now. */
  isUsed(id: number): boolean {
    return this.table.isUsed(id);
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
      this.clock.observe(entry.timeHigh, entry.timeLow);
      baseVersionOf(entry, this.base);
      if (this.compareToFloor(this.base) < 0) return UNCHANGED;
    }
    const hash = this.hash(entry.key, entry.keyOffset, entry.keyLength);
    const id = this.index.find(hash, entry.key, entry.keyOffset, entry.keyLength);
    if (id < 0) return this.add(hash, local ? entry : this.asTaken(entry), local);
    // What this node just wrote is above all it ever saw: there is nothing to compare.
    if (local) return this.replaceOwn(id, entry);
    this.table.read(id, this.present);
    const verdict = mergeRule(this.present, entry);
    if (verdict === KEEP) return UNCHANGED;
    if (verdict === TAKE) return this.replace(id, this.asTaken(entry), false);
    return this.join(id, entry);
  }

  /** A string that is given the value it has gets another expiry, and that is all. */
  private replaceOwn(id: number, entry: Entry): Outcome {
    if (entry.valueLength < LONG_STRING_BYTES) return this.replace(id, entry, true);
    const { present } = this;
    this.table.read(id, present);
    const { kind, value, valueOffset, valueLength } = present;
    const isSame =
      value === entry.value && valueOffset === entry.valueOffset && kind === KIND_STRING;
    if (!isSame || valueLength !== entry.valueLength) return this.replace(id, entry, true);
    return this.replacePatched(id, entry, 0, 0);
  }

  /** Replaces `present` by what differs from it in some bytes and the expiry only. */
  private replacePatched(id: number, entry: Entry, at: number, length: number): Outcome {
    const { present, patch } = this;
    if (present.valueLength < LONG_STRING_BYTES) return this.replace(id, entry, true);
    copyVersion(present, patch.previous);
    patch.at = at;
    this.patchedBytes = length;
    const outcome = this.replace(id, entry, true);
    this.patchedBytes = NO_PATCH;
    return outcome;
  }

  /** An entry from elsewhere as it is taken in place of what is here. */
  private asTaken(entry: Entry): Entry {
    return entry.kind === KIND_COUNTER ? this.withoutCovered(entry) : this.asLearnedNow(entry);
  }

  /** A node of an earlier version does not know folds, and leaves what they cover. */
  private withoutCovered(entry: Entry): Entry {
    if (!hasFold(entry.value, entry.valueOffset, entry.valueLength)) return entry;
    this.growScratch(joinedBytes(entry, entry));
    const { joined } = this;
    joined.kind = KIND_COUNTER;
    joined.setKey(entry.key, entry.keyOffset, entry.keyLength);
    joined.setValue(this.scratch, 0, joinCounters(entry, entry, this.scratch));
    joined.setVersion(entry.timeHigh, entry.timeLow, entry.originHigh, entry.originLow);
    joined.expiresAtMs = entry.expiresAtMs;
    return joined;
  }

  /**
   * From here to `endRecovery` entries are taken that this store has had before, as from a log:
   * however new or old they are, and beyond the memory limit. Meanwhile the order is empty.
   */
  beginRecovery(): void {
    this.isRecovering = true;
    if (this.order.size > 0) this.order.clear();
  }

  /** Ends what `beginRecovery` began. Makes the order in one go, 0.1 to 0.4 s a million keys. */
  endRecovery(): void {
    const ids = new Uint32Array(this.size);
    let count = 0;
    for (let id = 0; id < this.table.idLimit; id++) {
      if (this.table.isUsed(id) && this.table.kindOf(id) !== KIND_TOMBSTONE) ids[count++] = id;
    }
    sortByKey(ids, this.table);
    this.order.fill(ids);
    this.isRecovering = false;
  }

  /**
   * Writes a string. APPLIED or REFUSED_FULL. `expiresAtMs` is 0 for never. The value may be the
   * one that the key has now, as `read` gave it: then another expiry copies nothing.
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
    own.expiresAtMs = expiresAtMs;
    this.stamp();
    return this.apply(own, true);
  }

  /**
   * Writes bytes over some of a string, from its byte `at` on, and copies nothing else of it. False
   * when entry `id` is no string of that length.
   */
  overwrite(id: number, at: number, bytes: Uint8Array, offset: number, length: number): boolean {
    const { own, present } = this;
    this.table.read(id, present);
    if (present.kind !== KIND_STRING || at + length > present.valueLength) return false;
    copyBytes(bytes, offset, length, present.value, present.valueOffset + at);
    own.kind = KIND_STRING;
    own.setKey(present.key, present.keyOffset, present.keyLength);
    own.setValue(present.value, present.valueOffset, present.valueLength);
    own.expiresAtMs = present.expiresAtMs;
    this.stamp();
    if (this.replacePatched(id, own, at, length) !== APPLIED) {
      throw new Error("a write in place was refused");
    }
    return true;
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
    own.expiresAtMs = 0;
    this.stamp();
    if (this.replace(id, own, true) !== APPLIED) throw new Error("a deletion was refused");
    return true;
  }

  /**
   * Adds `delta` to the number at the key; a missing key counts as 0. The result is in
   * `number`. APPLIED, NOT_A_NUMBER, OUT_OF_RANGE or REFUSED_FULL; nothing changes
   * unless APPLIED.
   */
  increment(key: Uint8Array, offset: number, length: number, delta: Int64): Outcome {
    const hash = this.hash(key, offset, length);
    const id = this.index.find(hash, key, offset, length);
    const own = this.own;
    own.expiresAtMs = 0;
    const copiedLength = this.copyCounter(id, own);
    if (copiedLength < 0) return NOT_A_NUMBER;
    this.stamp();
    const { timeHigh, timeLow } = own;
    const { high, low } = this.counterOrigin;
    own.originHigh = high;
    own.originLow = low;
    const payload = this.scratch;
    const foldedLength = this.foldOwn(payload, copiedLength);
    const newLength = addToPart(payload, foldedLength, high, low, timeHigh, timeLow, delta);
    if (!sumOf(payload, 0, newLength, this.number)) return OUT_OF_RANGE;
    own.kind = KIND_COUNTER;
    own.setKey(key, offset, length).setValue(payload, 0, newLength);
    if (id < 0) return this.add(hash, own, true);
    if (newLength >= LARGE_COUNTER_BYTES && foldedLength === copiedLength)
      this.change = this.ownPart(own, high, low);
    const outcome = this.replace(id, own, true);
    this.change = null;
    return outcome;
  }

  /** Makes one part of those of runs of this node that are over. Returns the counter's length then. */
  private foldOwn(payload: Uint8Array, length: number): number {
    if (this.settledMs === 0 || length < BASE_BYTES + 2 * PART_BYTES) return length;
    return foldRuns(payload, length, this.counterOrigin, this.settledMs);
  }

  /** A counter with nothing but this process's part of another one. */
  private ownPart(counter: Entry, originHigh: number, originLow: number): Entry {
    const { part, partBytes } = this;
    const { value, valueLength } = counter;
    const at = findPart(value, 0, valueLength, originHigh, originLow);
    sliceCounter(value, 0, valueLength, partsOf(at), partBytes.length, partBytes);
    part.kind = KIND_COUNTER;
    part.setKey(counter.key, counter.keyOffset, counter.keyLength).setValue(partBytes);
    part.expiresAtMs = counter.expiresAtMs;
    setVersionFromParts(part);
    return part;
  }

  /** Deletes everything, here and, as a floor that replicates, everywhere. */
  flush(): void {
    this.clock.next();
    this.raiseFloor(this.clock.high, this.clock.low, this.origin.high, this.origin.low, true);
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

  /** Unix milliseconds by the hybrid clock, or by the real one when that is ahead. */
  clockMs(): number {
    return Math.max(this.clock.nowMs(), unixMsOf(this.clock.high, this.clock.low));
  }

  /**
   * A deletion may be forgotten once it died before this, in Unix ms: its grace is over. The same
   * for a clock other than this node's, which has to be one of a node with the same grace.
   */
  latestPurgeMs(clockMs = this.clock.nowMs()): number {
    return Math.max(0, clockMs - this.options.tombstoneGraceMs);
  }

  /** Up to when, in Unix ms, versions are taken: what is later comes from the future. */
  acceptsUpToMs(): number {
    return this.clock.nowMs() + this.options.maxClockSkewMs;
  }

  /** From now on counted is under an origin of its own, and dated no earlier than this moment. */
  noteRun(): void {
    const { clock } = this;
    clock.next();
    noteStart(this.runStartsMs, unixMsOf(clock.high, clock.low));
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
    if (this.table.kindOf(id) !== KIND_TOMBSTONE) {
      // Peers may have this node's part of a counter that it was, or that it took the place of: the
      // next one must not seem to follow on that.
      this.counterOrigin = nextRunOrigin(this.counterOrigin);
      this.noteRun();
    }
    this.drop(id);
  }

  /** In a recovery: drops what was dropped before, an entry of this key and version or an older one. */
  dropAgain(dropped: Entry): void {
    const id = this.locate(dropped.key, dropped.keyOffset, dropped.keyLength);
    if (id < 0) return;
    const { present } = this;
    this.table.read(id, present);
    if (compareVersions(present, dropped) > 0) return;
    if (present.kind === KIND_TOMBSTONE) this.notePurge(present);
    this.drop(id);
  }

  /**
   * In a recovery: changes a string again, if it is there in exactly the version that was changed.
   * If it is not, what came after it is there already, or it was dropped.
   */
  patchAgain({ entry, at, previous }: Patch): void {
    const id = this.locate(entry.key, entry.keyOffset, entry.keyLength);
    if (id < 0) return;
    const { present, own } = this;
    this.table.read(id, present);
    if (present.kind !== KIND_STRING || compareVersions(present, previous) !== 0) return;
    if (at + entry.valueLength > present.valueLength || this.compareToFloor(entry) < 0) return;
    const { value, valueOffset, valueLength } = present;
    copyBytes(entry.value, entry.valueOffset, entry.valueLength, value, valueOffset + at);
    own.kind = KIND_STRING;
    own.setKey(entry.key, entry.keyOffset, entry.keyLength);
    own.setValue(value, valueOffset, valueLength);
    copyVersion(entry, own);
    own.expiresAtMs = entry.expiresAtMs;
    this.clock.observe(entry.timeHigh, entry.timeLow);
    this.replace(id, own, false);
  }

  /**
   * A slice of background work over the next `rows` rows: turns expired entries into
   * tombstones, purges tombstones past their grace, removes what a flush left, and
   * empties sparse slabs. True while a flush is still being carried out. While `isReadOnly`
   * no entry changes, and what a flush left stays until later. `isOver` says that time is up: it is
   * asked after each entry that was changed, and once in a while besides.
   */
  sweep(rows: number, isOver: () => boolean = never): boolean {
    this.table.compact(16, this.limitBytes);
    // What cannot be written down is left as it is.
    if (this.isReadOnly) return false;
    if (this.expiring === 0 && this.tombstones === 0 && !this.isFlushing) return false;
    const end = Math.min(this.sweepAt + rows, this.table.idLimit);
    const nowMs = this.clock.nowMs();
    if (this.sweepAt === 0) this.beginPass(nowMs);
    let id = this.sweepAt;
    while (id < end) {
      const isChanged = this.table.isUsed(id) && this.sweepEntry(id, nowMs);
      id++;
      if ((isChanged || id % ROWS_A_LOOK === 0) && isOver()) break;
    }
    this.sweepAt = id;
    if (id >= this.table.idLimit) {
      this.sweepAt = 0;
      // The floor only rises on a clean pass from row 0, which `raiseFloor` starts.
      this.isFlushing = false;
    }
    return this.isFlushing;
  }

  /** Sessions have held back purges for long enough: this pass makes up for all of them. */
  private beginPass(nowMs: number): void {
    const maxHeldMs = this.options.tombstoneGraceMs * HELD_SHARE;
    // A clock that was set back begins anew.
    if (this.heldSinceMs > nowMs) this.heldSinceMs = nowMs;
    this.isPurgeDue = this.heldSinceMs > 0 && nowMs - this.heldSinceMs > maxHeldMs;
    if (this.isPurgeDue || this.sessions === 0) this.heldSinceMs = 0;
  }

  /** Whether the entry had to be changed. */
  private sweepEntry(id: number, nowMs: number): boolean {
    if (this.isFlushing && this.isFlushed(id)) {
      this.drop(id, true);
      return true;
    }
    if (this.table.kindOf(id) === KIND_TOMBSTONE) {
      this.table.read(id, this.present);
      if (diedMs(this.present) >= this.latestPurgeMs()) return false;
      if (this.sessions > 0 && !this.isPurgeDue) {
        if (this.heldSinceMs === 0) this.heldSinceMs = nowMs;
        return false;
      }
      this.purges++;
      this.notePurge(this.present);
      this.drop(id);
      return true;
    }
    const hasExpired = this.table.hasExpiry(id) && this.table.expiresAtMs(id) <= nowMs;
    if (hasExpired) this.expire(id);
    return hasExpired;
  }

  /** Turns an expired entry into a tombstone of its base's version (see `merge.ts`). */
  private expire(id: number): void {
    const present = this.present;
    this.table.read(id, present);
    const own = this.own;
    own.kind = KIND_TOMBSTONE;
    own.setKey(present.key, present.keyOffset, present.keyLength).setValue(present.key, 0, 0);
    own.expiresAtMs = present.expiresAtMs;
    baseVersionOf(present, own);
    // Should it be refused, it is still there, unseen, and the next sweep tries again.
    this.replace(id, this.asLearnedNow(own), false);
  }

  /**
   * A deletion that comes after peers were told that they have all up to its death: one that died
   * just now. Nobody else need agree on when that was (see `merge.ts` and `record-digest.ts`).
   */
  private asLearnedNow(entry: Entry): Entry {
    if (entry.kind !== KIND_TOMBSTONE || this.isRecovering) return entry;
    if (diedMs(entry) > this.vouchedMs) return entry;
    const { own } = this;
    own.kind = KIND_TOMBSTONE;
    own.setKey(entry.key, entry.keyOffset, entry.keyLength).setValue(entry.key, 0, 0);
    own.setVersion(entry.timeHigh, entry.timeLow, entry.originHigh, entry.originLow);
    own.expiresAtMs = Math.max(this.clockMs(), this.vouchedMs + 1);
    return own;
  }

  private inspect(entry: Entry): Outcome {
    if (flawOf(entry) !== null) return REFUSED_INVALID;
    if (entry.kind === KIND_COUNTER) {
      if (!this.isRecovering && partsOf(entry.valueLength) > MAX_ENTRY_PARTS) return REFUSED_LARGE;
      setVersionFromParts(entry);
    }
    if (this.isReadOnly) return REFUSED_READ_ONLY;
    return this.isTooFarAhead(entry.timeHigh, entry.timeLow) ? REFUSED_FUTURE : 0;
  }

  /** Whether a version of that time would be refused as coming from the future. */
  isTooFarAhead(timeHigh: number, timeLow: number): boolean {
    if (this.isRecovering) return false;
    return unixMsOf(timeHigh, timeLow) > this.acceptsUpToMs();
  }

  private add(hash: number, entry: Entry, local: boolean): Outcome {
    const id = this.table.create(entry, hash, this.limitFor(entry, local, false));
    if (id < 0) return this.refuseFull(local);
    this.index.insert(hash, id);
    if (entry.kind === KIND_TOMBSTONE) this.tombstones++;
    else this.addToOrder(id);
    if (entry.expiresAtMs !== 0) this.expiring++;
    this.announce(id, local, false);
    return APPLIED;
  }

  private replace(id: number, entry: Entry, local: boolean, isJoined = false): Outcome {
    const wasTombstone = this.table.kindOf(id) === KIND_TOMBSTONE;
    const hadExpiry = this.table.hasExpiry(id);
    const isTombstone = entry.kind === KIND_TOMBSTONE;
    // First what may fail: a write happens, or leaves everything as it was.
    if (!this.table.replace(id, entry, this.limitFor(entry, local, true))) {
      return this.refuseFull(local);
    }
    if (isTombstone && !wasTombstone) this.isFull = false;
    if (isTombstone && !wasTombstone) this.removeFromOrder(id);
    if (wasTombstone && !isTombstone) this.addToOrder(id);
    if (wasTombstone !== isTombstone) this.tombstones += isTombstone ? 1 : -1;
    if (hadExpiry !== (entry.expiresAtMs !== 0)) this.expiring += hadExpiry ? -1 : 1;
    this.announce(id, local, isJoined);
    return APPLIED;
  }

  private refuseFull(local: boolean): Outcome {
    if (!local) this.isFull = true;
    return REFUSED_FULL;
  }

  private join(id: number, entry: Entry): Outcome {
    const { present, joined } = this;
    this.growScratch(joinedBytes(present, entry));
    const length = joinCounters(present, entry, this.scratch);
    const { value, valueOffset, valueLength } = present;
    if (length === valueLength && equalBytes(value, valueOffset, this.scratch, length)) {
      return UNCHANGED;
    }
    if (!this.isRecovering && length > valueLength && partsOf(length) > MAX_JOINED_PARTS) {
      return REFUSED_LARGE;
    }
    joined.kind = KIND_COUNTER;
    joined.setKey(entry.key, entry.keyOffset, entry.keyLength).setValue(this.scratch, 0, length);
    joined.expiresAtMs = present.expiresAtMs;
    setVersionFromParts(joined);
    if (length >= LARGE_COUNTER_BYTES && entry.valueLength < length) this.change = entry;
    const outcome = this.replace(id, joined, false, true);
    this.change = null;
    return outcome;
  }

  private notePurge(tombstone: Entry): void {
    this.purgedUpToMs = Math.max(this.purgedUpToMs, diedMs(tombstone));
  }

  private drop(id: number, flushed = false): void {
    this.isFull = false;
    for (let i = 0; i < this.observers.length; i++) this.observers[i].removed(id, flushed);
    if (this.table.kindOf(id) === KIND_TOMBSTONE) this.tombstones--;
    else this.removeFromOrder(id);
    if (this.table.hasExpiry(id)) this.expiring--;
    this.index.remove(this.table.hashOf(id), id);
    this.table.release(id);
  }

  private addToOrder(id: number): void {
    if (!this.isRecovering) this.order.insert(id);
  }

  private removeFromOrder(id: number): void {
    if (!this.isRecovering) this.order.remove(id);
  }

  private announce(id: number, local: boolean, isJoined: boolean): void {
    for (let i = 0; i < this.observers.length; i++) this.observers[i].changed(id, local, isJoined);
  }

  /**
   * How much memory the table may take for an entry. All that is held counts, deletions too. Up to
   * the limit there is room for everything. A reserve above it is for what nodes need to agree:
   * other versions of keys that are here, and deletions of keys that are not, which somebody may
   * still have; a flood of those ends there. The deletion of a key that is here takes no
   * memory, so it always goes through: it is how room is made.
   */
  private limitFor(entry: Entry, local: boolean, isHere: boolean): number {
    if (this.limitBytes === Infinity || this.isRecovering) return Infinity;
    const isDeletion = entry.kind === KIND_TOMBSTONE;
    if (isDeletion && isHere) return Infinity;
    const usesReserve = !local && (isDeletion || isHere);
    const reserveBytes = Math.max(LEAST_RESERVE_BYTES, this.limitBytes * MERGE_RESERVE);
    const limitBytes = this.limitBytes + (usesReserve ? reserveBytes : 0);
    return limitBytes - this.index.bytes() - this.order.bytes();
  }

  private raiseFloor(
    timeHigh: number,
    timeLow: number,
    originHigh: number,
    originLow: number,
    local: boolean,
  ): void {
    const { clock, floor } = this;
    // A floor above the clock is above every version here: drop all in one step.
    const clearsAll =
      local || timeHigh > clock.high || (timeHigh === clock.high && timeLow > clock.low);
    floor.timeHigh = timeHigh;
    floor.timeLow = timeLow;
    floor.originHigh = originHigh;
    floor.originLow = originLow;
    clock.observe(timeHigh, timeLow);
    if (clearsAll) {
      this.table.clear();
      this.index.clear();
      this.order.clear();
      this.tombstones = this.expiring = 0;
    }
    this.isFlushing = !clearsAll;
    this.sweepAt = 0;
    this.isFull = false;
    for (let i = 0; i < this.observers.length; i++) this.observers[i].flushed(local, clearsAll);
  }

  private isFlushed(id: number): boolean {
    this.table.read(id, this.joined);
    baseVersionOf(this.joined, this.base);
    return this.compareToFloor(this.base) < 0;
  }

  private compareToFloor(version: VersionWords): number {
    return compareVersions(version, this.floor);
  }

  /**
   * Puts the counter that an increment of entry `id` starts from into `scratch`, with
   * room for one more part; returns its length, or -1 when the value is not a number.
   * Sets `own.expiresAtMs`.
   */
  private copyCounter(id: number, own: Entry): number {
    const { present, number, floor } = this;
    if (id < 0) {
      number.set(0, 0);
      const { timeHigh, timeLow, originHigh, originLow } = floor;
      writeBase(this.scratch, BASE_NONE, timeHigh, timeLow, originHigh, originLow, number);
      return BASE_BYTES;
    }
    this.table.read(id, present);
    if (!this.isLive(id)) {
      number.set(0, 0);
      baseVersionOf(present, own);
      if (this.compareToFloor(own) < 0) Object.assign(own, floor);
      const { timeHigh, timeLow, originHigh, originLow } = own;
      writeBase(this.scratch, BASE_NONE, timeHigh, timeLow, originHigh, originLow, number);
      return BASE_BYTES;
    }
    own.expiresAtMs = present.expiresAtMs;
    const { value, valueOffset, valueLength } = present;
    if (present.kind === KIND_COUNTER) {
      this.growScratch(valueLength + PART_BYTES);
      copyBytes(value, valueOffset, valueLength, this.scratch, 0);
      return valueLength;
    }
    if (!parseInt64(value, valueOffset, valueLength, number)) return -1;
    const { timeHigh, timeLow, originHigh, originLow } = present;
    writeBase(this.scratch, BASE_STRING, timeHigh, timeLow, originHigh, originLow, number);
    return BASE_BYTES;
  }

  private stamp(): void {
    this.clock.next();
    this.own.setVersion(this.clock.high, this.clock.low, this.origin.high, this.origin.low);
  }

  private growScratch(length: number): void {
    const isTooLarge = this.scratch.length > KEPT_BYTES && length < KEPT_BYTES;
    if (this.scratch.length < length || isTooLarge)
      this.scratch = new Uint8Array(Math.max(1024, length * 2));
  }

  private hash(key: Uint8Array, offset: number, length: number): number {
    const { hashSeed } = this.options;
    return hashKey(key, offset, length, hashSeed.low, hashSeed.high);
  }
}

function copyVersion(from: VersionWords, to: VersionWords): void {
  to.timeHigh = from.timeHigh;
  to.timeLow = from.timeLow;
  to.originHigh = from.originHigh;
  to.originLow = from.originLow;
}

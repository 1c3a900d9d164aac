/**
 * Entries as they are found: the table, the hash index and the order, kept in step, within the
 * memory limit; and the observers, told of every change. It knows nothing of merging or of clocks.
 *
 * Invariants
 * - Every entry is in the table and in the hash index, under the hash of its key; every entry that
 *   has a value and is not marked as over is in the order too, except while recovering.
 * - `tombstones` is how many are not, `expiring` how many have an expiry.
 */
import { release } from "../bytes.ts";
import { Leftovers } from "./leftovers.ts";
import { Entry, KIND_HUSK, KIND_STRING, type Kind } from "../data/entry.ts";
import type { Int64 } from "../data/int64.ts";
import { hasValue } from "../data/merge.ts";
import type { Origin } from "../data/origin.ts";
import { BlockSkipList } from "./block-skip-list.ts";
import { EntryTable, type SharedValue } from "./entry-table.ts";
import { HashIndex } from "./hash-index.ts";
import { hashKey } from "./key-hash.ts";
import type { KeySlice } from "./key-order.ts";
import { sortByKey } from "./key-sort.ts";
import type { Pieces } from "./pieces.ts";
import {
  APPLIED,
  CHANGED_VALUE,
  REFUSED_FULL,
  type Change,
  type ChangeObserver,
  type Outcome,
} from "./outcome.ts";

/** Most keys that `prefetch` takes: some more than a processor has loads under way. */
export const PREFETCH_KEYS = 32;
/** So many ids are looked at in a piece. */
const IDS_A_PIECE = 65_536;
/** In place of the length of the value that is here. */
const NOT_HERE = -1;
/** With less than this share of the memory limit there is room for hardly any write. */
const LITTLE_ROOM = 0.1;
/** What may be taken above the memory limit so that nodes agree, as a share of it. */
const MERGE_RESERVE = 1 / 8;
/** The least of that: some rows and a slab of each of the small sizes. */
const LEAST_RESERVE_BYTES = 4 * 1024 * 1024;

/** Memory of a store by part, in bytes. */
export interface StoreMemory {
  /** Keys, values, and what is known of each. */
  readonly entries: number;
  /** By which keys are found. */
  readonly index: number;
  /** By which keys are listed. */
  readonly order: number;
}

/** The entries of one store. */
export class KeyedEntries {
  /** Ids of all entries that have a value and are not over, by key. */
  readonly order: BlockSkipList;
  /** Told of every change, in this order. */
  readonly observers: ChangeObserver[] = [];
  /** How many are deleted, or over. */
  tombstones = 0;
  /** How many have an expiry. */
  expiring = 0;
  /** How many are husks, and not over. */
  missing = 0;
  /** An entry of another node did not fit into the memory limit, and nothing was removed since. */
  isFull = false;
  /** See `Store.isFullForClients`. */
  isFullForClients = false;
  /** See `Store.beginRecovery`. */
  isRecovering = false;
  /** Writes are refused beyond this many bytes, and merges beyond a reserve above. */
  limitBytes = Infinity;

  private readonly leftovers = new Leftovers();
  private readonly table = new EntryTable();
  private readonly rows = this.table.rows;
  private readonly keys = this.table.keys;
  private readonly packed = this.table.packed;
  private readonly writer = this.table.writer;
  private readonly index = new HashIndex(this.keys);
  /** Where the keys prefetched last are, and how far `hash` has come. */
  private readonly hashedInputs: (Uint8Array | null)[] = Array.from(
    { length: PREFETCH_KEYS },
    () => null,
  );
  private readonly hashedStarts = new Int32Array(PREFETCH_KEYS);
  private readonly hashedLengths = new Int32Array(PREFETCH_KEYS);
  private hashedCount = 0;
  private nextHashed = 0;
  private readonly hashes = new Uint32Array(PREFETCH_KEYS);
  private readonly ids = new Int32Array(PREFETCH_KEYS);
  /** Something has changed since keys were prefetched last: what comes next are writes, too. */
  private isWriting = false;
  private readonly husk = new Entry();
  private readonly revised = new Entry();

  /** `memoryLimitBytes`: 0 means no limit. */
  constructor(
    private readonly hashSeed: Origin,
    random: () => number,
    memoryLimitBytes: number,
  ) {
    this.order = new BlockSkipList(this.keys, random);
    this.setLimit(memoryLimitBytes);
  }

  /** Sets `limitBytes`; 0 means no limit. What is there stays. */
  setLimit(bytes: number): void {
    this.limitBytes = bytes === 0 ? Infinity : bytes;
    this.noteRoom();
  }

  /** How many there are, tombstones too. */
  get count(): number {
    return this.rows.count;
  }

  /** Every id in use is below this; `isUsed` tells which are. */
  get idLimit(): number {
    return this.rows.idLimit;
  }

  /** Whether an id names an entry now. */
  isUsed(id: number): boolean {
    return this.rows.isUsed(id);
  }

  /** The entry's kind. */
  kindOf(id: number): Kind {
    return this.rows.kindOf(id);
  }

  /** Whether the entry has an expiry. */
  hasExpiry(id: number): boolean {
    return this.rows.hasExpiry(id);
  }

  /** Whether the entry has an expiry, and it is over. */
  hasExpired(id: number, nowMs: number): boolean {
    return this.rows.hasExpiry(id) && this.table.expiresAtMs(id) <= nowMs;
  }

  /** Whether the entry was marked as one whose time is over. */
  isOver(id: number): boolean {
    return this.rows.isOver(id);
  }

  /** Whether the entry is a husk, and not over: its value should be here. */
  isMissing(id: number): boolean {
    return this.rows.kindOf(id) === KIND_HUSK && !this.rows.isOver(id);
  }

  /** Points `into` at the entry. Valid until the next write. */
  read(id: number, into: Entry): void {
    this.table.read(id, into);
  }

  /** See EntryKeys. */
  locateKey(id: number, into: KeySlice): void {
    this.table.keys.locateKey(id, into);
  }

  /** See EntryTable. */
  touchRow(id: number): number {
    return this.rows.touch(id);
  }

  /** See EntryTable. */
  touchSlots(ids: Int32Array, count: number): number {
    return this.table.touchSlots(ids, count);
  }

  /** Points `into` at the entry's kind and value alone, which is no packed counter. */
  readValue(id: number, into: Entry): void {
    this.table.readValue(id, into);
  }

  /** See EntryTable. */
  shareValue(id: number, entry: Entry): SharedValue | null {
    return this.table.shareValue(id, entry);
  }

  /** Memory used by entries, index and order, in bytes. */
  bytes(): number {
    return this.table.bytes() + this.index.bytes() + this.order.bytes();
  }

  /** See `Store.blocks`. */
  *blocks(): Generator<Uint8Array | Uint32Array> {
    yield* this.index.blocks();
    yield* this.table.blocks();
  }

  /** The same by part. */
  memory(): StoreMemory {
    const { table, index, order } = this;
    return { entries: table.bytes(), index: index.bytes(), order: order.bytes() };
  }

  // Finding.

  /** What a key is filed under, unsigned 32-bit. */
  hash(key: Uint8Array, offset: number, length: number): number {
    const { hashedInputs, hashedStarts, hashedCount } = this;
    for (let at = this.nextHashed; at < hashedCount; at++) {
      if (hashedStarts[at] !== offset || hashedInputs[at] !== key) continue;
      this.nextHashed = at;
      if (this.hashedLengths[at] === length) return this.hashes[at];
      break;
    }
    return hashKey(key, offset, length, this.hashSeed.low, this.hashSeed.high);
  }

  /** Ends the time in which the keys prefetched last stay where they are. */
  forgetHashes(): void {
    this.hashedCount = 0;
  }

  /** Id of the entry with this key, whatever its kind, or -1. `hash` is the key's. */
  locate(hash: number, key: Uint8Array, offset: number, length: number): number {
    return this.index.find(hash, key, offset, length);
  }

  /** See `Store.prefetch`. */
  prefetch(
    inputs: readonly Uint8Array[],
    starts: Int32Array,
    lengths: Int32Array,
    count: number,
  ): number {
    const { hashes, ids, index, table } = this;
    const { low, high } = this.hashSeed;
    let sum = 0;
    for (let i = 0; i < count; i++) {
      const input = inputs[i];
      hashes[i] = hashKey(input, starts[i], lengths[i], low, high);
      this.hashedInputs[i] = input;
    }
    // Without looking at it: to guess wrong where a probe ends would keep the processor from
    // going on to the next key.
    sum ^= index.touch(hashes, count);
    this.hashedStarts.set(starts);
    this.hashedLengths.set(lengths);
    this.hashedCount = count;
    this.nextHashed = 0;
    for (let i = 0; i < count; i++) ids[i] = index.candidate(hashes[i]);
    for (let i = 0; i < count; i++) if (ids[i] >= 0) sum ^= this.rows.touch(ids[i]);
    if (this.isWriting) this.announceSoon(count);
    return sum ^ table.touchSlots(ids, count);
  }

  // Changing.

  /**
   * Adds an entry whose key is not here. APPLIED or REFUSED_FULL. `local`: a client of this node's.
   */
  add(hash: number, entry: Entry, local: boolean): Outcome {
    const id = this.writer.create(entry, hash, this.limitFor(entry, local, NOT_HERE));
    if (id < 0) return this.refuseFull(local);
    this.index.insert(hash, id);
    if (hasValue(entry.kind)) this.addToOrder(id);
    else this.tombstones++;
    if (entry.kind === KIND_HUSK) this.missing++;
    if (entry.expiresAtMs !== 0) this.expiring++;
    this.announce(id, local, CHANGED_VALUE);
    return APPLIED;
  }

  /** Puts an entry in the place of one with the same key. APPLIED or REFUSED_FULL. */
  replace(id: number, entry: Entry, local: boolean, change: Change): Outcome {
    const wasOrdered = this.isOrdered(id);
    const hadExpiry = this.rows.hasExpiry(id);
    const isOrdered = hasValue(entry.kind);
    const wasMissing = !wasOrdered && this.isMissing(id);
    // First what may fail: a write happens, or leaves everything as it was.
    if (
      !this.writer.replace(id, entry, this.limitFor(entry, local, this.table.valueLengthOf(id)))
    ) {
      return this.refuseFull(local);
    }
    if (wasOrdered !== isOrdered) this.moveInOrder(id, isOrdered);
    if (hadExpiry !== (entry.expiresAtMs !== 0)) this.expiring += hadExpiry ? -1 : 1;
    if (wasMissing !== (entry.kind === KIND_HUSK)) this.missing += wasMissing ? -1 : 1;
    this.announce(id, local, change);
    return APPLIED;
  }

  /**
   * Puts an entry in the place of a string with the same key: a string whose value is that of
   * `entry` in the place of `removed` bytes of the present one, from `at` on. APPLIED or
   * REFUSED_FULL.
   */
  splice(id: number, entry: Entry, at: number, removed: number, local: boolean): Outcome {
    const { table } = this;
    const hadExpiry = this.rows.hasExpiry(id);
    const presentBytes = table.valueLengthOf(id);
    const length = presentBytes - removed + entry.valueLength;
    const limitBytes = this.limitFor(entry, local, presentBytes, length);
    if (!this.writer.splice(id, entry, at, removed, limitBytes)) return this.refuseFull(local);
    if (hadExpiry !== (entry.expiresAtMs !== 0)) this.expiring += hadExpiry ? -1 : 1;
    this.announce(id, local, CHANGED_VALUE);
    return APPLIED;
  }

  /** Bytes of values that were moved so far, by changes of parts of them. */
  get movedBytes(): number {
    return this.writer.movedBytes;
  }

  /** Gives an entry whose value this node has changed where it lies another version. */
  revise(id: number, timeHigh: number, timeLow: number, origin: Origin): void {
    const { table, revised } = this;
    if (!this.writer.setVersion(id, timeHigh, timeLow, origin)) {
      table.read(id, revised);
      revised.setVersion(timeHigh, timeLow, origin.high, origin.low);
      if (!this.writer.replace(id, revised, Infinity))
        throw new Error("a version cannot be changed");
    }
    this.announce(id, true, CHANGED_VALUE);
  }

  // Counters that lie packed, because only one origin has added to them.

  /** Whether the entry is one that never expires. */
  isLastingPacked(id: number): boolean {
    return this.rows.isLastingPacked(id);
  }

  /** Whether the entry is one. */
  isPacked(id: number): boolean {
    return this.rows.isPacked(id);
  }

  /** Reads what clients see of one. */
  readNumber(id: number, into: Int64): void {
    this.packed.readNumber(id, into);
  }

  /** Whether an origin can add to one where it lies; see `PackedEntries.canAdd`. */
  canAddToPacked(id: number, delta: Int64, origin: Origin, into: Int64): boolean {
    return this.packed.canAdd(id, delta, origin, into);
  }

  /** Adds what `canAddToPacked` was asked about last, at that time. */
  addToPacked(id: number, timeHigh: number, timeLow: number): void {
    this.packed.add(id, timeHigh, timeLow);
    this.announce(id, true, CHANGED_VALUE);
  }

  /**
   * Marks an entry as one whose time is over, or as one whose time is not. A string gives up its
   * value then. This is no change of what is known of the key, so the observers are not told, but
   * for those that want to know of just that, or whether a value is missing.
   */
  setOver(id: number, isOver: boolean): void {
    const { table, husk } = this;
    const wasOrdered = this.isOrdered(id);
    const wasMissing = this.isMissing(id);
    const kind = this.rows.kindOf(id);
    if (isOver && kind === KIND_STRING) {
      table.read(id, husk);
      husk.kind = KIND_HUSK;
      husk.valueLength = 0;
      if (!this.writer.replace(id, husk, Infinity)) throw new Error("a value cannot be let go");
    }
    this.rows.setOver(id, isOver);
    const isOrdered = this.isOrdered(id);
    if (wasOrdered !== isOrdered) this.moveInOrder(id, isOrdered);
    if (isOver) for (let i = 0; i < this.observers.length; i++) this.observers[i].expired?.(id);
    if (kind !== KIND_HUSK) return;
    if (wasMissing === isOver) this.missing += wasMissing ? -1 : 1;
    for (let i = 0; i < this.observers.length; i++) this.observers[i].missed?.(id);
  }

  /** Drops an entry for good. `flushed`: the flush floor says so already. */
  drop(id: number, flushed: boolean): void {
    this.noteRoom();
    for (let i = 0; i < this.observers.length; i++) this.observers[i].removed(id, flushed);
    if (this.isOrdered(id)) this.removeFromOrder(id);
    else this.tombstones--;
    if (this.rows.hasExpiry(id)) this.expiring--;
    if (this.isMissing(id)) this.missing--;
    this.index.remove(this.rows.hashOf(id), id);
    this.table.release(id);
  }

  /** Drops all of them at once; the observers are not told. */
  clear(): void {
    this.leftovers.giveBackFew();
    this.table.clear(this.leftovers);
    this.index.clear(this.leftovers);
    this.order.clear(this.leftovers);
    this.tombstones = this.expiring = this.missing = 0;
  }

  /**
   * A slice of giving memory back: what `clear` left, and slabs that are under half full (see
   * `SlabCompactor`).
   */
  compact(rows: number, isOver: () => boolean): void {
    if (this.leftovers.giveBack(isOver)) return;
    this.table.compactor.compact(rows, this.limitBytes, isOver);
  }

  /** From here to `endRecovery` the order is empty, and there is no memory limit. */
  beginRecovery(): void {
    this.isRecovering = true;
    if (this.order.size > 0) this.order.clear(this.leftovers);
  }

  /** While recovering: there will be so many entries in all, about. */
  expect(count: number): void {
    this.index.reserve(count);
  }

  /** Makes the order. Meanwhile no entry may change. */
  *endRecovery(): Pieces<void> {
    const ids = new Uint32Array(this.count - this.tombstones);
    let count = 0;
    for (let id = 0; id < this.rows.idLimit; id++) {
      if (this.rows.isUsed(id) && this.isOrdered(id)) ids[count++] = id;
      if (id % IDS_A_PIECE === IDS_A_PIECE - 1) yield;
    }
    const window = yield* sortByKey(ids, this.keys);
    yield* this.order.fill(ids, window);
    release(ids);
    if (window !== null) for (const words of [window.high, window.low]) release(words);
    this.isRecovering = false;
  }

  /** Throws unless the invariants hold, of all parts too; for tests, for it looks at everything. */
  verify(): void {
    const { table, index, order, isRecovering } = this;
    table.verify();
    index.verify();
    if (!isRecovering) order.verify();
    const present = new Entry();
    let tombstones = 0;
    let expiring = 0;
    let missing = 0;
    for (let id = 0; id < this.rows.idLimit; id++) {
      if (!this.rows.isUsed(id)) continue;
      table.read(id, present);
      const { key, keyOffset, keyLength } = present;
      const hash = this.hash(key, keyOffset, keyLength);
      if (hash !== this.rows.hashOf(id))
        throw new Error(`store: the hash of entry ${id} is another's`);
      if (index.find(hash, key, keyOffset, keyLength) !== id) {
        throw new Error(`store: entry ${id} is not found by its key`);
      }
      if (present.expiresAtMs !== 0) expiring++;
      if (this.isMissing(id)) missing++;
      if (!this.isOrdered(id)) tombstones++;
      else if (!isRecovering && order.at(order.seek(key, keyOffset, keyLength)) !== id) {
        throw new Error(`store: entry ${id} is not in the order`);
      }
    }
    if (index.size !== this.rows.count)
      throw new Error("store: the index holds what the table does not");
    const size = isRecovering ? 0 : this.rows.count - tombstones;
    if (order.size !== size) throw new Error(`store: ${order.size} keys in order, ${size} in all`);
    const isMiscounted = tombstones !== this.tombstones || missing !== this.missing;
    if (isMiscounted || expiring !== this.expiring) {
      throw new Error("store: what is deleted or expires is miscounted");
    }
  }

  private refuseFull(local: boolean): Outcome {
    if (!local) this.isFull = true;
    // A value may be too large where there is room for others.
    const littleBytes = Math.max(LEAST_RESERVE_BYTES, LITTLE_ROOM * this.limitBytes);
    if (local && this.bytes() + littleBytes > this.limitBytes) this.isFullForClients = true;
    return REFUSED_FULL;
  }

  /** Something was removed, or may be: what was refused may be tried again. */
  noteRoom(): void {
    this.isFull = false;
    this.isFullForClients = false;
  }

  private isOrdered(id: number): boolean {
    return hasValue(this.rows.kindOf(id)) && !this.rows.isOver(id);
  }

  private moveInOrder(id: number, isOrdered: boolean): void {
    if (isOrdered) {
      this.addToOrder(id);
      this.tombstones--;
    } else {
      this.noteRoom();
      this.removeFromOrder(id);
      this.tombstones++;
    }
  }

  private addToOrder(id: number): void {
    if (!this.isRecovering) this.order.insert(id);
  }

  private removeFromOrder(id: number): void {
    if (!this.isRecovering) this.order.remove(id);
  }

  /** The entries that were prefetched may be about to change. */
  private announceSoon(count: number): void {
    this.isWriting = false;
    for (let i = 0; i < this.observers.length; i++) this.observers[i].touch?.(this.ids, count);
  }

  private announce(id: number, local: boolean, change: Change): void {
    this.isWriting = true;
    for (let i = 0; i < this.observers.length; i++) this.observers[i].changed(id, local, change);
  }

  /**
   * How much memory the table may take for an entry. All that is held counts, deletions too. Up to
   * the limit there is room for everything. A reserve above it is for what nodes need to agree:
   * other versions of keys that are here, and deletions of keys that are not, which somebody may
   * still have; a flood of those ends there. And for what takes hardly more memory than what is
   * here: another expiry, a value that is no longer. The deletion of a key that is here takes no
   * memory, so it always goes through: it is how room is made.
   */
  private limitFor(
    entry: Entry,
    local: boolean,
    presentBytes: number,
    valueLength = entry.valueLength,
  ): number {
    if (this.limitBytes === Infinity || this.isRecovering) return Infinity;
    const isDeletion = !hasValue(entry.kind);
    const isHere = presentBytes !== NOT_HERE;
    if (isDeletion && isHere) return Infinity;
    const isLonger = valueLength > presentBytes;
    const usesReserve = (!local && (isDeletion || isHere)) || !isLonger;
    const reserveBytes = Math.max(LEAST_RESERVE_BYTES, this.limitBytes * MERGE_RESERVE);
    const limitBytes = this.limitBytes + (usesReserve ? reserveBytes : 0);
    return limitBytes - this.index.bytes() - this.order.bytes();
  }
}

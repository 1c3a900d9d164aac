/**
 * Lays entries down in rows and slots (`entry-layout.ts`): new ones, others in the place of those
 * that are there, and strings of which a part has changed.
 */
import { OUT_OF_MEMORY, offsetOf, slabOf, type Arena } from "./arena.ts";
import {
  FACTS,
  HASH,
  HAS_BASE,
  HAS_EXPIRY,
  HAS_EXPIRY_VERSION,
  HAS_LEARNED,
  HAS_LONG_KEY,
  HAS_ORIGIN,
  HEADER_MASK,
  IS_PACKED,
  KIND_SHIFT,
  LONGEST_SHORT_KEY,
  ORIGIN_MASK,
  ORIGIN_SHIFT,
  ROW_WORDS,
  TIME_HIGH,
  TIME_LOW,
  VALUE,
  factsAlone,
  isPlain,
  keyOffset,
  referenceAt,
  setReference,
  writeHeader,
} from "./entry-layout.ts";
import { CHUNK_BITS, CHUNK_MASK, type EntryRows } from "./entry-rows.ts";
import { NO_NUMBER, type OriginTable } from "./origin-table.ts";
import { PackedCounter } from "./packed-counter.ts";
import { LARGEST_SLOT_BYTES } from "./size-classes.ts";
import { KIND_COUNTER, copyBytes, type Entry } from "../data/entry.ts";
import type { Origin } from "../data/origin.ts";

/** Room behind a long string that has become longer, as a share of it. */
const ROOM_TO_GROW = 1 / 8;

/** Writes entries; what there was before a write is overwritten, or its slot freed. */
export class EntryWriter {
  /** Bytes of values that `splice` has moved so far. */
  movedBytes = 0;
  private readonly packed = new PackedCounter();
  // What `shape` found out of an entry.
  private facts = 0;
  private valueBytes = 0;

  private readonly chunks: readonly Uint32Array[];

  constructor(
    private readonly rows: EntryRows,
    private readonly arena: Arena,
    private readonly origins: OriginTable,
  ) {
    this.chunks = rows.chunks;
  }

  /**
   * Adds a row for `entry`. Returns its id, or -1 when memory would grow above
   * `limitBytes`.
   */
  create(entry: Entry, hash: number, limitBytes: number): number {
    const { arena, rows } = this;
    const id = rows.next(limitBytes - rows.bytes() - arena.bytesReserved);
    if (id < 0) return -1;
    const bytes = this.shape(entry);
    const reference = arena.allocate(bytes, limitBytes - rows.bytes());
    if (reference === OUT_OF_MEMORY) return -1;
    rows.take(id);
    const row = this.chunks[id >>> CHUNK_BITS];
    const at = (id & CHUNK_MASK) * ROW_WORDS;
    row[at + HASH] = hash;
    this.fillRow(row, at, reference, entry);
    this.fillSlot(reference, entry, true);
    return id;
  }

  /**
   * Replaces what row `id` holds by `entry` (same key; the value may be a view of the present one).
   * False when memory is used up, and then nothing has changed; never for an entry that takes no
   * more room than the one before.
   */
  replace(id: number, entry: Entry, limitBytes: number): boolean {
    const row = this.chunks[id >>> CHUNK_BITS];
    const at = (id & CHUNK_MASK) * ROW_WORDS;
    const reference = referenceAt(row, at);
    const bytes = this.shape(entry);
    const facts = factsAlone(row[at + FACTS]);
    const isLike = facts === this.facts && row[at + VALUE] === entry.valueLength;
    // Others may be reading what is larger.
    if (isLike && isPlain(facts) && bytes <= LARGEST_SLOT_BYTES) {
      this.overwrite(row, at, reference, entry);
      return true;
    }
    if (this.arena.fitsInPlace(reference, bytes)) {
      this.fillInPlace(row, at, reference, entry);
      return true;
    }
    const moved = this.arena.allocate(bytes, limitBytes - this.rows.bytes());
    if (moved === OUT_OF_MEMORY) {
      if (bytes > this.arena.capacityOf(reference)) return false;
      if (!this.arena.own(reference)) return false;
      this.fillInPlace(row, at, reference, entry);
      return true;
    }
    // The old slot is freed last: the entry's key may be a view of it.
    this.fillSlot(moved, entry, true);
    this.fillRow(row, at, moved, entry);
    this.arena.free(reference);
    return true;
  }

  /**
   * Replaces what row `id` holds, which is a string, by `entry`: a string of the same key whose
   * value is that of `entry` in the place of `removed` bytes of the present one, from `at` on. It
   * does not lie here. False when memory is used up, and then nothing has changed.
   */
  splice(id: number, entry: Entry, at: number, removed: number, limitBytes: number): boolean {
    const row = this.chunks[id >>> CHUNK_BITS];
    const rowStart = (id & CHUNK_MASK) * ROW_WORDS;
    const reference = referenceAt(row, rowStart);
    const presentFacts = row[rowStart + FACTS];
    const presentBytes = row[rowStart + VALUE];
    const tailAt = at + removed;
    const tailBytes = presentBytes - tailAt;
    const length = at + entry.valueLength + tailBytes;
    const slotBytes = this.shape(entry, length);
    const { arena, facts } = this;
    const valueAt = keyOffset(presentFacts) + entry.keyLength;
    const isInPlace =
      keyOffset(presentFacts) === keyOffset(facts) && slotBytes <= arena.capacityOf(reference);
    if (isInPlace) {
      if (arena.isShared(reference)) this.movedBytes += presentBytes;
      if (!arena.own(reference)) return false;
    }
    const target = isInPlace ? reference : this.allocateToGrow(slotBytes, limitBytes);
    if (target === OUT_OF_MEMORY) return false;
    const from = arena.bytes[slabOf(reference)];
    const fromAt = offsetOf(reference) + valueAt;
    const to = arena.bytes[slabOf(target)];
    const toAt = offsetOf(target) + keyOffset(facts) + entry.keyLength;
    const { key, value } = entry;
    if (!isInPlace) {
      copyBytes(key, entry.keyOffset, entry.keyLength, to, toAt - entry.keyLength);
      copyBytes(from, fromAt, at, to, toAt);
      copyBytes(from, fromAt + tailAt, tailBytes, to, toAt + at + entry.valueLength);
      this.movedBytes += presentBytes;
    } else if (removed !== entry.valueLength && tailBytes > 0) {
      to.copyWithin(toAt + at + entry.valueLength, fromAt + tailAt, fromAt + presentBytes);
      this.movedBytes += tailBytes;
    }
    copyBytes(value, entry.valueOffset, entry.valueLength, to, toAt + at);
    if ((facts & HEADER_MASK) !== 0) {
      writeHeader(arena.words[slabOf(target)], offsetOf(target), facts, entry);
    }
    this.fillRow(row, rowStart, target, entry, length);
    if (!isInPlace) arena.free(reference);
    return true;
  }

  /** A slot for what is long and grows: with room for more, if there is any. */
  private allocateToGrow(bytes: number, limitBytes: number): number {
    const { arena } = this;
    const mostBytes = limitBytes - this.rows.bytes();
    if (bytes > LARGEST_SLOT_BYTES) {
      const reference = arena.allocate(Math.ceil(bytes * (1 + ROOM_TO_GROW)), mostBytes);
      if (reference !== OUT_OF_MEMORY) return reference;
    }
    return arena.allocate(bytes, mostBytes);
  }

  /** What `replace` mostly comes to: another value of the same length, and another time. */
  private overwrite(row: Uint32Array, at: number, reference: number, entry: Entry): void {
    const bytes = this.arena.bytes[slabOf(reference)];
    const { value, valueOffset, valueLength } = entry;
    const to = offsetOf(reference) + entry.keyLength;
    // The value may be the one that is here.
    if (value !== bytes) copyBytes(value, valueOffset, valueLength, bytes, to);
    row[at + TIME_HIGH] = entry.timeHigh;
    row[at + TIME_LOW] = entry.timeLow;
  }

  /**
   * Gives an entry another version where it lies. False when that is not possible, as the origin
   * has no number and there is no room for it: then it takes `replace`.
   */
  setVersion(id: number, timeHigh: number, timeLow: number, { high, low }: Origin): boolean {
    const row = this.chunks[id >>> CHUNK_BITS];
    const at = (id & CHUNK_MASK) * ROW_WORDS;
    const facts = row[at + FACTS];
    if ((facts & HAS_ORIGIN) !== 0) return false;
    const origin = this.origins.numberOf(high, low);
    if (origin === NO_NUMBER) return false;
    row[at + FACTS] = (facts & ~(ORIGIN_MASK << ORIGIN_SHIFT)) | (origin << ORIGIN_SHIFT);
    row[at + TIME_HIGH] = timeHigh;
    row[at + TIME_LOW] = timeLow;
    return true;
  }

  /**
   * Finds out how an entry will lie here, with a value of that length if it is a string. Returns
   * how many bytes its slot takes.
   */
  private shape(entry: Entry, valueLength = entry.valueLength): number {
    const { packed } = this;
    const { keyLength, kind, expiryVersion } = entry;
    let facts = kind << KIND_SHIFT;
    if (keyLength > LONGEST_SHORT_KEY) facts |= HAS_LONG_KEY;
    else facts |= keyLength;
    const origin = this.origins.numberOf(entry.originHigh, entry.originLow);
    facts |= origin === NO_NUMBER ? HAS_ORIGIN : origin << ORIGIN_SHIFT;
    if (entry.expiresAtMs !== 0) facts |= HAS_EXPIRY;
    if (expiryVersion.timeHigh !== 0 || expiryVersion.timeLow !== 0) facts |= HAS_EXPIRY_VERSION;
    if (entry.learnedMs !== 0) facts |= HAS_LEARNED;
    if (kind === KIND_COUNTER && packed.pack(entry, this.origins)) {
      facts |= packed.length > 0 ? IS_PACKED | HAS_BASE : IS_PACKED;
      this.valueBytes = packed.length;
    } else this.valueBytes = valueLength;
    this.facts = facts;
    return keyOffset(facts) + keyLength + this.valueBytes;
  }

  // What follows writes what `shape` was asked about last.

  /** The key is left where it is, unless another header makes or leaves room before it. */
  private fillInPlace(row: Uint32Array, at: number, reference: number, entry: Entry): void {
    const isFilled = keyOffset(row[at + FACTS]) === keyOffset(this.facts);
    this.fillSlot(reference, entry, !isFilled);
    this.fillRow(row, at, reference, entry);
  }

  private fillRow(
    row: Uint32Array,
    at: number,
    reference: number,
    entry: Entry,
    valueLength = entry.valueLength,
  ): void {
    setReference(row, at, reference, this.facts);
    const isPacked = (this.facts & IS_PACKED) !== 0;
    row[at + VALUE] = isPacked ? this.packed.totalLow : valueLength;
    row[at + TIME_HIGH] = entry.timeHigh;
    row[at + TIME_LOW] = entry.timeLow;
  }

  /** `withKey` is false when the slot already holds this key, in the same place. */
  private fillSlot(reference: number, entry: Entry, withKey: boolean): void {
    const slab = slabOf(reference);
    const bytes = this.arena.bytes[slab];
    const offset = offsetOf(reference);
    const { facts, packed, valueBytes } = this;
    const { key } = entry;
    const isPacked = (facts & IS_PACKED) !== 0;
    const value = isPacked ? packed.bytes : entry.value;
    const valueOffset = isPacked ? 0 : entry.valueOffset;
    const keyAt = offset + keyOffset(facts);
    const valueAt = keyAt + entry.keyLength;
    // Key and value may be those that are in this slot: then only the header moves them, and what
    // moves to the left has to begin with the key.
    const movesLeft = withKey && key === bytes && keyAt < entry.keyOffset;
    if (movesLeft) bytes.copyWithin(keyAt, entry.keyOffset, entry.keyOffset + entry.keyLength);
    if (value !== bytes) copyBytes(value, valueOffset, valueBytes, bytes, valueAt);
    else if (valueOffset !== valueAt) {
      bytes.copyWithin(valueAt, valueOffset, valueOffset + valueBytes);
    }
    if (withKey && !movesLeft) {
      if (key !== bytes) copyBytes(key, entry.keyOffset, entry.keyLength, bytes, keyAt);
      else bytes.copyWithin(keyAt, entry.keyOffset, entry.keyOffset + entry.keyLength);
    }
    if ((facts & HEADER_MASK) !== 0) writeHeader(this.arena.words[slab], offset, facts, entry);
  }
}

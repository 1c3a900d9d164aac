/**
 * Where entries live: a row of six 32-bit words an entry, its key and value in the
 * arena. A row's number is the entry's id. It stays the same while the entry exists,
 * however often the value moves, so index, order and Merkle tree all hold plain ids.
 *
 * Row      0 arena reference, lower 32 bits · 1 facts · 2 hash of the key · 3 value length, or of a
 *          packed counter the lower half of its total · 4, 5 time
 * Facts    from the lowest bit: key length 8, 0 for a longer one · kind 3, FREE for a row not in
 *          use · flags 8 · number of the origin 7 (`origin-table.ts`) · upper 6 of the reference
 * Slot     header · key · value, or the base of a packed counter (`packed-counter.ts`)
 * Header   length of a long key (4 bytes) · origin, if it has no number (8) · expiry in Unix ms (8)
 *          · its version (16) · when its death was learned of, in Unix ms (8): each only if there
 *          is one, as flags say; mostly there is none
 *
 * A slot does not say whose it is: `compact`, which empties slabs, goes over the rows.
 *
 * Rows not in use are linked through word 0.
 */
import { Arena, OUT_OF_MEMORY, offsetOf, slabOf } from "./arena.ts";
import type { Leftovers } from "./leftovers.ts";
import { prefix32, type KeySlice } from "./key-order.ts";
import type { Int64 } from "../data/counter.ts";
import { KIND_COUNTER, compareBytes, copyBytes, type Entry, type Kind } from "../data/entry.ts";
import type { Origin } from "../data/origin.ts";
import { MAX_IDS } from "./hash-index.ts";
import { NO_NUMBER, OriginTable } from "./origin-table.ts";
import { ONE_PART_BYTES, PackedCounter, PackedView, packedBytes } from "./packed-counter.ts";
import { LARGEST_SLOT_BYTES } from "./size-classes.ts";

const ROW_WORDS = 6;
/** Words of a row. What is only written comes last, as some rows are in two lines of a cache. */
const FACTS = 1;
const HASH = 2;
const VALUE = 3;
const TIME_HIGH = 4;
const TIME_LOW = 5;
const CHUNK_BITS = 15;
const CHUNK_ROWS = 1 << CHUNK_BITS;
const CHUNK_MASK = CHUNK_ROWS - 1;

/** No key is empty: 0 says that the header has its length. */
const SHORT_KEY_MASK = 0xff;
const LONGEST_SHORT_KEY = 255;
const KIND_SHIFT = 8;
const KIND_MASK = 7;
/** In place of a kind. */
const FREE = KIND_MASK << KIND_SHIFT;
const HAS_LONG_KEY = 1 << 11;
const HAS_ORIGIN = 1 << 12;
const HAS_EXPIRY = 1 << 13;
const HAS_EXPIRY_VERSION = 1 << 14;
const HAS_LEARNED = 1 << 15;
const HEADER_SHIFT = 11;
const HEADER_MASK = HAS_LONG_KEY | HAS_ORIGIN | HAS_EXPIRY | HAS_EXPIRY_VERSION | HAS_LEARNED;
const IS_PACKED = 1 << 16;
const HAS_BASE = 1 << 17;
const IS_OVER = 1 << 18;
const ORIGIN_SHIFT = 19;
const ORIGIN_MASK = 127;
/** What lies above this in word 1 belongs to the reference. */
const REFERENCE_SHIFT = 26;
const BELOW_REFERENCE = (1 << REFERENCE_SHIFT) - 1;
/** Where in a slot the key begins, by the flags of the header. */
const KEY_OFFSETS = Uint8Array.from(
  { length: 32 },
  (_, flags) =>
    (flags & 1 ? 4 : 0) +
    (flags & 2 ? 8 : 0) +
    (flags & 4 ? 8 : 0) +
    (flags & 8 ? 16 : 0) +
    (flags & 16 ? 8 : 0),
);
const WORD = 2 ** 32;

/** Two lines of a cache. */
const TOUCHED_BYTES = 124;
const NO_ROW = 0xffff_ffff;
/** How many slabs a call of `compact` looks at, and the least share of all that is worth a pass. */
const SLABS_A_LOOK = 1024;
const WORTH_SHARE = 1 / 64;
const ROWS_A_LOOK = 64;
/** Room behind a long string that has become longer, as a share of it. */
const ROOM_TO_GROW = 1 / 8;

/** Rows and slots; knows nothing of merging, order or hashing. */
export class EntryTable {
  /** One more than the highest id ever used: the range to walk. */
  idLimit = 0;
  /** Rows in use. */
  count = 0;
  /** Bytes of values that `splice` has moved so far. */
  movedBytes = 0;
  private readonly arena = new Arena();
  private readonly origins = new OriginTable();
  private readonly rows: Uint32Array[] = [];
  private freeRow = NO_ROW;
  /** The row at which the pass goes on that empties slabs; NO_ROW when there is none. */
  private compactRow = NO_ROW;

  private readonly packed = new PackedCounter();
  private readonly view = new PackedView();
  // What `shape` found out of an entry.
  private facts = 0;
  private valueBytes = 0;
  /** What `canAddToPacked` would make of the lower half of a total. */
  private nextTotal = 0;

  /**
   * Adds a row for `entry`. Returns its id, or -1 when memory would grow above
   * `limitBytes`.
   */
  create(entry: Entry, hash: number, limitBytes: number): number {
    const reuse = this.freeRow !== NO_ROW;
    const id = reuse ? this.freeRow : this.idLimit;
    if (id >= MAX_IDS) return -1;
    if (!reuse && id >>> CHUNK_BITS >= this.rows.length) {
      if (this.bytes() + CHUNK_ROWS * ROW_WORDS * 4 > limitBytes) return -1;
      this.rows.push(new Uint32Array(CHUNK_ROWS * ROW_WORDS));
    }
    const bytes = this.shape(entry);
    const reference = this.arena.allocate(bytes, limitBytes - this.rowBytes());
    if (reference === OUT_OF_MEMORY) return -1;
    const row = this.rows[id >>> CHUNK_BITS];
    const at = (id & CHUNK_MASK) * ROW_WORDS;
    if (reuse) this.freeRow = row[at];
    else this.idLimit = id + 1;
    this.count++;
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
    const row = this.rows[id >>> CHUNK_BITS];
    const at = (id & CHUNK_MASK) * ROW_WORDS;
    const reference = referenceAt(row, at);
    const bytes = this.shape(entry);
    const facts = row[at + FACTS] & BELOW_REFERENCE;
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
    const moved = this.arena.allocate(bytes, limitBytes - this.rowBytes());
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
    const row = this.rows[id >>> CHUNK_BITS];
    const rowAt = (id & CHUNK_MASK) * ROW_WORDS;
    const reference = referenceAt(row, rowAt);
    const presentFacts = row[rowAt + FACTS];
    const presentBytes = row[rowAt + VALUE];
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
    this.fillRow(row, rowAt, target, entry, length);
    if (!isInPlace) arena.free(reference);
    return true;
  }

  /** A slot for what is long and grows: with room for more, if there is any. */
  private allocateToGrow(bytes: number, limitBytes: number): number {
    const { arena } = this;
    const mostBytes = limitBytes - this.rowBytes();
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
    const row = this.rows[id >>> CHUNK_BITS];
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

  // Packed counters.

  /** Whether the entry is a counter that lies packed: only one origin has added to it. */
  isPacked(id: number): boolean {
    return (this.factsOf(id) & IS_PACKED) !== 0;
  }

  /** Reads the number that clients see of a packed counter. */
  readNumber(id: number, into: Int64): void {
    const row = this.rows[id >>> CHUNK_BITS];
    this.viewOf(row, (id & CHUNK_MASK) * ROW_WORDS).readNumber(into);
  }

  /**
   * Whether an origin can add to a packed counter where it lies: it is its own, and has room. In
   * `into` what clients would see then.
   */
  canAddToPacked(id: number, delta: Int64, { high, low }: Origin, into: Int64): boolean {
    const row = this.rows[id >>> CHUNK_BITS];
    const at = (id & CHUNK_MASK) * ROW_WORDS;
    const facts = row[at + FACTS];
    const { highs, lows } = this.origins;
    const origin = (facts >>> ORIGIN_SHIFT) & ORIGIN_MASK;
    if ((facts & HAS_ORIGIN) !== 0 || lows[origin] !== low || highs[origin] !== high) return false;
    if ((facts & HAS_BASE) !== 0 || delta.high !== delta.low >> 31) {
      const canAdd = this.viewOf(row, at).add(delta, into);
      this.nextTotal = this.view.sumLow;
      return canAdd;
    }
    // Mostly all is in the row, and within 32 bits.
    const sum = (row[at + VALUE] | 0) + (delta.low | 0);
    this.nextTotal = sum >>> 0;
    into.set(sum >> 31, sum);
    return sum === (sum | 0);
  }

  /** Adds what `canAddToPacked` was asked about last, at that time. */
  addToPacked(id: number, timeHigh: number, timeLow: number): void {
    const row = this.rows[id >>> CHUNK_BITS];
    const at = (id & CHUNK_MASK) * ROW_WORDS;
    if ((row[at + FACTS] & HAS_BASE) !== 0) this.view.commit();
    row[at + VALUE] = this.nextTotal;
    row[at + TIME_HIGH] = timeHigh;
    row[at + TIME_LOW] = timeLow;
  }

  private viewOf(row: Uint32Array, at: number): PackedView {
    const facts = row[at + FACTS];
    if ((facts & HAS_BASE) === 0) return this.view.set(NO_BYTES, -1, row[at + VALUE]);
    const reference = referenceAt(row, at);
    const slab = slabOf(reference);
    const keyAt = offsetOf(reference) + keyOffset(facts);
    const baseAt = keyAt + this.keyLengthAt(facts, reference);
    return this.view.set(this.arena.bytes[slab], baseAt, row[at + VALUE]);
  }

  /** Frees a row and its slot. */
  release(id: number): void {
    const row = this.rows[id >>> CHUNK_BITS];
    const at = (id & CHUNK_MASK) * ROW_WORDS;
    this.arena.free(referenceAt(row, at));
    row[at] = this.freeRow;
    row[at + FACTS] = FREE;
    this.freeRow = id;
    this.count--;
  }

  /**
   * Points `into` at the entry. Valid until the next write; the value of a packed counter, which
   * is written out into `into`, until that is pointed elsewhere.
   */
  read(id: number, into: Entry): void {
    const row = this.rows[id >>> CHUNK_BITS];
    const at = (id & CHUNK_MASK) * ROW_WORDS;
    const reference = referenceAt(row, at);
    const facts = row[at + FACTS];
    const slab = slabOf(reference);
    const bytes = this.arena.bytes[slab];
    const origin = (facts >>> ORIGIN_SHIFT) & ORIGIN_MASK;
    into.timeHigh = row[at + TIME_HIGH];
    into.timeLow = row[at + TIME_LOW];
    into.originHigh = this.origins.highs[origin];
    into.originLow = this.origins.lows[origin];
    into.expiresAtMs = into.learnedMs = 0;
    into.expiryVersion.timeHigh = into.expiryVersion.timeLow = 0;
    into.expiryVersion.originHigh = into.expiryVersion.originLow = 0;
    let offset = offsetOf(reference);
    into.keyLength = facts & SHORT_KEY_MASK;
    if (facts & HEADER_MASK) offset += readHeader(this.arena.words[slab], offset, facts, into);
    const valueOffset = offset + into.keyLength;
    into.key = bytes;
    into.keyOffset = offset;
    into.kind = ((facts >>> KIND_SHIFT) & KIND_MASK) as Kind;
    if (facts & IS_PACKED) {
      const out = (into.room ??= new Uint8Array(ONE_PART_BYTES));
      this.view.set(bytes, facts & HAS_BASE ? valueOffset : -1, row[at + VALUE]);
      this.view.unpack(into, this.origins, out);
      into.setValue(out);
      return;
    }
    into.value = bytes;
    into.valueOffset = valueOffset;
    into.valueLength = row[at + VALUE];
  }

  /** Points `into` at the entry's kind and value alone, which is no packed counter. */
  readValue(id: number, into: Entry): void {
    const row = this.rows[id >>> CHUNK_BITS];
    const at = (id & CHUNK_MASK) * ROW_WORDS;
    const reference = referenceAt(row, at);
    const facts = row[at + FACTS];
    into.kind = ((facts >>> KIND_SHIFT) & KIND_MASK) as Kind;
    into.value = this.arena.bytes[slabOf(reference)];
    const keyAt = offsetOf(reference) + keyOffset(facts);
    into.valueOffset = keyAt + this.keyLengthAt(facts, reference);
    into.valueLength = row[at + VALUE];
  }

  /**
   * What `entry`, which `read` points at the entry `id`, has for its value, to be read while others
   * write. Null for a value that is not worth it: it has to be copied.
   */
  shareValue(id: number, { valueOffset, valueLength }: Entry): SharedValue | null {
    const row = this.rows[id >>> CHUNK_BITS];
    const reference = referenceAt(row, (id & CHUNK_MASK) * ROW_WORDS);
    const bytes = this.arena.share(reference);
    if (bytes === null) return null;
    let isShared = true;
    const release = (): void => {
      if (isShared) this.arena.unshare(reference, bytes);
      isShared = false;
    };
    return { bytes, offset: valueOffset, length: valueLength, release };
  }

  /** Whether the id names an entry now. */
  isUsed(id: number): boolean {
    return id < this.idLimit && (this.factsOf(id) & FREE) !== FREE;
  }

  /** The entry's kind. */
  kindOf(id: number): Kind {
    return ((this.factsOf(id) >>> KIND_SHIFT) & KIND_MASK) as Kind;
  }

  /** Length of the entry's value in bytes. */
  valueLengthOf(id: number): number {
    return this.isPacked(id) ? ONE_PART_BYTES : this.wordOf(id, VALUE);
  }

  /** Whether the entry has an expiry time: the cheap look before `expiresAtMs`. */
  hasExpiry(id: number): boolean {
    return (this.factsOf(id) & HAS_EXPIRY) !== 0;
  }

  /** Whether it was marked as one whose time is over. */
  isOver(id: number): boolean {
    return (this.factsOf(id) & IS_OVER) !== 0;
  }

  /** Marks it so, or not; replacing an entry takes the mark off. */
  setOver(id: number, isOver: boolean): void {
    const row = this.rows[id >>> CHUNK_BITS];
    const at = (id & CHUNK_MASK) * ROW_WORDS + FACTS;
    if (isOver) row[at] |= IS_OVER;
    else row[at] &= ~IS_OVER;
  }

  /** Unix milliseconds at which the entry expires, 0 for never. */
  expiresAtMs(id: number): number {
    const row = this.rows[id >>> CHUNK_BITS];
    const at = (id & CHUNK_MASK) * ROW_WORDS;
    if ((row[at + FACTS] & HAS_EXPIRY) === 0) return 0;
    const reference = referenceAt(row, at);
    const words = this.arena.words[slabOf(reference)];
    const before = row[at + FACTS] & (HAS_LONG_KEY | HAS_ORIGIN);
    const word = (offsetOf(reference) + keyOffset(before)) >>> 2;
    return words[word] * 0x1_0000_0000 + words[word + 1];
  }

  /** Loads the row into the processor's caches. Returns a number of no meaning. */
  touchRow(id: number): number {
    const row = this.rows[id >>> CHUNK_BITS];
    const at = (id & CHUNK_MASK) * ROW_WORDS;
    return row[at] ^ row[at + VALUE];
  }

  /** Loads the slot's beginning, and its end if that is near. Returns a number of no meaning. */
  touchSlot(id: number): number {
    const row = this.rows[id >>> CHUNK_BITS];
    const at = (id & CHUNK_MASK) * ROW_WORDS;
    const reference = referenceAt(row, at);
    const words = this.arena.words[slabOf(reference)];
    const word = offsetOf(reference) >>> 2;
    const facts = row[at + FACTS];
    const bytes = (facts & SHORT_KEY_MASK) + (facts & IS_PACKED ? 1 : row[at + VALUE]);
    return words[word] ^ words[word + ((Math.min(bytes, TOUCHED_BYTES) - 1) >>> 2)];
  }

  /** The hash the entry was created with. */
  hashOf(id: number): number {
    return this.rows[id >>> CHUNK_BITS][(id & CHUNK_MASK) * ROW_WORDS + HASH];
  }

  /** Whether the entry was created with this hash, and its key equals these bytes. */
  matches(id: number, hash: number, key: Uint8Array, offset: number, length: number): boolean {
    const row = this.rows[id >>> CHUNK_BITS];
    const at = (id & CHUNK_MASK) * ROW_WORDS;
    const facts = row[at + FACTS];
    if (row[at + HASH] !== hash) return false;
    if ((facts & SHORT_KEY_MASK) !== (length > LONGEST_SHORT_KEY ? 0 : length)) return false;
    const reference = referenceAt(row, at);
    if (length > LONGEST_SHORT_KEY && this.keyLengthAt(facts, reference) !== length) return false;
    const bytes = this.arena.bytes[slabOf(reference)];
    const start = offsetOf(reference) + keyOffset(facts);
    for (let i = 0; i < length; i++) {
      if (bytes[start + i] !== key[offset + i]) return false;
    }
    return true;
  }

  /** Lexicographic order of the entry's key and these bytes. */
  compareToKey(id: number, key: Uint8Array, offset: number, length: number): number {
    const row = this.rows[id >>> CHUNK_BITS];
    const at = (id & CHUNK_MASK) * ROW_WORDS;
    const facts = row[at + FACTS];
    const reference = referenceAt(row, at);
    const bytes = this.arena.bytes[slabOf(reference)];
    const start = offsetOf(reference) + keyOffset(facts);
    return compareBytes(bytes, start, this.keyLengthAt(facts, reference), key, offset, length);
  }

  /** Points `into` at the entry's key. Valid until the next write. */
  locateKey(id: number, into: KeySlice): void {
    const row = this.rows[id >>> CHUNK_BITS];
    const at = (id & CHUNK_MASK) * ROW_WORDS;
    const facts = row[at + FACTS];
    const reference = referenceAt(row, at);
    into.bytes = this.arena.bytes[slabOf(reference)];
    into.offset = offsetOf(reference) + keyOffset(facts);
    into.length = this.keyLengthAt(facts, reference);
  }

  /**
   * Four key bytes from position `skip` on, big-endian, zeros past the end, top bit
   * flipped: a signed integer in the order of the bytes (see `KeySource`).
   */
  prefix32(id: number, skip: number): number {
    const row = this.rows[id >>> CHUNK_BITS];
    const at = (id & CHUNK_MASK) * ROW_WORDS;
    const facts = row[at + FACTS];
    const reference = referenceAt(row, at);
    const bytes = this.arena.bytes[slabOf(reference)];
    const start = offsetOf(reference) + keyOffset(facts);
    return prefix32(bytes, start, this.keyLengthAt(facts, reference), skip);
  }

  /**
   * A slice of emptying slabs that are under half full, so that their memory goes back: looks for
   * such slabs, and when there are enough of them, goes over so many rows and moves their entries
   * out. True while there is more to do. `isOver` says that time is up; it is asked now and then.
   */
  compact(rows: number, limitBytes: number, isOver: () => boolean = never): boolean {
    const { arena } = this;
    if (this.compactRow === NO_ROW) {
      if (!arena.markSparse(SLABS_A_LOOK)) return false;
      if (arena.emptyingCount === 0) return false;
      if (arena.emptyingCount >= arena.bytes.length * WORTH_SHARE) this.compactRow = 0;
      else arena.keepMarked();
      return this.compactRow === 0;
    }
    const end = Math.min(this.compactRow + rows, this.idLimit);
    let id = this.compactRow;
    while (id < end && arena.emptyingCount > 0) {
      this.moveOut(id, limitBytes);
      if (++id % ROWS_A_LOOK === 0 && isOver()) break;
    }
    this.compactRow = id;
    if (id < this.idLimit && arena.emptyingCount > 0) return true;
    this.compactRow = NO_ROW;
    arena.keepMarked();
    return true;
  }

  /** Moves the entry of a row out of a slab that is being emptied, if it is in one. */
  private moveOut(id: number, limitBytes: number): void {
    const row = this.rows[id >>> CHUNK_BITS];
    const at = (id & CHUNK_MASK) * ROW_WORDS;
    const facts = row[at + FACTS];
    if ((facts & FREE) === FREE) return;
    const reference = referenceAt(row, at);
    if (!this.arena.isLeaving(reference)) return;
    const length = this.slotBytes(row, at, reference);
    const moved = this.arena.allocate(length, limitBytes - this.rowBytes());
    if (moved === OUT_OF_MEMORY) return;
    const offset = offsetOf(reference);
    const bytes = this.arena.bytes[slabOf(reference)];
    copyBytes(bytes, offset, length, this.arena.bytes[slabOf(moved)], offsetOf(moved));
    setReference(row, at, moved, facts);
    this.arena.free(reference);
  }

  /** Drops every entry; its memory becomes `leftovers`. */
  clear(leftovers: Leftovers): void {
    this.arena.clear(leftovers);
    for (const rows of this.rows) leftovers.add(rows);
    this.origins.clear();
    this.rows.length = 0;
    this.freeRow = this.compactRow = NO_ROW;
    this.idLimit = 0;
    this.count = 0;
  }

  /** Memory used, in bytes. */
  bytes(): number {
    return this.arena.bytesReserved + this.rowBytes();
  }

  /** Throws unless the invariants hold, of the arena too; for tests. */
  verify(): void {
    const free = new Set<number>();
    for (let id = this.freeRow; id !== NO_ROW; id = this.wordOf(id, 0)) {
      if (id >= this.idLimit || free.has(id) || this.isUsed(id)) {
        throw new Error(`entry table: the list of free rows is broken at ${id}`);
      }
      free.add(id);
    }
    const slots = new Set<number>();
    for (let id = 0; id < this.idLimit; id++) {
      if (!this.isUsed(id)) {
        if (!free.has(id)) throw new Error(`entry table: free row ${id} is lost`);
        continue;
      }
      const row = this.rows[id >>> CHUNK_BITS];
      const at = (id & CHUNK_MASK) * ROW_WORDS;
      const reference = referenceAt(row, at);
      if (slots.has(reference)) throw new Error(`entry table: row ${id} has another's slot`);
      if (this.slotBytes(row, at, reference) > this.arena.capacityOf(reference)) {
        throw new Error(`entry table: row ${id} is larger than its slot`);
      }
      slots.add(reference);
    }
    const used = this.idLimit - free.size;
    if (used !== this.count) throw new Error(`entry table: ${used} rows, not ${this.count}`);
    this.arena.verify(slots);
  }

  private wordOf(id: number, word: number): number {
    return this.rows[id >>> CHUNK_BITS][(id & CHUNK_MASK) * ROW_WORDS + word];
  }

  private rowBytes(): number {
    return this.rows.length * CHUNK_ROWS * ROW_WORDS * 4;
  }

  private factsOf(id: number): number {
    return this.rows[id >>> CHUNK_BITS][(id & CHUNK_MASK) * ROW_WORDS + FACTS];
  }

  private keyLengthAt(facts: number, reference: number): number {
    const length = facts & SHORT_KEY_MASK;
    if (length !== 0) return length;
    return this.arena.words[slabOf(reference)][offsetOf(reference) >>> 2];
  }

  /** Bytes in use of the slot of a row. */
  private slotBytes(row: Uint32Array, at: number, reference: number): number {
    const facts = row[at + FACTS];
    const keyBytes = keyOffset(facts) + this.keyLengthAt(facts, reference);
    if ((facts & IS_PACKED) === 0) return keyBytes + row[at + VALUE];
    if ((facts & HAS_BASE) === 0) return keyBytes;
    const bytes = this.arena.bytes[slabOf(reference)];
    return keyBytes + packedBytes(bytes, offsetOf(reference) + keyBytes);
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

/** A value that stays as it is while others write, until `release` is called. */
export interface SharedValue {
  readonly bytes: Uint8Array;
  readonly offset: number;
  readonly length: number;
  /** It is not read any more. May be called more than once. */
  release(): void;
}

/** Whether key and value are all there is, and lie as they are. */
function isPlain(facts: number): boolean {
  return (facts & (HEADER_MASK | IS_PACKED | IS_OVER)) === 0;
}

const NO_BYTES = new Uint8Array(0);
const never = (): boolean => false;

/** Where in a slot the key begins. Of `facts` only the flags of the header count. */
function keyOffset(facts: number): number {
  return KEY_OFFSETS[(facts & HEADER_MASK) >>> HEADER_SHIFT];
}

/** Reads the header that begins `offset` bytes into a slab; returns its length in bytes. */
function readHeader(words: Uint32Array, offset: number, facts: number, into: Entry): number {
  let at = offset >>> 2;
  if (facts & HAS_LONG_KEY) into.keyLength = words[at++];
  if (facts & HAS_ORIGIN) {
    into.originHigh = words[at++];
    into.originLow = words[at++];
  }
  if (facts & HAS_EXPIRY) {
    into.expiresAtMs = words[at] * WORD + words[at + 1];
    at += 2;
  }
  if (facts & HAS_EXPIRY_VERSION) {
    into.expiryVersion.timeHigh = words[at];
    into.expiryVersion.timeLow = words[at + 1];
    into.expiryVersion.originHigh = words[at + 2];
    into.expiryVersion.originLow = words[at + 3];
    at += 4;
  }
  if (facts & HAS_LEARNED) {
    into.learnedMs = words[at] * WORD + words[at + 1];
    at += 2;
  }
  return (at << 2) - offset;
}

function writeHeader(words: Uint32Array, offset: number, facts: number, entry: Entry): void {
  let at = offset >>> 2;
  if (facts & HAS_LONG_KEY) words[at++] = entry.keyLength;
  if (facts & HAS_ORIGIN) {
    words[at++] = entry.originHigh;
    words[at++] = entry.originLow;
  }
  if (facts & HAS_EXPIRY) {
    words[at++] = Math.floor(entry.expiresAtMs / WORD);
    words[at++] = entry.expiresAtMs >>> 0;
  }
  if (facts & HAS_EXPIRY_VERSION) {
    const { timeHigh, timeLow, originHigh, originLow } = entry.expiryVersion;
    words[at++] = timeHigh;
    words[at++] = timeLow;
    words[at++] = originHigh;
    words[at++] = originLow;
  }
  if (facts & HAS_LEARNED) {
    words[at++] = Math.floor(entry.learnedMs / WORD);
    words[at++] = entry.learnedMs >>> 0;
  }
}

/** The reference in the row that begins at `at`. */
function referenceAt(row: Uint32Array, at: number): number {
  const high = row[at + FACTS] >>> REFERENCE_SHIFT;
  return high === 0 ? row[at] : high * WORD + row[at];
}

/** Writes words 0 and 1 of a row. Of `facts` only what lies below the reference counts. */
function setReference(row: Uint32Array, at: number, reference: number, facts: number): void {
  row[at] = reference;
  const below = facts & BELOW_REFERENCE;
  row[at + FACTS] =
    reference < WORD ? below : below | (Math.floor(reference / WORD) << REFERENCE_SHIFT);
}

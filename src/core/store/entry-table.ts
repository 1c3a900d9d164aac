/**
 * Where entries live: a row of eight 32-bit words an entry, its key and value in the
 * arena. A row's number is the entry's id. It stays the same while the entry exists,
 * however often the value moves, so index, order and Merkle tree all hold plain ids.
 *
 * Row      0 arena reference, lower 32 bits · 1 key length, kind, flags, and the upper 8 bits
 *          of the reference · 2 value length · 3, 4 time · 5, 6 origin · 7 hash of the key
 * Slot     id (4 bytes) · header · key · value
 * Header   expiry in Unix ms (8 bytes) · its version (16 bytes) · when its death was learned of, in
 *          Unix ms (8 bytes): each only if there is one, as flags say; mostly there is none
 *
 * Invariants
 * - A slot is live exactly when the row named by its first word refers back to it;
 *   that is how `compact` tells live slots from freed ones.
 * - Rows not in use are linked through word 0 and have the USED flag clear.
 */
import { Arena, OUT_OF_MEMORY, offsetOf, slabOf } from "./arena.ts";
import { prefix32, type KeySlice } from "./key-order.ts";
import { compareBytes, copyBytes, type Entry, type Kind } from "../data/entry.ts";
import { MAX_IDS } from "./hash-index.ts";

const ROW_WORDS = 8;
const CHUNK_BITS = 15;
const CHUNK_ROWS = 1 << CHUNK_BITS;
const CHUNK_MASK = CHUNK_ROWS - 1;

/** In 16 bits, less one: no key is empty. */
const KEY_LENGTH_MASK = 0xffff;
const KIND_SHIFT = 16;
const KIND_MASK = 7;
const HAS_EXPIRY = 1 << 19;
const HAS_EXPIRY_VERSION = 1 << 20;
const HAS_LEARNED = 1 << 21;
const HEADER_SHIFT = 19;
const HEADER_MASK = HAS_EXPIRY | HAS_EXPIRY_VERSION | HAS_LEARNED;
const IS_OVER = 1 << 22;
const USED = 1 << 23;
/** What lies above this in word 1 belongs to the reference. */
const REFERENCE_SHIFT = 24;
/** Where in a slot the key begins, by the flags of the header. */
const KEY_OFFSETS = Uint8Array.of(4, 12, 20, 28, 12, 20, 28, 36);
const WORD = 2 ** 32;

/** Two lines of a cache. */
const TOUCHED_BYTES = 124;
const NO_ROW = 0xffff_ffff;

function keyLengthOf(facts: number): number {
  return (facts & KEY_LENGTH_MASK) + 1;
}

/** Rows and slots; knows nothing of merging, order or hashing. */
export class EntryTable {
  /** One more than the highest id ever used: the range to walk. */
  idLimit = 0;
  /** Rows in use. */
  count = 0;
  private readonly arena = new Arena();
  private readonly rows: Uint32Array[] = [];
  private freeRow = NO_ROW;

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
    const reference = this.arena.allocate(slotBytes(entry), limitBytes - this.rowBytes());
    if (reference === OUT_OF_MEMORY) return -1;
    const row = this.rows[id >>> CHUNK_BITS];
    const at = (id & CHUNK_MASK) * ROW_WORDS;
    if (reuse) this.freeRow = row[at];
    else this.idLimit = id + 1;
    this.count++;
    row[at + 7] = hash;
    this.fillRow(row, at, reference, entry);
    this.fillSlot(id, reference, entry, true);
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
    const bytes = slotBytes(entry);
    if (this.arena.fitsInPlace(reference, bytes)) {
      this.fillInPlace(row, at, id, reference, entry);
      return true;
    }
    const moved = this.arena.allocate(bytes, limitBytes - this.rowBytes());
    if (moved === OUT_OF_MEMORY) {
      if (bytes > this.arena.capacityOf(reference)) return false;
      this.fillInPlace(row, at, id, reference, entry);
      return true;
    }
    // The old slot is freed last: the entry's key may be a view of it.
    this.fillSlot(id, moved, entry, true);
    this.fillRow(row, at, moved, entry);
    this.arena.free(reference);
    return true;
  }

  /** Gives an entry another version. */
  setVersion(
    id: number,
    timeHigh: number,
    timeLow: number,
    originHigh: number,
    originLow: number,
  ): void {
    const row = this.rows[id >>> CHUNK_BITS];
    const at = (id & CHUNK_MASK) * ROW_WORDS;
    row[at + 3] = timeHigh;
    row[at + 4] = timeLow;
    row[at + 5] = originHigh;
    row[at + 6] = originLow;
  }

  /** Frees a row and its slot. */
  release(id: number): void {
    const row = this.rows[id >>> CHUNK_BITS];
    const at = (id & CHUNK_MASK) * ROW_WORDS;
    this.arena.free(referenceAt(row, at));
    row[at] = this.freeRow;
    row[at + 1] = 0;
    this.freeRow = id;
    this.count--;
  }

  /** Points `into` at the entry. Valid until the next write. */
  read(id: number, into: Entry): void {
    const row = this.rows[id >>> CHUNK_BITS];
    const at = (id & CHUNK_MASK) * ROW_WORDS;
    const reference = referenceAt(row, at);
    const facts = row[at + 1];
    const slab = slabOf(reference);
    const bytes = this.arena.bytes[slab];
    let offset = offsetOf(reference) + 4;
    into.expiresAtMs = into.learnedMs = 0;
    into.expiryVersion.timeHigh = into.expiryVersion.timeLow = 0;
    into.expiryVersion.originHigh = into.expiryVersion.originLow = 0;
    if (facts & HEADER_MASK) offset += readHeader(this.arena.words[slab], offset, facts, into);
    const keyLength = keyLengthOf(facts);
    into.key = bytes;
    into.keyOffset = offset;
    into.keyLength = keyLength;
    into.value = bytes;
    into.valueOffset = offset + keyLength;
    into.valueLength = row[at + 2];
    into.kind = ((facts >>> KIND_SHIFT) & KIND_MASK) as Kind;
    into.timeHigh = row[at + 3];
    into.timeLow = row[at + 4];
    into.originHigh = row[at + 5];
    into.originLow = row[at + 6];
  }

  /** Whether the id names an entry now. */
  isUsed(id: number): boolean {
    return id < this.idLimit && (this.factsOf(id) & USED) !== 0;
  }

  /** The entry's kind. */
  kindOf(id: number): Kind {
    return ((this.factsOf(id) >>> KIND_SHIFT) & KIND_MASK) as Kind;
  }

  /** Length of the entry's value in bytes. */
  valueLengthOf(id: number): number {
    return this.wordOf(id, 2);
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
    const at = (id & CHUNK_MASK) * ROW_WORDS + 1;
    if (isOver) row[at] |= IS_OVER;
    else row[at] &= ~IS_OVER;
  }

  /** Unix milliseconds at which the entry expires, 0 for never. */
  expiresAtMs(id: number): number {
    const row = this.rows[id >>> CHUNK_BITS];
    const at = (id & CHUNK_MASK) * ROW_WORDS;
    if ((row[at + 1] & HAS_EXPIRY) === 0) return 0;
    const reference = referenceAt(row, at);
    const words = this.arena.words[slabOf(reference)];
    const word = (offsetOf(reference) >>> 2) + 1;
    return words[word] * 0x1_0000_0000 + words[word + 1];
  }

  /** Loads the row into the processor's caches. Returns a number of no meaning. */
  touchRow(id: number): number {
    return this.factsOf(id);
  }

  /** Loads the slot's beginning, and its end if that is near. Returns a number of no meaning. */
  touchSlot(id: number): number {
    const row = this.rows[id >>> CHUNK_BITS];
    const at = (id & CHUNK_MASK) * ROW_WORDS;
    const reference = referenceAt(row, at);
    const words = this.arena.words[slabOf(reference)];
    const word = offsetOf(reference) >>> 2;
    const bytes = keyLengthOf(row[at + 1]) + row[at + 2];
    return words[word] ^ words[word + (Math.min(bytes, TOUCHED_BYTES) >>> 2)];
  }

  /** The id written in a slot. */
  private idAt(reference: number): number {
    return this.arena.words[slabOf(reference)][offsetOf(reference) >>> 2];
  }

  /** Where the entry lies: changes when it moves. */
  private referenceOf(id: number): number {
    return referenceAt(this.rows[id >>> CHUNK_BITS], (id & CHUNK_MASK) * ROW_WORDS);
  }

  /** The hash the entry was created with. */
  hashOf(id: number): number {
    return this.rows[id >>> CHUNK_BITS][(id & CHUNK_MASK) * ROW_WORDS + 7];
  }

  /** Whether the entry was created with this hash, and its key equals these bytes. */
  matches(id: number, hash: number, key: Uint8Array, offset: number, length: number): boolean {
    const row = this.rows[id >>> CHUNK_BITS];
    const at = (id & CHUNK_MASK) * ROW_WORDS;
    const facts = row[at + 1];
    if (row[at + 7] !== hash) return false;
    if (keyLengthOf(facts) !== length) return false;
    const reference = referenceAt(row, at);
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
    const facts = row[at + 1];
    const reference = referenceAt(row, at);
    const bytes = this.arena.bytes[slabOf(reference)];
    const start = offsetOf(reference) + keyOffset(facts);
    return compareBytes(bytes, start, keyLengthOf(facts), key, offset, length);
  }

  /** Points `into` at the entry's key. Valid until the next write. */
  locateKey(id: number, into: KeySlice): void {
    const row = this.rows[id >>> CHUNK_BITS];
    const at = (id & CHUNK_MASK) * ROW_WORDS;
    const facts = row[at + 1];
    const reference = referenceAt(row, at);
    into.bytes = this.arena.bytes[slabOf(reference)];
    into.offset = offsetOf(reference) + keyOffset(facts);
    into.length = keyLengthOf(facts);
  }

  /**
   * Four key bytes from position `skip` on, big-endian, zeros past the end, top bit
   * flipped: a signed integer in the order of the bytes (see `KeySource`).
   */
  prefix32(id: number, skip: number): number {
    const row = this.rows[id >>> CHUNK_BITS];
    const at = (id & CHUNK_MASK) * ROW_WORDS;
    const facts = row[at + 1];
    const reference = referenceAt(row, at);
    const bytes = this.arena.bytes[slabOf(reference)];
    const start = offsetOf(reference) + keyOffset(facts);
    return prefix32(bytes, start, keyLengthOf(facts), skip);
  }

  /**
   * Moves the entries out of one slab that is under half full, so that its memory
   * goes back. False when there was none among the next `slabs` slabs.
   */
  compact(slabs: number, limitBytes: number): boolean {
    const slab = this.arena.sparseSlab(slabs);
    if (slab < 0) return false;
    const words = this.arena.words[slab];
    const bytes = this.arena.bytes[slab];
    let stuck = false;
    this.arena.forEachSlot(slab, (reference) => {
      const offset = offsetOf(reference);
      const id = words[offset >>> 2];
      if (id >= this.idLimit) return;
      const row = this.rows[id >>> CHUNK_BITS];
      const at = (id & CHUNK_MASK) * ROW_WORDS;
      if (referenceAt(row, at) !== reference || (row[at + 1] & USED) === 0) return;
      const facts = row[at + 1];
      const length = keyOffset(facts) + keyLengthOf(facts) + row[at + 2];
      const moved = this.arena.allocate(length, limitBytes - this.rowBytes());
      if (moved === OUT_OF_MEMORY) {
        stuck = true;
        return;
      }
      this.arena.bytes[slabOf(moved)].set(bytes.subarray(offset, offset + length), offsetOf(moved));
      setReference(row, at, moved, facts);
      this.arena.free(reference);
    });
    if (stuck) this.arena.keepSlab(slab);
    return true;
  }

  /** Drops every entry and its memory. */
  clear(): void {
    this.arena.clear();
    this.rows.length = 0;
    this.freeRow = NO_ROW;
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
      const reference = this.referenceOf(id);
      if (this.idAt(reference) !== id) {
        throw new Error(`entry table: the slot of row ${id} names row ${this.idAt(reference)}`);
      }
      const keyLength = keyLengthOf(this.factsOf(id));
      const bytes = keyOffset(this.factsOf(id)) + keyLength + this.wordOf(id, 2);
      if (bytes > this.arena.capacityOf(reference)) {
        throw new Error(`entry table: row ${id} is larger than its slot`);
      }
      slots.add(reference);
    }
    const used = this.idLimit - free.size;
    if (used !== this.count) throw new Error(`entry table: ${used} rows, not ${this.count}`);
    if (used !== slots.size) throw new Error("entry table: two rows share a slot");
    this.arena.verify(slots);
  }

  private wordOf(id: number, word: number): number {
    return this.rows[id >>> CHUNK_BITS][(id & CHUNK_MASK) * ROW_WORDS + word];
  }

  private rowBytes(): number {
    return this.rows.length * CHUNK_ROWS * ROW_WORDS * 4;
  }

  private factsOf(id: number): number {
    return this.rows[id >>> CHUNK_BITS][(id & CHUNK_MASK) * ROW_WORDS + 1];
  }

  /** The key is left where it is, unless a header makes or leaves room before it. */
  private fillInPlace(
    row: Uint32Array,
    at: number,
    id: number,
    reference: number,
    entry: Entry,
  ): void {
    const isFilled = ((row[at + 1] & HEADER_MASK) | headerOf(entry)) === 0;
    this.fillSlot(id, reference, entry, !isFilled);
    this.fillRow(row, at, reference, entry);
  }

  private fillRow(row: Uint32Array, at: number, reference: number, entry: Entry): void {
    const facts = (entry.keyLength - 1) | (entry.kind << KIND_SHIFT) | headerOf(entry) | USED;
    setReference(row, at, reference, facts);
    row[at + 2] = entry.valueLength;
    row[at + 3] = entry.timeHigh;
    row[at + 4] = entry.timeLow;
    row[at + 5] = entry.originHigh;
    row[at + 6] = entry.originLow;
  }

  /** `withKey` is false when the slot already holds this key, without a header. */
  private fillSlot(id: number, reference: number, entry: Entry, withKey: boolean): void {
    const slab = slabOf(reference);
    const bytes = this.arena.bytes[slab];
    const offset = offsetOf(reference);
    const header = headerOf(entry);
    const keyAt = offset + keyOffset(header);
    const { key, value, valueOffset, valueLength } = entry;
    const valueAt = keyAt + entry.keyLength;
    // Key and value may be those that are in this slot: then only the header moves them, and what
    // moves to the left has to begin with the key.
    const movesLeft = withKey && key === bytes && keyAt < entry.keyOffset;
    if (movesLeft) bytes.copyWithin(keyAt, entry.keyOffset, entry.keyOffset + entry.keyLength);
    if (value !== bytes) copyBytes(value, valueOffset, valueLength, bytes, valueAt);
    else if (valueOffset !== valueAt) {
      bytes.copyWithin(valueAt, valueOffset, valueOffset + valueLength);
    }
    if (!withKey) return;
    if (key !== bytes) copyBytes(key, entry.keyOffset, entry.keyLength, bytes, keyAt);
    else if (!movesLeft) {
      bytes.copyWithin(keyAt, entry.keyOffset, entry.keyOffset + entry.keyLength);
    }
    const words = this.arena.words[slab];
    words[offset >>> 2] = id;
    if (header !== 0) writeHeader(words, offset + 4, header, entry);
  }
}

/** Which parts the header of an entry has. */
function headerOf({ expiresAtMs, expiryVersion, learnedMs }: Entry): number {
  const isApart = expiryVersion.timeHigh !== 0 || expiryVersion.timeLow !== 0;
  return (
    (expiresAtMs === 0 ? 0 : HAS_EXPIRY) |
    (isApart ? HAS_EXPIRY_VERSION : 0) |
    (learnedMs === 0 ? 0 : HAS_LEARNED)
  );
}

/** Where in a slot the key begins. Of `facts` only the flags of the header count. */
function keyOffset(facts: number): number {
  return KEY_OFFSETS[(facts & HEADER_MASK) >>> HEADER_SHIFT];
}

/** Reads the header that begins `offset` bytes into a slab; returns its length in bytes. */
function readHeader(words: Uint32Array, offset: number, facts: number, into: Entry): number {
  let at = offset >>> 2;
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
  const high = row[at + 1] >>> REFERENCE_SHIFT;
  return high === 0 ? row[at] : high * WORD + row[at];
}

/** Writes words 0 and 1 of a row. Of `facts` only what lies below the reference counts. */
function setReference(row: Uint32Array, at: number, reference: number, facts: number): void {
  row[at] = reference;
  const below = facts & ((1 << REFERENCE_SHIFT) - 1);
  row[at + 1] =
    reference < WORD ? below : below | (Math.floor(reference / WORD) << REFERENCE_SHIFT);
}

function slotBytes(entry: Entry): number {
  return keyOffset(headerOf(entry)) + entry.keyLength + entry.valueLength;
}

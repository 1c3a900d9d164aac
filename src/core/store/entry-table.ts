/**
 * Where entries live: a row of 24 bytes an entry, and its key and value in a slot of the arena
 * (`entry-layout.ts`). It knows nothing of merging, order or hashing.
 */
import { Arena, offsetOf, slabOf } from "./arena.ts";
import { EntryKeys } from "./entry-keys.ts";
import {
  FACTS,
  HAS_BASE,
  HAS_EXPIRY,
  HAS_LONG_KEY,
  HAS_ORIGIN,
  HEADER_MASK,
  IS_PACKED,
  KIND_MASK,
  KIND_SHIFT,
  ORIGIN_MASK,
  ORIGIN_SHIFT,
  ROW_WORDS,
  SHORT_KEY_MASK,
  TIME_HIGH,
  TIME_LOW,
  VALUE,
  keyLengthAt,
  keyOffset,
  readHeader,
  referenceAt,
  slotBytes,
} from "./entry-layout.ts";
import { CHUNK_BITS, CHUNK_MASK, EntryRows } from "./entry-rows.ts";
import { EntryWriter } from "./entry-writer.ts";
import type { Leftovers } from "./leftovers.ts";
import { OriginTable } from "./origin-table.ts";
import { ONE_PART_BYTES } from "./packed-counter.ts";
import { PackedEntries } from "./packed-entries.ts";
import { SlabCompactor } from "./slab-compactor.ts";
import type { Entry, Kind } from "../data/entry.ts";

/** Two lines of a cache. */
const TOUCHED_BYTES = 124;
const MOST_TOUCHED = 64;

/** Entries by id. */
export class EntryTable {
  private readonly arena = new Arena();
  private readonly origins = new OriginTable();
  /** Which ids are in use, and what rows alone tell of their entries. */
  readonly rows = new EntryRows();
  private readonly chunks: readonly Uint32Array[] = this.rows.chunks;
  /** Of what `touchSlots` loads: slab, first and last word. */
  private readonly places = new Int32Array(3 * MOST_TOUCHED);
  /** Their keys. */
  readonly keys = new EntryKeys(this.rows, this.arena);
  /** The counters among them that lie packed. */
  readonly packed = new PackedEntries(this.rows, this.arena, this.origins);
  /** What lays them down. */
  readonly writer = new EntryWriter(this.rows, this.arena, this.origins);
  /** What gives back the memory of slabs that are hardly used. */
  readonly compactor = new SlabCompactor(this.rows, this.arena);

  /** Frees a row and its slot. */
  release(id: number): void {
    this.arena.free(referenceAt(this.chunks[id >>> CHUNK_BITS], (id & CHUNK_MASK) * ROW_WORDS));
    this.rows.release(id);
  }

  /**
   * Points `into` at the entry. Valid until the next write; the value of a packed counter, which
   * is written out into `into`, until that is pointed elsewhere.
   */
  read(id: number, into: Entry): void {
    const row = this.chunks[id >>> CHUNK_BITS];
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
      const baseAt = facts & HAS_BASE ? valueOffset : -1;
      this.packed.unpack(into, bytes, baseAt, row[at + VALUE]);
      return;
    }
    into.value = bytes;
    into.valueOffset = valueOffset;
    into.valueLength = row[at + VALUE];
  }

  /** Points `into` at the entry's kind and value alone, which is no packed counter. */
  readValue(id: number, into: Entry): void {
    const row = this.chunks[id >>> CHUNK_BITS];
    const at = (id & CHUNK_MASK) * ROW_WORDS;
    const reference = referenceAt(row, at);
    const facts = row[at + FACTS];
    into.kind = ((facts >>> KIND_SHIFT) & KIND_MASK) as Kind;
    into.value = this.arena.bytes[slabOf(reference)];
    const keyAt = offsetOf(reference) + keyOffset(facts);
    into.valueOffset = keyAt + keyLengthAt(facts, reference, this.arena);
    into.valueLength = row[at + VALUE];
  }

  /**
   * What `entry`, which `read` points at the entry `id`, has for its value, to be read while others
   * write. Null for a value that is not worth it: it has to be copied.
   */
  shareValue(id: number, { valueOffset, valueLength }: Entry): SharedValue | null {
    const row = this.chunks[id >>> CHUNK_BITS];
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

  /** Length of the entry's value in bytes. */
  valueLengthOf(id: number): number {
    return this.rows.isPacked(id) ? ONE_PART_BYTES : this.rows.valueWordOf(id);
  }

  /** Unix milliseconds at which the entry expires, 0 for never. */
  expiresAtMs(id: number): number {
    const row = this.chunks[id >>> CHUNK_BITS];
    const at = (id & CHUNK_MASK) * ROW_WORDS;
    if ((row[at + FACTS] & HAS_EXPIRY) === 0) return 0;
    const reference = referenceAt(row, at);
    const words = this.arena.words[slabOf(reference)];
    const before = row[at + FACTS] & (HAS_LONG_KEY | HAS_ORIGIN);
    const word = (offsetOf(reference) + keyOffset(before)) >>> 2;
    return words[word] * 0x1_0000_0000 + words[word + 1];
  }

  /**
   * Loads the beginnings of the slots of the first `count` of several entries, 64 at most, of which
   * those below 0 are none, and their ends where those are near. Where they are is found out first:
   * the less there is between two loads, the more of them are under way at once. Returns a number
   * of no meaning.
   */
  touchSlots(ids: Int32Array, count: number): number {
    const { chunks, places } = this;
    const { words } = this.arena;
    let end = 0;
    for (let i = 0; i < count; i++) {
      const id = ids[i];
      if (id < 0) continue;
      const row = chunks[id >>> CHUNK_BITS];
      const at = (id & CHUNK_MASK) * ROW_WORDS;
      const reference = referenceAt(row, at);
      const facts = row[at + FACTS];
      const bytes = (facts & SHORT_KEY_MASK) + (facts & IS_PACKED ? 1 : row[at + VALUE]);
      const word = offsetOf(reference) >>> 2;
      places[end] = slabOf(reference);
      places[end + 1] = word;
      places[end + 2] = word + ((Math.min(bytes, TOUCHED_BYTES) - 1) >>> 2);
      end += 3;
    }
    let sum = 0;
    for (let i = 0; i < end; i += 3) {
      const slab = words[places[i]];
      sum ^= slab[places[i + 1]] ^ slab[places[i + 2]];
    }
    return sum;
  }

  /** Drops every entry; its memory becomes `leftovers`. */
  clear(leftovers: Leftovers): void {
    this.arena.clear(leftovers);
    this.rows.clear(leftovers);
    this.origins.clear();
    this.compactor.restart();
  }

  /** The memory that entries lie in, while it may change. */
  *blocks(): Generator<Uint8Array | Uint32Array> {
    yield* this.chunks;
    yield* this.arena.bytes;
  }

  /** Memory used, in bytes. */
  bytes(): number {
    return this.arena.bytesReserved + this.rows.bytes();
  }

  /** Throws unless the invariants hold, of all parts too; for tests. */
  verify(): void {
    const { arena, rows } = this;
    rows.verify();
    const slots = new Set<number>();
    for (let id = 0; id < rows.idLimit; id++) {
      if (!rows.isUsed(id)) continue;
      const row = this.chunks[id >>> CHUNK_BITS];
      const at = (id & CHUNK_MASK) * ROW_WORDS;
      const reference = referenceAt(row, at);
      if (slots.has(reference)) throw new Error(`entry table: row ${id} has another's slot`);
      if (slotBytes(row, at, arena) > arena.capacityOf(reference)) {
        throw new Error(`entry table: row ${id} is larger than its slot`);
      }
      slots.add(reference);
    }
    arena.verify(slots);
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

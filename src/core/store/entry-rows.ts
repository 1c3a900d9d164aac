/**
 * The rows of entries (`entry-layout.ts`), in chunks. A row's number is the entry's id. It stays
 * the same while the entry exists, however often the value moves, so index, order and Merkle tree
 * all hold plain ids. Rows not in use are linked through word 0.
 */
import type { Leftovers } from "./leftovers.ts";
import {
  FACTS,
  FREE,
  HASH,
  HAS_EXPIRY,
  IS_OVER,
  IS_PACKED,
  KIND_MASK,
  KIND_SHIFT,
  ROW_WORDS,
  VALUE,
} from "./entry-layout.ts";
import type { Kind } from "../data/entry.ts";
import { MAX_IDS } from "./hash-index.ts";

/**
 * The row of an id is in chunk `id >>> CHUNK_BITS`, where it begins at
 * `(id & CHUNK_MASK) * ROW_WORDS`. That is written out in each place: a call for it would be one
 * too deep to be compiled into a lookup.
 */
export const CHUNK_BITS = 15;
const CHUNK_ROWS = 1 << CHUNK_BITS;
/** See CHUNK_BITS. */
export const CHUNK_MASK = CHUNK_ROWS - 1;
const CHUNK_BYTES = CHUNK_ROWS * ROW_WORDS * 4;
const NO_ROW = 0xffff_ffff;

/** Rows by id, and what can be told of an entry by its row alone. */
export class EntryRows {
  /** One more than the highest id ever used: the range to walk. */
  idLimit = 0;
  /** Rows in use. */
  count = 0;
  /** The rows. It stays the same array. */
  readonly chunks: Uint32Array[] = [];
  private freeRow = NO_ROW;

  /**
   * The id that `take` will take, for which there is a row then; -1 when there is none, or a chunk
   * would be needed and there are no `roomBytes` for it.
   */
  next(roomBytes: number): number {
    if (this.freeRow !== NO_ROW) return this.freeRow;
    const id = this.idLimit;
    if (id >= MAX_IDS) return -1;
    if (id >>> CHUNK_BITS >= this.chunks.length) {
      if (CHUNK_BYTES > roomBytes) return -1;
      this.chunks.push(new Uint32Array(CHUNK_ROWS * ROW_WORDS));
    }
    return id;
  }

  /** Takes the row that `next` named into use. */
  take(id: number): void {
    if (id === this.freeRow)
      this.freeRow = this.chunks[id >>> CHUNK_BITS][(id & CHUNK_MASK) * ROW_WORDS];
    else this.idLimit = id + 1;
    this.count++;
  }

  /** Gives a row back. */
  release(id: number): void {
    const row = this.chunks[id >>> CHUNK_BITS];
    const at = (id & CHUNK_MASK) * ROW_WORDS;
    row[at] = this.freeRow;
    row[at + FACTS] = FREE;
    this.freeRow = id;
    this.count--;
  }

  /** Whether the id names an entry now. */
  isUsed(id: number): boolean {
    return id < this.idLimit && (this.factsOf(id) & FREE) !== FREE;
  }

  /** The entry's facts (see `entry-layout.ts`). */
  factsOf(id: number): number {
    return this.chunks[id >>> CHUNK_BITS][(id & CHUNK_MASK) * ROW_WORDS + FACTS];
  }

  /** The entry's kind. */
  kindOf(id: number): Kind {
    return ((this.factsOf(id) >>> KIND_SHIFT) & KIND_MASK) as Kind;
  }

  /** Whether the entry is a counter that lies packed: only one origin has added to it. */
  isPacked(id: number): boolean {
    return (this.factsOf(id) & IS_PACKED) !== 0;
  }

  /** Whether it is one that has no expiry time. */
  isLastingPacked(id: number): boolean {
    return (this.factsOf(id) & (IS_PACKED | HAS_EXPIRY)) === IS_PACKED;
  }

  /** Whether the entry has an expiry time. */
  hasExpiry(id: number): boolean {
    return (this.factsOf(id) & HAS_EXPIRY) !== 0;
  }

  /** Whether it was marked as one whose time is over. */
  isOver(id: number): boolean {
    return (this.factsOf(id) & IS_OVER) !== 0;
  }

  /** Marks it so, or not; replacing an entry takes the mark off. */
  setOver(id: number, isOver: boolean): void {
    const row = this.chunks[id >>> CHUNK_BITS];
    const at = (id & CHUNK_MASK) * ROW_WORDS + FACTS;
    if (isOver) row[at] |= IS_OVER;
    else row[at] &= ~IS_OVER;
  }

  /** Length of the value in bytes, or of a packed counter the lower half of its total. */
  valueWordOf(id: number): number {
    return this.chunks[id >>> CHUNK_BITS][(id & CHUNK_MASK) * ROW_WORDS + VALUE];
  }

  /** The hash the entry was created with. */
  hashOf(id: number): number {
    return this.chunks[id >>> CHUNK_BITS][(id & CHUNK_MASK) * ROW_WORDS + HASH];
  }

  /** Loads the row into the processor's caches. Returns a number of no meaning. */
  touch(id: number): number {
    const row = this.chunks[id >>> CHUNK_BITS];
    const at = (id & CHUNK_MASK) * ROW_WORDS;
    return row[at] ^ row[at + VALUE];
  }

  /** Drops all rows; their memory becomes `leftovers`. */
  clear(leftovers: Leftovers): void {
    for (const chunk of this.chunks) leftovers.add(chunk);
    this.chunks.length = 0;
    this.freeRow = NO_ROW;
    this.idLimit = 0;
    this.count = 0;
  }

  /** Memory used, in bytes. */
  bytes(): number {
    return this.chunks.length * CHUNK_BYTES;
  }

  /** Throws unless each row is in use or free, and counted right; for tests. */
  verify(): void {
    const free = new Set<number>();
    for (
      let id = this.freeRow;
      id !== NO_ROW;
      id = this.chunks[id >>> CHUNK_BITS][(id & CHUNK_MASK) * ROW_WORDS]
    ) {
      if (id >= this.idLimit || free.has(id) || this.isUsed(id)) {
        throw new Error(`entry rows: the list of free rows is broken at ${id}`);
      }
      free.add(id);
    }
    for (let id = 0; id < this.idLimit; id++) {
      if (!this.isUsed(id) && !free.has(id)) throw new Error(`entry rows: free row ${id} is lost`);
    }
    const used = this.idLimit - free.size;
    if (used !== this.count) throw new Error(`entry rows: ${used} rows, not ${this.count}`);
  }
}

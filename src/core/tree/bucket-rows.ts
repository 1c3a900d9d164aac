/**
 * What the buckets hold of each entry: its digest of 128 bits, and the next entry in its chain. The
 * two lie side by side, so walking a chain costs one cache miss an entry.
 */
import { END, UNLINKED } from "./bucket-division.ts";
import type { Leftovers } from "../store/leftovers.ts";
import { DIGEST_WORDS, type DigestList } from "./digest-list.ts";

const CHUNK_SHIFT = 15;
const CHUNK_IDS = 1 << CHUNK_SHIFT;
const CHUNK_MASK = CHUNK_IDS - 1;
const FIRST_IDS = 256;

const ROW_WORDS = DIGEST_WORDS + 1;
const NEXT = DIGEST_WORDS;

/** Rows by id, in chunks. A chain begins in a cell of the bucket or division that it belongs to. */
export class BucketRows {
  /** Five words an id: its digest, and the next in its chain. */
  private rows: Uint32Array[] = [];
  private buckets: Uint16Array[] = [];
  /** Of no meaning, but written, so that no load is optimised away. */
  private touched = 0;

  /** Whether an entry is in a chain. */
  has(id: number): boolean {
    const chunk = id >>> CHUNK_SHIFT;
    if (chunk >= this.rows.length || (id & CHUNK_MASK) >= this.buckets[chunk].length) return false;
    return this.nextOf(id) !== UNLINKED;
  }

  /** The bucket that was set for an entry. */
  bucketOf(id: number): number {
    return this.buckets[id >>> CHUNK_SHIFT][id & CHUNK_MASK];
  }

  /** Sets an entry's bucket, the first thing to be done with it. */
  setBucket(id: number, bucket: number): void {
    const chunk = id >>> CHUNK_SHIFT;
    const at = id & CHUNK_MASK;
    while (chunk >= this.rows.length) {
      this.rows.push(new Uint32Array(0));
      this.buckets.push(new Uint16Array(0));
    }
    if (at >= this.buckets[chunk].length) this.enlarge(chunk, at + 1);
    this.buckets[chunk][at] = bucket;
  }

  /** Small stores are many, so the first chunk begins small and doubles; the others are whole. */
  private enlarge(chunk: number, needed: number): void {
    const [rows, buckets] = [this.rows[chunk], this.buckets[chunk]];
    const wanted = chunk > 0 ? CHUNK_IDS : Math.max(FIRST_IDS, needed, 2 * buckets.length);
    const ids = Math.min(CHUNK_IDS, wanted);
    this.rows[chunk] = new Uint32Array(ids * ROW_WORDS).fill(UNLINKED, rows.length);
    this.rows[chunk].set(rows);
    this.buckets[chunk] = new Uint16Array(ids);
    this.buckets[chunk].set(buckets);
  }

  /** The memory of the rows. */
  blocks(): readonly Uint32Array[] {
    return this.rows;
  }

  /** The next in the chain of an entry, or END. */
  nextOf(id: number): number {
    return this.rows[id >>> CHUNK_SHIFT][(id & CHUNK_MASK) * ROW_WORDS + NEXT];
  }

  /**
   * Loads an entry's row into the processor's caches, of which it may be in two lines. Returns the
   * next in its chain.
   */
  touch(id: number): number {
    const rows = this.rows[id >>> CHUNK_SHIFT];
    const row = (id & CHUNK_MASK) * ROW_WORDS;
    this.touched ^= rows[row];
    return rows[row + NEXT];
  }

  /** Puts an entry at the head of the chain in a cell. */
  push(cells: Uint32Array, index: number, id: number): void {
    this.setNext(id, cells[index]);
    cells[index] = id;
  }

  /** Removes an entry from the chain in a cell. */
  unlink(cells: Uint32Array, index: number, id: number): void {
    const next = this.nextOf(id);
    let before = cells[index];
    if (before === id) cells[index] = next;
    else {
      while (this.nextOf(before) !== id) before = this.nextOf(before);
      this.setNext(before, next);
    }
    this.setNext(id, UNLINKED);
  }

  /** Sets an entry's digest, at `at` in `words`. False when it is the same as before. */
  setDigest(id: number, words: Uint32Array, at: number): boolean {
    const rows = this.rows[id >>> CHUNK_SHIFT];
    const row = (id & CHUNK_MASK) * ROW_WORDS;
    let isSame = true;
    for (let i = 0; i < DIGEST_WORDS; i++) {
      if (rows[row + i] === words[at + i]) continue;
      rows[row + i] = words[at + i];
      isSame = false;
    }
    return !isSame;
  }

  /** Writes an entry's digest to `at` in `out`. */
  copyDigest(id: number, out: Uint32Array, at: number): void {
    const rows = this.rows[id >>> CHUNK_SHIFT];
    const row = (id & CHUNK_MASK) * ROW_WORDS;
    for (let i = 0; i < DIGEST_WORDS; i++) out[at + i] = rows[row + i];
  }

  /** Appends an entry's digest to a list. */
  list(id: number, into: DigestList): void {
    into.add(this.rows[id >>> CHUNK_SHIFT], (id & CHUNK_MASK) * ROW_WORDS);
  }

  /** Appends the digests of a chain, from its first entry on. */
  listChain(first: number, into: DigestList): void {
    for (let id = first; id !== END;) {
      const rows = this.rows[id >>> CHUNK_SHIFT];
      const row = (id & CHUNK_MASK) * ROW_WORDS;
      into.add(rows, row);
      id = rows[row + NEXT];
    }
  }

  /** Every id in a chain is below this. */
  get idLimit(): number {
    return this.rows.length * CHUNK_IDS;
  }

  /** Forgets all; the memory becomes `leftovers`. */
  clear(leftovers: Leftovers): void {
    for (const part of [this.rows, this.buckets]) for (const chunk of part) leftovers.add(chunk);
    this.rows = [];
    this.buckets = [];
  }

  /** Memory held, in bytes. */
  bytes(): number {
    let ids = 0;
    for (const { length } of this.buckets) ids += length;
    return ids * (ROW_WORDS * 4 + 2);
  }

  private setNext(id: number, next: number): void {
    this.rows[id >>> CHUNK_SHIFT][(id & CHUNK_MASK) * ROW_WORDS + NEXT] = next;
  }
}

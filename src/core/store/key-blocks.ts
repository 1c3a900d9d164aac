/**
 * The nodes of the block skip list: sorted blocks of up to 256 entry ids, held in
 * typed arrays that grow by chunks of 256 blocks.
 *
 * What a search costs is cache misses on keys scattered over the arena, so a block
 * keeps enough of its keys to hardly ever look at one:
 *
 * - its separator, the first 32 bytes of its first key, so that the way to the
 *   block compares words which lie side by side;
 * - a word beside each id: four key bytes, after a prefix that the whole block
 *   shares. Words never contradict the order of the keys; where some are equal, and
 *   only there, keys are looked at. As a block's range narrows, its prefix grows;
 *   the words follow when that gains two bytes, since it takes a look at every key.
 *
 * Invariants of a block that holds ids:
 * - the ids ascend strictly by key;
 * - the separator is exactly the first key's first 32 bytes, padded with zeros;
 * - all keys share their first SKIP bytes (so padded) with the first;
 * - each word is `prefix32` of its key from SKIP on.
 */

import { release } from "../bytes.ts";
import type { Leftovers } from "./leftovers.ts";
import { KeySlice, PROBE_WORDS } from "./key-order.ts";
import type { KeyProbe, KeySource } from "./key-order.ts";
import type { KeyWindow } from "./key-sort.ts";

/** How many ids a block can hold. */
export const BLOCK_IDS = 256;
/** The highest tower: enough for 4^10 blocks. */
export const MAX_LEVELS = 10;
/** In place of a block's number: there is none. It is also the head's, which follows nothing. */
export const NONE = 0;

const CHUNK_BLOCKS = 256;
/** So many free blocks are kept, so that no chunk comes and goes all the time. */
const SPARE_BLOCKS = 128;

// A block's header, in 32-bit words.
const HEADER_WORDS = 22;
const COUNT = 0;
const PREVIOUS = 1;
const LEVELS = 2;
const SKIP = 3;
const SEPARATOR = 4;
const NEXT = SEPARATOR + PROBE_WORDS;

/**
 * No longer prefix is skipped; it also ends the comparison of keys that differ by zeros at the end
 * only.
 */
const MAX_SKIP = 64;
/** Words are made anew when the shared prefix has grown by so many bytes. */
const SKIP_GAIN = 2;

/** A pool of blocks, named by small integers. */
export class KeyBlocks {
  private readonly headers: Int32Array[] = [];
  private readonly ids: Uint32Array[] = [];
  private readonly words: Int32Array[] = [];
  /** By chunk: how many of its blocks are free, and the first; others follow by their NEXT. */
  private readonly freeCounts: number[] = [];
  private readonly firstFree: number[] = [];
  private freeTotal = 0;
  /** Every chunk before this one is in use as a whole. */
  private firstWithFree = 0;
  /** Chunks that had no block in use; some may have one again. */
  private readonly emptied: number[] = [];
  /** Chunks that have no memory. */
  private readonly vacant: number[] = [];
  /** The probe's word in the block that `lowerBound` searched last. */
  private word = 0;
  /** Whether the probe's key shares that block's prefix. */
  private shares = false;

  constructor(
    private readonly keys: KeySource,
    private readonly probe: KeyProbe,
  ) {}

  /** An empty block, linked to nothing, with a tower of so many levels. The first is block 0. */
  allocate(levels: number): number {
    if (this.freeTotal === 0) this.addChunk();
    while (this.freeCounts[this.firstWithFree] === 0) this.firstWithFree++;
    const chunk = this.firstWithFree;
    const block = this.firstFree[chunk];
    this.firstFree[chunk] = this.next(block, 0);
    this.freeCounts[chunk]--;
    this.freeTotal--;
    const at = (block & 255) * HEADER_WORDS;
    this.headers[block >>> 8].fill(0, at, at + HEADER_WORDS);
    this.headers[block >>> 8][at + LEVELS] = levels;
    return block;
  }

  /** Gives a block back. Its ids stay readable until the next `allocate` or `trim`. */
  release(block: number): void {
    const chunk = block >>> 8;
    this.setNext(block, 0, this.firstFree[chunk]);
    this.firstFree[chunk] = block;
    this.freeTotal++;
    this.firstWithFree = Math.min(this.firstWithFree, chunk);
    if (++this.freeCounts[chunk] < CHUNK_BLOCKS || this.emptied.includes(chunk)) return;
    this.emptied.push(chunk);
  }

  /** Nothing is used any more: all memory becomes `leftovers`. */
  leave(leftovers: Leftovers): void {
    for (const part of [this.headers, this.ids, this.words]) {
      for (const chunk of part) if (chunk.length > 0) leftovers.add(chunk);
    }
  }

  /** Lets go of the memory of chunks of which no block is in use, but for what is soon needed. */
  trim(): void {
    const { emptied, freeCounts } = this;
    while (emptied.length > 0 && this.freeTotal >= CHUNK_BLOCKS + SPARE_BLOCKS) {
      const chunk = emptied.pop()!;
      if (freeCounts[chunk] !== CHUNK_BLOCKS) continue;
      for (const part of [this.headers, this.ids, this.words]) release(part[chunk]);
      this.headers[chunk] = this.words[chunk] = NO_WORDS;
      this.ids[chunk] = NO_IDS;
      freeCounts[chunk] = 0;
      this.freeTotal -= CHUNK_BLOCKS;
      this.vacant.push(chunk);
    }
  }

  private addChunk(): void {
    const chunk = this.vacant.pop() ?? this.headers.length;
    this.headers[chunk] = new Int32Array(CHUNK_BLOCKS * HEADER_WORDS);
    this.ids[chunk] = new Uint32Array(CHUNK_BLOCKS * BLOCK_IDS);
    this.words[chunk] = new Int32Array(CHUNK_BLOCKS * BLOCK_IDS);
    const first = chunk * CHUNK_BLOCKS;
    for (let i = 0; i < CHUNK_BLOCKS; i++) this.setNext(first + i, 0, first + i + 1);
    this.firstFree[chunk] = first;
    this.freeCounts[chunk] = this.freeTotal = CHUNK_BLOCKS;
    this.firstWithFree = chunk;
  }

  /** Memory held, in bytes. */
  bytes(): number {
    return (
      (this.headers.length - this.vacant.length) * CHUNK_BLOCKS * (HEADER_WORDS * 4 + BLOCK_IDS * 8)
    );
  }

  // Links and plain facts.

  count(block: number): number {
    return this.headers[block >>> 8][(block & 255) * HEADER_WORDS + COUNT];
  }

  levels(block: number): number {
    return this.headers[block >>> 8][(block & 255) * HEADER_WORDS + LEVELS];
  }

  next(block: number, level: number): number {
    return this.headers[block >>> 8][(block & 255) * HEADER_WORDS + NEXT + level];
  }

  setNext(block: number, level: number, next: number): void {
    this.headers[block >>> 8][(block & 255) * HEADER_WORDS + NEXT + level] = next;
  }

  previous(block: number): number {
    return this.headers[block >>> 8][(block & 255) * HEADER_WORDS + PREVIOUS];
  }

  setPrevious(block: number, previous: number): void {
    this.headers[block >>> 8][(block & 255) * HEADER_WORDS + PREVIOUS] = previous;
  }

  idAt(block: number, index: number): number {
    return this.ids[block >>> 8][(block & 255) * BLOCK_IDS + index];
  }

  /** The index of an id in a block, or -1. */
  indexOf(block: number, id: number): number {
    const ids = this.ids[block >>> 8];
    const start = (block & 255) * BLOCK_IDS;
    const end = start + this.count(block);
    for (let i = start; i < end; i++) if (ids[i] === id) return i - start;
    return -1;
  }

  // Searching for the probe's key.

  /** Order of the probe's key against the first key of a block. */
  compareSeparator(block: number): number {
    const header = this.headers[block >>> 8];
    const at = (block & 255) * HEADER_WORDS + SEPARATOR;
    const words = this.probe.words;
    for (let i = 0; i < PROBE_WORDS; i++) {
      const theirs = header[at + i];
      const ours = words[i];
      if (ours !== theirs) return ours < theirs ? -1 : 1;
    }
    return this.probe.compareTo(this.idAt(block, 0));
  }

  /** The index of the first id in a block whose key is at or after the probe's. */
  lowerBound(block: number): number {
    const header = this.headers[block >>> 8];
    const at = (block & 255) * HEADER_WORDS;
    const count = header[at + COUNT];
    const skip = header[at + SKIP];
    this.shares = count > 0 && this.sharedBytes(block, skip) >= skip;
    if (count === 0) return 0;
    if (!this.shares) return this.compareSeparator(block) < 0 ? 0 : count;

    const word = this.probe.prefix32(skip);
    this.word = word;
    const words = this.words[block >>> 8];
    const start = (block & 255) * BLOCK_IDS;
    let low = start;
    let high = start + count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (words[middle] < word) low = middle + 1;
      else high = middle;
    }
    let end = low;
    while (end < start + count && words[end] === word) end++;
    const ids = this.ids[block >>> 8];
    while (low < end) {
      const middle = (low + end) >>> 1;
      if (this.probe.compareTo(ids[middle]) > 0) low = middle + 1;
      else end = middle;
    }
    return low - start;
  }

  /** How many bytes the probe's key shares with a block's first key, counted up to `enough`. */
  private sharedBytes(block: number, enough: number): number {
    const header = this.headers[block >>> 8];
    const at = (block & 255) * HEADER_WORDS + SEPARATOR;
    const words = this.probe.words;
    for (let i = 0; i < PROBE_WORDS; i++) {
      const difference = header[at + i] ^ words[i];
      if (difference !== 0) return i * 4 + (Math.clz32(difference) >>> 3);
    }
    const first = this.idAt(block, 0);
    for (let skip = PROBE_WORDS * 4; skip < enough; skip += 4) {
      const difference = this.keys.prefix32(first, skip) ^ this.probe.prefix32(skip);
      if (difference !== 0) return skip + (Math.clz32(difference) >>> 3);
    }
    return enough;
  }

  // Changing.

  /** Inserts an id, whose key is the probe's, where `lowerBound` just said. There must be room. */
  insertAt(block: number, index: number, id: number): void {
    const header = this.headers[block >>> 8];
    const at = (block & 255) * HEADER_WORDS;
    const count = header[at + COUNT];
    const ids = this.ids[block >>> 8];
    const words = this.words[block >>> 8];
    const start = (block & 255) * BLOCK_IDS;
    if (index < count) {
      ids.copyWithin(start + index + 1, start + index, start + count);
      words.copyWithin(start + index + 1, start + index, start + count);
    }
    ids[start + index] = id;
    words[start + index] = this.word;
    header[at + COUNT] = count + 1;
    if (index === 0) this.setSeparator(block);
    if (!this.shares) this.setWords(block);
    // A block that grows from small began with a guess at its prefix.
    else if (count < BLOCK_IDS / 2 && (count & (count + 1)) === 0) this.refineWords(block);
  }

  /**
   * Puts ids, which ascend by key, into an empty block. `window` is what is known of their keys,
   * which begins with that of number `from`.
   */
  fill(block: number, ids: Uint32Array, window: KeyWindow | null, from: number): void {
    const start = (block & 255) * BLOCK_IDS;
    this.ids[block >>> 8].set(ids, start);
    this.setCount(block, ids.length);
    this.setSeparator(block);
    const shift = window === null ? -1 : (this.commonBytes(block) - window.skip) * 8;
    if (window === null || shift < 0 || shift > 32) return this.setWords(block);
    this.headers[block >>> 8][(block & 255) * HEADER_WORDS + SKIP] = window.skip + shift / 8;
    const words = this.words[block >>> 8];
    for (let i = 0; i < ids.length; i++) {
      words[start + i] = wordWithin(window.high[from + i], window.low[from + i], shift);
    }
  }

  /** Takes the id at an index out of a block. */
  removeAt(block: number, index: number): void {
    const start = (block & 255) * BLOCK_IDS;
    const end = start + this.count(block);
    this.ids[block >>> 8].copyWithin(start + index, start + index + 1, end);
    this.words[block >>> 8].copyWithin(start + index, start + index + 1, end);
    this.setCount(block, end - start - 1);
    if (index === 0 && end - start > 1) this.setSeparator(block);
  }

  /** Moves the ids of a block from an index on to the end of another, which sort before them. */
  move(from: number, index: number, to: number): void {
    const start = (from & 255) * BLOCK_IDS;
    const end = start + this.count(from);
    const kept = this.count(to);
    const into = (to & 255) * BLOCK_IDS + kept;
    this.ids[to >>> 8].set(this.ids[from >>> 8].subarray(start + index, end), into);
    this.words[to >>> 8].set(this.words[from >>> 8].subarray(start + index, end), into);
    this.setCount(from, index);
    this.setCount(to, kept + end - start - index);
    if (end === start + index) return;
    if (kept === 0) {
      this.headers[to >>> 8][(to & 255) * HEADER_WORDS + SKIP] =
        this.headers[from >>> 8][(from & 255) * HEADER_WORDS + SKIP];
      this.setSeparator(to);
      this.refineWords(to);
    } else {
      this.setWords(to);
    }
    if (index > 0) this.refineWords(from);
  }

  /** Throws unless the invariants of a block hold; for tests. */
  verify(block: number): void {
    const at = (block & 255) * HEADER_WORDS;
    const header = this.headers[block >>> 8];
    const words = this.words[block >>> 8];
    const skip = header[at + SKIP];
    const first = this.idAt(block, 0);
    const key = new KeySlice();
    for (let index = 0; index < this.count(block); index++) {
      const id = this.idAt(block, index);
      if (words[(block & 255) * BLOCK_IDS + index] !== this.keys.prefix32(id, skip)) {
        throw new Error(`key blocks: the word of entry ${id} is not that of its key`);
      }
      for (let byte = 0; byte < skip; byte++) {
        if ((this.keys.prefix32(id, byte) ^ this.keys.prefix32(first, byte)) >>> 24 !== 0) {
          throw new Error(`key blocks: entry ${id} does not share the prefix of block ${block}`);
        }
      }
      if (index === 0) continue;
      this.keys.locateKey(id, key);
      if (
        this.keys.compareToKey(this.idAt(block, index - 1), key.bytes, key.offset, key.length) >= 0
      )
        throw new Error(`key blocks: entry ${id} is out of order`);
    }
    for (let i = 0; i < PROBE_WORDS && this.count(block) > 0; i++) {
      if (header[at + SEPARATOR + i] !== this.keys.prefix32(first, i * 4)) {
        throw new Error(`key blocks: the separator of block ${block} is not its first key`);
      }
    }
  }

  private setCount(block: number, count: number): void {
    this.headers[block >>> 8][(block & 255) * HEADER_WORDS + COUNT] = count;
  }

  private setSeparator(block: number): void {
    const header = this.headers[block >>> 8];
    const at = (block & 255) * HEADER_WORDS + SEPARATOR;
    const first = this.idAt(block, 0);
    for (let i = 0; i < PROBE_WORDS; i++) header[at + i] = this.keys.prefix32(first, i * 4);
  }

  /** Makes the words anew if the prefix that a block's keys share has grown enough. */
  private refineWords(block: number): void {
    const skip = this.headers[block >>> 8][(block & 255) * HEADER_WORDS + SKIP];
    if (this.commonBytes(block) >= skip + SKIP_GAIN) this.setWords(block);
  }

  private setWords(block: number): void {
    const { keys } = this;
    const skip = this.commonBytes(block);
    this.headers[block >>> 8][(block & 255) * HEADER_WORDS + SKIP] = skip;
    const ids = this.ids[block >>> 8];
    const words = this.words[block >>> 8];
    const start = (block & 255) * BLOCK_IDS;
    const end = start + this.count(block);
    for (let i = start; i < end; i++) words[i] = keys.prefix32(ids[i], skip);
  }

  /** Length of the prefix that all keys of a block share, padded with zeros, up to MAX_SKIP. */
  private commonBytes(block: number): number {
    const { keys } = this;
    const first = this.idAt(block, 0);
    const last = this.idAt(block, this.count(block) - 1);
    for (let skip = 0; skip < MAX_SKIP; skip += 4) {
      const difference = keys.prefix32(first, skip) ^ keys.prefix32(last, skip);
      if (difference !== 0) return skip + (Math.clz32(difference) >>> 3);
    }
    return MAX_SKIP;
  }
}

const NO_WORDS = new Int32Array(0);
const NO_IDS = new Uint32Array(0);

/** Four of the eight bytes of a window, from so many bits on, as `prefix32` has them. */
function wordWithin(high: number, low: number, shift: number): number {
  if (shift === 0) return high ^ 0x8000_0000;
  if (shift === 32) return low ^ 0x8000_0000;
  return ((high << shift) | (low >>> (32 - shift))) ^ 0x8000_0000;
}

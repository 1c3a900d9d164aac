/**
 * The nodes of the block skip list: sorted blocks of up to 256 entry ids, held in
 * typed arrays that grow by chunks of 256 blocks.
 *
 * What a search costs is cache misses on keys scattered over the arena, so a block
 * keeps enough of its keys to hardly ever look at one:
 *
 * - its separator, the first 32 bytes of its first key, so that the way to the
 *   block compares words which lie side by side;
 * - a 16-bit hint beside each id: the four key bytes after the prefix that the
 *   whole block shares, scaled linearly onto the block's range and clamped. Hints
 *   never contradict the order of the keys, they only leave ties: some one to four
 *   ids, whose next key bytes are then read all at once instead of one by one.
 *
 * Invariants of a block that holds ids:
 * - the ids ascend strictly by key;
 * - the separator is exactly the first key's first 32 bytes, padded with zeros;
 * - all keys share their first SKIP bytes (so padded) with the first;
 * - hints never decrease, and each is `scaled` from its key by BASE and SHIFT.
 */

import { PROBE_WORDS } from "./key-order.ts";
import type { KeyProbe, KeySource } from "./key-order.ts";

/** How many ids a block can hold. */
export const BLOCK_IDS = 256;
/** The highest tower: enough for 4^10 blocks. */
export const MAX_LEVELS = 10;
/** In place of a block's number: there is none. It is also the head's, which follows nothing. */
export const NONE = 0;

const CHUNK_BLOCKS = 256;

// A block's header, in 32-bit words.
const HEADER_WORDS = 24;
const COUNT = 0;
const PREVIOUS = 1;
const LEVELS = 2;
const SKIP = 3;
const BASE = 4;
const SHIFT = 5;
const SEPARATOR = 6;
const NEXT = SEPARATOR + PROBE_WORDS;

const MAX_HINT = 0xffff;
/** Up to so many ties are read at once; more are halved first. */
const SCANNED_TIES = 8;

/** A pool of blocks, named by small integers. */
export class KeyBlocks {
  private readonly headers: Int32Array[] = [];
  private readonly ids: Uint32Array[] = [];
  private readonly hints: Uint16Array[] = [];
  /** Blocks ever handed out; those not in use are linked from `free` by their NEXT. */
  private used = 0;
  private free = NONE;
  /** What `lowerBound` found to be the key's hint; -1 if it does not share the block's prefix. */
  private hint = -1;

  constructor(
    private readonly keys: KeySource,
    private readonly probe: KeyProbe,
  ) {}

  /** An empty block, linked to nothing, with a tower of so many levels. The first is block 0. */
  allocate(levels: number): number {
    let block = this.free;
    if (block !== NONE) this.free = this.next(block, 0);
    else {
      block = this.used++;
      if (block % CHUNK_BLOCKS === 0) {
        this.headers.push(new Int32Array(CHUNK_BLOCKS * HEADER_WORDS));
        this.ids.push(new Uint32Array(CHUNK_BLOCKS * BLOCK_IDS));
        this.hints.push(new Uint16Array(CHUNK_BLOCKS * BLOCK_IDS));
      }
    }
    const at = (block & 255) * HEADER_WORDS;
    this.headers[block >>> 8].fill(0, at, at + HEADER_WORDS);
    this.headers[block >>> 8][at + LEVELS] = levels;
    return block;
  }

  /** Gives a block back. Its ids stay readable until the next `allocate`. */
  release(block: number): void {
    this.setNext(block, 0, this.free);
    this.free = block;
  }

  /** Memory held, in bytes. */
  bytes(): number {
    return this.headers.length * CHUNK_BLOCKS * (HEADER_WORDS * 4 + BLOCK_IDS * 6);
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
    this.hint = -1;
    if (count === 0) return 0;
    const skip = header[at + SKIP];
    if (this.sharedBytes(block, skip) < skip) return this.compareSeparator(block) < 0 ? 0 : count;

    const word = this.probe.prefix32(skip);
    const hint = scaled(word, header[at + BASE], header[at + SHIFT]);
    this.hint = hint;
    const hints = this.hints[block >>> 8];
    const start = (block & 255) * BLOCK_IDS;
    let low = start;
    let high = start + count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (hints[middle] < hint) low = middle + 1;
      else high = middle;
    }
    let end = low;
    while (end < start + count && hints[end] === hint) end++;
    return this.lowerBoundOfTies(this.ids[block >>> 8], low, end, skip, word) - start;
  }

  private lowerBoundOfTies(
    ids: Uint32Array,
    low: number,
    end: number,
    skip: number,
    word: number,
  ): number {
    if (end - low <= SCANNED_TIES) {
      // Without branches, so that the processor fetches all these keys together.
      let below = 0;
      let same = 0;
      for (let i = low; i < end; i++) {
        const theirs = this.keys.prefix32(ids[i], skip);
        below += theirs < word ? 1 : 0;
        same += theirs === word ? 1 : 0;
      }
      low += below;
      end = low + same;
    }
    while (low < end) {
      const middle = (low + end) >>> 1;
      if (this.probe.compareTo(ids[middle]) > 0) low = middle + 1;
      else end = middle;
    }
    return low;
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
    const hints = this.hints[block >>> 8];
    const start = (block & 255) * BLOCK_IDS;
    if (index < count) {
      ids.copyWithin(start + index + 1, start + index, start + count);
      hints.copyWithin(start + index + 1, start + index, start + count);
    }
    ids[start + index] = id;
    hints[start + index] = this.hint;
    header[at + COUNT] = count + 1;
    if (index === 0) this.setSeparator(block);
    // A block that grows from small leaves the range its hints were scaled to.
    const doubled = count < BLOCK_IDS / 2 && (count & (count + 1)) === 0;
    if (this.hint < 0 || doubled) this.setHints(block);
  }

  /** Takes the id at an index out of a block. */
  removeAt(block: number, index: number): void {
    const start = (block & 255) * BLOCK_IDS;
    const end = start + this.count(block);
    this.ids[block >>> 8].copyWithin(start + index, start + index + 1, end);
    this.hints[block >>> 8].copyWithin(start + index, start + index + 1, end);
    this.setCount(block, end - start - 1);
    if (index === 0 && end - start > 1) this.setSeparator(block);
  }

  /** Moves the ids of a block from an index on to the end of another, which sort before them. */
  move(from: number, index: number, to: number): void {
    const start = (from & 255) * BLOCK_IDS;
    const moved = this.ids[from >>> 8].subarray(start + index, start + this.count(from));
    const kept = this.count(to);
    this.ids[to >>> 8].set(moved, (to & 255) * BLOCK_IDS + kept);
    this.setCount(from, index);
    this.setCount(to, kept + moved.length);
    this.describe(from);
    this.describe(to);
  }

  private setCount(block: number, count: number): void {
    this.headers[block >>> 8][(block & 255) * HEADER_WORDS + COUNT] = count;
  }

  private describe(block: number): void {
    if (this.count(block) === 0) return;
    this.setSeparator(block);
    this.setHints(block);
  }

  private setSeparator(block: number): void {
    const header = this.headers[block >>> 8];
    const at = (block & 255) * HEADER_WORDS + SEPARATOR;
    const first = this.idAt(block, 0);
    for (let i = 0; i < PROBE_WORDS; i++) header[at + i] = this.keys.prefix32(first, i * 4);
  }

  /** Finds the prefix that all keys of a block share and scales the hints to what follows it. */
  private setHints(block: number): void {
    const { keys } = this;
    const header = this.headers[block >>> 8];
    const at = (block & 255) * HEADER_WORDS;
    const count = header[at + COUNT];
    const ids = this.ids[block >>> 8];
    const hints = this.hints[block >>> 8];
    const start = (block & 255) * BLOCK_IDS;
    const first = ids[start];
    const last = ids[start + count - 1];
    const skip = count === 1 ? 0 : commonBytes(keys, first, last);
    const base = keys.prefix32(first, skip);
    const range = (keys.prefix32(last, skip) - base) >>> 0;
    const shift = Math.max(0, 16 - Math.clz32(range));
    header[at + SKIP] = skip;
    header[at + BASE] = base;
    header[at + SHIFT] = shift;
    for (let i = start; i < start + count; i++)
      hints[i] = (keys.prefix32(ids[i], skip) - base) >>> shift;
  }
}

/** Length of the common prefix of two different keys, both padded with zeros. */
function commonBytes(keys: KeySource, a: number, b: number): number {
  for (let skip = 0; ; skip += 4) {
    const difference = keys.prefix32(a, skip) ^ keys.prefix32(b, skip);
    if (difference !== 0) return skip + (Math.clz32(difference) >>> 3);
  }
}

/** Where a prefix falls on a block's scale, clamped to its ends. */
function scaled(word: number, base: number, shift: number): number {
  if (word <= base) return 0;
  const hint = (word - base) >>> shift;
  return hint < MAX_HINT ? hint : MAX_HINT;
}

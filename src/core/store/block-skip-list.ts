/**
 * The keys in lexicographic order: a skip list whose nodes are sorted blocks of
 * up to 256 entry ids. It serves prefix scans, ranges and every walk that must be
 * resumable by key. (Pugh, "Skip Lists", 1990, over the blocks of `key-blocks.ts`,
 * which also says how a search avoids looking at keys.)
 *
 * Random inserts leave blocks 70 % full, some 9 bytes a key; ascending or
 * descending ones fill them. No operation takes more than a fraction of a millisecond:
 * the dearest are to split a block, which reads its 256 keys, and to add a chunk.
 *
 * A removal that leaves a block at most half full merges it with a neighbour if both together
 * hold no more than MERGE_IDS ids, so blocks stay 37 % full on average.
 *
 * Invariants:
 * - ids ascend strictly by key, within a block and from block to block;
 * - every block but the head holds at least one id; the head starts every walk and
 *   takes whatever sorts before the second block, so it may be empty;
 * - level l links, in order, exactly the blocks with towers higher than l;
 */

import type { Leftovers } from "./leftovers.ts";
import { BLOCK_IDS, KeyBlocks, MAX_LEVELS, NONE } from "./key-blocks.ts";
import { KeyProbe } from "./key-order.ts";
import type { KeySource } from "./key-order.ts";
import type { KeyWindow } from "./key-sort.ts";
import type { Pieces } from "./pieces.ts";

const HEAD = 0;
/** Neighbours that together hold no more than this are merged. */
const MERGE_IDS = 192;
/** How many blocks are filled in a piece. */
const BLOCKS_A_PIECE = 128;

/** An ordered set of entry ids. */
export class BlockSkipList {
  /** How many ids are in the list. */
  size = 0;

  private blocks: KeyBlocks;
  private readonly probe: KeyProbe;
  /** The height of the highest tower so far. */
  private levels = 1;
  /** The last block before the one looked for, by level (see `findPath`). */
  private readonly path = new Int32Array(MAX_LEVELS);

  /** `random` returns numbers from 0 to below 1 and decides the height of towers. */
  constructor(
    private readonly keys: KeySource,
    private readonly random: () => number,
  ) {
    this.probe = new KeyProbe(keys);
    this.blocks = this.emptyBlocks();
  }

  /** Adds an id. Its key must not be in the list, and must not change while it is. */
  insert(id: number): void {
    const { blocks } = this;
    this.probe.setId(id);
    const block = this.findBlock();
    const index = blocks.lowerBound(block);
    if (blocks.count(block) < BLOCK_IDS) blocks.insertAt(block, index, id);
    else this.insertIntoFull(block, index, id);
    this.size++;
  }

  /** Takes an id out. It must be in the list, with its key still readable. */
  remove(id: number): void {
    const { blocks } = this;
    this.probe.setId(id);
    const block = this.findBlock();
    const index = blocks.indexOf(block, id);
    if (index < 0) throw new Error(`skip list: entry ${id} is not in it`);
    this.size--;
    const left = blocks.count(block) - 1;
    if (left === 0 && block !== HEAD) {
      this.unlink(block);
      return blocks.trim();
    }
    blocks.removeAt(block, index);
    if (left > BLOCK_IDS / 2) return;
    const next = blocks.next(block, 0);
    if (next !== NONE && left + blocks.count(next) <= MERGE_IDS) this.mergeNext(block);
    else if (block !== HEAD) {
      const previous = blocks.previous(block);
      if (blocks.count(previous) + left <= MERGE_IDS) this.mergeNext(previous);
    }
  }

  /**
   * Puts ids, which ascend by key, into an empty list: what inserting them one after the other
   * comes to, in a tenth of the time. `window` is what is known of their keys already. The list
   * must not be used before all is done.
   */
  *fill(ids: Uint32Array, window: KeyWindow | null = null): Pieces<void> {
    if (this.size > 0) throw new Error("skip list: only an empty one can be filled");
    this.path.fill(HEAD);
    for (let from = 0; from < ids.length; from += BLOCK_IDS) {
      const block = from === 0 ? HEAD : this.append();
      this.blocks.fill(block, ids.subarray(from, from + BLOCK_IDS), window, from);
      if (block % BLOCKS_A_PIECE === BLOCKS_A_PIECE - 1) yield;
    }
    this.size = ids.length;
  }

  /** Empties the list; its memory becomes `leftovers`. */
  clear(leftovers: Leftovers): void {
    this.size = 0;
    this.levels = 1;
    this.blocks.leave(leftovers);
    this.blocks = this.emptyBlocks();
  }

  /** Memory held, in bytes. */
  bytes(): number {
    return this.blocks.bytes();
  }

  // Reading in order. A position is a plain number, good for `at` and `next` until
  // the list changes; who reads in slices remembers the last key and seeks again.

  /**
   * The position of the first id whose key is at or after this one, or -1. An empty key is before
   * all.
   */
  seek(key: Uint8Array, offset: number, length: number): number {
    this.probe.setKey(key, offset, length);
    const block = this.findBlock();
    return this.position(block, this.blocks.lowerBound(block));
  }

  /** The position of the first id whose key is after this one, or -1. */
  seekAfter(key: Uint8Array, offset: number, length: number): number {
    const position = this.seek(key, offset, length);
    if (position < 0) return -1;
    const found = this.keys.compareToKey(this.at(position), key, offset, length) === 0;
    return found ? this.next(position) : position;
  }

  /** The id at a position. */
  at(position: number): number {
    return this.blocks.idAt((position / BLOCK_IDS) | 0, position % BLOCK_IDS);
  }

  /** The position after this one, or -1 at the end. */
  next(position: number): number {
    return this.position((position / BLOCK_IDS) | 0, (position % BLOCK_IDS) + 1);
  }

  /**
   * The id that so many sort before, from 0 to below `size`. Goes from block to block: 0.1 ms for
   * a million keys.
   */
  atRank(rank: number): number {
    let block = HEAD;
    for (let left = rank; ; block = this.blocks.next(block, 0)) {
      const count = this.blocks.count(block);
      if (left < count) return this.blocks.idAt(block, left);
      left -= count;
    }
  }

  /** Throws unless the invariants hold; for tests. */
  verify(): void {
    const { blocks } = this;
    const all: number[] = [];
    let size = 0;
    for (let block = HEAD; ; block = blocks.next(block, 0)) {
      blocks.verify(block);
      const count = blocks.count(block);
      if (count === 0 && block !== HEAD) throw new Error(`skip list: block ${block} is empty`);
      size += count;
      if (all.length > 0) this.verifyNeighbours(all.at(-1)!, block);
      all.push(block);
      if (blocks.next(block, 0) === NONE) break;
      if (size > this.size) throw new Error("skip list: the blocks go round");
    }
    if (size !== this.size) throw new Error(`skip list: ${size} ids, not ${this.size}`);
    for (let level = 0; level < MAX_LEVELS; level++) {
      const linked: number[] = [];
      for (let at = HEAD; linked.length <= all.length; at = blocks.next(at, level)) {
        linked.push(at);
        if (blocks.next(at, level) === NONE) break;
      }
      const high = all.filter((block) => blocks.levels(block) > level);
      if (String(linked) !== String(high)) throw new Error(`skip list: level ${level} is broken`);
      if (level >= this.levels && high.length > 1) {
        throw new Error(`skip list: level ${level} is above the highest one looked at`);
      }
    }
  }

  private verifyNeighbours(before: number, block: number): void {
    const { blocks } = this;
    if (blocks.previous(block) !== before) {
      throw new Error(`skip list: block ${block} does not lead back`);
    }
    const count = blocks.count(before);
    if (count > 0) {
      this.probe.setId(blocks.idAt(before, count - 1));
      if (this.probe.compareTo(blocks.idAt(block, 0)) >= 0) {
        throw new Error(`skip list: block ${block} is out of order`);
      }
    }
  }

  private position(block: number, index: number): number {
    if (index < this.blocks.count(block)) return block * BLOCK_IDS + index;
    const next = this.blocks.next(block, 0);
    return next === NONE ? -1 : next * BLOCK_IDS;
  }

  // Finding the probe's key.

  /** The block that holds the key, or would take it. */
  private findBlock(): number {
    const { blocks } = this;
    let block = HEAD;
    let beyond = NONE;
    for (let level = this.levels - 1; level >= 0; level--) {
      for (;;) {
        const next = blocks.next(block, level);
        if (next === beyond) break;
        if (blocks.compareSeparator(next) < 0) {
          beyond = next;
          break;
        }
        block = next;
      }
    }
    return block;
  }

  /**
   * Fills `path` with each level's last block that starts before the key, or also at it if `orAt`.
   */
  private findPath(orAt: boolean): void {
    const { blocks } = this;
    const limit = orAt ? 0 : 1;
    let block = HEAD;
    for (let level = MAX_LEVELS - 1; level >= 0; level--) {
      for (;;) {
        const next = blocks.next(block, level);
        if (next === NONE || blocks.compareSeparator(next) < limit) break;
        block = next;
      }
      this.path[level] = block;
    }
  }

  // Changing the chain of blocks.

  /**
   * A key past a full block's end goes to the next one if there is room, or starts
   * a block of its own, so that ascending inserts leave full blocks behind; so do
   * descending ones, at the head. Anywhere else the block is halved.
   */
  private insertIntoFull(block: number, index: number, id: number): void {
    const { blocks } = this;
    const next = blocks.next(block, 0);
    let into = block;
    if (index === BLOCK_IDS && next !== NONE && blocks.count(next) < BLOCK_IDS) into = next;
    else {
      const from = index === 0 || index === BLOCK_IDS ? index : BLOCK_IDS / 2;
      const upper = this.split(block, from);
      if (index > from || index === BLOCK_IDS) into = upper;
    }
    blocks.insertAt(into, blocks.lowerBound(into), id);
  }

  /** Moves a block's ids from an index on to a new block after it, and returns that. */
  private split(block: number, from: number): number {
    const { blocks } = this;
    this.findPath(true);
    const upper = this.link();
    const after = blocks.next(upper, 0);
    if (after !== NONE) blocks.setPrevious(after, upper);
    blocks.move(block, from, upper);
    return upper;
  }

  /** Adds an empty block at the end, after those in `path`, and leaves it in there. */
  private append(): number {
    const block = this.link();
    for (let level = 0; level < this.blocks.levels(block); level++) this.path[level] = block;
    return block;
  }

  /** Puts a new block after those in `path`. */
  private link(): number {
    const { blocks, path } = this;
    let levels = 1;
    while (levels < MAX_LEVELS && this.random() < 0.25) levels++;
    if (levels > this.levels) this.levels = levels;
    const block = blocks.allocate(levels);
    for (let level = 0; level < levels; level++) {
      blocks.setNext(block, level, blocks.next(path[level], level));
      blocks.setNext(path[level], level, block);
    }
    blocks.setPrevious(block, path[0]);
    return block;
  }

  /** Moves all ids of the next block into this one. */
  private mergeNext(block: number): void {
    const next = this.blocks.next(block, 0);
    this.probe.setId(this.blocks.idAt(next, 0));
    this.unlink(next);
    this.blocks.move(next, 0, block);
    this.blocks.trim();
  }

  /** Takes a block, whose first key is the probe's, out of the chain. */
  private unlink(block: number): void {
    const { blocks } = this;
    this.findPath(false);
    for (let level = 0; level < blocks.levels(block); level++)
      blocks.setNext(this.path[level], level, blocks.next(block, level));
    const after = blocks.next(block, 0);
    if (after !== NONE) blocks.setPrevious(after, blocks.previous(block));
    blocks.release(block);
  }

  private emptyBlocks(): KeyBlocks {
    const blocks = new KeyBlocks(this.keys, this.probe);
    blocks.allocate(MAX_LEVELS);
    return blocks;
  }
}

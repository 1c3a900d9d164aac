/**
 * Key to entry id: extendible hashing (Fagin et al., 1979) over small open-addressing
 * tables.
 *
 * A directory indexed by the top bits of the hash points to tables of 1,280 to 2,048 slots,
 * probed linearly from the low bits. A table that fills up becomes larger, and the largest is
 * split in two by one more bit, which moves some 1,600 entries and takes tens of microseconds:
 * growth is spread over the inserts, memory grows smoothly, and there is never a moment with two
 * copies. Hashes are spread evenly, so all tables fill up at about the same time: with one size,
 * half of all slots would be empty after that, and with three it is two fifths at most.
 * A slot is 32 bits: the id plus one in the lower 27, and five more bits of the hash in the upper
 * ones, so that a probe looks at the memory of a wrong entry only once in 32 times.
 *
 * Invariants
 * - An entry sits between its home slot and the next empty slot (no tombstones:
 *   removal shifts back what follows).
 * - Directory cells that agree in a table's `depth` top bits share that table.
 */

import { release } from "../bytes.ts";
import type { Leftovers } from "./leftovers.ts";

/** How many low bits of a hash say where in a table an entry belongs. */
const HOME_BITS = 11;
const HOME_MASK = (1 << HOME_BITS) - 1;
/** Slots of a table, whose memory is a size that allocators have, and how many may be used. */
const SIZES = [1_280, 1_536, 2_048];
const MOST_USED = SIZES.map((slots) => Math.floor(slots * 0.8));
const LARGEST = SIZES.length - 1;
/** With no more of that on average few tables have to grow: hashes are spread evenly. */
const RESERVED_SHARE = 0.96;
const ID_BITS = 27;
const ID_MASK = (1 << ID_BITS) - 1;
/** Ids are below this: 134 million entries a node. */
export const MAX_IDS = ID_MASK;

/** What the index needs to know of the entries it points to. */
export interface IndexedKeys {
  /** The hash the entry was inserted under, unsigned 32-bit. */
  hashOf(id: number): number;
  /** Whether the entry was inserted under this hash, and its key equals these bytes. */
  matches(id: number, hash: number, key: Uint8Array, offset: number, length: number): boolean;
}

class Table {
  slots: Uint32Array;
  used = 0;
  constructor(
    public depth: number,
    public size: number,
  ) {
    this.slots = new Uint32Array(SIZES[size]);
  }
}

/** A set of entry ids, found by key. */
export class HashIndex {
  /** Number of ids held. */
  size = 0;
  private depth = 0;
  private directory: Table[] = [new Table(0, 0)];
  private tableCount = 1;
  /** Of all tables together. */
  private slotCount = SIZES[0];
  /** No table has less depth. */
  private leastDepth = 0;

  constructor(private readonly keys: IndexedKeys) {}

  /** The id of the entry with that key, or -1. `hash` is the key's hash. */
  find(hash: number, key: Uint8Array, offset: number, length: number): number {
    const slots = this.tableOf(hash).slots;
    const tag = tagOf(hash);
    let at = homeOf(hash, slots.length);
    for (;;) {
      const slot = slots[at];
      if (slot === 0) return -1;
      if (slot >>> ID_BITS === tag) {
        const id = (slot & ID_MASK) - 1;
        if (this.keys.matches(id, hash, key, offset, length)) return id;
      }
      if (++at === slots.length) at = 0;
    }
  }

  /** Loads where `find` begins to look into the processor's caches. Returns no meaning. */
  touch(hash: number): number {
    const { slots } = this.tableOf(hash);
    return slots[homeOf(hash, slots.length)];
  }

  /** The id whose key `find` would compare first for this hash, or -1. A hint, not an answer. */
  candidate(hash: number): number {
    const slots = this.tableOf(hash).slots;
    const tag = tagOf(hash);
    let at = homeOf(hash, slots.length);
    for (;;) {
      const slot = slots[at];
      if (slot === 0) return -1;
      if (slot >>> ID_BITS === tag) return (slot & ID_MASK) - 1;
      if (++at === slots.length) at = 0;
    }
  }

  /** Adds an id whose key is not in the index. */
  insert(hash: number, id: number): void {
    let table = this.tableOf(hash);
    while (table.used >= MOST_USED[table.size]) {
      if (table.size < LARGEST) this.refill([table], [table.size + 1], table.slots);
      else this.split(table, hash);
      table = this.tableOf(hash);
    }
    place(table.slots, hash, id);
    table.used++;
    this.size++;
  }

  /**
   * Makes tables for so many ids in all, of which there may be some already. It takes memory for
   * them, and saves moving them again and again as their number grows.
   */
  reserve(count: number): void {
    let depth = this.leastDepth;
    while (count > RESERVED_SHARE * MOST_USED[LARGEST] * 2 ** depth) depth++;
    const size = sizeFor(count / RESERVED_SHARE / 2 ** depth);
    for (let cell = 0; cell < this.directory.length;) {
      const table = this.directory[cell];
      const depthBefore = this.depth;
      if (table.depth < depth) {
        this.split(table, cell * 2 ** (32 - depthBefore));
        if (this.depth > depthBefore) cell *= 2;
        continue;
      }
      if (table.depth === depth && table.size < size) this.refill([table], [size], table.slots);
      cell += 2 ** (this.depth - table.depth);
    }
    this.leastDepth = depth;
  }

  /** Removes an id. Throws when it is not there: the index and its owner disagree. */
  remove(hash: number, id: number): void {
    const table = this.tableOf(hash);
    const slots = table.slots;
    let at = homeOf(hash, slots.length);
    while ((slots[at] & ID_MASK) !== id + 1) {
      if (slots[at] === 0) throw new Error(`hash index: entry ${id} is missing`);
      if (++at === slots.length) at = 0;
    }
    // Close the gap: pull back every follower whose home is not after the gap.
    let gap = at;
    for (;;) {
      if (++at === slots.length) at = 0;
      const slot = slots[at];
      if (slot === 0) break;
      const home = homeOf(this.keys.hashOf((slot & ID_MASK) - 1), slots.length);
      if (distance(home, at, slots.length) >= distance(gap, at, slots.length)) {
        slots[gap] = slot;
        gap = at;
      }
    }
    slots[gap] = 0;
    table.used--;
    this.size--;
  }

  /** Drops everything; its memory becomes `leftovers`. */
  clear(leftovers: Leftovers): void {
    let last: Table | null = null;
    for (const table of this.directory) {
      if (table !== last) leftovers.add(table.slots);
      last = table;
    }
    this.depth = 0;
    this.directory = [new Table(0, 0)];
    this.tableCount = 1;
    this.slotCount = SIZES[0];
    this.leastDepth = 0;
    this.size = 0;
  }

  /** Memory used, in bytes. */
  bytes(): number {
    return this.slotCount * 4 + this.directory.length * 8;
  }

  /** Throws unless the invariants hold; for tests. */
  verify(): void {
    const tables = new Set<Table>();
    if (this.directory.length !== 2 ** this.depth) {
      throw new Error(`hash index: ${this.directory.length} cells at depth ${this.depth}`);
    }
    for (let cell = 0; cell < this.directory.length;) {
      const table = this.directory[cell];
      const run = 2 ** (this.depth - table.depth);
      const isRun = this.directory.slice(cell, cell + run).every((it) => it === table);
      if (cell % run !== 0 || !isRun || tables.has(table)) {
        throw new Error(`hash index: the cells of the table at ${cell} are not one run`);
      }
      tables.add(table);
      this.verifyTable(table, cell / run);
      cell += run;
    }
    if (tables.size !== this.tableCount) throw new Error("hash index: tables are miscounted");
    let size = 0;
    let slots = 0;
    for (const table of tables) {
      size += table.used;
      slots += table.slots.length;
    }
    if (slots !== this.slotCount) throw new Error("hash index: slots are miscounted");
    if (size !== this.size) throw new Error(`hash index: ${size} ids, not ${this.size}`);
  }

  /** `top`: the table's `depth` top bits of the hash. */
  private verifyTable(table: Table, top: number): void {
    const ids = new Set<number>();
    const { length } = table.slots;
    for (let at = 0; at < length; at++) {
      const slot = table.slots[at];
      if (slot === 0) continue;
      const id = (slot & ID_MASK) - 1;
      const hash = this.keys.hashOf(id);
      if (slot >>> ID_BITS !== tagOf(hash)) throw new Error(`hash index: the tag of ${id} is off`);
      if ((hash >>> 1) >>> (31 - table.depth) !== top) {
        throw new Error(`hash index: entry ${id} is in another's table`);
      }
      for (let before = homeOf(hash, length); before !== at; before = (before + 1) % length) {
        if (table.slots[before] === 0) throw new Error(`hash index: entry ${id} is out of reach`);
      }
      ids.add(id);
    }
    if (
      ids.size !== table.used ||
      ids.size > MOST_USED[table.size] ||
      length !== SIZES[table.size]
    ) {
      throw new Error(`hash index: ${ids.size} ids in a table that counts ${table.used}`);
    }
  }

  private tableOf(hash: number): Table {
    // A shift by 32 would be a shift by 0, hence two.
    return this.directory[(hash >>> 1) >>> (31 - this.depth)];
  }

  private split(table: Table, hash: number): void {
    if (table.depth === this.depth) {
      if (this.depth === 31) throw new Error("hash index: hashes are not spread");
      this.directory = this.directory.flatMap((each) => [each, each]);
      this.depth++;
    }
    // The cells of this table are one run; its upper half goes to the new one.
    const cells = 1 << (this.depth - table.depth);
    const first = ((hash >>> 1) >>> (31 - this.depth)) & ~(cells - 1);
    const depth = ++table.depth;
    const one = new Table(depth, 0);
    this.directory.fill(one, first + cells / 2, first + cells);
    this.tableCount++;
    this.slotCount += one.slots.length;
    if (table.used === 0) return;
    const { slots } = table;
    let moved = 0;
    for (let at = 0; at < slots.length; at++) {
      if (slots[at] === 0) continue;
      moved += (this.keys.hashOf((slots[at] & ID_MASK) - 1) >>> (32 - depth)) & 1;
    }
    this.refill([table, one], [sizeFor(table.used - moved), sizeFor(moved)], slots);
  }

  /** Makes tables of those sizes, and places what is in `slots`, which belongs in one of them. */
  private refill(tables: readonly Table[], sizes: readonly number[], slots: Uint32Array): void {
    tables.forEach((table, i) => {
      this.slotCount += SIZES[sizes[i]] - table.slots.length;
      table.size = sizes[i];
      table.used = 0;
      table.slots = new Uint32Array(SIZES[table.size]);
    });
    const [lower, upper = lower] = tables;
    for (let at = 0; at < slots.length; at++) {
      const slot = slots[at];
      if (slot === 0) continue;
      const id = (slot & ID_MASK) - 1;
      const hash = this.keys.hashOf(id);
      const table = (hash >>> (32 - upper.depth)) & 1 ? upper : lower;
      place(table.slots, hash, id);
      table.used++;
    }
    release(slots);
  }
}

function place(slots: Uint32Array, hash: number, id: number): void {
  let at = homeOf(hash, slots.length);
  while (slots[at] !== 0) if (++at === slots.length) at = 0;
  slots[at] = ((tagOf(hash) << ID_BITS) | (id + 1)) >>> 0;
}

/** Where in a table of so many slots a hash belongs. */
function homeOf(hash: number, slots: number): number {
  return ((hash & HOME_MASK) * slots) >>> HOME_BITS;
}

/** How many slots it is from one to another. */
function distance(from: number, to: number, slots: number): number {
  return to >= from ? to - from : to - from + slots;
}

/** The smallest size with room for so many, or the largest. */
function sizeFor(used: number): number {
  let size = 0;
  while (size < LARGEST && MOST_USED[size] < used) size++;
  return size;
}

function tagOf(hash: number): number {
  return (hash >>> HOME_BITS) & 31;
}

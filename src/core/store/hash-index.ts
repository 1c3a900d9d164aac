/**
 * Key to entry id: extendible hashing (Fagin et al., 1979) over small open-addressing
 * tables.
 *
 * A directory indexed by the top bits of the hash points to tables of 2,048 slots,
 * probed linearly from the low bits. A table that fills up is split in two by one more
 * bit, which moves some 1,600 entries and takes tens of microseconds: growth is spread
 * over the inserts, memory grows smoothly, and there is never a moment with two copies.
 * A slot is 32 bits: the id plus one in the lower 27, and five more bits of the hash in the upper
 * ones, so that a probe looks at the memory of a wrong entry only once in 32 times.
 *
 * Invariants
 * - An entry sits between its home slot and the next empty slot (no tombstones:
 *   removal shifts back what follows).
 * - Directory cells that agree in a table's `depth` top bits share that table.
 */

import type { Leftovers } from "./leftovers.ts";

const TABLE_BITS = 11;
const TABLE_SLOTS = 1 << TABLE_BITS;
const SLOT_MASK = TABLE_SLOTS - 1;
const SPLIT_AT = Math.floor(TABLE_SLOTS * 0.8);
/** With no more on average hardly a table has to be split: hashes are spread evenly. */
const RESERVED = Math.floor(SPLIT_AT * 0.95);
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
  readonly slots = new Uint32Array(TABLE_SLOTS);
  used = 0;
  constructor(public depth: number) {}
}

/** A set of entry ids, found by key. */
export class HashIndex {
  /** Number of ids held. */
  size = 0;
  private depth = 0;
  private directory: Table[] = [new Table(0)];
  private tableCount = 1;
  /** No table has less depth. */
  private leastDepth = 0;
  /** What is in a table that is being split. */
  private readonly scratch = new Uint32Array(TABLE_SLOTS);

  constructor(private readonly keys: IndexedKeys) {}

  /** The id of the entry with that key, or -1. `hash` is the key's hash. */
  find(hash: number, key: Uint8Array, offset: number, length: number): number {
    const slots = this.tableOf(hash).slots;
    const tag = tagOf(hash);
    let at = hash & SLOT_MASK;
    for (;;) {
      const slot = slots[at];
      if (slot === 0) return -1;
      if (slot >>> ID_BITS === tag) {
        const id = (slot & ID_MASK) - 1;
        if (this.keys.matches(id, hash, key, offset, length)) return id;
      }
      at = (at + 1) & SLOT_MASK;
    }
  }

  /** Loads where `find` begins to look into the processor's caches. Returns no meaning. */
  touch(hash: number): number {
    return this.tableOf(hash).slots[hash & SLOT_MASK];
  }

  /** The id whose key `find` would compare first for this hash, or -1. A hint, not an answer. */
  candidate(hash: number): number {
    const slots = this.tableOf(hash).slots;
    const tag = tagOf(hash);
    let at = hash & SLOT_MASK;
    for (;;) {
      const slot = slots[at];
      if (slot === 0) return -1;
      if (slot >>> ID_BITS === tag) return (slot & ID_MASK) - 1;
      at = (at + 1) & SLOT_MASK;
    }
  }

  /** Adds an id whose key is not in the index. */
  insert(hash: number, id: number): void {
    let table = this.tableOf(hash);
    while (table.used >= SPLIT_AT) {
      this.split(table, hash);
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
    while (count > RESERVED * 2 ** depth) depth++;
    if (depth === this.leastDepth) return;
    for (let cell = 0; cell < this.directory.length;) {
      const table = this.directory[cell];
      const depthBefore = this.depth;
      if (table.depth < depth) {
        this.split(table, cell * 2 ** (32 - depthBefore));
        if (this.depth > depthBefore) cell *= 2;
      } else cell += 2 ** (this.depth - table.depth);
    }
    this.leastDepth = depth;
  }

  /** Removes an id. Throws when it is not there: the index and its owner disagree. */
  remove(hash: number, id: number): void {
    const table = this.tableOf(hash);
    const slots = table.slots;
    let at = hash & SLOT_MASK;
    while ((slots[at] & ID_MASK) !== id + 1) {
      if (slots[at] === 0) throw new Error(`hash index: entry ${id} is missing`);
      at = (at + 1) & SLOT_MASK;
    }
    // Close the gap: pull back every follower whose home is not after the gap.
    let gap = at;
    for (;;) {
      at = (at + 1) & SLOT_MASK;
      const slot = slots[at];
      if (slot === 0) break;
      const home = this.keys.hashOf((slot & ID_MASK) - 1) & SLOT_MASK;
      if (((at - home) & SLOT_MASK) >= ((at - gap) & SLOT_MASK)) {
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
    this.directory = [new Table(0)];
    this.tableCount = 1;
    this.leastDepth = 0;
    this.size = 0;
  }

  /** Memory used, in bytes. */
  bytes(): number {
    return this.tableCount * TABLE_SLOTS * 4 + this.directory.length * 8;
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
    for (const { used } of tables) size += used;
    if (size !== this.size) throw new Error(`hash index: ${size} ids, not ${this.size}`);
  }

  /** `top`: the table's `depth` top bits of the hash. */
  private verifyTable(table: Table, top: number): void {
    const ids = new Set<number>();
    for (let at = 0; at < TABLE_SLOTS; at++) {
      const slot = table.slots[at];
      if (slot === 0) continue;
      const id = (slot & ID_MASK) - 1;
      const hash = this.keys.hashOf(id);
      if (slot >>> ID_BITS !== tagOf(hash)) throw new Error(`hash index: the tag of ${id} is off`);
      if ((hash >>> 1) >>> (31 - table.depth) !== top) {
        throw new Error(`hash index: entry ${id} is in another's table`);
      }
      for (let before = hash & SLOT_MASK; before !== at; before = (before + 1) & SLOT_MASK) {
        if (table.slots[before] === 0) throw new Error(`hash index: entry ${id} is out of reach`);
      }
      ids.add(id);
    }
    if (ids.size !== table.used || ids.size > SPLIT_AT) {
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
    const one = new Table(depth);
    this.directory.fill(one, first + cells / 2, first + cells);
    this.tableCount++;
    if (table.used === 0) return;
    const { scratch } = this;
    scratch.set(table.slots);
    table.slots.fill(0);
    table.used = 0;
    for (let at = 0; at < TABLE_SLOTS; at++) {
      const slot = scratch[at];
      if (slot === 0) continue;
      const id = (slot & ID_MASK) - 1;
      const idHash = this.keys.hashOf(id);
      const half = (idHash >>> (32 - depth)) & 1 ? one : table;
      place(half.slots, idHash, id);
      half.used++;
    }
  }
}

function place(slots: Uint32Array, hash: number, id: number): void {
  let at = hash & SLOT_MASK;
  while (slots[at] !== 0) at = (at + 1) & SLOT_MASK;
  slots[at] = ((tagOf(hash) << ID_BITS) | (id + 1)) >>> 0;
}

function tagOf(hash: number): number {
  return (hash >>> TABLE_BITS) & 31;
}

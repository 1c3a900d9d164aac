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
/**
 * Tables lie side by side in regions of 1 MiB. A typed array for each table would be one more
 * object to load from memory for each lookup: there are hundreds in a store of a million keys.
 */
const REGION_BITS = 7;
const REGION_TABLES = 1 << REGION_BITS;
const REGION_MASK = REGION_TABLES - 1;
/** How many tables there is room for at first to tell of. */
const FIRST_TABLES = 16;
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

/** A set of entry ids, found by key. */
export class HashIndex {
  /** Number of ids held. */
  size = 0;
  private depth = 0;
  /** Cell → number of the table. */
  private directory = new Uint32Array(1);
  /** The slots of all tables, REGION_TABLES of them in each. */
  private readonly regions: Uint32Array[] = [];
  /** How many of a table's bits the directory tells apart, and how many of its slots are in use. */
  private depths = new Uint8Array(FIRST_TABLES);
  private used = new Uint16Array(FIRST_TABLES);
  private tableCount = 0;
  /** No table has less depth. */
  private leastDepth = 0;
  /** What is in a table that is being split. */
  private readonly scratch = new Uint32Array(TABLE_SLOTS);

  constructor(private readonly keys: IndexedKeys) {
    this.addTable(0);
  }

  /** The id of the entry with that key, or -1. `hash` is the key's hash. */
  find(hash: number, key: Uint8Array, offset: number, length: number): number {
    const table = this.tableOf(hash);
    const slots = this.regions[table >>> REGION_BITS];
    const first = (table & REGION_MASK) << TABLE_BITS;
    const tag = tagOf(hash);
    let at = hash & SLOT_MASK;
    for (;;) {
      const slot = slots[first | at];
      if (slot === 0) return -1;
      if (slot >>> ID_BITS === tag) {
        const id = (slot & ID_MASK) - 1;
        if (this.keys.matches(id, hash, key, offset, length)) return id;
      }
      at = (at + 1) & SLOT_MASK;
    }
  }

  /**
   * Loads where `find` begins to look for each of the first `count` hashes into the processor's
   * caches. Returns no meaning.
   */
  touch(hashes: Uint32Array, count: number): number {
    const { regions } = this;
    let sum = 0;
    for (let i = 0; i < count; i++) {
      const hash = hashes[i];
      const table = this.tableOf(hash);
      const first = (table & REGION_MASK) << TABLE_BITS;
      sum ^= regions[table >>> REGION_BITS][first | (hash & SLOT_MASK)];
    }
    return sum;
  }

  /** The id whose key `find` would compare first for this hash, or -1. A hint, not an answer. */
  candidate(hash: number): number {
    const table = this.tableOf(hash);
    const slots = this.regions[table >>> REGION_BITS];
    const first = (table & REGION_MASK) << TABLE_BITS;
    const tag = tagOf(hash);
    let at = hash & SLOT_MASK;
    for (;;) {
      const slot = slots[first | at];
      if (slot === 0) return -1;
      if (slot >>> ID_BITS === tag) return (slot & ID_MASK) - 1;
      at = (at + 1) & SLOT_MASK;
    }
  }

  /** Adds an id whose key is not in the index. */
  insert(hash: number, id: number): void {
    let table = this.tableOf(hash);
    while (this.used[table] >= SPLIT_AT) {
      this.split(table, hash);
      table = this.tableOf(hash);
    }
    this.place(table, hash, id);
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
      if (this.depths[table] < depth) {
        this.split(table, cell * 2 ** (32 - depthBefore));
        if (this.depth > depthBefore) cell *= 2;
      } else cell += 2 ** (this.depth - this.depths[table]);
    }
    this.leastDepth = depth;
  }

  /** Removes an id. Throws when it is not there: the index and its owner disagree. */
  remove(hash: number, id: number): void {
    const table = this.tableOf(hash);
    const slots = this.slotsOf(table);
    const first = firstOf(table);
    let at = hash & SLOT_MASK;
    while ((slots[first | at] & ID_MASK) !== id + 1) {
      if (slots[first | at] === 0) throw new Error(`hash index: entry ${id} is missing`);
      at = (at + 1) & SLOT_MASK;
    }
    // Close the gap: pull back every follower whose home is not after the gap.
    let gap = at;
    for (;;) {
      at = (at + 1) & SLOT_MASK;
      const slot = slots[first | at];
      if (slot === 0) break;
      const home = this.keys.hashOf((slot & ID_MASK) - 1) & SLOT_MASK;
      if (((at - home) & SLOT_MASK) >= ((at - gap) & SLOT_MASK)) {
        slots[first | gap] = slot;
        gap = at;
      }
    }
    slots[first | gap] = 0;
    this.used[table]--;
    this.size--;
  }

  /** Drops everything; its memory becomes `leftovers`. */
  clear(leftovers: Leftovers): void {
    for (const region of this.regions) leftovers.add(region);
    this.regions.length = 0;
    this.depth = 0;
    this.directory = new Uint32Array(1);
    this.depths = new Uint8Array(FIRST_TABLES);
    this.used = new Uint16Array(FIRST_TABLES);
    this.tableCount = 0;
    this.leastDepth = 0;
    this.size = 0;
    this.addTable(0);
  }

  /** Memory used, in bytes. For tables that are still to come there is room, but no memory yet. */
  bytes(): number {
    return this.tableCount * TABLE_SLOTS * 4 + this.directory.length * 4;
  }

  /** The memory that lookups go to. */
  blocks(): readonly Uint32Array[] {
    return this.regions;
  }

  /** Throws unless the invariants hold; for tests. */
  verify(): void {
    const { depth, depths, directory, tableCount, used } = this;
    const tables = new Set<number>();
    if (directory.length !== 2 ** depth) {
      throw new Error(`hash index: ${directory.length} cells at depth ${depth}`);
    }
    for (let cell = 0; cell < directory.length;) {
      const table = directory[cell];
      const run = 2 ** (depth - depths[table]);
      const isRun = directory.subarray(cell, cell + run).every((it) => it === table);
      if (cell % run !== 0 || !isRun || tables.has(table)) {
        throw new Error(`hash index: the cells of the table at ${cell} are not one run`);
      }
      tables.add(table);
      this.verifyTable(table, cell / run);
      cell += run;
    }
    if (tables.size !== tableCount) throw new Error("hash index: tables are miscounted");
    let size = 0;
    for (const table of tables) size += used[table];
    if (size !== this.size) throw new Error(`hash index: ${size} ids, not ${this.size}`);
  }

  /** `top`: the table's `depth` top bits of the hash. */
  private verifyTable(table: number, top: number): void {
    const ids = new Set<number>();
    const first = firstOf(table);
    const slots = this.slotsOf(table).subarray(first, first + TABLE_SLOTS);
    for (let at = 0; at < TABLE_SLOTS; at++) {
      const slot = slots[at];
      if (slot === 0) continue;
      const id = (slot & ID_MASK) - 1;
      const hash = this.keys.hashOf(id);
      if (slot >>> ID_BITS !== tagOf(hash)) throw new Error(`hash index: the tag of ${id} is off`);
      if ((hash >>> 1) >>> (31 - this.depths[table]) !== top) {
        throw new Error(`hash index: entry ${id} is in another's table`);
      }
      for (let before = hash & SLOT_MASK; before !== at; before = (before + 1) & SLOT_MASK) {
        if (slots[before] === 0) throw new Error(`hash index: entry ${id} is out of reach`);
      }
      ids.add(id);
    }
    const used = this.used[table];
    if (ids.size !== used || ids.size > SPLIT_AT) {
      throw new Error(`hash index: ${ids.size} ids in a table that counts ${used}`);
    }
  }

  /** The number of the table in which a hash belongs. */
  private tableOf(hash: number): number {
    // A shift by 32 would be a shift by 0, hence two.
    return this.directory[(hash >>> 1) >>> (31 - this.depth)];
  }

  private slotsOf(table: number): Uint32Array {
    return this.regions[table >>> REGION_BITS];
  }

  /** Adds an empty table of that depth, and returns its number. */
  private addTable(depth: number): number {
    const table = this.tableCount++;
    if (table >>> REGION_BITS === this.regions.length) {
      this.regions.push(new Uint32Array(REGION_TABLES * TABLE_SLOTS));
    }
    if (table === this.used.length) {
      const { depths, used } = this;
      this.depths = new Uint8Array(2 * table);
      this.depths.set(depths);
      this.used = new Uint16Array(2 * table);
      this.used.set(used);
    }
    this.depths[table] = depth;
    return table;
  }

  private split(table: number, hash: number): void {
    if (this.depths[table] === this.depth) this.doubleDirectory();
    // The cells of this table are one run; its upper half goes to the new one.
    const cells = 1 << (this.depth - this.depths[table]);
    const firstCell = ((hash >>> 1) >>> (31 - this.depth)) & ~(cells - 1);
    const depth = ++this.depths[table];
    const one = this.addTable(depth);
    this.directory.fill(one, firstCell + cells / 2, firstCell + cells);
    if (this.used[table] === 0) return;
    const { scratch } = this;
    const slots = this.slotsOf(table);
    const first = firstOf(table);
    for (let at = 0; at < TABLE_SLOTS; at++) scratch[at] = slots[first | at];
    slots.fill(0, first, first + TABLE_SLOTS);
    this.used[table] = 0;
    for (let at = 0; at < TABLE_SLOTS; at++) {
      const slot = scratch[at];
      if (slot === 0) continue;
      const id = (slot & ID_MASK) - 1;
      const idHash = this.keys.hashOf(id);
      this.place((idHash >>> (32 - depth)) & 1 ? one : table, idHash, id);
    }
  }

  private doubleDirectory(): void {
    if (this.depth === 31) throw new Error("hash index: hashes are not spread");
    const { directory } = this;
    this.directory = new Uint32Array(2 * directory.length);
    for (let cell = 0; cell < this.directory.length; cell++) {
      this.directory[cell] = directory[cell >>> 1];
    }
    this.depth++;
  }

  private place(table: number, hash: number, id: number): void {
    const slots = this.slotsOf(table);
    const first = firstOf(table);
    let at = hash & SLOT_MASK;
    while (slots[first | at] !== 0) at = (at + 1) & SLOT_MASK;
    slots[first | at] = ((tagOf(hash) << ID_BITS) | (id + 1)) >>> 0;
    this.used[table]++;
  }
}

/** Where the slots of a table begin in its region. */
function firstOf(table: number): number {
  return (table & REGION_MASK) << TABLE_BITS;
}

function tagOf(hash: number): number {
  return (hash >>> TABLE_BITS) & 31;
}

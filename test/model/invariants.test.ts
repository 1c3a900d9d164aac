/** A store or a tree that is broken is found out: each invariant in turn is broken by hand. */
import { describe, expect, test } from "bun:test";
import { HybridClock } from "../../src/core/data/clock.ts";
import type { Entry } from "../../src/core/data/entry.ts";
import { Store } from "../../src/core/store/store.ts";
import { LATEST, MerkleTree } from "../../src/core/tree/merkle.ts";
import { RecordDigester, treeKeyOf } from "../../src/core/tree/record-digest.ts";
import { seeded } from "../support/random.ts";

const KEYS = 3_000;
const bytes = (text: string): Uint8Array => Buffer.from(text);

/** Keys that begin with `crowd` all lie in one bucket, which so becomes a large one. */
class CrowdingDigester extends RecordDigester {
  override ofKey(entry: Entry, out: Uint8Array): void {
    super.ofKey(entry, out);
    if (entry.key[entry.keyOffset] === 0x63) out.fill(0xab, 0, 2);
  }
}

interface Parts {
  store: Store;
  tree: MerkleTree;
  /** The same with what is private, as only somebody who breaks it sees it. */
  // oxlint-disable-next-line no-explicit-any
  inside: any;
}

function put(store: Store, key: string, value: string, expiresAtMs = 0): void {
  store.set(bytes(key), 0, key.length, bytes(value), 0, value.length, expiresAtMs);
}

function healthy(): Parts {
  const store = new Store({
    clock: new HybridClock(() => 1_700_000_000_000),
    origin: { high: 1, low: 2 },
    hashSeed: { high: 3, low: 4 },
    random: seeded(1),
    memoryLimitBytes: 0,
    maxClockSkewMs: 1_000,
    tombstoneGraceMs: 5_000,
  });
  const tree = new MerkleTree(store, new CrowdingDigester(treeKeyOf("test")));
  store.observers.push(tree);
  for (let i = 0; i < KEYS; i++) put(store, `key:${i}`, "v".repeat(i % 50), i % 7);
  for (let i = 0; i < 600; i++) put(store, `crowd:${i}`, "v");
  put(store, "large", "v".repeat(50_000));
  for (let i = 0; i < KEYS; i += 3) store.delete(bytes(`key:${i}`), 0, `key:${i}`.length);
  while (tree.update(LATEST, LATEST, 1_000, () => 0));
  return { store, tree, inside: { store, tree } };
}

function verify({ store, tree }: Parts): void {
  store.verify();
  tree.verify(store.idLimit, (id) => store.isUsed(id));
}

/** Of the entry table. */
const ROW_WORDS = 6;
const FREE = 7 << 8;

const BROKEN: [string, (parts: Parts) => void, RegExp][] = [
  [
    "arena: a slot freed that is in use",
    ({ inside: { store } }) =>
      store.entries.table.arena.free(store.entries.table.rows.chunks[0][ROW_WORDS]),
    /^arena: slot \d+ of slab \d+ is in use, free/,
  ],
  [
    "arena: a slot that nobody has",
    ({ inside: { store } }) => store.entries.table.arena.allocate(64, Infinity),
    /^arena: slot \d+ of slab \d+ is lost/,
  ],
  [
    "arena: bytes miscounted",
    ({ inside: { store } }) => (store.entries.table.arena.bytesReserved += 8),
    /^arena: \d+ bytes are reserved, not/,
  ],
  [
    "arena: a free list that goes round",
    ({ inside: { store } }) => {
      const { arena } = store.entries.table;
      const slab = arena.freeUnit.findIndex(
        (unit: number, at: number) => unit !== 0xffff && arena.bytes[at]?.length === 262_144,
      );
      arena.words[slab][arena.freeUnit[slab]] = arena.freeUnit[slab];
    },
    /^arena: the free list of slab \d+ is broken/,
  ],
  [
    "entry table: a row that names another's slot",
    ({ inside: { store } }) => {
      const [rows] = store.entries.table.rows.chunks;
      rows[ROW_WORDS * 6] = rows[ROW_WORDS * 5];
    },
    /^entry table: row 6 has another's slot/,
  ],
  [
    "entry rows: rows miscounted",
    ({ inside: { store } }) => store.entries.table.rows.count++,
    /^entry rows: \d+ rows, not/,
  ],
  [
    "entry rows: a row that is neither used nor free",
    ({ inside: { store } }) => (store.entries.table.rows.chunks[0][ROW_WORDS * 9 + 1] = FREE),
    /^entry rows: free row 9 is lost/,
  ],
  [
    "hash index: an entry gone",
    ({ inside: { store } }) => store.entries.index.remove(store.entries.table.rows.hashOf(4), 4),
    /^store: entry 4 is not found by its key/,
  ],
  [
    "hash index: a hole before an entry",
    ({ inside: { store } }) => {
      const { keys, regions } = store.entries.index;
      const [slots] = regions;
      for (let at = 1; at < slots.length; at++) {
        const home = (slot: number) => keys.hashOf((slot & 0x7ff_ffff) - 1) & 2_047;
        if (slots[at - 1] === 0 || slots[at] === 0 || home(slots[at]) === at % 2_048) continue;
        slots[at - 1] = 0;
        return;
      }
    },
    /^hash index: entry \d+ is out of reach/,
  ],
  [
    "hash index: a tag of other bits",
    ({ inside: { store } }) => {
      const [slots] = store.entries.index.regions;
      slots[slots.findIndex((slot: number) => slot !== 0)] ^= 1 << 27;
    },
    /^hash index: the tag of \d+ is off/,
  ],
  [
    "hash index: cells that do not agree",
    ({ inside: { store } }) => store.entries.index.directory.reverse(),
    /^hash index: entry \d+ is in another's table/,
  ],
  [
    "order: two ids the other way round",
    ({ inside: { store } }) => {
      const { ids } = store.order.blocks;
      [ids[0][1], ids[0][2]] = [ids[0][2], ids[0][1]];
    },
    /^key blocks: (the word of entry \d+ is not that|entry \d+ is out of order)/,
  ],
  [
    "order: a separator of another key",
    ({ inside: { store } }) => (store.order.blocks.headers[0][22 + 4] ^= 1),
    /^key blocks: the separator of block 1/,
  ],
  [
    "order: a block that does not lead back",
    ({ inside: { store } }) => store.order.blocks.setPrevious(store.order.blocks.next(0, 0), 99),
    /^skip list: block \d+ does not lead back/,
  ],
  [
    "order: an upper level that leaves out a block",
    ({ inside: { store } }) => {
      const { blocks } = store.order;
      blocks.setNext(0, 1, blocks.next(blocks.next(0, 1), 1));
    },
    /^skip list: level 1 is broken/,
  ],
  [
    "order: blocks the other way round",
    ({ inside: { store } }) => {
      const { blocks } = store.order;
      const [one, two] = [blocks.next(0, 0), blocks.next(blocks.next(0, 0), 0)];
      const after = blocks.next(two, 0);
      blocks.setNext(0, 0, two);
      blocks.setNext(two, 0, one);
      blocks.setNext(one, 0, after);
      blocks.setPrevious(two, 0);
      blocks.setPrevious(one, two);
    },
    /^skip list: block \d+ is out of order/,
  ],
  [
    "order: a key gone",
    ({ inside: { store } }) => store.order.remove(1),
    /^store: entry 1 is not in the order/,
  ],
  [
    "store: tombstones miscounted",
    ({ inside: { store } }) => store.entries.expiring++,
    /^store: what is deleted or expires is miscounted/,
  ],
  [
    "store: a clock behind",
    ({ store }) => (store.clock.seenHigh = 1),
    /^store: entry \d+ is ahead of the clock/,
  ],
  [
    "store: an entry below the flush floor",
    ({ store }) => (store.floor.timeHigh = 0xffff_ffff),
    /^store: entry \d+ has outlived a flush/,
  ],
  [
    "buckets: an entry in no chain",
    ({ inside: { tree } }) => (tree.buckets.heads[tree.buckets.bucketOf(1)] = 0xffff_ffff),
    /^merkle buckets: the entries of bucket \d+ are miscounted/,
  ],
  [
    "buckets: an entry in another's chain",
    ({ inside: { tree } }) => {
      const { heads, counts } = tree.buckets;
      const [from, to] = [tree.buckets.bucketOf(1), tree.buckets.bucketOf(2)];
      [heads[from], heads[to]] = [heads[to], heads[from]];
      [counts[from], counts[to]] = [counts[to], counts[from]];
    },
    /^merkle buckets: entry \d+ is in another's chain/,
  ],
  [
    "buckets: a digest of a large one's part that nobody computed",
    ({ inside: { tree } }) => (tree.buckets.divisions[0].digests[5] ^= 1),
    /^merkle buckets: a digest in the division of bucket 43947 at depth 0 is out of date/,
  ],
  [
    "levels: a node that nobody computed",
    ({ tree }) => (tree.levels.words[4 * 20] ^= 1),
    /^digest tree: node \d+ of level \d is out of date/,
  ],
  [
    "tree: a change that it was not told of",
    ({ store }) => {
      store.observers.length = 0;
      put(store, "key:1", "changed");
    },
    /^merkle tree: entry 1 has changed and is not marked/,
  ],
  [
    "tree: an entry that it was not told of",
    ({ store }) => {
      store.observers.length = 0;
      put(store, "another", "v");
    },
    /^merkle tree: entry \d+ is missing/,
  ],
  [
    "tree: what waits is miscounted",
    ({ tree }) => tree["marks"].count++,
    /^merkle tree: 0 entries wait, not 1/,
  ],
];

describe("verify", () => {
  test("has nothing to say of what is well, changed or at rest", () => {
    const parts = healthy();
    verify(parts);
    for (let i = 0; i < KEYS; i += 2) put(parts.store, `key:${i}`, "w".repeat(i % 300));
    verify(parts);
    for (let slice = 0; parts.tree.update(LATEST, LATEST, 0, () => 1); slice++) {
      if (slice % 200 === 0) verify(parts);
    }
    verify(parts);
  });

  test.each(BROKEN)("%s", (_, breakIt, message) => {
    const parts = healthy();
    breakIt(parts);
    expect(() => verify(parts)).toThrow(message);
  });
});

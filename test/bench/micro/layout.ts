/**
 * Where the bytes of a key, of a counter and of a deletion are: what each part of the store and the
 * tree holds, divided by their number, which is a million if nothing else is asked for.
 *
 *   bun test/bench/micro/layout.ts [NUMBER]
 */
import { HybridClock } from "../../../src/core/data/clock.ts";
import { Int64 } from "../../../src/core/data/int64.ts";
import { classBytes, classOfUnits } from "../../../src/core/store/size-classes.ts";
import { Store } from "../../../src/core/store/store.ts";
import { LATEST, MerkleTree } from "../../../src/core/tree/merkle.ts";
import { RecordDigester, treeKeyOf } from "../../../src/core/tree/record-digest.ts";
import { seeded } from "../../support/random.ts";

const COUNT = Number(process.argv[2] ?? 1_000_000);
const VALUE = new Uint8Array(22).fill(118);
const ONE = new Int64().set(0, 1);
/** Rows, by the words that `entry-layout.ts` says. */
const ROW = { version: 8, hash: 4, "value length or total": 4, "reference, facts, origin": 8 };
/** Of the tree, as `merkle-buckets.ts` says. */
const TREE = { digest: 16, chain: 4, bucket: 2 };

type Bytes = Record<string, number>;

class Filled {
  private readonly random = seeded(1);
  private readonly store = new Store({
    clock: new HybridClock(() => 1_700_000_000_000),
    origin: { high: 1, low: 2 },
    hashSeed: { high: 3, low: 4 },
    random: this.random,
    memoryLimitBytes: 0,
    maxClockSkewMs: 1_000,
    tombstoneGraceMs: 3_600_000,
  });
  private readonly tree: MerkleTree;
  private readonly key: Uint8Array;
  private keyBytes = 0;

  constructor(private readonly prefix: string) {
    this.key = new Uint8Array(64);
    this.tree = new MerkleTree(this.store, new RecordDigester(treeKeyOf("layout")));
    this.store.observers.push(this.tree);
  }

  each(change: (store: Store, key: Uint8Array, length: number) => void): this {
    for (const number of shuffled(COUNT, this.random)) {
      const name = this.prefix + String(number).padStart(12, "0");
      this.keyBytes = new TextEncoder().encodeInto(name, this.key).written;
      change(this.store, this.key, this.keyBytes);
    }
    return this;
  }

  /** `valueBytes`: what a slot holds besides the key. */
  bytes(valueBytes: number): Bytes {
    while (this.tree.update(LATEST, LATEST, 1_000, () => 0));
    const { entries, index, order } = this.store.memory();
    const used = this.keyBytes + valueBytes;
    const slot = classBytes[classOfUnits[(used + 3) >>> 2]];
    const each: Bytes = { ...ROW, key: this.keyBytes, value: valueBytes, rounding: slot - used };
    each["slack of slabs and chunks"] = entries / COUNT - sum(ROW) - slot;
    each.index = index / COUNT;
    each.order = order / COUNT;
    for (const [name, bytes] of Object.entries(TREE)) each[`tree: ${name}`] = bytes;
    each["tree: buckets, levels, marks"] = this.tree.bytes() / COUNT - sum(TREE);
    return { ...each, together: sum(each) };
  }
}

function sum(bytes: Bytes): number {
  return Object.values(bytes).reduce((a, b) => a + b, 0);
}

function shuffled(count: number, random: () => number): Uint32Array {
  const numbers = Uint32Array.from({ length: count }, (_, i) => i);
  for (let i = count - 1; i > 0; i--) {
    const other = Math.floor(random() * (i + 1));
    [numbers[i], numbers[other]] = [numbers[other], numbers[i]];
  }
  return numbers;
}

const set = (store: Store, key: Uint8Array, length: number): void =>
  void store.set(key, 0, length, VALUE, 0, VALUE.length, 0);
const table: [string, Bytes][] = [
  ["a key of 16 bytes, a value of 22", new Filled("key:").each(set).bytes(VALUE.length)],
  [
    "a counter, a key of 20 bytes",
    new Filled("counter:").each((store, key, at) => store.increment(key, 0, at, ONE)).bytes(0),
  ],
  [
    "a deletion, a key of 16 bytes",
    new Filled("key:")
      .each(set)
      .each((store, key, at) => store.delete(key, 0, at))
      .bytes(0),
  ],
];
for (const name of Object.keys(table[0][1])) {
  const cells = table.map(([, bytes]) => bytes[name].toFixed(1).padStart(8));
  console.log(name.padEnd(32), ...cells);
}
console.log(table.map(([name]) => name).join(" · "));

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { Leftovers } from "../../src/core/store/leftovers.ts";
import { BlockSkipList } from "../../src/core/store/block-skip-list.ts";
import { sortByKey } from "../../src/core/store/key-sort.ts";
import { inOneGo } from "../../src/core/store/pieces.ts";
import { seeded } from "../support/random.ts";
import { awkwardKey, bytes, nameOf, TestKeys } from "../support/test-keys.ts";

/** The list beside a naive one: the keys as strings of bytes, sorted when asked. */
class Pair {
  readonly keys = new TestKeys();
  readonly list: BlockSkipList;
  readonly naive = new Map<string, number>();

  constructor(seed: number) {
    this.list = new BlockSkipList(this.keys, seeded(seed));
  }

  insert(key: Uint8Array): void {
    const name = nameOf(key);
    if (this.naive.has(name)) return;
    const id = this.keys.add(key);
    this.naive.set(name, id);
    this.list.insert(id);
  }

  remove(key: Uint8Array): void {
    const name = nameOf(key);
    const id = this.naive.get(name);
    if (id === undefined) return;
    this.naive.delete(name);
    this.list.remove(id);
    this.keys.release(id);
  }

  clear(): void {
    for (const id of this.naive.values()) this.keys.release(id);
    this.naive.clear();
    this.list.clear(new Leftovers());
  }

  /** Makes the list anew in one go, of ids in the order in which the keys came. */
  refill(): void {
    this.list.clear(new Leftovers());
    const ids = Uint32Array.from(this.naive.values());
    inOneGo(this.list.fill(ids, inOneGo(sortByKey(ids, this.keys))));
  }

  sorted(): string[] {
    return [...this.naive.keys()].sort();
  }

  check(): void {
    const walked: string[] = [];
    for (let at = this.list.seek(EMPTY, 0, 0); at >= 0; at = this.list.next(at))
      walked.push(nameOf(this.keys.byId[this.list.at(at)]));
    expect(walked).toEqual(this.sorted());
    expect(this.list.size).toBe(this.naive.size);
    this.list.verify();
  }

  checkSeek(key: Uint8Array): void {
    const name = nameOf(key);
    const sorted = this.sorted();
    const padded = Buffer.concat([Buffer.from("??"), key, Buffer.from("??")]);
    const found = (position: number): string | undefined =>
      position < 0 ? undefined : nameOf(this.keys.byId[this.list.at(position)]);
    expect(found(this.list.seek(padded, 2, key.length))).toBe(sorted.find((k) => k >= name));
    expect(found(this.list.seekAfter(padded, 2, key.length))).toBe(sorted.find((k) => k > name));
  }
}

const EMPTY = new Uint8Array(0);

const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant("insert" as const), key: awkwardKey }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("remove" as const), key: awkwardKey }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("seek" as const), key: awkwardKey }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("refill" as const) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant("run" as const),
      prefix: fc.constantFrom("key:0000", "\xff\xff", "p".repeat(80), ""),
      from: fc.nat(2000),
      count: fc.integer({ min: 1, max: 700 }),
      pattern: fc.constantFrom("up" as const, "down" as const, "shuffled" as const),
      remove: fc.boolean(),
    }),
  },
);

describe("block skip list", () => {
  test("agrees with a sorted array whatever is done to it", () => {
    fc.assert(
      fc.property(fc.nat(), fc.array(step, { maxLength: 60, size: "max" }), (seed, steps) => {
        const pair = new Pair(seed);
        for (const s of steps) {
          if (s.do === "insert") pair.insert(s.key);
          else if (s.do === "remove") pair.remove(s.key);
          else if (s.do === "seek") pair.checkSeek(s.key);
          else if (s.do === "refill") pair.refill();
          else
            for (const n of numbers(s.from, s.count, s.pattern)) {
              const key = bytes(s.prefix + String(n).padStart(5, "0"));
              if (s.remove) pair.remove(key);
              else pair.insert(key);
            }
        }
        pair.check();
      }),
      { numRuns: 150 },
    );
  });

  test("keeps order and every key through growth and decay in random order", () => {
    for (const keyOf of [
      (n: number) => `key:${String(n).padStart(12, "0")}`,
      (n: number) => Bun.hash.wyhash(String(n)).toString(16),
      (n: number) => `a-prefix-that-is-longer-than-any-separator/${n}/x`,
    ]) {
      const pair = new Pair(3);
      const order = numbers(0, 20_000, "shuffled");
      for (const n of order) pair.insert(bytes(keyOf(n)));
      pair.check();
      for (const n of order.slice(0, 50)) pair.checkSeek(bytes(keyOf(n)));
      for (const n of order.slice(0, 19_900)) pair.remove(bytes(keyOf(n)));
      pair.check();
      for (const n of order.slice(0, 3_000)) pair.insert(bytes(keyOf(n)));
      pair.check();
      pair.clear();
      pair.check();
      pair.insert(bytes("again"));
      pair.check();
    }
  });

  test("filled in one go it is what inserting in order makes of it, and goes on from there", () => {
    for (const keyOf of [
      (n: number) => `key:${String(n).padStart(12, "0")}`,
      (n: number) => Bun.hash.wyhash(String(n)).toString(16),
      (n: number) => `a-prefix-that-is-longer-than-any-separator/${n}/x`,
    ]) {
      const pair = new Pair(8);
      const names = Array.from({ length: 20_000 }, (_, n) => keyOf(n)).sort();
      for (const name of names) pair.insert(bytes(name));
      const inserted = pair.list.bytes();
      pair.refill();
      expect(pair.list.bytes()).toBe(inserted);
      pair.check();
      const order = numbers(0, 20_000, "shuffled");
      for (const n of order.slice(0, 50)) pair.checkSeek(bytes(keyOf(n)));
      for (const n of order.slice(0, 5_000)) pair.insert(bytes(keyOf(20_000 + n)));
      pair.check();
      for (const n of order) pair.remove(bytes(keyOf(n)));
      pair.check();
      pair.refill();
      pair.check();
    }
  });

  test("filled in one go it merges neighbours on either side when keys go", () => {
    const pair = new Pair(10);
    const key = (n: number): Uint8Array => bytes(`key:${String(n).padStart(12, "0")}`);
    for (let n = 0; n < 131_072; n++) pair.insert(key(n));
    pair.refill();
    const before = pair.list.bytes();
    // Upwards, so that who shrinks has its next neighbour still full; the head stays full.
    for (let n = 1_000; n < 131_072; n++) if (n % 256 !== 0) pair.remove(key(n));
    for (let n = 0; n < 100_000; n++) pair.insert(key(1_000_000 + n));
    expect(pair.list.bytes()).toBeLessThanOrEqual(before);
  });

  test("gives memory back as keys go, and takes it again as they come", () => {
    const pair = new Pair(11);
    const empty = pair.list.bytes();
    for (let round = 0; round < 2; round++) {
      const keys = Array.from({ length: 140_000 }, (_, n) => bytes(String(n).padStart(6, "0")));
      for (const key of keys) pair.insert(key);
      const full = pair.list.bytes();
      expect(full).toBeGreaterThan(2 * empty);
      // Every second one, and then the others: blocks are merged on the way.
      for (let n = 0; n < keys.length; n += 2) pair.remove(keys[n]);
      if (round === 0) pair.check();
      for (let n = 1; n < keys.length - 2; n += 2) pair.remove(keys[n]);
      expect(pair.list.bytes()).toBe(empty);
      pair.check();
    }
  });

  test("filling one that holds something is a broken invariant", () => {
    const pair = new Pair(9);
    pair.insert(bytes("a"));
    const fill = (): void => inOneGo(pair.list.fill(new Uint32Array(1)));
    expect(fill).toThrow("only an empty one");
  });

  test("tells apart keys that leave a long shared prefix at any byte", () => {
    const pair = new Pair(4);
    const prefix = "p".repeat(80);
    for (const n of numbers(0, 2_000, "shuffled")) pair.insert(bytes(prefix + n));
    // Each differs from the prefix in one byte only, and then goes on like the others.
    const strangers: Uint8Array[] = [];
    for (let at = 0; at < 80; at++)
      for (const byte of ["A", "r"])
        strangers.push(bytes(prefix.slice(0, at) + byte + prefix.slice(at + 1) + "555"));
    for (const key of strangers) pair.checkSeek(key);
    for (const key of strangers) pair.insert(key);
    for (const key of strangers) pair.checkSeek(key);
    pair.check();
  });

  test("tells apart keys that differ by zeros at the end only", () => {
    const pair = new Pair(1);
    for (let length = 1; length <= 300; length++) pair.insert(new Uint8Array(length));
    pair.check();
    for (let length = 1; length <= 300; length++) pair.checkSeek(new Uint8Array(length));
  });

  test("runs of inserts in either direction leave full blocks", () => {
    for (const pattern of ["up", "down"] as const) {
      const pair = new Pair(5);
      for (const n of numbers(10_000, 65_536, pattern)) pair.insert(bytes(`k${n}`));
      const before = pair.list.bytes();
      expect(before / pair.list.size).toBeLessThan(10);
      // The same again in a gap between two full blocks.
      for (const n of numbers(10_000, 65_536, pattern)) pair.insert(bytes(`k10255/${n}`));
      expect(pair.list.bytes()).toBeLessThanOrEqual(before * 3);
    }
  });

  test("memory stays bounded when keys come and go", () => {
    const pair = new Pair(6);
    const key = (n: number): Uint8Array => bytes(`key:${String(n).padStart(12, "0")}`);
    for (let n = 0; n < 40_000; n++) pair.insert(key(n));
    const before = pair.list.bytes();
    // A window that moves on for ever, leaving one key in 512 behind.
    for (let n = 40_000; n < 200_000; n++) {
      pair.insert(key(n));
      if (n % 512 !== 0) pair.remove(key(n - 40_000));
    }
    expect(pair.list.bytes()).toBeLessThanOrEqual(before * 2);
    // Sweeping away all but one key in 256, in order, must not leave a block for each.
    for (let n = 160_000; n < 200_000; n++) if (n % 256 !== 0) pair.remove(key(n));
    for (let n = 0; n < 40_000; n++) pair.insert(key(1_000_000 + n));
    expect(pair.list.bytes()).toBeLessThanOrEqual(before * 2);
    pair.check();
  });

  test("removing what is not there is a broken invariant", () => {
    const pair = new Pair(7);
    pair.insert(bytes("a"));
    const stranger = pair.keys.add(bytes("b"));
    expect(() => pair.list.remove(stranger)).toThrow("not in it");
  });
});

function numbers(from: number, count: number, pattern: "up" | "down" | "shuffled"): number[] {
  const all = Array.from({ length: count }, (_, i) => from + i);
  if (pattern === "down") return all.reverse();
  if (pattern === "up") return all;
  const random = seeded(from + count);
  for (let i = count - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [all[i], all[j]] = [all[j], all[i]];
  }
  return all;
}

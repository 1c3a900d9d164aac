import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { BlockSkipList } from "../../src/core/block-skip-list.ts";
import { compareBytes } from "../../src/core/entry.ts";
import { prefix32 } from "../../src/core/key-order.ts";
import type { KeySlice, KeySource } from "../../src/core/key-order.ts";
import { seeded } from "../support/random.ts";

/** Keys by id, ids reused as the store does; freed keys are scribbled over. */
class TestKeys implements KeySource {
  readonly byId: Uint8Array[] = [];
  private readonly free: number[] = [];

  add(key: Uint8Array): number {
    const id = this.free.pop() ?? this.byId.length;
    this.byId[id] = key.slice();
    return id;
  }

  release(id: number): void {
    this.byId[id].fill(0xff);
    this.free.push(id);
  }

  locateKey(id: number, into: KeySlice): void {
    into.bytes = this.byId[id];
    into.offset = 0;
    into.length = into.bytes.length;
  }

  compareToKey(id: number, key: Uint8Array, offset: number, length: number): number {
    const mine = this.byId[id];
    return compareBytes(mine, 0, mine.length, key, offset, length);
  }

  prefix32(id: number, skip: number): number {
    return prefix32(this.byId[id], 0, this.byId[id].length, skip);
  }
}

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
    this.list.clear();
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
const bytes = (text: string): Uint8Array => Buffer.from(text, "latin1");
/** Bytes as a string whose order (by UTF-16 unit) is theirs. */
const nameOf = (key: Uint8Array): string => Buffer.from(key).toString("latin1");

/** Keys that collide in every way: short, zero-padded, high bytes, long shared prefixes. */
const awkwardKey = fc
  .oneof(
    fc.string({ unit: fc.constantFrom("\0", "a", "b", "\xff"), minLength: 1, maxLength: 6 }),
    fc.nat(400).map((n) => `key:${String(n).padStart(12, "0")}`),
    fc.nat(400).map((n) => `user:${n}`),
    fc
      .tuple(fc.constantFrom(27, 31, 32, 33, 80), fc.nat(200))
      .map(([length, n]) => "p".repeat(length) + n.toString(2)),
    fc
      .tuple(fc.integer({ min: 26, max: 81 }), fc.constantFrom("A", "r"))
      .map(([length, end]) => "p".repeat(length) + end + "p".repeat(60)),
    fc.string({ unit: fc.constantFrom("\0", "q"), minLength: 30, maxLength: 40 }),
  )
  .map(bytes);

const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant("insert" as const), key: awkwardKey }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("remove" as const), key: awkwardKey }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("seek" as const), key: awkwardKey }) },
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

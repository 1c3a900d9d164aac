/** The hash index against a map, under hashes that collide in every way; and the hash itself. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { Leftovers } from "../../src/core/store/leftovers.ts";
import { HashIndex, type IndexedKeys } from "../../src/core/store/hash-index.ts";
import { hashKey } from "../../src/core/store/key-hash.ts";
import { seeded } from "../support/random.ts";

/** Keys by id, ids reused as the store does. */
class TestKeys implements IndexedKeys {
  readonly byId: string[] = [];
  readonly hashes: number[] = [];
  private readonly free: number[] = [];

  add(key: string, hash: number): number {
    const id = this.free.pop() ?? this.byId.length;
    this.byId[id] = key;
    this.hashes[id] = hash;
    return id;
  }

  release(id: number): void {
    this.byId[id] = "";
    this.hashes[id] = 0xdead_beef;
    this.free.push(id);
  }

  hashOf(id: number): number {
    return this.hashes[id];
  }

  matches(id: number, hash: number, key: Uint8Array, offset: number, length: number): boolean {
    const text = Buffer.from(key.subarray(offset, offset + length)).toString();
    return this.hashes[id] === hash && this.byId[id] === text;
  }
}

/** The index beside a map from key to id. A key's hash is any function of it. */
class Pair {
  readonly keys = new TestKeys();
  readonly index = new HashIndex(this.keys);
  readonly naive = new Map<string, number>();

  constructor(private readonly hashOf: (key: string) => number) {}

  insert(key: string): void {
    if (this.naive.has(key)) return;
    const id = this.keys.add(key, this.hashOf(key));
    this.index.insert(this.hashOf(key), id);
    this.naive.set(key, id);
  }

  remove(key: string): void {
    const id = this.naive.get(key);
    if (id === undefined) return;
    this.index.remove(this.hashOf(key), id);
    this.keys.release(id);
    this.naive.delete(key);
  }

  find(key: string): number {
    const padded = Buffer.from(`??${key}??`);
    return this.index.find(this.hashOf(key), padded, 2, padded.length - 4);
  }

  check(others: Iterable<string>): void {
    expect(this.index.size).toBe(this.naive.size);
    this.index.verify();
    for (const key of others) {
      if (this.find(key) !== (this.naive.get(key) ?? -1))
        throw new Error(`${key} is not as it was`);
    }
    for (const [key, id] of this.naive) {
      if (this.find(key) !== id) throw new Error(`${key} is lost`);
    }
  }
}

const wyhash = (key: string): number => Number(Bun.hash.wyhash(key) & 0xffff_ffffn);

/** Hashes that crowd: few home slots, homes at the end of a table, few tables, or none of it. */
const hashes: [string, (key: string) => number][] = [
  ["spread", wyhash],
  ["few home slots", (key) => (wyhash(key) & 0xffff_f803) >>> 0],
  ["homes about the end of the table", (key) => (wyhash(key) | 0x7fc) >>> 0],
  ["one tag", (key) => (wyhash(key) & 0xffff_07ff) >>> 0],
  ["low directory cells", (key) => wyhash(key) >>> 5],
  ["high directory cells", (key) => (wyhash(key) | 0xf000_0000) >>> 0],
];

const step = fc.record({
  do: fc.constantFrom("insert" as const, "insert" as const, "remove" as const, "reserve" as const),
  from: fc.nat(9_000),
  count: fc.oneof(fc.nat(3), fc.nat(2_500)),
});

describe.each(hashes)("hash index, %s", (_, hashOf) => {
  test("agrees with a map whatever is done to it", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 25, size: "max" }), (steps) => {
        const pair = new Pair(hashOf);
        for (const s of steps) {
          if (s.do === "reserve") pair.index.reserve(s.count * 10);
          else for (let n = s.from; n < s.from + s.count; n++) pair[s.do](`key${n}`);
        }
        pair.check(Array.from({ length: 12_000 }, (_, n) => `key${n}`));
      }),
      { numRuns: 8 },
    );
  });
});

test("few entries whose hashes are all equal are told apart by their keys", () => {
  const pair = new Pair(() => 0xffff_ffff);
  const all = Array.from({ length: 1_500 }, (_, n) => `key${n}`);
  for (const key of all) pair.insert(key);
  pair.check(all);
  const random = seeded(1);
  for (const key of all) if (random() < 0.7) pair.remove(key);
  pair.check(all);
});

test("memory grows with the number of keys, and a clear index starts again", () => {
  const pair = new Pair(wyhash);
  const empty = pair.index.bytes();
  for (let n = 0; n < 200_000; n++) pair.insert(`key${n}`);
  expect(pair.index.bytes() / 200_000).toBeLessThan(11);
  pair.check(["absent"]);
  pair.index.clear(new Leftovers());
  pair.naive.clear();
  expect(pair.index.bytes()).toBe(empty);
  expect(pair.find("key1")).toBe(-1);
  pair.insert("key1");
  pair.check(["key1", "key2"]);
});

test("what room was made for takes no more memory than what grew, and is not moved again", () => {
  for (const count of [1_000, 30_000, 90_000]) {
    const [grown, reserved] = [new Pair(wyhash), new Pair(wyhash)];
    for (let n = 0; n < count / 8; n++) reserved.insert(`key${n}`);
    reserved.index.reserve(count);
    const bytes = reserved.index.bytes();
    reserved.check(["absent"]);
    for (let n = 0; n < count; n++) {
      grown.insert(`key${n}`);
      reserved.insert(`key${n}`);
    }
    expect(reserved.index.bytes()).toBe(bytes);
    expect(bytes).toBeLessThanOrEqual(grown.index.bytes());
    reserved.check(["absent"]);
    reserved.index.clear(new Leftovers());
    expect(reserved.index.bytes()).toBe(new Pair(wyhash).index.bytes());
  }
});

test("removing what is not there is a broken invariant", () => {
  const pair = new Pair(wyhash);
  pair.insert("a");
  expect(() => pair.index.remove(wyhash("b"), 7)).toThrow("missing");
});

test("what is loaded ahead of a lookup is what it looks at, but for one in twenty", () => {
  const pair = new Pair(wyhash);
  for (let i = 0; i < 5_000; i++) pair.insert(`key${i}`);
  let hits = 0;
  for (let i = 0; i < 5_000; i++) {
    const key = `key${i}`;
    if (pair.index.candidate(wyhash(key)) === pair.find(key)) hits++;
  }
  expect(hits).toBeGreaterThan(4_750);
  expect(new Pair(wyhash).index.candidate(wyhash("key"))).toBe(-1);
});

describe("the hash of a key", () => {
  test("is HalfSipHash-1-3", () => {
    // The Linux kernel's own vectors (lib/siphash_kunit.c): input 00 01 02 …, key 00 … 07.
    const expected = [
      0x5814c896, 0xe7e864ca, 0xbc4b0e30, 0x01539939, 0x7e059ea6, 0x88e3d89b, 0xa0080b65,
      0x9d38d9d6, 0x577999b1, 0xc839caed,
    ];
    const input = Uint8Array.from({ length: 64 }, (_, i) => i);
    for (const [length, hash] of expected.entries()) {
      expect(hashKey(input, 0, length, 0x0302_0100, 0x0706_0504)).toBe(hash);
    }
  });

  test("depends on the bytes in the range, the length and the seed alone", () => {
    fc.assert(
      fc.property(fc.uint8Array(), fc.nat(9), fc.integer(), fc.integer(), (key, offset, a, b) => {
        const padded = Buffer.concat([new Uint8Array(offset).fill(0xee), key, Buffer.from("tail")]);
        const hash = hashKey(key, 0, key.length, a, b);
        expect(hashKey(padded, offset, key.length, a, b)).toBe(hash);
        expect(hash >>> 0).toBe(hash);
        expect(hashKey(Buffer.concat([key, Buffer.from([0])]), 0, key.length + 1, a, b)).not.toBe(
          hash,
        );
        expect(hashKey(key, 0, key.length, a ^ 1, b)).not.toBe(hash);
      }),
      { seed: 1 },
    );
  });
});

import { describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import fc from "fast-check";
import { BUCKETS, DigestTree, FANOUT } from "../../src/core/tree/digest-tree.ts";
import {
  Entry,
  KIND_COUNTER,
  KIND_HUSK,
  KIND_STRING,
  KIND_TOMBSTONE,
} from "../../src/core/data/entry.ts";
import type { Kind } from "../../src/core/data/entry.ts";
import { LATEST, MerkleTree } from "../../src/core/tree/merkle.ts";
import type { RecordSource } from "../../src/core/tree/merkle.ts";
import { partOf, wholeBucket, type Part } from "../../src/core/tree/bucket-part.ts";
import { MAX_CHAIN_ENTRIES } from "../../src/core/tree/merkle-buckets.ts";
import { RecordDigester, treeKeyOf } from "../../src/core/tree/record-digest.ts";
import { seeded } from "../support/random.ts";

const sha256 = (bytes: Uint8Array): Buffer => createHash("sha256").update(bytes).digest();

interface Fact {
  key: string;
  value: string;
  kind: Kind;
  time: number;
  expiresAtMs: number;
  /** Of the expiry's version; 0 when it is that of the value. */
  expiryTime?: number;
  learnedMs?: number;
  isMissing?: boolean;
}

const TREE_KEY = treeKeyOf("test");

/** Entries by id, with ids reused, and a tree that is told of every change. */
class Node implements RecordSource {
  readonly tree: MerkleTree;
  private readonly entries: (Fact | undefined)[] = [];
  private readonly ids = new Map<string, number>();
  private readonly free: number[] = [];

  constructor(digester = new RecordDigester(TREE_KEY)) {
    this.tree = new MerkleTree(this, digester);
  }

  isMissing(id: number): boolean {
    return this.entries[id]?.isMissing ?? false;
  }

  get idLimit(): number {
    return this.entries.length;
  }

  isUsed(id: number): boolean {
    return this.entries[id] !== undefined;
  }

  touchRow(): number {
    return 0;
  }

  touchSlots(): number {
    return 0;
  }

  put(fact: Fact): void {
    let id = this.ids.get(fact.key);
    if (id === undefined) {
      id = this.free.pop() ?? this.entries.length;
      this.ids.set(fact.key, id);
    }
    this.entries[id] = fact;
    this.tree.changed(id);
  }

  drop(key: string): void {
    const id = this.ids.get(key);
    if (id === undefined) return;
    this.tree.removed(id);
    this.ids.delete(key);
    this.entries[id] = undefined;
    this.free.push(id);
  }

  clear(): void {
    for (const id of this.ids.values()) this.free.push(id);
    this.ids.clear();
    this.entries.fill(undefined);
    this.tree.flushed(true, true);
  }

  read(id: number, into: Entry): void {
    const fact = this.entries[id];
    if (fact === undefined) throw new Error(`id ${id} names no entry`);
    fill(into, fact);
  }

  facts(): Fact[] {
    return this.entries.filter((fact) => fact !== undefined);
  }

  has(key: string): boolean {
    return this.ids.has(key);
  }

  id(key: string): number {
    return this.ids.get(key)!;
  }

  key(id: number): string {
    return this.entries[id]!.key;
  }

  update(time = LATEST): void {
    while (this.tree.update(time, LATEST, 1000, () => 0));
  }

  verify(): void {
    this.tree.verify(this.entries.length, (id) => this.entries[id] !== undefined);
  }

  root(): string | null {
    this.update();
    this.verify();
    return this.tree.rootHex();
  }
}

function fill(into: Entry, fact: Fact): void {
  into.setKey(Buffer.from(`<${fact.key}>`), 1, fact.key.length);
  into.setValue(Buffer.from(`<${fact.value}>`), 1, fact.value.length);
  into.kind = fact.kind;
  into.setExpiry(fact.expiresAtMs);
  into.expiryVersion.timeHigh = fact.expiryTime ?? 0;
  into.learnedMs = fact.learnedMs ?? 0;
  into.setVersion(fact.time, fact.time * 7, 0x89ab_cdef, 0xfedc_ba98);
}

/** The digest of an entry, written down again from the description. */
function naiveDigest(fact: Fact): Buffer {
  const ends = fact.kind === KIND_STRING && fact.expiresAtMs !== 0;
  const value = Buffer.from(ends ? "" : fact.value);
  const head = Buffer.alloc(45);
  head[0] = fact.isMissing ? 255 : ends ? KIND_HUSK : fact.kind;
  head.writeBigUInt64BE(BigInt(fact.expiresAtMs), 1);
  head.writeUInt32BE(fact.time, 9);
  head.writeUInt32BE(fact.time * 7, 13);
  head.writeUInt32BE(0x89ab_cdef, 17);
  head.writeUInt32BE(0xfedc_ba98, 21);
  head.writeUInt32BE(fact.expiryTime ?? 0, 25);
  head.writeUInt32BE(fact.key.length, 41);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(value.length);
  const bytes = Buffer.concat([TREE_KEY, head, Buffer.from(fact.key), length, value]);
  return sha256(bytes).subarray(0, 16);
}

function naiveKeyDigest(key: string): string {
  return sha256(Buffer.concat([TREE_KEY, Buffer.from(key)])).toString("hex");
}

function naiveBucket(key: string): number {
  return Number.parseInt(naiveKeyDigest(key).slice(0, 4), 16);
}

/** Digests are ordered by their words, as the machine has them. */
function compareDigests(a: Buffer, b: Buffer): number {
  for (let at = 0; at < 16; at += 4) {
    const difference = a.readUInt32LE(at) - b.readUInt32LE(at);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** The digest of what shares the first `digits` of the keys' digests, in hex. */
function naivePart(facts: Fact[], digits: number): Buffer {
  if (facts.length === 0) return Buffer.alloc(16);
  if (facts.length <= MAX_CHAIN_ENTRIES) {
    return sha256(Buffer.concat(facts.map(naiveDigest).sort(compareDigests))).subarray(0, 16);
  }
  const parts = [..."0123456789abcdef"].map((digit) =>
    naivePart(
      facts.filter(({ key }) => naiveKeyDigest(key)[digits] === digit),
      digits + 1,
    ),
  );
  const count = Buffer.alloc(4);
  count.writeUInt32LE(facts.length);
  return sha256(Buffer.concat([...parts, count])).subarray(0, 16);
}

/** The digests of all levels, from the root down, computed from nothing; the root's in full. */
function naiveLevels(facts: Fact[]): Buffer[][] {
  const buckets = Map.groupBy(facts, ({ key }) => naiveBucket(key));
  const zeros = Buffer.alloc(16);
  let level: Buffer[] = Array.from({ length: BUCKETS }, (_, bucket) => {
    const inBucket = buckets.get(bucket);
    return inBucket === undefined ? zeros : naivePart(inBucket, 4);
  });
  const levels = [level];
  while (level.length > 1) {
    const below = level;
    const length = level.length === FANOUT ? 32 : 16;
    level = Array.from({ length: below.length / FANOUT }, (_, node) => {
      const children = below.slice(node * FANOUT, (node + 1) * FANOUT);
      if (children.every((child) => child === zeros))
        return length === 16 ? zeros : Buffer.alloc(32);
      return sha256(Buffer.concat(children)).subarray(0, length);
    });
    levels.unshift(level);
  }
  return levels;
}

const rootOf = (facts: Fact[]): string => naiveLevels(facts)[0][0].toString("hex");
const NO_KEYS = "0".repeat(64);

const key = fc.nat(60).map((n) => `k${n}`);
const fact = fc.record({
  key,
  value: fc.string({ unit: fc.constantFrom("v", "w"), maxLength: 3 }),
  kind: fc.constantFrom<Kind>(KIND_STRING, KIND_TOMBSTONE, KIND_COUNTER),
  time: fc.nat(100),
  expiresAtMs: fc.constantFrom(0, 0, 1_700_000_000_123, 2 ** 48 - 1),
  expiryTime: fc.constantFrom(0, 0, 50, 100),
});
const step = fc.oneof(
  { weight: 6, arbitrary: fact.map((f) => ({ do: "put" as const, fact: f })) },
  { weight: 2, arbitrary: key.map((k) => ({ do: "drop" as const, key: k })) },
  { weight: 1, arbitrary: fc.nat(100).map((t) => ({ do: "update" as const, time: t })) },
  { weight: 1, arbitrary: fc.constant({ do: "slice" as const }) },
);

/** Keys that somebody made up to lie in one bucket: here all do. */
class CrowdingDigester extends RecordDigester {
  override ofKey(entry: Entry, out: Uint8Array): void {
    super.ofKey(entry, out);
    out.set([0, CROWDED]);
  }
}
const CROWDED = 0xab;
const CROWD = Array.from({ length: 2_000 }, (_, i) => `c${i}`);
const crowdedNode = () => new Node(new CrowdingDigester(TREE_KEY));

function simple(name: string, time: number, value = `${name}@${time}`): Fact {
  return { key: name, value, kind: KIND_STRING, time, expiresAtMs: 0 };
}

describe("a tree that is made over entries that are there", () => {
  test("takes them in by slices, and what changes meanwhile", () => {
    const random = seeded(5);
    const below = (limit: number): number => Math.floor(random() * limit);
    const node = new Node();
    const name = (i: number): string => `k${i}`;
    for (let i = 0; i < 9_000; i++) node.put(simple(name(i), 1));
    const tree = new MerkleTree(node, new RecordDigester(TREE_KEY));
    tree.markAll();
    let slices = 0;
    let clock = 0;
    const isUsed = (id: number): boolean => node.isUsed(id);
    // A slice ends with each look at the clock.
    while (tree.update(LATEST, LATEST, 0, () => clock++)) {
      slices++;
      const i = below(10_000);
      const isThere = node.has(name(i));
      const id = isThere ? node.id(name(i)) : -1;
      if (isThere && random() < 0.5) {
        tree.removed(id);
        node.drop(name(i));
      } else {
        node.put(simple(name(i), 2 + slices));
        tree.changed(node.id(name(i)));
      }
      if (slices % 1_000 === 0 || slices < 4) tree.verify(node.idLimit, isUsed);
    }
    expect(slices).toBeGreaterThan(100);
    while (tree.update(LATEST, LATEST, 1, () => 0));
    tree.verify(node.idLimit, isUsed);
    expect(tree.rootHex()).toBe(node.root());
  });

  test("has nothing left to take in when they are flushed", () => {
    const node = new Node();
    for (let i = 0; i < 9_000; i++) node.put(simple(`k${i}`, 1));
    const tree = new MerkleTree(node, new RecordDigester(TREE_KEY));
    tree.markAll();
    tree.update(LATEST, LATEST, 0, () => 0);
    node.clear();
    tree.flushed(true, true);
    node.put(simple("after", 2));
    tree.changed(node.id("after"));
    while (tree.update(LATEST, LATEST, 1, () => 0));
    tree.verify(node.idLimit, (id) => node.isUsed(id));
    expect(tree.rootHex()).toBe(node.root());
  });
});

describe("Merkle tree", () => {
  test("has the root of its entries whatever happened before", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120, size: "max" }), (steps) => {
        const node = new Node();
        for (const s of steps) {
          if (s.do === "put") node.put(s.fact);
          else if (s.do === "drop") node.drop(s.key);
          else if (s.do === "update") node.update(s.time);
          else node.tree.update(LATEST, LATEST, 0, () => 0);
          if (s.do === "update" || s.do === "slice") node.verify();
        }
        node.update();
        expect(node.root()).toBe(rootOf(node.facts()));
        expect(node.tree.waiting).toBe(0);
      }),
      { numRuns: 60 },
    );
  });

  test("agrees with a naive tree on every level, bucket and entry", () => {
    const node = new Node();
    for (let i = 0; i < 3_000; i++) node.put(simple(`key:${i}`, i));
    node.update();
    const levels = naiveLevels(node.facts());
    expect(node.tree.rootHex()).toBe(levels[0][0].toString("hex"));
    const { words } = node.tree.levels;
    for (let level = 0; level < 5; level++)
      for (let index = 0; index < levels[level].length; index++) {
        const at = node.tree.levels.offsetOf(level, index) * 4;
        const digest = Buffer.from(words.buffer, at, 16);
        if (Buffer.compare(digest, levels[level][index].subarray(0, 16)) !== 0)
          throw new Error(`node ${index} on level ${level} differs`);
      }

    const seen = new Set<string>();
    for (let bucket = 0; bucket < BUCKETS; bucket++)
      node.tree.buckets.visit(wholeBucket(bucket), (id) => {
        expect(naiveBucket(node.key(id))).toBe(bucket);
        seen.add(node.key(id));
      });
    expect(seen.size).toBe(node.facts().length);
    const out = new Uint32Array(6);
    node.tree.buckets.copyDigest(0, out, 1);
    const digest = Buffer.from(out.buffer, 4, 16).toString("hex");
    expect(digest).toBe(naiveDigest(node.facts()[0]).toString("hex"));
  });

  test("has the digest of a large bucket's entries, and of its parts', whatever happened before", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(1500), fc.constantFrom("put", "put", "drop"), fc.nat(700)), {
          minLength: 1,
          maxLength: 8,
        }),
        fc.boolean(),
        (ranges, isSliced) => {
          const node = crowdedNode();
          for (const [from, what, count] of ranges) {
            for (const key of CROWD.slice(from, from + count)) {
              if (what === "put") node.put(simple(key, count));
              else node.drop(key);
            }
            if (isSliced) node.tree.update(LATEST, LATEST, 0, () => 0);
            else node.update();
            node.verify();
          }
          const facts = node.facts();
          // What changed behind an update under way is for the next.
          for (let i = 0; i < 2; i++) node.update();
          const root = new Uint32Array(4);
          node.tree.buckets.digest(CROWDED, root, 0);
          expect(Buffer.from(root.buffer).toString("hex")).toBe(
            naivePart(facts, 4).toString("hex"),
          );
          const { buckets } = node.tree;
          for (const digits of ["", "0", "7a"]) {
            const of = facts.filter(({ key }) => naiveKeyDigest(key).startsWith(digits, 4));
            const part = [...digits].reduce<Part>(
              (whole, digit) => partOf(whole, Number.parseInt(digit, 16)),
              wholeBucket(CROWDED),
            );
            expect(buckets.count(part)).toBe(of.length);
            const keys: string[] = [];
            buckets.visit(part, (id) => keys.push(node.key(id)));
            expect(keys.sort()).toEqual(of.map(({ key }) => key).sort());
            const parts = new Uint32Array(64);
            buckets.digestParts(part, parts);
            const naive = [..."0123456789abcdef"].map((digit) => {
              const below = of.filter(
                ({ key }) => naiveKeyDigest(key)[4 + digits.length] === digit,
              );
              return naivePart(below, 5 + digits.length);
            });
            expect(Buffer.from(parts.buffer).toString("hex")).toBe(
              Buffer.concat(naive).toString("hex"),
            );
          }
        },
      ),
      { numRuns: 12 },
    );
  });

  test("takes in and takes out one entry of a large bucket without going over the rest", () => {
    const node = crowdedNode();
    for (const key of CROWD) node.put(simple(key, 1));
    node.update();
    let read = 0;
    const { read: readFact } = node;
    node.read = (id, into) => {
      read++;
      readFact.call(node, id, into);
    };
    for (const key of CROWD.slice(0, 500)) node.put(simple(key, 2));
    node.update();
    for (const key of CROWD.slice(500)) node.drop(key);
    // Whether it is due, itself, its place; now and then a part of at most half MAX_CHAIN_ENTRIES is divided or
    // joined.
    expect(read).toBeLessThan(3 * 500 + CROWD.length - 500 + 1);
    const again = crowdedNode();
    for (const fact of node.facts()) again.put(fact);
    expect(node.root()).toBe(again.root());
  });

  test("holds two entries for different that agree in three of the four words of their digests", () => {
    const roots = [0, 1, 2, 3].flatMap((word) => {
      const node = new Node();
      node.put(simple("a", 1));
      node.update();
      const words = Uint32Array.of(1, 2, 3, 4);
      return [4, 5].map((value) => {
        words[word] = value;
        node.tree.buckets.setDigest(0, words);
        const out = new Uint32Array(4);
        node.tree.buckets.digest(naiveBucket("a"), out, 0);
        return out.join(" ");
      });
    });
    // 1 2 3 4 is there twice: as it was made, and with the last word set to what it was.
    expect(new Set(roots).size).toBe(8);
  });

  test("is all zeros without entries, also when it had some", () => {
    const node = new Node();
    expect(node.root()).toBe(NO_KEYS);
    node.put(simple("a", 1));
    expect(node.root()).not.toBe(NO_KEYS);
    node.drop("a");
    expect(node.root()).toBe(NO_KEYS);
    node.put(simple("a", 1));
    expect(node.root()).toBe(rootOf([simple("a", 1)]));
    node.tree.flushed(false, false);
    expect(node.root()).toBe(rootOf([simple("a", 1)]));
    node.clear();
    expect(node.root()).toBe(NO_KEYS);
    expect(node.tree.waiting).toBe(0);
    node.put(simple("b", 2));
    expect(node.root()).toBe(rootOf([simple("b", 2)]));
  });

  test("tells every part of an entry apart, but not what merging ignores", () => {
    const rootWith = (change: Partial<Fact>): string | null => {
      const node = new Node();
      node.put({ ...simple("ab", 5, "cd"), ...change });
      return node.root();
    };
    const changes: Partial<Fact>[] = [
      {},
      { key: "abc", value: "d" },
      { key: "a", value: "bcd" },
      { value: "ce" },
      { time: 6 },
      { kind: KIND_COUNTER },
      { kind: KIND_COUNTER, expiresAtMs: 1_000 },
      { kind: KIND_COUNTER, expiresAtMs: 1_000 + 2 ** 32 },
      { kind: KIND_TOMBSTONE, value: "" },
      { kind: KIND_TOMBSTONE, value: "", expiresAtMs: 1_000, expiryTime: 4 },
      { expiresAtMs: 1_000 },
      { expiresAtMs: 1_001 },
      { expiresAtMs: 1_000, expiryTime: 4 },
      { expiresAtMs: 1_000, expiryTime: 5 },
      { expiryTime: 4 },
      { kind: KIND_HUSK, value: "", expiresAtMs: 1_000, isMissing: true },
      { value: "x".repeat(5_000) },
      { value: "x".repeat(5_001) },
    ];
    expect(new Set(changes.map(rootWith)).size).toBe(changes.length);
    // Nobody need have let go of the value at the same time, nor have learned of the death.
    const husk = { kind: KIND_HUSK, value: "", expiresAtMs: 1_000 } as const;
    expect(rootWith({ expiresAtMs: 1_000 })).toBe(rootWith(husk));
    expect(rootWith({ ...husk, learnedMs: 5 })).toBe(rootWith(husk));
    const tombstone = { kind: KIND_TOMBSTONE, value: "" } as const;
    expect(rootWith({ ...tombstone, learnedMs: 5 })).toBe(rootWith(tombstone));
    const large = { ...simple("ab", 5), value: "x".repeat(100_000) };
    expect(rootWith(large)).toBe(rootOf([large]));
  });

  test("as of a watermark, nodes agree while writes are under way between them", () => {
    const [here, there] = [new Node(), new Node()];
    for (const node of [here, there]) {
      for (let i = 0; i < 50; i++) node.put(simple(`k${i}`, 10));
      node.update(20);
    }
    const before = here.tree.rootHex();
    // Overwritten and new keys above the watermark have reached one side only.
    for (let i = 0; i < 10; i++) here.put(simple(`k${i}`, 30));
    here.put(simple("new", 31));
    here.update(25);
    there.update(25);
    expect(here.tree.rootHex()).toBe(before);
    expect(there.tree.rootHex()).toBe(before);
    expect(here.tree.waiting).toBe(11);
    expect(here.tree.watermarkHigh).toBe(25);
    // What lies below the watermark and is missing does show.
    here.put(simple("missed", 24));
    here.update(26);
    expect(here.tree.rootHex()).not.toBe(before);
    // At rest all is in and equal.
    for (const f of here.facts()) there.put(f);
    expect(there.root()).toBe(here.root());
    expect(here.root()).toBe(rootOf(here.facts()));
    expect(here.tree.waiting).toBe(0);
  });

  test("goes on in slices, with writes in between, and ends", () => {
    const node = new Node();
    for (let i = 0; i < 5_000; i++) node.put(simple(`k${i}`, i % 40));
    let slices = 0;
    let clock = 0;
    // Every look at the clock finds time up, and half the entries lie above the watermark.
    while (node.tree.update(20, LATEST, 1, () => clock++)) {
      slices++;
      if (slices === 100) node.put(simple("k0", 3));
      if (slices === 150) node.drop("k1");
      if (slices > 6_000) throw new Error("does not end");
    }
    expect(slices).toBeGreaterThan(1_000);
    expect(node.tree.rootHex()).not.toBeNull();
    expect(node.root()).toBe(rootOf(node.facts()));
  });

  test("an update asked for with a later watermark while one is under way covers it", () => {
    const node = new Node();
    for (let i = 0; i < 100; i++) node.put(simple(`k${i}`, i));
    let clock = 0;
    expect(node.tree.update(10, LATEST, 0, () => clock++)).toBe(true);
    node.update(60);
    expect(node.tree.watermarkHigh).toBe(60);
    expect(node.tree.rootHex()).toBe(rootOf(node.facts().filter((f) => f.time <= 60)));
  });

  test("can be cleared at any point of an update", () => {
    for (let slices = 0; slices < 120; slices++) {
      const node = new Node();
      for (let i = 0; i < 500; i++) node.put(simple(`k${i}`, 1));
      for (let i = 0; i < slices; i++) node.tree.update(LATEST, LATEST, 0, () => 0);
      node.clear();
      for (let i = 0; i < 3; i++) node.put(simple(`k${i}`, 2));
      node.tree.update(LATEST, LATEST, 1, () => 0);
      expect(node.tree.rootHex()).toBe(rootOf(node.facts()));
    }
  });

  test("computes only what changed", () => {
    const levels = new DigestTree();
    const asked: number[] = [];
    const source = { digest: (bucket: number) => void asked.push(bucket), prefetch() {} };
    for (const bucket of [7, 65_535, 7]) levels.mark(bucket);
    levels.refresh(source, 1, () => 0);
    expect(asked).toEqual([7, 65_535]);
    levels.mark(300);
    levels.refresh(source, 1, () => 0);
    expect(asked).toEqual([7, 65_535, 300]);
  });

  test("has no root while digests are being computed", () => {
    const node = new Node();
    for (let i = 0; i < 500; i++) node.put(simple(`k${i}`, 1));
    let clock = 0;
    let without = 0;
    while (node.tree.update(LATEST, LATEST, 1, () => clock++)) {
      if (node.tree.root() === null) without++;
      else expect(node.tree.rootHex()).toBe(NO_KEYS);
    }
    expect(without).toBeGreaterThan(0);
    expect(node.tree.rootHex()).toBe(rootOf(node.facts()));
  });
});

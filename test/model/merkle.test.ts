import { describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import fc from "fast-check";
import { BUCKETS, DigestTree, FANOUT } from "../../src/core/digest-tree.ts";
import { Entry, KIND_COUNTER, KIND_STRING, KIND_TOMBSTONE } from "../../src/core/entry.ts";
import type { Kind } from "../../src/core/entry.ts";
import { LATEST, MerkleTree } from "../../src/core/merkle.ts";
import type { RecordSource } from "../../src/core/merkle.ts";

const sha256 = (bytes: Uint8Array): Buffer => createHash("sha256").update(bytes).digest();

interface Fact {
  key: string;
  value: string;
  kind: Kind;
  time: number;
  expiresAtMs: number;
}

/** Entries by id, with ids reused, and a tree that is told of every change. */
class Node implements RecordSource {
  readonly tree = new MerkleTree(this);
  private readonly entries: (Fact | undefined)[] = [];
  private readonly ids = new Map<string, number>();
  private readonly free: number[] = [];

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

  key(id: number): string {
    return this.entries[id]!.key;
  }

  update(time = LATEST): void {
    while (this.tree.update(time, LATEST, 1000, () => 0));
  }

  root(): string | null {
    this.update();
    return this.tree.rootHex();
  }
}

function fill(into: Entry, fact: Fact): void {
  into.setKey(Buffer.from(`<${fact.key}>`), 1, fact.key.length);
  into.setValue(Buffer.from(`<${fact.value}>`), 1, fact.value.length);
  into.kind = fact.kind;
  into.expiresAtMs = fact.expiresAtMs;
  into.setVersion(fact.time, fact.time * 7, 0x89ab_cdef, 0xfedc_ba98);
}

/** The digest of an entry, written down again from the description. */
function naiveDigest(fact: Fact): Buffer {
  const ends = fact.kind === KIND_STRING && fact.expiresAtMs !== 0;
  const kind = ends ? KIND_TOMBSTONE : fact.kind;
  const value = Buffer.from(ends ? "" : fact.value);
  const head = Buffer.alloc(29);
  head[0] = kind;
  head.writeBigUInt64BE(BigInt(kind === KIND_TOMBSTONE ? 0 : fact.expiresAtMs), 1);
  head.writeUInt32BE(fact.time, 9);
  head.writeUInt32BE(fact.time * 7, 13);
  head.writeUInt32BE(0x89ab_cdef, 17);
  head.writeUInt32BE(0xfedc_ba98, 21);
  head.writeUInt32BE(fact.key.length, 25);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(value.length);
  return sha256(Buffer.concat([head, Buffer.from(fact.key), length, value])).subarray(0, 8);
}

function naiveBucket(key: string): number {
  return sha256(Buffer.from(key)).readUInt16BE(0);
}

/** The digests of all levels, from the root down, computed from nothing. */
function naiveLevels(facts: Fact[]): Buffer[][] {
  const buckets = new Map<number, bigint[]>();
  for (const fact of facts) {
    const bucket = naiveBucket(fact.key);
    const digests = buckets.get(bucket) ?? [];
    digests.push(naiveDigest(fact).readBigUInt64LE());
    buckets.set(bucket, digests);
  }
  const zeros = Buffer.alloc(32);
  let level: Buffer[] = Array.from({ length: BUCKETS }, (_, bucket) => {
    const digests = buckets.get(bucket);
    if (digests === undefined) return zeros;
    return sha256(new Uint8Array(BigUint64Array.from(digests).sort().buffer));
  });
  const levels = [level];
  while (level.length > 1) {
    const below = level;
    level = Array.from({ length: below.length / FANOUT }, (_, node) => {
      const children = below.slice(node * FANOUT, (node + 1) * FANOUT);
      return children.every((child) => child === zeros) ? zeros : sha256(Buffer.concat(children));
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
  expiresAtMs: fc.constantFrom(0, 0, 1_700_000_000_123, 2 ** 52),
});
const step = fc.oneof(
  { weight: 6, arbitrary: fact.map((f) => ({ do: "put" as const, fact: f })) },
  { weight: 2, arbitrary: key.map((k) => ({ do: "drop" as const, key: k })) },
  { weight: 1, arbitrary: fc.nat(100).map((t) => ({ do: "update" as const, time: t })) },
  { weight: 1, arbitrary: fc.constant({ do: "slice" as const }) },
);

function simple(name: string, time: number, value = `${name}@${time}`): Fact {
  return { key: name, value, kind: KIND_STRING, time, expiresAtMs: 0 };
}

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
    // One bucket with many entries: more than the scratch starts with.
    const crowded: Fact[] = [];
    for (let i = 0; crowded.length < 10; i++)
      if (sha256(Buffer.from(`c${i}`)).readUInt16BE(0) === 0xabcd) crowded.push(simple(`c${i}`, i));
    for (const f of crowded) node.put(f);
    node.update();
    const levels = naiveLevels(node.facts());
    expect(node.tree.rootHex()).toBe(levels[0][0].toString("hex"));
    const out = new Uint8Array(FANOUT * 32 + 3);
    for (let level = 0; level < 4; level++)
      for (let index = 0; index < levels[level].length; index++) {
        node.tree.levels.copyChildren(level, index, 32, out, 3);
        const children = levels[level + 1].slice(index * FANOUT, (index + 1) * FANOUT);
        if (Buffer.compare(out.subarray(3), Buffer.concat(children)) !== 0)
          throw new Error(`children of node ${index} on level ${level} differ`);
      }
    node.tree.levels.copyChildren(0, 0, 8, out, 1);
    const short = levels[1].map((digest) => digest.subarray(0, 8));
    expect(out.slice(1, 1 + FANOUT * 8).toHex()).toBe(Buffer.concat(short).toString("hex"));

    const seen = new Set<string>();
    for (let bucket = 0; bucket < BUCKETS; bucket++)
      for (let id = node.tree.buckets.first(bucket); id >= 0; id = node.tree.buckets.next(id)) {
        expect(naiveBucket(node.key(id))).toBe(bucket);
        seen.add(node.key(id));
      }
    expect(seen.size).toBe(node.facts().length);
    node.tree.buckets.copyDigest(0, out, 5);
    expect(out.slice(5, 13).toHex()).toBe(naiveDigest(node.facts()[0]).toString("hex"));
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
      { value: "x".repeat(5_000) },
      { value: "x".repeat(5_001) },
    ];
    expect(new Set(changes.map(rootWith)).size).toBe(changes.length);
    // Swept or not, an entry with an expiry is the same; so is any tombstone of one version.
    const tombstone = rootWith({ kind: KIND_TOMBSTONE, value: "" });
    expect(rootWith({ kind: KIND_TOMBSTONE, value: "", expiresAtMs: 1_000 })).toBe(tombstone);
    expect(rootWith({ expiresAtMs: 1_000 })).toBe(tombstone);
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
    const source = { digest: (bucket: number) => asked.push(bucket) < 0 };
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

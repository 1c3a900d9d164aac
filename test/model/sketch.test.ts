/** Sketches against plain comparison: of two arrays of bucket digests, where do they differ? */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { BucketCopy } from "../../src/core/sync/bucket-copy.ts";
import { CodedSymbols } from "../../src/core/sync/coded-symbols.ts";
import { COLUMNS, ESTIMATE_ERROR, readEstimate } from "../../src/core/sync/difference-estimate.ts";
import { FRAME_HEADER_BYTES, FrameReader, FrameWriter } from "../../src/core/sync/frames.ts";
import { Peeling } from "../../src/core/sync/peeling.ts";
import { DigestShortener } from "../../src/core/sync/short-digest.ts";
import { BUCKET_LEVEL, BUCKETS, DigestTree } from "../../src/core/tree/digest-tree.ts";
import { seeded } from "../support/random.ts";

/** Two trees, of whose buckets a share is empty, and where they differ. */
function twoTrees(seed: number, differing: number, filled: number) {
  const random = seeded(seed);
  const below = (limit: number): number => Math.floor(random() * limit);
  const trees = [new DigestTree(), new DigestTree()] as const;
  const fill = (tree: DigestTree, bucket: number, isEmpty: boolean): void => {
    const at = tree.offsetOf(BUCKET_LEVEL, bucket);
    for (let word = 0; word < 4; word++) tree.words[at + word] = isEmpty ? 0 : below(2 ** 32);
  };
  for (let bucket = 0; bucket < BUCKETS; bucket++) {
    fill(trees[0], bucket, random() >= filled);
    const at = trees[0].offsetOf(BUCKET_LEVEL, bucket);
    trees[1].words.set(trees[0].words.subarray(at, at + 4), at);
  }
  const where = new Set<number>();
  while (where.size < differing) where.add(below(BUCKETS));
  for (const bucket of where) {
    const at = trees[0].offsetOf(BUCKET_LEVEL, bucket);
    const isFull = trees[0].words.subarray(at, at + 4).some((word) => word !== 0);
    fill(trees[below(2)], bucket, isFull && random() < 0.3);
  }
  for (const tree of trees) refreshAll(tree);
  return { trees, where: [...where].toSorted((a, b) => a - b) };
}

/** Brings the nodes above the buckets up to date with what the buckets are. */
function refreshAll(tree: DigestTree): void {
  for (let bucket = 0; bucket < BUCKETS; bucket++) tree.mark(bucket);
  while (tree.refresh({ digest() {}, prefetch() {} }, Infinity, () => 0));
}

function shortenerOf(seed: number): DigestShortener {
  const shortener = new DigestShortener();
  shortener.setSalt({ high: seed, low: Math.imul(seed, 0x9e3779b9) >>> 0 });
  return shortener;
}

/** Adds to the second one's symbols the first one's, for all from `from` on. */
function join(theirs: CodedSymbols, into: CodedSymbols, from: number): void {
  for (let at = from; at < into.count; at++) {
    into.low[at] ^= theirs.low[at];
    into.high[at] ^= theirs.high[at];
    into.lowProducts[at] ^= theirs.lowProducts[at];
    into.highProducts[at] ^= theirs.highProducts[at];
  }
}

describe("coded symbols", () => {
  const seed = fc.nat(0xffff_ffff);
  const counts = fc.oneof(fc.nat(5), fc.nat(100), fc.nat(3_000));

  test("tell exactly the buckets that differ, and no longer than it takes", () => {
    fc.assert(
      fc.property(seed, counts, fc.constantFrom(1, 0.5, 0.01), (seed, differing, filled) => {
        const { trees, where } = twoTrees(seed, differing, filled);
        const shortener = shortenerOf(seed);
        const copies = trees.map((tree) => BucketCopy.take(tree, shortener)!);
        const [theirs, own] = [0, 1].map(() => new CodedSymbols(shortener.key)) as [
          CodedSymbols,
          CodedSymbols,
        ];
        const peeling = new Peeling(own);
        let count = 3;
        for (let from = 0; ; from = count, count = Math.ceil(count * 1.2)) {
          for (const [i, symbols] of [theirs, own].entries()) {
            symbols.grow(count);
            while (copies[i].work(symbols));
          }
          join(theirs, own, from);
          while (peeling.work());
          if (peeling.isComplete) break;
          if (count > 2 * differing + 200) throw new Error(`${count} symbols do not tell`);
        }
        expect(peeling.differing()).toEqual(where);
        for (const bucket of where) {
          const at = trees[0].offsetOf(BUCKET_LEVEL, bucket);
          const isEmpty = trees[0].words.subarray(at, at + 4).every((word) => word === 0);
          const [low, high] = peeling.differenceOf(bucket);
          expect(copies[1].has(bucket, low, high)).toBe(isEmpty);
        }
        for (const copy of copies) copy.release();
        expect(trees.map((tree) => tree.copies)).toEqual([0, 0]);
      }),
      { numRuns: 25 },
    );
  });

  test("that are noise are given up, after a bounded time", () => {
    const random = seeded(7);
    const symbols = new CodedSymbols(5);
    symbols.grow(2_000);
    for (let at = 0; at < 2_000; at++) {
      symbols.low[at] = random() * 2 ** 32;
      symbols.lowProducts[at] = random() * 2 ** 32;
      symbols.high[at] = random() * 2 ** 16;
    }
    const peeling = new Peeling(symbols);
    let pieces = 0;
    while (peeling.work()) if (++pieces > 1_000) throw new Error("it works on and on");
    expect(peeling.isComplete).toBe(false);
  });

  test("made up so that a bucket is taken out for ever are given up too", () => {
    // Symbol 0 alone has bucket 9 of this value: taken out of there, it is in all others, and so on.
    const symbols = new CodedSymbols(5);
    symbols.grow(60);
    symbols.add(9, 77, 0, 0, 1);
    const peeling = new Peeling(symbols);
    let pieces = 0;
    while (peeling.work()) if (++pieces > 1_000) throw new Error("it works on and on");
    expect(peeling.isComplete).toBe(false);
  });
});

test("a copy has what is in the tree, whether or not the nodes above are up to date", () => {
  const random = seeded(11);
  const tree = new DigestTree();
  const digests = new Map<number, number>();
  const source = {
    digest(bucket: number, out: Uint32Array, at: number) {
      out.fill(digests.get(bucket) ?? 0, at, at + 4);
    },
    prefetch() {},
  };
  let looks = 0;
  for (let run = 0; run < 200; run++) {
    const bucket = Math.floor(random() * BUCKETS);
    const [first = bucket] = digests.keys();
    const changed = random() < 0.3 ? first : bucket;
    if (!digests.delete(changed)) digests.set(changed, run + 1);
    tree.mark(changed);
    // Of two looks one stops it in the midst.
    if (random() < 0.8) tree.refresh(source, random() < 0.5 ? 0 : 1, () => looks++ % 2);
    const copy = BucketCopy.take(tree, shortenerOf(run))!;
    const symbols = new CodedSymbols(1);
    while (copy.work(symbols));
    for (const bucket of [...digests.keys(), Math.floor(random() * BUCKETS)]) {
      const at = tree.offsetOf(BUCKET_LEVEL, bucket);
      const isEmpty = tree.words.subarray(at, at + 4).every((word) => word === 0);
      expect(copy.has(bucket, 0, 0)).toBe(isEmpty);
    }
    copy.release();
  }
});

test("no more copies are made than there may be, and a copy is given back once", () => {
  const tree = new DigestTree();
  const copies = [];
  for (let copy; (copy = BucketCopy.take(tree, shortenerOf(1))) !== null;) copies.push(copy);
  expect(copies.length).toBe(8);
  copies[0].release();
  copies[0].release();
  expect(BucketCopy.take(tree, shortenerOf(1))).not.toBeNull();
  expect(BucketCopy.take(tree, shortenerOf(1))).toBeNull();
});

describe("an estimate", () => {
  test.each([COLUMNS.some, COLUMNS.many])("with %d columns is as good as it says", (columns) => {
    const logs: number[] = [];
    for (let run = 0; run < 30; run++) {
      const differing = columns * [2, 5, 18][run % 3];
      const { trees } = twoTrees(run, differing, 1);
      const shortener = shortenerOf(run + 1);
      const copies = trees.map((tree) => BucketCopy.take(tree, shortener)!);
      const nothing = new CodedSymbols(shortener.key);
      for (const copy of copies) while (copy.work(nothing));
      const reader = new FrameReader(65_536);
      const writer = new FrameWriter((frame) => reader.push(frame));
      copies[0].estimate.write(writer, columns);
      expect(writer.waitingBytes).toBe(2 + (14 * columns) / 8);
      writer.flush();
      expect(reader.next()).toBe(true);
      reader.skip(1);
      const theirs = readEstimate(reader)!;
      expect(reader.at).toBe(FRAME_HEADER_BYTES + 2 + (14 * columns) / 8);
      logs.push(Math.log(copies[1].estimate.differing(theirs) / differing));
    }
    const deviation = Math.sqrt(logs.reduce((sum, log) => sum + log * log, 0) / logs.length);
    expect(deviation).toBeLessThan((1.6 * ESTIMATE_ERROR) / Math.sqrt(columns));
  });

  test("of a number of columns that there is not is none", () => {
    for (const log of [0, 2, 4, 10, 255]) {
      const reader = new FrameReader(65_536);
      const writer = new FrameWriter((frame) => reader.push(frame));
      writer.reserve(2_000);
      writer.u8(log);
      for (let i = 0; i < 1_900; i++) writer.u8(1);
      writer.flush();
      reader.next();
      expect(readEstimate(reader)).toBeNull();
    }
  });
});

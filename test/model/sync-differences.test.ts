/** What sessions tell of where trees differ: exactly the nodes below which they do. */
import { expect, test } from "bun:test";
import { CURRENT, FINDS_BY_SKETCH } from "../../src/core/data/capabilities.ts";
import { DIGEST_WORDS } from "../../src/core/tree/digest-list.ts";
import { BUCKET_LEVEL, BUCKETS, FANOUT } from "../../src/core/tree/digest-tree.ts";
import { del, rootOf, set } from "../support/sync-data.ts";
import { runPair, SyncNode } from "../support/sync-pair.ts";

/** The nodes above the buckets whose digests differ. */
function differing(a: SyncNode, b: SyncNode): number[] {
  for (const node of [a, b]) rootOf(node);
  const digestOf = ({ tree: { levels } }: SyncNode, i: number): string =>
    levels.words
      .subarray(levels.offsetOf(BUCKET_LEVEL - 1, i), levels.offsetOf(BUCKET_LEVEL - 1, i + 1))
      .subarray(0, DIGEST_WORDS)
      .join();
  const all = Array.from({ length: BUCKETS / FANOUT }, (_, i) => i);
  return all.filter((i) => digestOf(a, i) !== digestOf(b, i));
}

test.each([
  ["a sketch", 0, 25],
  ["a sketch, of one", 0, 1],
  ["a walk", FINDS_BY_SKETCH, 25],
  ["a walk, of nearly all", FINDS_BY_SKETCH, 3_000],
])("both sides tell of all that differs, found by %s", (_, without, count) => {
  const time = { ms: 1_700_000_000_000 };
  const nodes = ["a", "b"].map((id) => new SyncNode(id, { nowMs: () => time.ms }));
  const [a, b] = nodes as [SyncNode, SyncNode];
  for (let i = 0; i < 3_000; i++) set(a, `k${i}`, "v");
  runPair(a, b, { mode: "now" });
  expect(differing(a, b)).toEqual([]);
  for (let i = 0; i < count; i++) {
    time.ms++;
    if (i % 3 === 0) del(nodes[i % 2], `k${i}`);
    else set(nodes[i % 2], i % 3 === 1 ? `k${i}` : `new${i}`, "other");
  }
  const expected = differing(a, b);
  expect(expected.length).toBeGreaterThan(0);
  const told = [new Set<number>(), new Set<number>()];
  const capabilities = { ...CURRENT, features: CURRENT.features & ~without };
  for (const [i, node] of nodes.entries()) {
    node.moreOptions = {
      capabilities,
      differences: { isWatched: true, note: (it) => told[i].add(it) },
    };
  }
  expect(runPair(a, b, { mode: "now" }).initiator.ok).toBeTrue();
  expect(differing(a, b)).toEqual([]);
  for (const cells of told) expect([...cells].sort((x, y) => x - y)).toEqual(expected);
  for (const cells of told) cells.clear();
  runPair(b, a, { mode: "now" });
  expect(told.map((cells) => cells.size)).toEqual([0, 0]);
});

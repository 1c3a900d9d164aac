/** Which trees a node keeps, and what their keys keep from those who know no secret. */
import { describe, expect, test } from "bun:test";
import type { Trees } from "../../../src/anti-entropy/trees.ts";
import { CURRENT, KEYS_BY_SECRET } from "../../../src/core/data/capabilities.ts";
import { Entry } from "../../../src/core/data/entry.ts";
import { LATEST, type MerkleTree } from "../../../src/core/tree/merkle.ts";
import { DIGEST_BYTES, RecordDigester, treeKeyOf } from "../../../src/core/tree/record-digest.ts";
import { Store } from "../../../src/core/store/store.ts";
import type { ClusterSecrets } from "../../../src/security/cluster-secrets.ts";
import { Timeline } from "../../sim/timeline.ts";
import { clusterSecrets, secretFor } from "../../support/secrets.ts";
import { SyncNode } from "../../support/sync-pair.ts";
import { treesOver } from "../../support/trees.ts";

const HOUR_MS = 3_600_000;
const ONE = secretFor("one").id;
const TWO = secretFor("two").id;
const OLDER = { ...CURRENT, features: CURRENT.features & ~KEYS_BY_SECRET };

/** A store, the trees of a node over it, and what time it is. */
function create(
  secrets: ClusterSecrets | null,
  more: { capabilities?: typeof CURRENT; cluster?: string } = {},
) {
  const timeline = new Timeline();
  const timing = {
    nowMs: () => timeline.nowMs,
    after: (delayMs: number, task: () => void) => timeline.after(delayMs, task),
    soon: (task: () => void) => timeline.after(0, task),
  };
  const { store } = new SyncNode("n", { nowMs: () => 1_700_000_000_000 + timeline.nowMs });
  store.observers.length = 0;
  const trees = treesOver(store, { timing, secrets, ...more });
  return { store, trees, timeline };
}

function set(store: Store, key: string): void {
  const bytes = Buffer.from(key);
  store.set(bytes, 0, bytes.length, bytes, 0, bytes.length, 0);
}

function rootOf(tree: MerkleTree): string {
  while (tree.update(LATEST, LATEST, 1, () => 0));
  return tree.rootHex()!;
}

const keysOf = (trees: Trees): string[] => {
  for (const tree of trees.all()) rootOf(tree);
  return Object.keys(trees.roots());
};

test("there is one tree, whose key follows from the secret and the name of the cluster", () => {
  const roots = new Map<string, string>();
  for (const [what, secrets, cluster] of [
    ["no secret", null, "a"],
    ["no secret, another name", null, "b"],
    ["one", clusterSecrets("one"), "a"],
    ["one, another name", clusterSecrets("one"), "b"],
    ["two", clusterSecrets("two"), "a"],
  ] as const) {
    const { store, trees } = create(secrets, { cluster });
    set(store, "key");
    expect(trees.all()).toEqual([trees.current]);
    expect(trees.currentKey).toBe(secrets?.current.id ?? "");
    roots.set(rootOf(trees.current).slice(0, 32), what);
  }
  expect([...roots.values()]).toHaveLength(5);
});

test("the keys of nodes that have the same are the same, whichever they seal with", () => {
  const [one, two] = [
    create(clusterSecrets("one", ["two"])),
    create(clusterSecrets("two", ["one"])),
  ];
  for (const { store } of [one, two]) set(store, "key");
  const rootsOf = ({ trees }: typeof one) =>
    [ONE, TWO].map((id) => rootOf(trees.lend(id, CURRENT.features).tree));
  expect(rootsOf(one)).toEqual(rootsOf(two));
  expect(rootOf(one.trees.current)).not.toBe(rootOf(two.trees.current));
});

test("20,000 keys made up to lie together by the cluster's name lie all over by its secret", () => {
  const entry = new Entry();
  const digest = new Uint8Array(DIGEST_BYTES);
  const byName = new RecordDigester(treeKeyOf("test"));
  const { store, trees } = create(clusterSecrets("one"));
  const SHARED_BITS = 5;
  for (let i = 0, found = 0; found < 20_000; i++) {
    const key = Buffer.from(`made:${i}`);
    byName.ofKey(entry.setKey(key, 0, key.length), digest);
    if (digest[0] >>> (8 - SHARED_BITS) !== 0b10101) continue;
    found++;
    store.set(key, 0, key.length, key, 0, 1, 0);
  }
  rootOf(trees.current);
  const counts = new Uint32Array(2 ** SHARED_BITS);
  let fullest = 0;
  for (let bucket = 0; bucket < 65_536; bucket++) {
    const count = trees.current.buckets.count({ bucket, depth: 0, path: 0 });
    counts[bucket >>> (16 - SHARED_BITS)] += count;
    fullest = Math.max(fullest, count);
  }
  // 625 are to be expected, give or take 25; of 65,536 buckets the fullest has six or so.
  expect(Math.min(...counts)).toBeGreaterThan(500);
  expect(Math.max(...counts)).toBeLessThan(750);
  expect(fullest).toBeLessThan(12);
});

describe("while the secret is changed", () => {
  test("there is a tree for each secret that is understood, made before it is needed", () => {
    const { store, trees, timeline } = create(clusterSecrets("one"));
    trees.start();
    for (let i = 0; i < 9_000; i++) set(store, `key:${i}`);
    trees.renew(clusterSecrets("one", ["two"]));
    expect(trees.currentKey).toBe(ONE);
    timeline.runUntil(10_000);
    const roots = trees.roots();
    expect(Object.keys(roots).sort()).toEqual([ONE, TWO].sort());
    trees.renew(clusterSecrets("two", ["one"]));
    // What is shown is known at once.
    expect(trees.rootHex).toBe(roots[TWO]);
    expect(Object.keys(trees.roots())[0]).toBe(TWO);
    trees.renew(clusterSecrets("two"));
    timeline.runUntil(HOUR_MS);
    expect(keysOf(trees)).toEqual([TWO]);
    expect(store.observers).toHaveLength(1);
    trees.stop();
  });

  test("the tree of a session that is under way stays", () => {
    const { store, trees, timeline } = create(clusterSecrets("one"));
    trees.start();
    const loan = trees.lend(ONE, CURRENT.features);
    trees.renew(clusterSecrets("two"));
    timeline.runUntil(HOUR_MS);
    set(store, "key");
    const { store: other, trees: others } = create(clusterSecrets("one"));
    set(other, "key");
    expect(loan.tree.waiting).toBe(1);
    expect(keysOf(trees)).toHaveLength(2);
    loan.end();
    timeline.runUntil(2 * HOUR_MS);
    expect(trees.all()).toEqual([trees.current]);
    expect(others.currentKey).toBe(ONE);
    trees.stop();
  });

  test("a secret that comes back in time finds its tree", () => {
    const { trees, timeline } = create(clusterSecrets("one"));
    const before = trees.current;
    trees.renew(clusterSecrets("two"));
    trees.renew(clusterSecrets("one"));
    timeline.runUntil(HOUR_MS);
    expect(trees.all()).toEqual([before]);
    trees.renew(null);
    expect(trees.currentKey).toBe("");
    timeline.runUntil(2 * HOUR_MS);
    expect(trees.all()).toEqual([trees.current]);
  });
});

describe("with nodes of the version before", () => {
  test("the tree of the cluster's name is made for a session, and dropped after a while", () => {
    const { store, trees, timeline } = create(clusterSecrets("one"));
    const { store: plainStore, trees: plain } = create(null);
    trees.start();
    for (const each of [store, plainStore]) set(each, "key");
    const loan = trees.lend(ONE, OLDER.features);
    expect(rootOf(loan.tree)).toBe(rootOf(plain.current));
    expect(trees.all()).toHaveLength(2);
    loan.end();
    timeline.runUntil(HOUR_MS / 12);
    const again = trees.lend(ONE, OLDER.features);
    expect(again.tree).toBe(loan.tree);
    again.end();
    timeline.runUntil(HOUR_MS);
    expect(trees.all()).toEqual([trees.current]);
    expect(store.observers).toHaveLength(1);
    // Nothing is left of it.
    expect(loan.tree.rootHex()).toBe("0".repeat(64));
    trees.stop();
  });

  test("such a node keeps no other", () => {
    const { trees } = create(clusterSecrets("one", ["two"]), { capabilities: OLDER });
    expect(trees.currentKey).toBe("");
    expect(trees.lend(ONE, OLDER.features).tree).toBe(trees.current);
    expect(trees.all()).toHaveLength(1);
  });
});

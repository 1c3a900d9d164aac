/** Counters with more parts than one entry may bring: how they grow, travel and are kept. */
import { describe, expect, test } from "bun:test";
import { MAX_ENTRY_PARTS, MAX_JOINED_PARTS, PART_BYTES } from "../../src/core/data/counter.ts";
import { Int64 } from "../../src/core/data/int64.ts";
import { Entry } from "../../src/core/data/entry.ts";
import { APPLIED, REFUSED_LARGE } from "../../src/core/store/outcome.ts";
import type { Store } from "../../src/core/store/store.ts";
import { checkDirectory } from "../../src/durability/check.ts";
import { restoreBackup } from "../../src/durability/restore.ts";
import { DIRECTORY, dataOf, entriesOf, openStore, untilSafe } from "../support/journalled-store.ts";
import { largeCounter } from "../support/large-counter.ts";
import { SimulatedDisk } from "../support/simulated-disk.ts";
import { runPair, SyncNode } from "../support/sync-pair.ts";
import { backupsOf } from "../support/backups.ts";

const KEY = new TextEncoder().encode("c");
const one = new Int64().set(0, 1);

function increment(store: Store): number {
  return store.increment(KEY, 0, KEY.length, one);
}

/** Applies as many parts as asked for, in entries that are accepted one by one. */
function fill(store: Store, parts: number): void {
  for (let first = 0; first < parts; first += MAX_ENTRY_PARTS) {
    const count = Math.min(MAX_ENTRY_PARTS, parts - first);
    expect(store.apply(largeCounter("c", 1 + first, count))).toBe(APPLIED);
  }
}

describe("a counter joined from two that one entry each may bring", () => {
  test("is there again after a stop, a kill, a check and a compaction", async () => {
    const files = new SimulatedDisk();
    const first = await openStore({ files });
    fill(first.store, 96_000);
    increment(first.store);
    await untilSafe(first);
    const before = entriesOf(first.store);
    expect(dataOf(first.store)).toEqual({ c: "96001" });
    expect(await checkDirectory(files, DIRECTORY)).toMatchObject({ isGood: true });

    const second = await openStore({ files });
    expect(entriesOf(second.store)).toEqual(before);
    await second.journal.compact();
    await second.journal.close();
    const third = await openStore({ files });
    expect(entriesOf(third.store)).toEqual(before);
    expect(third.recovered.refused).toBeNull();
    await third.journal.close();
  });

  test("is in a backup, and comes back from it", async () => {
    const files = new SimulatedDisk();
    const opened = await openStore({ files });
    fill(opened.store, 96_000);
    const backups = backupsOf(files, {
      store: opened.store,
      metadata: () => opened.journal.allMetadata(),
    });
    const { name } = await backups.create("one");
    await restoreBackup(files, `/backups/${name}.backup`, "/restored", {
      force: false,
      now: new Date(0),
    });
    const restored = await openStore({ files, directory: "/restored" });
    expect(entriesOf(restored.store)).toEqual(entriesOf(opened.store));
  });

  test("reaches a new node, in slices that fit its frames", () => {
    const options = { nowMs: () => 2_000_000, maxFrameBytes: 300_000 };
    const [full, empty] = [new SyncNode("full", options), new SyncNode("empty", options)];
    fill(full.store, 96_000);
    const { initiator } = runPair(empty, full, { mode: "now" });
    expect(initiator).toMatchObject({ ok: true });
    expect(entriesOf(empty.store)).toEqual(entriesOf(full.store));
    // Both have parts that the other lacks.
    increment(empty.store);
    full.store.counts.resume({ high: 77, low: 77 });
    increment(full.store);
    expect(runPair(full, empty, { mode: "now" }).initiator.ok).toBe(true);
    expect(entriesOf(empty.store)).toEqual(entriesOf(full.store));
    expect(dataOf(full.store)).toEqual({ c: "96002" });
  });
});

describe("what a stranger brings is bounded", () => {
  test("in one entry, and in all together; a node's own increments are not", () => {
    const { store } = new SyncNode("n", { nowMs: () => 2_000_000 });
    expect(store.apply(largeCounter("c", 1, MAX_ENTRY_PARTS + 1))).toBe(REFUSED_LARGE);
    expect(store.size).toBe(0);
    fill(store, MAX_JOINED_PARTS);
    const before = entriesOf(store);
    expect(store.apply(largeCounter("c", 1_000_000, 1))).toBe(REFUSED_LARGE);
    expect(entriesOf(store)).toEqual(before);
    // A part that is there may move on, and this node counts on.
    expect(store.apply(largeCounter("c", 5, 1, 2_000))).toBe(APPLIED);
    expect(increment(store)).toBe(APPLIED);
    expect(dataOf(store)).toEqual({ c: String(MAX_JOINED_PARTS + 1) });
  });

  test("a session goes on past it, and says so", () => {
    const options = { nowMs: () => 2_000_000 };
    const [full, giver] = [new SyncNode("full", options), new SyncNode("giver", options)];
    fill(full.store, MAX_JOINED_PARTS);
    giver.store.apply(largeCounter("c", 1_000_000, 10));
    const other = new TextEncoder().encode("other");
    giver.store.set(other, 0, other.length, other, 0, other.length, 0);
    const { initiator } = runPair(full, giver, { mode: "now" });
    expect(initiator).toMatchObject({ ok: false, failure: "incomplete" });
    expect(initiator.reason).toContain("a counter would have more parts than one may have");
    expect(dataOf(full.store)["other"]).toBe("other");
  });
});

test("an increment of a large counter, and a part that arrives, are written down alone", async () => {
  const files = new SimulatedDisk();
  const opened = await openStore({ files });
  fill(opened.store, 60_000);
  const before = opened.journal.position;
  for (let i = 0; i < 100; i++) increment(opened.store);
  expect(opened.store.apply(largeCounter("c", 900_000, 3))).toBe(APPLIED);
  expect(opened.journal.position - before).toBeLessThan(101 * (PART_BYTES + 100));
  await untilSafe(opened);
  const again = await openStore({ files });
  expect(entriesOf(again.store)).toEqual(entriesOf(opened.store));
  expect(dataOf(again.store)).toEqual({ c: "60103" });
  const entry = new Entry();
  again.store.read(again.store.locate(KEY, 0, KEY.length), entry);
  expect(entry.valueLength).toBe(25 + 60_004 * PART_BYTES);
});

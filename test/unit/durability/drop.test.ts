/** What is dropped without a deletion that merging knows of stays away over restarts. */
import { describe, expect, test } from "bun:test";
import type { Store } from "../../../src/core/store/store.ts";
import { checkDirectory } from "../../../src/durability/check.ts";
import { resumeIncarnation } from "../../../src/durability/incarnation.ts";
import { repairDirectory, restoreBackup } from "../../../src/durability/restore.ts";
import {
  dataOf,
  DIRECTORY,
  discard,
  entriesOf,
  increment,
  openAfterKill,
  openStore,
  remove,
  set,
  untilSafe,
} from "../../support/journalled-store.ts";
import { SimulatedDisk } from "../../support/simulated-disk.ts";
import { backupsOf } from "../../support/backups.ts";

const DAY_MS = 86_400_000;

describe("an entry that was set aside", () => {
  test("is not back after a crash; one written again afterwards is", async () => {
    const files = new SimulatedDisk();
    const first = await openStore({ files });
    for (const key of ["kept", "gone", "again"]) set(first.store, key, "1");
    discard(first.store, "gone");
    discard(first.store, "again");
    set(first.store, "again", "2");
    await untilSafe(first);
    const second = await openAfterKill(files);
    expect(dataOf(second.store)).toEqual({ kept: "1", again: "2" });
  });

  test("is not back from a snapshot that was written meanwhile", async () => {
    const files = new SimulatedDisk();
    const first = await openStore({ files });
    set(first.store, "gone", "1");
    set(first.store, "kept", "1");
    const compacted = first.journal.compact();
    let isSeen = false;
    files.beforeWrite = (path) => {
      if (!path.includes("snap") || isSeen) return;
      isSeen = true;
      discard(first.store, "gone");
    };
    await compacted;
    await untilSafe(first);
    files.kill();
    expect(isSeen).toBe(true);
    expect(dataOf((await openStore({ files })).store)).toEqual({ kept: "1" });
  });

  test("is not in a backup that was being made", async () => {
    const files = new SimulatedDisk();
    const { store, journal } = await openStore({ files });
    for (let i = 0; i < 40; i++) set(store, `key ${i}`, "x".repeat(20_000));
    const backups = backupsOf(files, { store, metadata: () => journal.allMetadata() });
    let writes = 0;
    files.beforeWrite = (path) => {
      // Behind the head and the first of several frames.
      if (path.startsWith("/backups") && ++writes === 2) discard(store, "key 0");
      if (path.startsWith("/backups") && writes === 3) discard(store, "key 39");
    };
    await backups.create("one");
    expect(writes).toBeGreaterThan(3);
    await restoreBackup(files, "/backups/one.backup", "/restored", {
      force: false,
      now: new Date(0),
    });
    const restored = await openStore({ files, directory: "/restored" });
    expect(entriesOf(restored.store)).toEqual(entriesOf(store));
    expect(restored.store.size).toBe(38);
  });

  test("is not back after a repair", async () => {
    const files = new SimulatedDisk();
    const first = await openStore({ files });
    for (const key of ["gone", "kept"]) set(first.store, key, "1");
    await untilSafe(first);
    discard(first.store, "gone");
    await first.journal.close();
    await repairDirectory(files, await checkDirectory(files, DIRECTORY), new Date(0));
    expect(dataOf((await openStore({ files })).store)).toEqual({ kept: "1" });
  });

  test.each([
    ["a counter", () => {}],
    ["a string in place of a counter", (store: Store) => set(store, "counter", "5")],
  ])(
    "takes the way of counting along when it is %s, and that outlasts a crash too",
    async (_, then) => {
      const files = new SimulatedDisk();
      const start = async (counterOrigin: { high: number; low: number }) => {
        const opened = await openStore({ files });
        opened.store.counts.resume(counterOrigin);
        resumeIncarnation(opened.store.counts, opened.journal, opened.recovered, "always");
        return opened;
      };
      const first = await start({ high: 7, low: 7 });
      increment(first.store, "counter");
      then(first.store);
      await untilSafe(first);
      discard(first.store, "counter");
      const counterOrigin = first.store.counts.origin;
      expect(counterOrigin).not.toEqual({ high: 7, low: 7 });
      await untilSafe(first);
      files.kill();
      const second = await start({ high: 8, low: 8 });
      expect(second.store.counts.origin).toEqual(counterOrigin);
    },
  );
});

describe("a deletion past its grace", () => {
  test("is not back to undo a counter that was begun afterwards", async () => {
    const files = new SimulatedDisk();
    let nowMs = 1_700_000_000_000;
    const first = await openStore({ files, now: () => nowMs });
    set(first.store, "counter", "5");
    remove(first.store, "counter");
    nowMs += 2 * DAY_MS;
    first.store.sweep(100);
    expect(first.store.tombstoneCount).toBe(0);
    increment(first.store, "counter");
    await untilSafe(first);
    const second = await openAfterKill(files, { now: () => nowMs });
    expect(dataOf(second.store)).toEqual({ counter: "1" });
  });

  test("leaves the watermark behind at once", async () => {
    const files = new SimulatedDisk();
    let nowMs = 1_700_000_000_000;
    const first = await openStore({ files, now: () => nowMs });
    set(first.store, "key", "1");
    remove(first.store, "key");
    nowMs += 2 * DAY_MS;
    first.store.sweep(100);
    await untilSafe(first);
    const second = await openAfterKill(files, { now: () => nowMs });
    expect(second.store.tombstoneCount).toBe(0);
    expect(second.store.deletions.purgedUpToMs).toBe(first.store.deletions.purgedUpToMs);
    expect(second.store.deletions.purgedUpToMs).toBeGreaterThan(0);
  });

  test("so does what has expired, though the clock starts in 2006 then", async () => {
    const files = new SimulatedDisk();
    let nowMs = 1_700_000_000_000;
    const first = await openStore({ files, now: () => nowMs });
    set(first.store, "key", "1");
    const key = new TextEncoder().encode("key");
    first.store.expire(key, 0, key.length, nowMs + 1_000);
    for (let i = 0; i < 2; i++) {
      nowMs += 2 * DAY_MS;
      first.store.sweep(100);
    }
    expect(first.store.size + first.store.tombstoneCount).toBe(0);
    await untilSafe(first);
    const second = await openAfterKill(files, { now: () => 1_150_000_000_000 });
    expect(second.store.deletions.purgedUpToMs).toBe(first.store.deletions.purgedUpToMs);
    expect(second.store.deletions.purgedUpToMs).toBeGreaterThan(0);
  });
});

test("what is remembered by name outlasts a crash after a backup has asked for it", async () => {
  const files = new SimulatedDisk();
  const { store, journal } = await openStore({ files });
  store.deletions.notePurgedHere(987_654_321_012);
  expect(journal.allMetadata().size).toBeGreaterThan(0);
  set(store, "key", "1");
  discard(store, "key");
  await untilSafe({ journal });
  const second = await openAfterKill(files);
  expect(second.store.deletions.purgedUpToMs).toBe(987_654_321_012);
});

test("what a foreign flush took is not journalled key by key", async () => {
  const files = new SimulatedDisk();
  const { store, journal } = await openStore({ files, now: () => 1_000 });
  for (let i = 0; i < 100; i++) set(store, `key ${i}`, "1");
  set(store, "later", "1");
  const { high, low } = store.clock;
  store.applyFloor(high, low, 0, 0);
  const { position } = journal;
  while (store.sweep(1_000));
  expect(store.size).toBe(1);
  expect(journal.position).toBe(position);
});

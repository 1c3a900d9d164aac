/** A disk that fills up or fails: nothing safe is lost, and writing resumes when it safely can. */
import { describe, expect, test } from "bun:test";
import { journalFacts } from "../../../src/durability/log-facts.ts";
import type { Timing } from "../../../src/timing.ts";
import { eventLoop } from "../../../src/world.ts";
import { eventually } from "../../support/eventually.ts";
import { readFact } from "../../support/facts.ts";
import { DIRECTORY, dataOf, openStore, set, untilSafe } from "../../support/journalled-store.ts";
import { seeded } from "../../support/random.ts";
import { SimulatedDisk } from "../../support/simulated-disk.ts";

test.each(["ENOSPC", "EIO", "EDQUOT"])(
  "writes that fail with %s are repeated, and nothing is lost or doubled",
  async (code) => {
    const files = new SimulatedDisk();
    const opened = await openStore({ files, fsync: "everysec" });
    const { store, journal } = opened;
    const changes: (string | null)[] = [];
    journal.onFailureChange = () => changes.push(journal.failure?.kind ?? null);
    set(store, "before", "1");
    await untilSafe(opened);
    files.failWritesWith = code;
    files.partBytes = 10; // some of the frame gets there all the same
    set(store, "during", "2");
    let isTold = false;
    void untilSafe(opened).then(() => (isTold = true));
    await eventually("the failure is noticed", () => journal.failure !== null);
    expect(journal.failure).toMatchObject({ isPassing: true });
    expect(journal.failure!.message).toContain(code);
    expect(isTold).toBe(false);
    expect(dataOf(store)["before"]).toBe("1");
    files.failWritesWith = null;
    await eventually("writing has resumed", () => journal.failure === null);
    await eventually("the waiter is told", () => isTold);
    set(store, "after", "3");
    await untilSafe(opened);
    expect(changes).toEqual([code === "EIO" ? "write" : "full", null]);
    files.kill();
    const again = await openStore({ files });
    expect(dataOf(again.store)).toEqual({ before: "1", during: "2", after: "3" });
    expect(again.recovered.tornBytes).toBe(0);
  },
);

test("a full disk in mode always: what was safe is there after a power cut", async () => {
  const files = new SimulatedDisk();
  files.capacityBytes = 3_000;
  files.partBytes = 1_000;
  const opened = await openStore({ files });
  const safe: Record<string, string> = {};
  for (let i = 0; opened.journal.failure === null; i++) {
    set(opened.store, `key ${i}`, "x".repeat(100));
    const done = untilSafe(opened).then(() => (safe[`key ${i}`] = "x".repeat(100)));
    await Promise.race([done, eventually("full", () => opened.journal.failure !== null)]);
  }
  expect(opened.journal.failure.kind).toBe("full");
  expect(Object.keys(safe).length).toBeGreaterThan(5);
  files.crash("some", seeded(3));
  const again = await openStore({ files });
  expect(dataOf(again.store)).toMatchObject(safe);
});

test.each(["always", "everysec"] as const)(
  "%s: after a failed sync nothing is written until a restart",
  async (fsync) => {
    const files = new SimulatedDisk();
    const opened = await openStore({ files, fsync });
    set(opened.store, "before", "1");
    await untilSafe(opened);
    files.failSyncsWith = "EIO";
    set(opened.store, "during", "2");
    await eventually("the failure is noticed", () => opened.journal.failure !== null);
    expect(opened.journal.failure).toMatchObject({ kind: "sync", isPassing: false });
    files.failSyncsWith = null;
    let writes = 0;
    files.beforeWrite = () => void writes++;
    let isTold = false;
    set(opened.store, "after", "3");
    void untilSafe(opened).then(() => (isTold = true));
    await expect(opened.journal.compact()).rejects.toThrow("until the node is restarted");
    await opened.journal.close();
    expect(writes).toBe(0);
    expect(isTold).toBe(false);
    const again = await openStore({ files, fsync });
    expect(dataOf(again.store)["before"]).toBe("1");
    expect(dataOf(again.store)["after"]).toBeUndefined();
  },
);

test("everysec: a write under way while a sync fails does not make it good again", async () => {
  const files = new SimulatedDisk();
  const { store, journal } = await openStore({ files, fsync: "everysec" });
  const changes: (string | null)[] = [];
  journal.onFailureChange = () => changes.push(journal.failure?.kind ?? null);
  files.failSyncsWith = "EIO";
  let writes = 0;
  // So slow that one is always under way.
  files.beforeWrite = () => new Promise((resolve) => setTimeout(resolve, ++writes % 20));
  await eventually("the failure is noticed", () => {
    set(store, "key", String(writes));
    return journal.failure !== null;
  });
  files.failSyncsWith = null;
  await journal.close();
  expect(changes).toEqual(["sync"]);
  const { failure } = journal;
  expect(failure).toMatchObject({ kind: "sync", isPassing: false });
});

/** Time that runs what is put off when it is told to. */
function manualTiming(): { timing: Timing; fire: () => void } {
  const waiting = new Set<() => void>();
  const after = (_ms: number, callback: () => void) => {
    waiting.add(callback);
    return () => void waiting.delete(callback);
  };
  const fire = (): void => {
    for (const callback of [...waiting]) {
      waiting.delete(callback);
      callback();
    }
  };
  return { timing: { ...eventLoop, after }, fire };
}

test("everysec: what was written before the disk filled up is synced within its second", async () => {
  const files = new SimulatedDisk();
  const { timing, fire } = manualTiming();
  const opened = await openStore({ files, fsync: "everysec", timing });
  set(opened.store, "before", "1");
  await untilSafe(opened);
  files.failWritesWith = "ENOSPC";
  set(opened.store, "during", "2");
  await eventually("the failure is noticed", () => opened.journal.failure !== null);
  fire();
  for (let i = 0; i < 5; i++) await new Promise((resolve) => setImmediate(resolve));
  files.crash("none", seeded(1));
  expect(dataOf((await openStore({ files })).store)).toEqual({ before: "1" });
});

test("what a failed sync left in memory only is on disk after a restart", async () => {
  const files = new SimulatedDisk();
  const { timing, fire } = manualTiming();
  const first = await openStore({ files, fsync: "everysec", timing });
  set(first.store, "answered", "1");
  await untilSafe(first);
  files.failSyncsWith = "EIO";
  fire();
  await eventually("the failure is noticed", () => first.journal.failure !== null);
  files.failSyncsWith = null;
  files.kill();
  const second = await openStore({ files, fsync: "everysec" });
  expect(dataOf(second.store)).toEqual({ answered: "1" });
  set(second.store, "more", "2");
  await untilSafe(second);
  files.crash("none", seeded(1));
  expect(dataOf((await openStore({ files })).store)["answered"]).toBe("1");
});

test("a snapshot that fails leaves the log as it was, and no file behind", async () => {
  const files = new SimulatedDisk();
  const opened = await openStore({ files, fsync: "everysec" });
  for (let i = 0; i < 50; i++) set(opened.store, `key ${i}`, "x".repeat(1_000));
  await untilSafe(opened);
  files.capacityBytes = files.usedBytes() + 10_000;
  await expect(opened.journal.compact()).rejects.toThrow("the disk is full");
  expect(files.paths().some((path) => path.includes("snap"))).toBe(false);
  files.capacityBytes = Infinity;
  set(opened.store, "after", "it");
  await untilSafe(opened);
  expect(opened.journal.failure).toBeNull();
  files.kill();
  expect((await openStore({ files })).store.size).toBe(51);
});

test("a sync that fails while a snapshot is being written fails the snapshot", async () => {
  const files = new SimulatedDisk();
  const opened = await openStore({ files, fsync: "never" });
  // Large enough to be synced on the way, and nothing but that sync fails.
  for (let i = 0; i < 100; i++) set(opened.store, `key ${i}`, new Uint8Array(100_000));
  await untilSafe(opened);
  let bytes = 0;
  files.beforeWrite = (path, length) => {
    if (path.includes(".snap")) bytes += length;
    const isSyncDue = bytes >= 4 * 1024 * 1024 && bytes < 8 * 1024 * 1024;
    files.failSyncsWith = isSyncDue ? "EIO" : null;
  };
  await expect(opened.journal.compact()).rejects.toThrow("EIO");
  expect(bytes).toBeGreaterThan(4 * 1024 * 1024);
  expect(files.paths().some((path) => path.includes("snap"))).toBe(false);
  bytes = Infinity;
  await opened.journal.compact();
  expect(readFact(journalFacts, opened.journal, "snapshot_bytes")).toBeGreaterThan(10_000_000);
  await opened.journal.close();
});

test("stopping while the disk is full ends, and takes nothing safe along", async () => {
  const files = new SimulatedDisk();
  const opened = await openStore({ files });
  set(opened.store, "before", "1");
  await untilSafe(opened);
  files.failWritesWith = "ENOSPC";
  set(opened.store, "during", "2");
  await opened.journal.close();
  files.failWritesWith = null;
  const again = await openStore({ files });
  expect(dataOf(again.store)["before"]).toBe("1");
});

test("group commit: what comes during a write shares the next frame", async () => {
  const files = new SimulatedDisk();
  const opened = await openStore({ files });
  let writes = 0;
  const gate = Promise.withResolvers<void>();
  files.beforeWrite = () => {
    writes++;
    return gate.promise;
  };
  set(opened.store, "first", "1");
  await eventually("the first write is under way", () => writes === 1);
  for (let i = 0; i < 1_000; i++) set(opened.store, `key ${i}`, "value");
  gate.resolve();
  await untilSafe(opened);
  expect(writes).toBe(2);
  expect(files.syncs).toBeLessThan(6);
});

const SEGMENT = `${DIRECTORY}/0000000001.log`;
const AWAY = "/elsewhere/0000000001.log";

describe.each(["everysec", "always", "never"] as const)(
  "with fsync = %p, a log that is",
  (fsync) => {
    test("taken away is noticed without a write; put back, it is gone on with", async () => {
      const files = new SimulatedDisk();
      const opened = await openStore({ files, fsync });
      const { store, journal } = opened;
      const kinds: (string | null)[] = [];
      journal.onFailureChange = () => kinds.push(journal.failure?.kind ?? null);
      set(store, "before", "1");
      await untilSafe(opened);
      await files.rename(SEGMENT, AWAY);
      await eventually("it is noticed", () => journal.failure !== null);
      expect(journal.failure!.message).toMatch(/0000000001\.log was removed or replaced/);
      await files.rename(AWAY, SEGMENT);
      await eventually("it is found again", () => journal.failure === null);
      set(store, "after", "2");
      await untilSafe(opened);
      expect(kinds).toEqual(["gone", null]);
      await journal.close();
      expect(dataOf((await openStore({ files })).store)).toEqual({ before: "1", after: "2" });
    });

    test("replaced takes no more writes, and what was under way is not called safe", async () => {
      const files = new SimulatedDisk();
      const opened = await openStore({ files, fsync });
      const { store, journal } = opened;
      set(store, "before", "1");
      await untilSafe(opened);
      files.place(SEGMENT, files.contents(SEGMENT));
      await eventually("it is noticed", () => journal.failure !== null);
      set(store, "during", "2");
      let isTold = false;
      void untilSafe(opened).then(() => (isTold = true));
      await passed(3);
      expect([journal.failure?.kind, isTold]).toEqual(["gone", false]);
      await journal.close();
    });
  },
);

test("no segment is begun where the one before it is gone", async () => {
  const files = new SimulatedDisk();
  const { journal } = await openStore({ files });
  await files.rename(SEGMENT, AWAY);
  const compacted = journal.compact();
  await eventually("it is noticed", () => journal.failure?.kind === "gone");
  expect(files.paths().filter((path) => path.startsWith(DIRECTORY))).toEqual([]);
  await files.rename(AWAY, SEGMENT);
  await compacted;
  expect(files.paths().length).toBeGreaterThan(0);
  await journal.close();
});

/** So many turns at the disk pass. */
async function passed(turns: number): Promise<void> {
  for (let i = 0; i < turns; i++) await new Promise((resolve) => setImmediate(resolve));
}

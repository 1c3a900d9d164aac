/** Backups of a live store, restoring them, and repairing what is damaged. */
import { describe, expect, test } from "bun:test";
import type { Store } from "../../../src/core/store/store.ts";
import { Backups, FETCHED_PREFIX } from "../../../src/durability/backup.ts";
import { checkDirectory } from "../../../src/durability/check.ts";
import { repairDirectory, restoreBackup, verifyBackup } from "../../../src/durability/restore.ts";
import type { Timing } from "../../../src/timing.ts";
import { eventLoop } from "../../../src/world.ts";
import { eventually } from "../../support/eventually.ts";
import {
  DIRECTORY,
  createStore,
  dataOf,
  entriesOf,
  openStore,
  remove,
  set,
  untilSafe,
} from "../../support/journalled-store.ts";
import { SimulatedDisk } from "../../support/simulated-disk.ts";
import { backupsOf } from "../../support/backups.ts";

const NOW = new Date("2026-01-02T03:04:05.678Z");
/** A store whose metadata is an epoch. */
const withEpoch = (store: Store) => ({
  store,
  metadata: () => new Map([["epoch", new Uint8Array([5])]]),
});

describe("a backup", () => {
  test("holds the moment it was finished, whatever was written meanwhile", async () => {
    const store = createStore();
    // Enough for many slices, of which the loop below takes part in most.
    for (let i = 0; i < 40_000; i++) set(store, `key ${i}`, "x".repeat(100));
    for (let i = 0; i < 100; i++) remove(store, `key ${i}`);
    const files = new SimulatedDisk();
    const making = backupsOf(files, withEpoch(store)).create("one");
    const nextTurn = () => new Promise((resolve) => setImmediate(resolve));
    for (let turns = 0; store.observers.length === 0 && turns < 10_000; turns++) await nextTurn();
    let rounds = 0;
    for (; store.observers.length === 1; rounds++) {
      set(store, `key ${(rounds * 37) % 5_000}`, `new ${rounds}`);
      remove(store, `key ${(rounds * 41) % 5_000}`);
      set(store, `aaa ${rounds}`, "before all others");
      if (rounds === 3) store.flush();
      await nextTurn();
    }
    expect(rounds).toBeGreaterThan(3);
    await making;
    await restoreBackup(files, "/backups/one.backup", DIRECTORY, { force: false, now: NOW });
    const restored = await openStore({ files });
    expect(restored.journal.metadata("epoch")).toEqual(new Uint8Array([5]));
    expect(restored.store.floor).toEqual(store.floor);
    // What the flush took is hidden at once, and removed in slices.
    while (restored.store.sweep(100_000));
    expect(entriesOf(restored.store)).toEqual(entriesOf(store));
    expect(restored.recovered.lastSegment).toBeNull();
  });

  test("is handed out in pieces, and removed", async () => {
    const store = createStore();
    for (let i = 0; i < 500; i++) set(store, `key ${i}`, "x".repeat(100));
    const files = new SimulatedDisk();
    const backups = backupsOf(files, withEpoch(store));
    const { bytes, entries } = await backups.create("one");
    expect(entries).toBe(500);
    const whole = files.contents("/backups/one.backup");
    expect(whole.length).toBe(bytes);
    const pieces: Uint8Array[] = [];
    for (let at = 0; ;) {
      const piece = await backups.read("one", at, 1_000);
      if (piece.length === 0) break;
      pieces.push(piece.slice());
      at += piece.length;
    }
    expect(Buffer.concat(pieces).equals(whole)).toBe(true);
    await backups.remove("one");
    expect(files.paths()).toEqual([]);
  });

  test("is read by several at once, and no file stays open", async () => {
    const files = new SimulatedDisk();
    const backups = backupsOf(files, withEpoch(createStore()));
    const whole: Record<string, Uint8Array> = {};
    for (const name of ["one", "two"]) {
      await backups.create(name);
      whole[name] = files.contents(`/backups/${name}.backup`);
    }
    const names = Array.from({ length: 20 }, (_, i) => (i % 2 === 0 ? "one" : "two"));
    const read = names.map((name) => backups.read(name, 3, 10));
    const none = backups.read("none", 0, 10);
    await expect(none).rejects.toThrow("there is no such file");
    for (const [i, piece] of (await Promise.all(read)).entries()) {
      expect(piece).toEqual(whole[names[i]].subarray(3, 13));
    }
    expect(await backups.read("one", 1e15, 10)).toHaveLength(0);
    expect(files.openFiles).toBe(0);
  });

  test("is refused when there are as many as there may be, unless it takes another's place", async () => {
    let nowMs = NOW.getTime();
    const store = createStore(() => nowMs);
    const files = new SimulatedDisk();
    const backups = backupsOf(files, withEpoch(store), { maxCount: 2, keep: 1 });
    await backups.create("one");
    await backups.create("two");
    await expect(backups.create("three")).rejects.toThrow("there are 2 backups in /backups");
    await backups.create();
    nowMs += 1_000;
    await backups.create();
    expect(files.paths()).toHaveLength(3);
    const keepsAll = backupsOf(files, withEpoch(store), { maxCount: 3, keep: 0 });
    nowMs += 1_000;
    await expect(keepsAll.create()).rejects.toThrow("raise storage.max_backups");
  });

  test("is refused when it would take the space that is to stay free", async () => {
    const store = createStore();
    for (let i = 0; i < 500; i++) set(store, `key ${i}`, "x".repeat(1_000));
    const files = new SimulatedDisk();
    files.capacityBytes = 10_000_000;
    const backups = backupsOf(files, withEpoch(store), { minFreeBytes: 9_900_000 });
    await expect(backups.create("one")).rejects.toThrow("lower storage.min_free_mb");
    expect(files.paths()).toEqual([]);
    await backupsOf(files, withEpoch(store), { minFreeBytes: 5_000_000 }).create("one");
  });

  test("is given up when others take that space meanwhile", async () => {
    const store = createStore();
    for (let i = 0; i < 40_000; i++) set(store, `key ${i}`, "x".repeat(100));
    const files = new SimulatedDisk();
    files.capacityBytes = 100_000_000;
    let look = (): void => {};
    const timing: Timing = {
      ...eventLoop,
      after: (_ms, task) => {
        look = task;
        return () => {};
      },
    };
    const backups = backupsOf(files, withEpoch(store), { minFreeBytes: 50_000_000, timing });
    files.beforeWrite = () => {
      files.capacityBytes = 50_000_000;
      look();
    };
    await expect(backups.create("one")).rejects.toThrow("a backup would leave less than 48 MiB");
    expect(files.paths()).toEqual([]);
    expect(files.openFiles).toBe(0);
  });

  test.each(["", "../x", ".x", "a/b", "x".repeat(129), "a b"])(
    "is never called %j",
    async (name) => {
      const backups = backupsOf(new SimulatedDisk(), withEpoch(createStore()));
      await expect(backups.create(name)).rejects.toThrow("the name of a backup");
      await expect(backups.read(name, 0, 1)).rejects.toThrow("the name of a backup");
      await expect(backups.remove(name)).rejects.toThrow("the name of a backup");
    },
  );

  test("never replaces another, and one is made at a time", async () => {
    const files = new SimulatedDisk();
    const backups = backupsOf(files, withEpoch(createStore()));
    const first = backups.create("one");
    await expect(backups.create("two")).rejects.toThrow("another backup is being made");
    await first;
    await expect(backups.create("one")).rejects.toThrow('there is a backup "one" already');
  });

  test("that cannot be written leaves nothing behind", async () => {
    const store = createStore();
    for (let i = 0; i < 500; i++) set(store, `key ${i}`, "x".repeat(1_000));
    const files = new SimulatedDisk();
    files.capacityBytes = 100_000;
    await expect(backupsOf(files, withEpoch(store)).create()).rejects.toThrow(
      "the disk is full (ENOSPC)",
    );
    expect(files.paths()).toEqual([]);
  });

  test("that a dead process left half done goes at the start, and nothing else does", async () => {
    const files = new SimulatedDisk();
    const kept = ["/backups/monday.backup", "/backups/notes.tmp", "/backups/readme"];
    const leftovers = ["/backups/tuesday.backup.tmp", `/backups/${FETCHED_PREFIX}1.backup`];
    for (const path of [...kept, ...leftovers]) files.place(path, new Uint8Array(1));
    await backupsOf(files, withEpoch(createStore())).start();
    expect(files.paths()).toEqual(kept);
  });

  test("that was to be fetched goes with the next once nobody has read from it for long", async () => {
    const files = new SimulatedDisk();
    let nowMs = 0;
    const timing = { ...eventLoop, nowMs: () => nowMs };
    const backups = backupsOf(files, withEpoch(createStore()), { timing });
    const made = () => files.paths().map((path) => /(\d)\.backup$/.exec(path)![1]);
    await backups.create(`${FETCHED_PREFIX}1`);
    nowMs = 500_000;
    await backups.read(`${FETCHED_PREFIX}1`, 0, 10);
    nowMs = 900_000;
    await backups.create(`${FETCHED_PREFIX}2`);
    expect(made()).toEqual(["1", "2"]);
    nowMs = 1_200_000;
    await backups.create(`${FETCHED_PREFIX}3`);
    expect(made()).toEqual(["2", "3"]);
  });

  test("is made on schedule, by the time of the newest one", async () => {
    let now = Date.UTC(2026, 0, 2, 3, 4, 5);
    const store = createStore(() => now);
    const files = new SimulatedDisk();
    let due = (): void => {};
    const timing: Timing = {
      ...eventLoop,
      after: (ms, callback) => {
        // The others are looks at the space that is left.
        if (ms % 60_000 === 0) due = callback;
        return () => {};
      },
    };
    const start = async (): Promise<Backups> => {
      const backups = backupsOf(files, withEpoch(store), { intervalHours: 24, keep: 2, timing });
      await backups.start();
      return backups;
    };
    /** Lets the schedule look once, to its end. */
    const look = async (): Promise<string[]> => {
      const waiting = due;
      waiting();
      await eventually("it has looked", () => due !== waiting);
      return files.paths();
    };
    await start();
    expect(await look()).toEqual(["/backups/20260102T030405Z.backup"]);
    now += 23 * 3_600_000;
    expect(await look()).toHaveLength(1);
    const again = await start();
    expect(await look()).toHaveLength(1);
    await again.create("named");
    now += 3_600_000;
    expect(await look()).toHaveLength(3);
    now += 24 * 3_600_000;
    expect(await look()).toEqual([
      "/backups/20260103T030405Z.backup",
      "/backups/20260104T030405Z.backup",
      "/backups/named.backup",
    ]);
    await again.stop();
  });
});

describe("restoring", () => {
  async function diskWithBackup(): Promise<SimulatedDisk> {
    const store = createStore();
    for (let i = 0; i < 20; i++) set(store, `key ${i}`, `value ${i}`);
    const files = new SimulatedDisk();
    await backupsOf(files, withEpoch(store)).create("one");
    return files;
  }
  const BACKUP = "/backups/one.backup";
  const plain = { force: false, now: NOW };

  test("a backup cut at any byte, or with any byte flipped, is refused and nothing is written", async () => {
    const files = await diskWithBackup();
    const whole = files.contents(BACKUP);
    const check = async (bytes: Uint8Array): Promise<void> => {
      files.place(BACKUP, bytes);
      const error = await restoreBackup(files, BACKUP, DIRECTORY, plain).catch((e: unknown) => e);
      expect((error as Error).message).toMatch(/^\/backups\/one.backup is not (whole|a backup)/);
      expect(files.paths()).toEqual([BACKUP]);
    };
    for (let at = 0; at < whole.length; at++) {
      await check(whole.subarray(0, at));
      const flipped = whole.slice();
      flipped[at] ^= 1;
      await check(flipped);
    }
  });

  test("a file that is no backup, or not there, is refused", async () => {
    const files = await diskWithBackup();
    files.place("/letter", new TextEncoder().encode("Dear aunt, ".repeat(1_000)));
    await expect(restoreBackup(files, "/letter", DIRECTORY, plain)).rejects.toThrow(
      "/letter is not a backup",
    );
    await expect(restoreBackup(files, "/none", DIRECTORY, plain)).rejects.toThrow(
      "cannot read /none: there is no such file or directory (ENOENT)",
    );
    const opened = await openStore({ files });
    await opened.journal.close();
    const segment = `${DIRECTORY}/0000000001.log`;
    await expect(verifyBackup(files, segment)).rejects.toThrow("is a log segment, not a backup");
  });

  test("over data only with force, and that data is put aside", async () => {
    const files = await diskWithBackup();
    const opened = await openStore({ files });
    set(opened.store, "old", "data");
    await opened.journal.close();
    const before = files.contents(`${DIRECTORY}/0000000001.log`);
    await expect(restoreBackup(files, BACKUP, DIRECTORY, plain)).rejects.toThrow(
      "/data holds data already; --force puts that aside",
    );
    const restored = await restoreBackup(files, BACKUP, DIRECTORY, { force: true, now: NOW });
    expect(restored).toEqual({
      nodeId: "n1",
      entries: 20,
      refused: 0,
      aside: "/data/aside-20260102T030405Z",
    });
    expect(files.contents("/data/aside-20260102T030405Z/0000000001.log")).toEqual(before);
    const again = await openStore({ files });
    expect(Object.keys(dataOf(again.store))).toHaveLength(20);
  });

  test("for another node", async () => {
    const files = await diskWithBackup();
    await restoreBackup(files, BACKUP, DIRECTORY, { ...plain, nodeId: "n9" });
    await expect(openStore({ files })).rejects.toThrow('belongs to node "n9"');
    expect((await openStore({ files, nodeId: "n9" })).store.size).toBe(20);
  });
});

describe("checking and repairing", () => {
  async function brokenDirectory(): Promise<SimulatedDisk> {
    const files = new SimulatedDisk();
    const opened = await openStore({ files });
    for (let i = 0; i < 10; i++) {
      set(opened.store, `key ${i}`, `value ${i}`);
      await untilSafe(opened);
      if (i === 4) await opened.journal.compact();
    }
    await opened.journal.close();
    const path = `${DIRECTORY}/0000000002.log`;
    const bytes = files.contents(path);
    bytes[150] ^= 1;
    files.place(path, bytes);
    return files;
  }

  test("a good directory is good, and one a crash left is too", async () => {
    const files = new SimulatedDisk();
    const opened = await openStore({ files, fsync: "never" });
    set(opened.store, "key", "value");
    await untilSafe(opened);
    const path = `${DIRECTORY}/0000000001.log`;
    files.place(path, files.contents(path).subarray(0, -1));
    const report = await checkDirectory(files, DIRECTORY);
    expect(report).toMatchObject({ nodeId: "n1", isGood: true });
    expect(report.files).toHaveLength(1);
    expect(report.files[0].tornBytes).toBeGreaterThan(0);
  });

  test("every good frame is kept, the files as they were are aside, and a node starts", async () => {
    const files = await brokenDirectory();
    const report = await checkDirectory(files, DIRECTORY);
    expect(report.isGood).toBe(false);
    expect(report.files.map(({ problem }) => problem?.flaw ?? null)).toEqual([
      null,
      "a frame's checksum is wrong",
    ]);
    await expect(openStore({ files })).rejects.toThrow("0000000002.log is damaged at byte");
    const damaged = files.contents(`${DIRECTORY}/0000000002.log`);
    const repaired = await repairDirectory(files, report, NOW);
    expect(files.contents(`${repaired.aside}/0000000002.log`)).toEqual(damaged);
    expect((await checkDirectory(files, DIRECTORY)).isGood).toBe(true);
    const { store } = await openStore({ files });
    expect(store.size).toBe(9);
    for (const [key, value] of Object.entries(dataOf(store))) {
      expect(value).toBe(key.replace("key", "value"));
    }
  });

  test("a repair that was killed before all was put aside is whole, and the node puts aside the rest", async () => {
    const files = await brokenDirectory();
    const damaged = files.contents(`${DIRECTORY}/0000000002.log`);
    const first = await checkDirectory(files, DIRECTORY);
    const rename = files.rename.bind(files);
    files.rename = async (from, to) => {
      if (to.includes("aside")) throw Object.assign(new Error("killed"), { code: "EIO" });
      await rename(from, to);
    };
    await expect(repairDirectory(files, first, NOW)).rejects.toThrow("cannot repair /data");
    files.rename = rename;
    expect((await checkDirectory(files, DIRECTORY)).isGood).toBe(true);
    expect((await openStore({ files })).store.size).toBe(9);
    const aside = files.paths().find((path) => /aside-[^/]+\/0000000002\.log$/.test(path));
    expect(files.contents(aside!)).toEqual(damaged);
  });

  test("a missing segment is named", async () => {
    const files = await brokenDirectory();
    await files.remove(`${DIRECTORY}/0000000002.log`);
    files.place(`${DIRECTORY}/0000000003.log`, new Uint8Array(0));
    const report = await checkDirectory(files, DIRECTORY);
    expect(report.files.at(-1)).toMatchObject({
      name: "0000000002.log",
      problem: { offset: 0, flaw: "it is missing" },
    });
  });
});

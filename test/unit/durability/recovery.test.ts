/** What was journalled comes back: after a clean stop, a kill, a power cut, and compaction. */
import { describe, expect, spyOn, test } from "bun:test";
import fc from "fast-check";
import { Store } from "../../../src/core/store/store.ts";
import { Contacts } from "../../../src/core/sync/contacts.ts";
import {
  CONTACTS_METADATA,
  contactsMetadata,
  readContacts,
} from "../../../src/durability/store-metadata.ts";
import { journalFacts } from "../../../src/durability/log-facts.ts";
import type { FsyncMode } from "../../../src/durability/log.ts";
import { nextTurn } from "../../../src/timing.ts";
import { eventLoop } from "../../../src/world.ts";
import {
  dataOf,
  entriesOf,
  increment,
  openAfterKill,
  openStore,
  remove,
  set,
  untilSafe,
} from "../../support/journalled-store.ts";
import { eventually } from "../../support/eventually.ts";
import { readFact } from "../../support/facts.ts";
import { seeded } from "../../support/random.ts";
import { SimulatedDisk } from "../../support/simulated-disk.ts";

async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await nextTurn(eventLoop);
}

describe("a clean stop", () => {
  test("every kind of entry comes back, and so do floor, metadata and clock", async () => {
    const files = new SimulatedDisk();
    let now = 1_000_000;
    const first = await openStore({ files, now: () => now });
    set(first.store, "flushed", "gone");
    first.store.flush();
    set(first.store, "string", "value");
    set(first.store, "empty", "");
    set(first.store, "expiring", "soon", 5_000_000);
    set(first.store, "deleted", "gone");
    remove(first.store, "deleted");
    increment(first.store, "counter");
    increment(first.store, "counter");
    set(first.store, "large", "x".repeat(3_000_000));
    first.journal.setMetadata("epoch", new Uint8Array([7]));
    first.store.deletions.notePurgedHere(987_654_321_012);
    const contacts = new Contacts();
    contacts.note(1, 2, 900_123, 1_600_000_000_123);
    contacts.note(0xffff_ffff, 0, 5);
    first.journal.followMetadata(CONTACTS_METADATA, () => contactsMetadata(contacts));
    const before = entriesOf(first.store);
    const { high, low } = first.store.clock;
    await first.journal.close();

    now = 5; // the machine's clock was set back
    const second = await openStore({ files, now: () => now });
    expect(entriesOf(second.store)).toEqual(before);
    expect(second.store.floor).toEqual(first.store.floor);
    expect(second.journal.metadata("epoch")).toEqual(new Uint8Array([7]));
    expect(second.store.deletions.purgedUpToMs).toBe(987_654_321_012);
    expect(second.store.deletions.purgedElsewhereMs).toBe(1_600_000_000_123);
    const contactsBack = readContacts(second.journal.metadata(CONTACTS_METADATA));
    expect(contactsBack).toEqual(contacts);
    expect([second.store.clock.high, second.store.clock.low]).toEqual([high, low]);
    expect(second.recovered).toMatchObject({ tornBytes: 0, wasStoppedCleanly: true });
    expect(dataOf(second.store)["counter"]).toBe("2");
    expect(dataOf(second.store)["flushed"]).toBeUndefined();
  });

  test("the clock does not go back to what compaction left out", async () => {
    const files = new SimulatedDisk();
    let now = 1_000_000;
    const first = await openStore({ files, now: () => now });
    set(first.store, "key", "value");
    now = 2_000_000;
    first.store.clock.next(); // a time that no entry shows
    const { high, low } = first.store.clock;
    await first.journal.compact();
    await untilSafe(first);
    files.crash("none", seeded(1));
    now = 5;
    const second = await openStore({ files, now: () => now });
    expect([second.store.clock.high, second.store.clock.low]).toEqual([high, low]);
  });

  test("a log goes on where it ended, over many restarts", async () => {
    const files = new SimulatedDisk();
    for (let i = 0; i < 10; i++) {
      const { store, journal } = await openStore({ files, segmentBytes: 1_000 });
      expect(store.size).toBe(i * 5);
      for (let j = 0; j < 5; j++) set(store, `key ${i} ${j}`, "x".repeat(50));
      await journal.close();
    }
    expect(files.paths().filter((path) => path.endsWith(".log")).length).toBeGreaterThan(1);
  });
});

describe("compaction", () => {
  test("older segments go, and all that was in them comes back", async () => {
    const files = new SimulatedDisk();
    const first = await openStore({ files, segmentBytes: 2_000 });
    for (let i = 0; i < 200; i++) {
      set(first.store, `key ${i % 50}`, `value ${i}`);
      if (i % 10 === 0) await untilSafe(first);
    }
    remove(first.store, "key 7");
    const segments = files.paths().filter((path) => path.endsWith(".log")).length;
    expect(segments).toBeGreaterThan(3);
    await first.journal.compact();
    const left = files.paths().filter((path) => /log|snap|tmp/.test(path));
    expect(left.map((path) => path.slice(-4))).toEqual([".log", "snap"]);
    set(first.store, "after", "it");
    const before = entriesOf(first.store);
    await first.journal.close();
    const second = await openStore({ files });
    expect(entriesOf(second.store)).toEqual(before);
  });

  test("writes go on meanwhile and none is missed", async () => {
    const files = new SimulatedDisk();
    const first = await openStore({ files, segmentBytes: 50_000 });
    for (let i = 0; i < 3_000; i++) set(first.store, `key ${i}`, "x".repeat(300));
    await untilSafe(first);
    files.beforeWrite = (path) => (path.includes(".snap") ? turns(10) : undefined);
    const compacted = first.journal.compact();
    let isCompacted = false;
    void compacted.then(() => (isCompacted = true));
    let rounds = 0;
    for (; !isCompacted; rounds++) {
      set(first.store, `key ${(rounds * 37) % 3_000}`, `new ${rounds}`);
      set(first.store, `new ${rounds}`, "x");
      remove(first.store, `key ${(rounds * 41) % 3_000}`);
      await untilSafe(first);
    }
    expect(rounds).toBeGreaterThan(2);
    const before = entriesOf(first.store);
    files.crash("none", seeded(1));
    const second = await openStore({ files });
    expect(entriesOf(second.store)).toEqual(before);
  });

  test("it comes by itself, and the disk holds within 2.5 times the data and a segment", async () => {
    const files = new SimulatedDisk();
    const segmentBytes = 1024 * 1024;
    const opened = await openStore({ files, segmentBytes, fsync: "never" });
    let mostBytes = 0;
    // Frames of the log have the size of those of a snapshot, and go faster to the disk.
    files.beforeWrite = async (path) => {
      mostBytes = Math.max(mostBytes, files.usedBytes());
      if (path.includes(".snap")) await turns(10);
    };
    const value = new Uint8Array(500);
    for (let i = 0; i < 100_000; i++) {
      set(opened.store, `key ${i % 10_000}`, value);
      if (i % 400 === 0) await untilSafe(opened);
    }
    expect(readFact(journalFacts, opened.journal, "snapshot_bytes")).toBeGreaterThan(0);
    await opened.journal.compact();
    const liveBytes = Number(readFact(journalFacts, opened.journal, "snapshot_bytes"));
    expect(mostBytes).toBeLessThan(2.5 * liveBytes + segmentBytes);
    await opened.journal.close();
  });

  test("a process that dies while a snapshot is written leaves nothing that matters", async () => {
    const files = new SimulatedDisk();
    const first = await openStore({ files });
    for (let i = 0; i < 100; i++) set(first.store, `key ${i}`, "value");
    await untilSafe(first);
    files.place("/data/0000000002.snap.tmp", new Uint8Array(100));
    const second = await openAfterKill(files);
    expect(second.store.size).toBe(100);
    expect(files.paths().some((path) => path.endsWith(".tmp"))).toBe(false);
  });
});

test("room for the entries of a snapshot is made once", async () => {
  const files = new SimulatedDisk();
  const first = await openStore({ files });
  for (let i = 0; i < 20_000; i++) set(first.store, `key:${i}`, "value");
  for (let i = 0; i < 5; i++) remove(first.store, `key:${i}`);
  set(first.store, "large", "x".repeat(1_000_000));
  await first.journal.compact();
  await first.journal.close();
  using expected = spyOn(Store.prototype, "expect");
  const { journal, store } = await openStore({ files });
  expect(expected.mock.calls.filter(([count]) => count > 0)).toEqual([[20_001]]);
  // The next one tells its own.
  for (let i = 0; i < 20_000; i++) set(store, `another:${i}`, "value");
  await journal.compact();
  await journal.close();
  expected.mockClear();
  await openStore({ files });
  expect(expected.mock.calls.filter(([count]) => count > 0)).toEqual([[40_001]]);
});

describe("two ends in a row", () => {
  test("a power cut right after a restart takes nothing that was there", async () => {
    const files = new SimulatedDisk();
    const first = await openStore({ files, fsync: "never" });
    set(first.store, "key", "value");
    await untilSafe(first);
    files.kill();
    await openStore({ files, fsync: "never" });
    files.crash("none", seeded(1));
    expect(dataOf((await openStore({ files })).store)).toEqual({ key: "value" });
  });

  test("a run that a power cut took whole leaves no clean stop behind", async () => {
    const files = new SimulatedDisk();
    const first = await openStore({ files, fsync: "never" });
    await first.journal.close();
    const second = await openStore({ files, fsync: "never" });
    expect(second.recovered.wasStoppedCleanly).toBe(true);
    increment(second.store, "counter");
    await untilSafe(second);
    files.crash("none", seeded(1));
    const third = await openStore({ files, fsync: "never" });
    expect(third.store.size).toBe(0);
    expect(third.recovered.wasStoppedCleanly).toBe(false);
  });

  test("names that the first process did not live to sync are durable too", async () => {
    const files = new SimulatedDisk();
    const first = await openStore({ files });
    set(first.store, "key", "value");
    await untilSafe(first);
    files.beforeDirectorySync = () => new Promise(() => {});
    // Gets as far as the name of the next segment, and is then no longer there.
    first.journal.compact().catch(() => {});
    await eventually("there is another segment", () => files.paths().length === 2);
    files.kill();
    files.beforeDirectorySync = () => {};
    const second = await openStore({ files });
    set(second.store, "more", "value");
    await untilSafe(second);
    files.crash("none", seeded(1));
    const third = await openStore({ files });
    expect(dataOf(third.store)).toEqual({ key: "value", more: "value" });
  });
});

test("a snapshot vouches for no entry that only the log behind it holds", async () => {
  const files = new SimulatedDisk();
  const first = await openStore({ files, fsync: "never" });
  const contacts = new Contacts();
  first.journal.followMetadata(CONTACTS_METADATA, () => contactsMetadata(contacts));
  for (let i = 0; i < 10; i++) set(first.store, `key ${i}`, "value");
  let writes = 0;
  files.beforeWrite = (path) => {
    if (!path.includes("snap") || ++writes !== 2) return;
    contacts.note(1, 2, 1_700_000_000_000); // with what came to be had while it was written
  };
  await first.journal.compact();
  expect(writes).toBeGreaterThan(1);
  files.crash("none", seeded(1));
  const second = await openStore({ files });
  expect(second.store.size).toBe(10);
  expect(readContacts(second.journal.metadata(CONTACTS_METADATA)).size).toBe(0);
});

test("everysec: the clock in a snapshot is as far ahead as the one in the log it stands for", async () => {
  const files = new SimulatedDisk();
  let now = 1_700_000_000_000;
  const first = await openStore({ files, fsync: "everysec", now: () => now });
  set(first.store, "key", "value");
  await first.journal.compact();
  now += 500;
  set(first.store, "key", "newer");
  await untilSafe(first);
  const { high, low } = first.store.clock;
  files.crash("none", seeded(1));
  now -= 86_400_000;
  const { clock } = (await openStore({ files, fsync: "everysec", now: () => now })).store;
  expect(clock.high * 2 ** 32 + clock.low).toBeGreaterThan(high * 2 ** 32 + low);
});

describe("a power cut takes what was not synced", () => {
  const actions = fc.array(
    fc.oneof(
      {
        weight: 10,
        arbitrary: fc.record({ do: fc.constant("set"), key: fc.nat(20), size: fc.nat(2_000) }),
      },
      {
        weight: 3,
        arbitrary: fc.record({ do: fc.constant("delete"), key: fc.nat(20), size: fc.nat(0) }),
      },
      {
        weight: 2,
        arbitrary: fc.record({ do: fc.constant("increment"), key: fc.nat(5), size: fc.nat(0) }),
      },
      {
        weight: 5,
        arbitrary: fc.record({ do: fc.constant("wait"), key: fc.nat(0), size: fc.nat(0) }),
      },
      {
        weight: 1,
        arbitrary: fc.record({ do: fc.constant("compact"), key: fc.nat(0), size: fc.nat(0) }),
      },
      {
        weight: 1,
        arbitrary: fc.record({ do: fc.constant("flush"), key: fc.nat(0), size: fc.nat(0) }),
      },
    ),
    { maxLength: 60 },
  );

  /** Runs random work and crashes; what was safe by then must come back. */
  async function crashRound(
    fsync: FsyncMode,
    work: { do: string; key: number; size: number }[],
    seed: number,
    crash: (files: SimulatedDisk) => void,
  ): Promise<void> {
    const random = seeded(seed);
    const files = new SimulatedDisk();
    const first = await openStore({ files, fsync, segmentBytes: 4_000 });
    let safe = new Map<string, string>();
    for (const { do: action, key, size } of work) {
      if (action === "set") set(first.store, `key ${key}`, "x".repeat(size));
      else if (action === "delete") remove(first.store, `key ${key}`);
      else if (action === "increment") increment(first.store, `counter ${key}`);
      else if (action === "flush") first.store.flush();
      else if (action === "compact") await first.journal.compact();
      else {
        await untilSafe(first);
        safe = versionsOf(entriesOf(first.store));
      }
      if (random() < 0.3) await new Promise((resolve) => setImmediate(resolve));
    }
    const last = versionsOf(entriesOf(first.store));
    crash(files);
    const second = await openStore({ files, fsync });
    const found = versionsOf(entriesOf(second.store));
    for (const [key, version] of safe) {
      // Newer is fine: it was under way when the power went. So is a flush that was.
      const { timeHigh, timeLow, originHigh, originLow } = second.store.floor;
      const floor = hex([timeHigh, timeLow, originHigh, originLow]);
      expect((found.get(key) ?? floor) >= version).toBe(true);
    }
    for (const [key, version] of found) {
      if (last.has(key)) expect(version <= last.get(key)!).toBe(true);
    }
  }

  function versionsOf(entries: string[]): Map<string, string> {
    return new Map(
      entries.map((text) => {
        const [key, , , version] = JSON.parse(text) as [string, number, string, number[]];
        return [key, hex(version)];
      }),
    );
  }

  /** Text in the order of versions. */
  function hex(version: number[]): string {
    return version.map((word) => word.toString(16).padStart(8, "0")).join("");
  }

  test.each(["none", "some"] as const)("always: nothing safe is lost (%s kept)", async (kind) => {
    await fc.assert(
      fc.asyncProperty(actions, fc.nat(), (work, seed) =>
        crashRound("always", work, seed, (files) => files.crash(kind, seeded(seed + 1))),
      ),
      { numRuns: 150 },
    );
  });

  test.each(["everysec", "never"] as const)(
    "%s: a dying process loses nothing safe",
    async (fsync) => {
      await fc.assert(
        fc.asyncProperty(actions, fc.nat(), (work, seed) =>
          crashRound(fsync, work, seed, (files) => files.kill()),
        ),
        { numRuns: 100 },
      );
    },
  );

  test.each(["everysec", "never"] as const)(
    "%s: it starts again whatever is left",
    async (fsync) => {
      await fc.assert(
        fc.asyncProperty(actions, fc.nat(), async (work, seed) => {
          const files = new SimulatedDisk();
          const first = await openStore({ files, fsync, segmentBytes: 4_000 });
          for (const { key, size } of work) {
            set(first.store, `key ${key}`, "x".repeat(size));
            if (size % 3 === 0) await untilSafe(first);
          }
          files.crash("some", seeded(seed));
          const second = await openStore({ files, fsync });
          for (const [key, value] of Object.entries(dataOf(second.store))) {
            expect(key).toStartWith("key ");
            expect(value).toMatch(/^x*$/);
          }
          set(second.store, "goes", "on");
          await untilSafe(second);
        }),
        { numRuns: 150 },
      );
    },
  );

  test("everysec: what was written a sync ago is there", async () => {
    const files = new SimulatedDisk();
    const first = await openStore({ files, fsync: "everysec" });
    set(first.store, "key", "value");
    await untilSafe(first);
    const { syncs } = files;
    const synced = Promise.withResolvers<void>();
    const watch = setInterval(() => files.syncs > syncs && synced.resolve(), 5);
    await synced.promise;
    clearInterval(watch);
    files.crash("none", seeded(1));
    const second = await openStore({ files, fsync: "everysec" });
    expect(dataOf(second.store)).toEqual({ key: "value" });
    expect(second.recovered.wasStoppedCleanly).toBe(false);
  });
});

test("everysec: a contact is there after a power cut, though nothing was written since", async () => {
  const files = new SimulatedDisk();
  const ticks: (() => void)[] = [];
  const after = (_delayMs: number, tick: () => void): (() => void) => {
    ticks.push(tick);
    return () => {};
  };
  const timing = { ...eventLoop, after };
  const first = await openStore({ files, fsync: "everysec", timing });
  const contacts = new Contacts();
  first.journal.followMetadata(CONTACTS_METADATA, () => contactsMetadata(contacts));
  const tick = async (): Promise<void> => {
    for (const callback of ticks.splice(0)) callback();
    await turns(20);
  };
  for (let i = 0; i < 3; i++) await tick();
  const { syncs } = files;
  await tick();
  // Who knows nothing new leaves the disk alone.
  expect(files.syncs).toBe(syncs);
  contacts.meet(1, 2, 1_700_000_000_000);
  await tick();
  files.crash("none", seeded(1));
  const second = await openStore({ files, fsync: "everysec", now: () => 5 });
  expect(readContacts(second.journal.metadata(CONTACTS_METADATA)).of(1, 2)).toBe(1_700_000_000_000);
  // It vouched for knowing all up to then, and its machine's clock is back in 1970.
  expect(second.store.clock.seenMs()).toBeGreaterThanOrEqual(1_700_000_000_000);
});

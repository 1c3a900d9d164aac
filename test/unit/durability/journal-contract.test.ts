/** What every journal promises, checked against each of them. */
import { describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Store } from "../../../src/core/store/store.ts";
import { MemoryJournal, type Journal } from "../../../src/durability/journal.ts";
import { journalFacts, journalSeries } from "../../../src/durability/log-facts.ts";
import type { FsyncMode } from "../../../src/durability/log.ts";
import { eventually } from "../../support/eventually.ts";
import { readFact } from "../../support/facts.ts";
import { createStore, openStore, set } from "../../support/journalled-store.ts";
import { SimulatedDisk } from "../../support/simulated-disk.ts";
import { readSeries } from "../../support/series.ts";

interface Opened {
  readonly store: Store;
  readonly journal: Journal;
}

async function openMemory(): Promise<Opened> {
  const store = createStore();
  const journal = new MemoryJournal();
  store.observers.push(journal.observer);
  return { store, journal };
}

const simulated = (fsync: FsyncMode) => () => openStore({ files: new SimulatedDisk(), fsync });

async function openReal(): Promise<Opened> {
  const directory = mkdtempSync(join(tmpdir(), "merklekv-journal-"));
  const opened = await openStore({ directory });
  const { journal } = opened;
  const close = journal.close.bind(journal);
  journal.close = async () => {
    await close();
    rmSync(directory, { recursive: true });
  };
  return opened;
}

const journals: [string, () => Promise<Opened>][] = [
  ["memory", openMemory],
  ["log, always, on a simulated disk", simulated("always")],
  ["log, everysec, on a simulated disk", simulated("everysec")],
  ["log, never, on a simulated disk", simulated("never")],
  ["log, always, on a real disk", openReal],
];

describe.each(journals)("%s", (_name, open) => {
  test("all that was journalled becomes safe, and who waits is told in order", async () => {
    const { store, journal } = await open();
    const told: number[] = [];
    const all = Promise.withResolvers<void>();
    for (let i = 0; i < 10; i++) {
      set(store, `key ${i}`, "value");
      const { position } = journal;
      journal.whenSafe({
        onSafe: () => {
          expect(journal.safePosition).toBeGreaterThanOrEqual(position);
          told.push(i);
          if (told.length === 10) all.resolve();
        },
      });
      expect(journal.safePosition).toBeLessThanOrEqual(journal.position);
    }
    await all.promise;
    expect(told).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(journal.safePosition).toBe(journal.position);
    await journal.close();
  });

  test("nobody is told from within whenSafe, even when there is nothing to wait for", async () => {
    const { journal } = await open();
    let isTold = false;
    const told = Promise.withResolvers<void>();
    journal.whenSafe({
      onSafe: () => {
        isTold = true;
        told.resolve();
      },
    });
    expect(isTold).toBe(false);
    await told.promise;
    await journal.close();
  });

  test("whoever is told may wait again", async () => {
    const { store, journal } = await open();
    const done = Promise.withResolvers<void>();
    let rounds = 0;
    const waiter = {
      onSafe(): void {
        if (++rounds === 20) return done.resolve();
        set(store, `key ${rounds}`, "value");
        journal.whenSafe(waiter);
      },
    };
    journal.whenSafe(waiter);
    await done.promise;
    await journal.close();
  });

  test("positions never decrease, whatever happens in the store", async () => {
    const { store, journal } = await open();
    let last = 0;
    const check = (): void => {
      expect(journal.position).toBeGreaterThanOrEqual(last);
      last = journal.position;
    };
    set(store, "a", "1");
    check();
    set(store, "a", "x".repeat(100_000));
    check();
    store.flush();
    check();
    await journal.compact();
    check();
    await journal.close();
  });

  test("metadata is remembered, and forgotten when it is empty", async () => {
    const { journal } = await open();
    const value = new Uint8Array([1, 2, 3]);
    journal.setMetadata("name", value);
    value[0] = 9;
    expect(journal.metadata("name")).toEqual(new Uint8Array([1, 2, 3]));
    journal.setMetadata("name", new Uint8Array(0));
    expect(journal.metadata("name")).toBeUndefined();
    expect(journal.failure).toBeNull();
    await journal.close();
  });

  test("it says what it is", async () => {
    const { journal } = await open();
    expect(readFact(journalFacts, journal, "storage_engine")).toBeOneOf(["memory", "log"]);
    await journal.close();
  });
});

test("metrics count the writes and the syncs of a log", async () => {
  const { store, journal } = await simulated("everysec")();
  const counted = (name: string): number => readSeries(journalSeries, journal, name)[""] ?? 0;
  const before = [counted("log_write_ms"), counted("log_sync_ms")];
  set(store, "k", "v");
  await new Promise<void>((resolve) => journal.whenSafe({ onSafe: () => resolve() }));
  expect(counted("log_write_ms")).toBeGreaterThan(before[0]);
  await eventually("it was synced", () => counted("log_sync_ms") > before[1]);
  await journal.close();
});

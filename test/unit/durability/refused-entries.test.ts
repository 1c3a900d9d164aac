/** Entries in a data directory that no store takes: a node starts without them, and keeps their bytes. */
import { expect, test } from "bun:test";
import { Entry, KIND_COUNTER, KIND_TOMBSTONE } from "../../../src/core/data/entry.ts";
import { checkDirectory } from "../../../src/durability/check.ts";
import { journalFacts } from "../../../src/durability/log-facts.ts";
import { repairDirectory, restoreBackup, verifyBackup } from "../../../src/durability/restore.ts";
import { FILE_BACKUP } from "../../../src/durability/record.ts";
import { DirectorySeals, noKeys } from "../../../src/durability/sealing.ts";
import { writeWholeFile } from "../../../src/durability/file-writer.ts";
import { readFact } from "../../support/facts.ts";
import { DIRECTORY, dataOf, openStore, set, untilSafe } from "../../support/journalled-store.ts";
import { SimulatedDisk } from "../../support/simulated-disk.ts";

const encoder = new TextEncoder();

function badEntries(): Entry[] {
  const make = (key: string, kind: 1 | 2): Entry => {
    const entry = new Entry().setKey(encoder.encode(key)).setValue(encoder.encode("no counter"));
    entry.kind = kind;
    return entry.setVersion(1, 2, 3, 4);
  };
  return [make("bad counter", KIND_COUNTER), make("bad deletion", KIND_TOMBSTONE)];
}

/** A killed node's directory with two of them among good ones. */
async function badDirectory(): Promise<SimulatedDisk> {
  const files = new SimulatedDisk();
  const opened = await openStore({ files });
  set(opened.store, "before", "1");
  // As a version without the check would have journalled them: the observer reads what is there.
  const { readChange } = opened.store;
  for (const bad of badEntries()) {
    opened.store.readChange = (_id, into) => void Object.assign(into, bad);
    opened.journal.observer.changed(0, false, 0);
  }
  opened.store.readChange = readChange;
  set(opened.store, "after", "2");
  await untilSafe(opened);
  return files;
}

test("a node starts without them, once and again, and keeps what they were", async () => {
  const files = await badDirectory();
  const first = await openStore({ files });
  expect(dataOf(first.store)).toEqual({ before: "1", after: "2" });
  const { refused } = first.recovered;
  expect(refused).toMatchObject({
    entries: 2,
    firstKey: "bad counter",
    because: "it is no counter",
  });
  expect(readFact(journalFacts, first.journal, "recovered_refused_entries")).toBe(2);
  expect(await verifyBackup(files, refused!.file)).toMatchObject({ entries: 2, refused: 2 });
  const second = await openStore({ files });
  expect(second.recovered.refused).toEqual(refused);
  await second.journal.compact();
  await second.journal.close();
  const third = await openStore({ files });
  expect(third.recovered.refused).toBeNull();
  expect(dataOf(third.store)).toEqual({ before: "1", after: "2" });
});

test("check counts them by the same gate, and --fix leaves them in the files put aside", async () => {
  const files = await badDirectory();
  const report = await checkDirectory(files, DIRECTORY);
  expect(report).toMatchObject({ isGood: false, entries: 4 });
  expect(report.files[0]).toMatchObject({ refused: 2, problem: null });
  const repaired = await repairDirectory(files, report, new Date(0));
  expect(repaired).toMatchObject({ entries: 2, refused: 2 });
  expect(await checkDirectory(files, DIRECTORY)).toMatchObject({ isGood: true, entries: 2 });
  const opened = await openStore({ files });
  expect(dataOf(opened.store)).toEqual({ before: "1", after: "2" });
});

test("a backup that holds some is restored without them", async () => {
  const files = new SimulatedDisk();
  const identity = { fileKind: FILE_BACKUP, number: 0, nodeId: "n1" } as const;
  await writeWholeFile(files, "/backup", identity, new DirectorySeals(noKeys), async (writer) => {
    const good = new Entry().setKey(encoder.encode("good")).setValue(encoder.encode("1"));
    for (const entry of [...badEntries(), good.setVersion(1, 2, 3, 4)]) {
      writer.buffer.addEntry(entry);
    }
    await writer.end();
  });
  const restored = await restoreBackup(files, "/backup", DIRECTORY, {
    force: false,
    now: new Date(0),
  });
  expect(restored).toMatchObject({ entries: 1, refused: 2 });
  expect(dataOf((await openStore({ files })).store)).toEqual({ good: "1" });
});

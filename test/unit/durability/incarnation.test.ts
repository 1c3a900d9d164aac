/** Under which origin a node counts: the same only when it has forgotten nothing. */
import { expect, test } from "bun:test";
import { Entry, KIND_COUNTER } from "../../../src/core/data/entry.ts";
import type { Origin } from "../../../src/core/data/origin.ts";
import { checkDirectory } from "../../../src/durability/check.ts";
import { resumeIncarnation } from "../../../src/durability/incarnation.ts";
import type { FsyncMode } from "../../../src/durability/log.ts";
import { repairDirectory, restoreBackup } from "../../../src/durability/restore.ts";
import {
  DIRECTORY,
  openStore,
  set,
  untilSafe,
  type JournalledStore,
} from "../../support/journalled-store.ts";
import { SimulatedDisk } from "../../support/simulated-disk.ts";
import { backupsOf } from "../../support/backups.ts";

let starts = 0;

/** A start of the node as `startNode` does it: with a fresh origin, and then its own if it may. */
async function start(
  files: SimulatedDisk,
  fsync: FsyncMode,
): Promise<JournalledStore & { fresh: Origin; origin: Origin }> {
  const opened = await openStore({ files, fsync });
  const fresh = { high: ++starts, low: 0 };
  opened.store.counts.resume(fresh);
  resumeIncarnation(opened.store.counts, opened.journal, opened.recovered, fsync);
  set(opened.store, `start ${starts}`, "value");
  await untilSafe(opened);
  return { ...opened, fresh, origin: opened.store.counts.origin };
}

test("an empty directory: a new one", async () => {
  const { fresh, origin } = await start(new SimulatedDisk(), "always");
  expect(origin).toEqual(fresh);
});

test.each(["always", "everysec", "never"] as const)(
  "%s, after a clean stop: the same",
  async (fsync) => {
    const files = new SimulatedDisk();
    const first = await start(files, fsync);
    await first.journal.close();
    const second = await start(files, fsync);
    expect(second.origin).toEqual(first.origin);
    await second.journal.compact();
    await second.journal.close();
    expect((await start(files, fsync)).origin).toEqual(first.origin);
  },
);

test.each([
  ["always", "always", true],
  ["always", "everysec", false],
  ["everysec", "always", false],
  ["never", "never", false],
] as const)(
  "killed in mode %s and started in %s: the same is %p",
  async (before, after, isSame) => {
    const files = new SimulatedDisk();
    const first = await start(files, before);
    files.kill();
    const second = await start(files, after);
    expect(second.origin).toEqual(isSame ? first.origin : second.fresh);
  },
);

test("an origin it was given while it ran is the one it goes on under", async () => {
  const files = new SimulatedDisk();
  const first = await start(files, "always");
  first.store.counts.resume({ high: 77, low: 7 });
  await first.journal.close();
  expect((await start(files, "always")).origin).toEqual({ high: 77, low: 7 });
});

test("restored from a backup, or repaired: a new one, however it was synced", async () => {
  const files = new SimulatedDisk();
  const first = await start(files, "always");
  const backups = backupsOf(files, {
    store: first.store,
    metadata: () => first.journal.allMetadata(),
  });
  await backups.create("one");
  await first.journal.close();
  const now = new Date(0);
  await restoreBackup(files, "/backups/one.backup", DIRECTORY, { force: true, now });
  const second = await start(files, "always");
  expect(second.store.size).toBe(2);
  expect(second.origin).toEqual(second.fresh);
  await second.journal.close();

  const third = await start(files, "always");
  expect(third.origin).toEqual(second.origin);
  await third.journal.close();
  await repairDirectory(files, await checkDirectory(files, DIRECTORY), now);
  const fourth = await start(files, "always");
  expect(fourth.origin).toEqual(fourth.fresh);
});

test("restored, and gone before it had written anything: a new one", async () => {
  const files = new SimulatedDisk();
  const first = await start(files, "always");
  await first.journal.close();
  await repairDirectory(files, await checkDirectory(files, DIRECTORY), new Date(0));
  const opened = await openStore({ files, fsync: "always" });
  resumeIncarnation(opened.store.counts, opened.journal, opened.recovered, "always");
  files.crash("none", Math.random);
  const third = await start(files, "always");
  expect(third.origin).toEqual(third.fresh);
});

test.each([
  ["stopped cleanly", true],
  ["killed", false],
] as const)(
  "always, %s, then never until a power cut, then always: not that of the run in between",
  async (_, isClean) => {
    const files = new SimulatedDisk();
    const first = await start(files, "always");
    if (isClean) await first.journal.close();
    else files.kill();
    const second = await start(files, "never");
    files.crash("none", Math.random);
    const third = await start(files, "always");
    expect(third.origin).not.toEqual(second.origin);
  },
);

test("started without an entry that no store takes: a new one, for it may be a later state of a counter", async () => {
  const files = new SimulatedDisk();
  const first = await start(files, "always");
  const bad = new Entry().setKey(Buffer.from("counter")).setValue(Buffer.from("no counter"));
  bad.kind = KIND_COUNTER;
  // As a version without the check would have journalled it: the observer reads what is there.
  first.store.readChange = (_id, into) => void Object.assign(into, bad);
  first.journal.observer.changed(0, false, 0);
  await first.journal.close();
  const second = await start(files, "always");
  expect(second.recovered.refused).not.toBeNull();
  expect(second.origin).toEqual(second.fresh);
});

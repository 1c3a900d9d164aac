/** The zeros ahead of a log that is synced with every write: in nobody's way, and never taken for data. */
import { expect, test } from "bun:test";
import { checkDirectory } from "../../../src/durability/check.ts";
import { eventually } from "../../support/eventually.ts";
import { DIRECTORY, dataOf, openStore, set, untilSafe } from "../../support/journalled-store.ts";
import { seeded } from "../../support/random.ts";
import { SimulatedDisk } from "../../support/simulated-disk.ts";

const LOG = `${DIRECTORY}/0000000001.log`;
const MIB = 1024 * 1024;

async function untilLaid(files: SimulatedDisk): Promise<number> {
  const isLaid = async () => files.contents(LOG).length > MIB && files.syncs > 2;
  await eventually("zeros are laid", isLaid);
  return files.contents(LOG).findLastIndex((byte) => byte !== 0) + 1;
}

test("a killed log goes on where it was written to, and nothing counts as torn", async () => {
  const files = new SimulatedDisk();
  const opened = await openStore({ files });
  set(opened.store, "key", "value");
  await untilSafe(opened);
  const end = await untilLaid(files);
  files.crash("none", seeded(1));
  expect(await checkDirectory(files, DIRECTORY)).toMatchObject({
    isGood: true,
    files: [{ tornBytes: 0 }],
  });
  const again = await openStore({ files });
  expect(again.recovered).toMatchObject({ tornBytes: 0, logBytes: end, wasStoppedCleanly: false });
  set(again.store, "goes", "on");
  await untilSafe(again);
  files.crash("none", seeded(2));
  expect(dataOf((await openStore({ files })).store)).toEqual({ key: "value", goes: "on" });
});

test("a byte that is not zero in it is noticed", async () => {
  const files = new SimulatedDisk();
  const opened = await openStore({ files });
  set(opened.store, "key", "value");
  await untilSafe(opened);
  const end = await untilLaid(files);
  for (const at of [end, end + 100, MIB]) {
    const bytes = files.contents(LOG);
    bytes[at] = 1;
    const other = new SimulatedDisk();
    other.place(LOG, bytes);
    const { recovered, store } = await openStore({ files: other });
    expect(recovered.tornBytes).toBe(at + 1 - end);
    expect(dataOf(store)).toEqual({ key: "value" });
  }
});

test("a segment that ended has none left", async () => {
  const files = new SimulatedDisk();
  const opened = await openStore({ files });
  set(opened.store, "key", "value");
  await untilSafe(opened);
  await untilLaid(files);
  await opened.journal.close();
  expect(files.contents(LOG).at(-1)).not.toBe(0);
  expect(files.contents(LOG).length).toBeLessThan(1_000);
});

test("without room for it, writes go on and no room is taken", async () => {
  const files = new SimulatedDisk();
  files.capacityBytes = 10_000;
  files.partBytes = 5_000;
  const opened = await openStore({ files });
  for (let i = 0; i < 50; i++) {
    set(opened.store, `key ${i}`, "x".repeat(100));
    await untilSafe(opened);
  }
  expect(opened.journal.failure).toBeNull();
  expect(files.contents(LOG).at(-1)).not.toBe(0);
  files.crash("none", seeded(3));
  expect((await openStore({ files })).store.size).toBe(50);
});

test("writes that come before it is laid lose nothing", async () => {
  const files = new SimulatedDisk();
  const gate = Promise.withResolvers<void>();
  files.beforeWrite = (_, bytes) => (bytes === MIB ? gate.promise : undefined);
  const opened = await openStore({ files });
  set(opened.store, "key", new Uint8Array(700_000).fill(7));
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
  gate.resolve();
  await untilSafe(opened);
  await untilLaid(files);
  set(opened.store, "other", new Uint8Array(700_000).fill(7));
  await untilSafe(opened);
  files.crash("some", seeded(4));
  const { store, recovered } = await openStore({ files });
  expect(store.size).toBe(2);
  expect(recovered.tornBytes).toBe(0);
});

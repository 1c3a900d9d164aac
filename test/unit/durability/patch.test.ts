/** Of a long string only what changed is written down, and it comes back whole. */
import { readU32 } from "../../../src/core/bytes.ts";
import { expect, test } from "bun:test";
import fc from "fast-check";
import { Entry } from "../../../src/core/data/entry.ts";
import { Patch } from "../../../src/core/data/patch.ts";
import { inOneGo } from "../../../src/core/store/pieces.ts";
import type { Store } from "../../../src/core/store/store.ts";
import { checkDirectory } from "../../../src/durability/check.ts";
import { FORMAT_VERSION, finishFrame } from "../../../src/durability/frame.ts";
import { repairDirectory } from "../../../src/durability/restore.ts";
import {
  bytesOf,
  createStore,
  dataOf,
  DIRECTORY,
  entriesOf,
  locate,
  openAfterKill,
  openStore,
  remove,
  set,
  untilSafe,
} from "../../support/journalled-store.ts";
import { seeded } from "../../support/random.ts";
import { SimulatedDisk } from "../../support/simulated-disk.ts";

const KEYS = ["a", "b", "c"];
const LATER_MS = 4_000_000_000_000;

/** What `id` is now: the value where it lies. */
function read(store: Store, key: string): { id: number; entry: Entry } {
  const id = locate(store, key);
  const entry = new Entry();
  if (id >= 0) store.read(id, entry);
  return { id, entry };
}

/** Puts a text in the place of `removed` bytes, if there are so many: the end counts as -1. */
function splice(store: Store, key: string, at: number, removed: number, text: string): void {
  const { id, entry } = read(store, key);
  const from = at < 0 ? entry.valueLength : at;
  if (id < 0 || from + removed > entry.valueLength) return;
  store.splice(id, from, removed, bytesOf(text), 0, text.length);
}

function overwrite(store: Store, key: string, at: number, text: string): void {
  splice(store, key, at, text.length, text);
}

function expireAt(store: Store, key: string, expiresAtMs: number): void {
  store.expire(bytesOf(key), 0, key.length, expiresAtMs);
}

test("a byte, or the expiry, of 8 MiB costs the log a few bytes", async () => {
  const files = new SimulatedDisk();
  const first = await openStore({ files });
  set(first.store, "k", new Uint8Array(8 * 1_048_576).fill(0x61));
  const { position } = first.journal;
  overwrite(first.store, "k", 5_000_000, "xyz");
  expireAt(first.store, "k", LATER_MS);
  expireAt(first.store, "k", 0);
  expect(first.journal.position - position).toBeLessThan(300);
  await untilSafe(first);
  const expected = entriesOf(first.store);
  const second = await openAfterKill(files);
  expect(entriesOf(second.store)).toEqual(expected);
});

test("what is put at an end of 8 MiB costs the log next to nothing", async () => {
  const files = new SimulatedDisk();
  const first = await openStore({ files });
  set(first.store, "k", new Uint8Array(8 * 1_048_576).fill(0x61));
  const { position } = first.journal;
  for (let i = 0; i < 100; i++) splice(first.store, "k", -1, 0, `${i}`);
  expect(first.journal.position - position).toBeLessThan(10_000);
  await untilSafe(first);
  const expected = entriesOf(first.store);
  const second = await openAfterKill(files);
  expect(entriesOf(second.store)).toEqual(expected);
});

test("what moves a whole value costs the log a part of it: reading it back costs time", async () => {
  const files = new SimulatedDisk();
  const { store, journal } = await openStore({ files });
  const size = 100_000;
  set(store, "k", new Uint8Array(size).fill(0x61));
  set(store, "small", new Uint8Array(2_000).fill(0x62));
  const { position } = journal;
  for (let i = 0; i < 170; i++) {
    splice(store, "k", 0, 0, "x");
    // What is small pays for little.
    splice(store, "small", 0, 0, "y");
  }
  const logged = journal.position - position;
  expect(logged).toBeGreaterThan(7 * size);
  expect(logged).toBeLessThan(20 * size);
});

const step = fc.oneof(
  { weight: 3, arbitrary: fc.record({ do: fc.constant("set" as const), size: fc.nat(2_500) }) },
  {
    weight: 6,
    arbitrary: fc.record({ do: fc.constant("overwrite" as const), at: fc.nat(2_400) }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant("splice" as const),
      at: fc.integer({ min: -1, max: 2_400 }),
      removed: fc.constantFrom(0, 0, 1, 300),
      size: fc.constantFrom(0, 3, 40, 1_500),
    }),
  },
  { weight: 4, arbitrary: fc.record({ do: fc.constant("expire" as const), on: fc.boolean() }) },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constantFrom("remove", "flush", "compact", "wait", "discard") }),
  },
);

test("whatever is done to strings, also while snapshots are written, is there again", async () => {
  const run = fc.array(fc.tuple(fc.nat(KEYS.length - 1), step), { maxLength: 40 });
  await fc.assert(
    fc.asyncProperty(run, fc.nat(), async (steps, seed) => {
      const files = new SimulatedDisk();
      const first = await openStore({ files, segmentBytes: 8_000 });
      const { store, journal } = first;
      const compacting: Promise<void>[] = [];
      for (const [i, [which, { do: what, ...how }]] of steps.entries()) {
        const key = KEYS[which];
        const given = how as { size: number; at: number; removed: number; on: boolean };
        if (what === "set") set(store, key, new Uint8Array(given.size).fill(97 + (i % 20)));
        else if (what === "overwrite") overwrite(store, key, given.at, `<${i}>`);
        else if (what === "splice")
          splice(store, key, given.at, given.removed, `${i}`.padEnd(given.size, "-"));
        else if (what === "expire") expireAt(store, key, given.on ? LATER_MS + i : 0);
        else if (what === "remove") remove(store, key);
        else if (what === "flush") store.flush();
        else if (what === "compact") compacting.push(journal.compact());
        else if (what === "wait") await untilSafe(first);
        else if (read(store, key).id >= 0) store.discard(read(store, key).id);
      }
      await untilSafe(first);
      const expected = entriesOf(store);
      const copy = files.copy();
      await Promise.all(compacting);
      for (const disk of [copy, files]) {
        disk.crash("some", seeded(seed));
        const { store: again } = await openStore({ files: disk, segmentBytes: 8_000 });
        expect(entriesOf(again)).toEqual(expected);
      }
    }),
    { numRuns: 150 },
  );
});

test("a repair copies patches behind what they change, and a check counts them as good", async () => {
  const files = new SimulatedDisk();
  const first = await openStore({ files });
  set(first.store, "k", "v".repeat(2_000));
  overwrite(first.store, "k", 10, "here");
  await untilSafe(first);
  const expected = dataOf(first.store);
  files.kill();
  const report = await checkDirectory(files, DIRECTORY);
  expect(report.isGood).toBe(true);
  await repairDirectory(files, report, new Date(0));
  const second = await openStore({ files });
  expect(dataOf(second.store)).toEqual(expected);
});

test("to any version but the one that was changed a patch means nothing", () => {
  const store = createStore();
  set(store, "k", "v".repeat(2_000));
  const { entry } = read(store, "k");
  const before = entriesOf(store);
  const patch = new Patch();
  patch.entry.setKey(bytesOf("k")).setValue(bytesOf("x"));
  patch.entry.setVersion(entry.timeHigh, entry.timeLow + 2, 1, 2);
  const { timeHigh, timeLow, originHigh, originLow } = entry;
  store.beginRecovery();
  for (const wrong of [{ timeLow: timeLow - 1 }, { originLow: originLow + 1 }]) {
    Object.assign(patch.previous, { timeHigh, timeLow, originHigh, originLow, ...wrong });
    store.patchAgain(patch);
  }
  Object.assign(patch.previous, { timeHigh, timeLow, originHigh, originLow });
  patch.removed = 1;
  patch.at = 2_000;
  store.patchAgain(patch);
  expect(entriesOf(store)).toEqual(before);
  patch.at = 1_999;
  store.patchAgain(patch);
  inOneGo(store.endRecovery());
  expect(dataOf(store)).toEqual({ k: "v".repeat(1_999) + "x" });
});

test("a log in an older format is not gone on with: another segment is begun", async () => {
  const files = new SimulatedDisk();
  const first = await openStore({ files });
  set(first.store, "k", "v".repeat(2_000));
  await untilSafe(first);
  const log = files.paths().find((path) => path.includes("log"))!;
  files.kill();
  const bytes = files.contents(log).slice();
  const headEnd = 28 + readU32(bytes, 4);
  bytes[30] = FORMAT_VERSION - 1;
  finishFrame(bytes, headEnd, 0, 0);
  files.place(log, bytes);
  const second = await openStore({ files });
  overwrite(second.store, "k", 0, "w");
  await untilSafe(second);
  expect(files.paths().filter((path) => path.includes("log")).length).toBe(2);
  const third = await openAfterKill(files);
  expect(dataOf(third.store)).toEqual({ k: "w" + "v".repeat(1_999) });
});

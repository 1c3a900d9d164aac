/** How a snapshot shares the event loop and the disk with the traffic beside it. */
import { expect, test } from "bun:test";
import { nextTurn, type Timing } from "../../../src/timing.ts";
import { eventLoop } from "../../../src/world.ts";
import { eventually } from "../../support/eventually.ts";
import { openStore, set, untilSafe } from "../../support/journalled-store.ts";
import { SimulatedDisk } from "../../support/simulated-disk.ts";

const KEYS = 20_000;
const VALUE = "x".repeat(100);

/**
 * Time that passes by being looked at, so that a slice ends after a fixed number of entries. Turns
 * that what `onTurn` does asks for are not told.
 */
function timingByLooks(onTurn: () => void): Timing {
  let ms = 0;
  let isTelling = false;
  return {
    ...eventLoop,
    nowMs: () => (ms += 0.125),
    soon(task) {
      if (!isTelling) {
        isTelling = true;
        onTurn();
        isTelling = false;
      }
      return eventLoop.soon(task);
    },
  };
}

async function openFilled(files: SimulatedDisk, onTurn: () => void) {
  let isFilled = false;
  const timing = timingByLooks(() => {
    if (isFilled) onTurn();
  });
  const opened = await openStore({ files, fsync: "never", timing });
  for (let i = 0; i < KEYS; i++) set(opened.store, `key ${i}`, VALUE);
  await untilSafe(opened);
  isFilled = true;
  return opened;
}

test("it works longer in each turn of the event loop while more is logged than it writes", async () => {
  let turns = 0;
  let isBusy = false;
  const opened = await openFilled(new SimulatedDisk(), () => {
    turns++;
    for (let i = 0; isBusy && i < 1_000; i++) set(opened.store, `key ${i}`, VALUE);
  });
  await opened.journal.compact();
  const quietTurns = turns;
  const writeSome = () => {
    for (let i = 0; i < 1_000; i++) set(opened.store, `key ${i}`, VALUE);
  };
  writeSome();
  isBusy = true;
  turns = 0;
  await opened.journal.compact();
  expect(turns).toBeLessThan(quietTurns / 2);
  isBusy = false;
  writeSome();
  await untilSafe(opened);
  turns = 0;
  await opened.journal.compact();
  expect(turns).toBeGreaterThan(quietTurns / 2);
  await opened.journal.close();
});

test("when late, it goes on while a frame is on its way to the disk, with one more and no further", async () => {
  const files = new SimulatedDisk();
  let turns = 0;
  const opened = await openFilled(files, () => {
    turns++;
    for (let i = 0; i < 1_000; i++) set(opened.store, `key ${i}`, VALUE);
  });
  const gate = Promise.withResolvers<void>();
  let turnsAtFrame = 0;
  let frames = 0;
  files.beforeWrite = (path, bytes) => {
    if (!path.includes(".snap") || bytes < 200_000) return;
    frames++;
    turnsAtFrame ||= turns;
    return gate.promise;
  };
  const compacted = opened.journal.compact();
  await eventually("the next frame is filled", () => frames > 0 && turns > 1.5 * turnsAtFrame);
  for (let i = 0; i < 100; i++) await nextTurn(eventLoop);
  expect(frames).toBe(1);
  expect(turns).toBeLessThan(2.5 * turnsAtFrame);
  gate.resolve();
  await compacted;
  expect(frames).toBeGreaterThan(1);
  await opened.journal.close();
});

test("is not written again while next to nothing was logged since", async () => {
  const files = new SimulatedDisk();
  const opened = await openStore({ files });
  for (let i = 0; i < 1_000; i++) set(opened.store, `key ${i}`, "x".repeat(100));
  await untilSafe(opened);
  await opened.journal.compact();
  const paths = files.paths();
  for (let i = 0; i < 5; i++) {
    set(opened.store, "key 1", `y${i}`);
    await opened.journal.compact();
  }
  expect(files.paths()).toEqual(paths);
  for (let i = 0; i < 100; i++) set(opened.store, `key ${i}`, "z".repeat(100));
  await opened.journal.compact();
  expect(files.paths()).not.toEqual(paths);
});

/** When the tree is brought up to date: at the same moments on all nodes, and out of the way of clients. */
import { expect, test } from "bun:test";
import { LongestSlice } from "../../../src/anti-entropy/longest-slice.ts";
import { TreeUpdater } from "../../../src/anti-entropy/tree-updater.ts";
import { timeHighOf, timeLowOf } from "../../../src/core/data/clock.ts";
import { Entry } from "../../../src/core/data/entry.ts";
import type { Timing } from "../../../src/timing.ts";
import { Timeline } from "../../sim/timeline.ts";
import { SyncNode } from "../../support/sync-pair.ts";

const gauge = new LongestSlice(
  () => 0,
  () => 0,
);
const START_MS = 1_700_000_000_000;

/** Two nodes that hear of every write at once; the second starts later, with a clock that is behind. */
function twoNodes(behindMs: number) {
  const timeline = new Timeline();
  const timing: Timing = {
    nowMs: () => timeline.nowMs,
    after: (delayMs, task) => timeline.after(delayMs, task),
    soon: (task) => timeline.after(0, task),
  };
  const nodes = [0, behindMs].map((offMs, place) => {
    const node = new SyncNode(`n${place}`, { nowMs: () => START_MS + timeline.nowMs - offMs });
    return { node, keeper: new TreeUpdater(node.tree, node.store, timing, gauge) };
  });
  const write = (key: string): void => {
    const atMs = START_MS + timeline.nowMs;
    const entry = new Entry().setKey(Buffer.from(key)).setValue(Buffer.from(`${atMs}`));
    entry.setVersion(timeHighOf(atMs), timeLowOf(atMs), 1, 1);
    for (const { node } of nodes) node.store.apply(entry);
  };
  timeline.after(300, () => nodes[0].keeper.start());
  timeline.after(700, () => nodes[1].keeper.start());
  return { timeline, nodes, write };
}

test.each([0, 400])(
  "a key that is written again is shown in the same version, clocks %d ms apart",
  (behindMs) => {
    const { timeline, nodes, write } = twoNodes(behindMs);
    // Enough to know the other's clock by.
    for (let ms = 0; ms < 14_000; ms += 10) timeline.after(ms, () => write(`other ${ms}`));
    for (const ms of [10_500, 13_500, 13_800]) timeline.after(ms, () => write("key"));
    const roots = new Set<string | null>();
    for (let ms = 11_050; ms < 14_000; ms += 100) {
      timeline.runUntil(ms);
      const [one, two] = nodes.map(({ keeper }) => keeper.rootHex);
      expect(two).toBe(one);
      roots.add(one);
    }
    expect(roots.size).toBe(3);
  },
);

test("a clock that stands still is no reason to hurry", () => {
  const { timeline, nodes } = twoNodes(0);
  const { node, keeper } = nodes[0];
  let updates = 0;
  const update = node.tree.update.bind(node.tree);
  node.tree.update = (...limits) => {
    updates++;
    return update(...limits);
  };
  // It is ahead, as after a peer's write, and right before a whole second.
  node.store.observeClock(timeHighOf(START_MS + 30_999), timeLowOf(START_MS + 30_999));
  keeper.start();
  timeline.runUntil(10_000);
  expect(updates).toBeGreaterThan(9);
  expect(updates).toBeLessThan(25);
});

test("slices are short, and follow at once while nobody writes, and apart while somebody does", () => {
  const node = new SyncNode("node");
  for (let i = 0; i < 5_000; i++) {
    const entry = new Entry().setKey(Buffer.from(`key ${i}`));
    node.store.apply(entry.setVersion(1, i, 1, 1));
  }
  let nowMs = 0;
  const put: { afterMs: number; task: () => void }[] = [];
  const putOff = (afterMs: number, task: () => void) => {
    put.push({ afterMs, task });
    return () => {};
  };
  const timing: Timing = {
    // Time passes by being looked at, so that a slice ends after some entries.
    nowMs: () => (nowMs += 0.06),
    after: putOff,
    soon: (task) => putOff(0, task),
  };
  new TreeUpdater(node.tree, node.store, timing, gauge).start();
  put.pop(); // the next second
  const budgets: number[] = [];
  const update = node.tree.update.bind(node.tree);
  node.tree.update = (high, low, budgetMs, now) => {
    budgets.push(budgetMs);
    return update(high, low, budgetMs, now);
  };
  /** Lets so many ms pass until the next slice; how long it was put off, each time it was. */
  const untilSlice = (ms: number, isWriting: boolean): number[] => {
    const delays: number[] = [];
    for (const { waiting } = node.tree; node.tree.waiting === waiting;) {
      const { afterMs, task } = put.shift()!;
      delays.push(afterMs);
      nowMs += ms;
      if (isWriting) node.store.clock.next();
      task();
    }
    return delays;
  };
  expect(untilSlice(0, false)).toEqual([0]);
  expect(untilSlice(0, true)).toEqual([0, 8]);
  expect(untilSlice(1, false)).toEqual([0, 8]);
  expect(untilSlice(0, false)).toEqual([0]);
  expect(budgets).toEqual([0.25, 0.25, 0.25, 0.25]);
});

/** Folding: joins of copies that are folded and copies that are not, against a naive model. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { timeHighOf, timeLowOf } from "../../src/core/data/clock.ts";
import { Contacts } from "../../src/core/sync/contacts.ts";
import {
  BASE_BYTES,
  BASE_NONE,
  PART_BYTES,
  addToPart,
  isCounter,
  partsOf,
  sumOf,
  writeBase,
} from "../../src/core/data/counter.ts";
import { Int64 } from "../../src/core/data/int64.ts";
import {
  foldRuns,
  nextRunOrigin,
  noteStart,
  removeCovered,
  runOrigin,
  stableStartMs,
} from "../../src/core/data/counter-fold.ts";
import { Entry, KIND_COUNTER } from "../../src/core/data/entry.ts";
import { joinCounters, joinedBytes } from "../../src/core/data/merge.ts";
import type { Origin } from "../../src/core/data/origin.ts";
import { APPLIED } from "../../src/core/store/outcome.ts";
import { SyncNode } from "../support/sync-pair.ts";

/** Two that differ in the last bit which is the node's. */
const NODES: Origin[] = [
  { high: 7, low: 0x1fff_ffff },
  { high: 7, low: 0x2000_0000 },
  { high: 0xffff_ffff, low: 0xffff_ffff },
];
const RUNS = 4;

function entryOf(payload: Uint8Array): Entry {
  const entry = new Entry().setKey(Buffer.from("k")).setValue(payload);
  entry.kind = KIND_COUNTER;
  return entry;
}

function empty(): Uint8Array {
  const payload = new Uint8Array(BASE_BYTES);
  writeBase(payload, BASE_NONE, 0, 0, 0, 0, new Int64());
  return payload;
}

function join(a: Uint8Array, b: Uint8Array): Uint8Array {
  const [one, other] = [entryOf(a), entryOf(b)];
  const out = new Uint8Array(joinedBytes(one, other));
  return out.slice(0, joinCounters(one, other, out));
}

function add(payload: Uint8Array, { high, low }: Origin, ms: number, delta: number): Uint8Array {
  const room = new Uint8Array(payload.length + PART_BYTES);
  room.set(payload);
  const by = new Int64().set(delta < 0 ? -1 : 0, delta >>> 0);
  const [timeHigh, timeLow] = [timeHighOf(ms), timeLowOf(ms)];
  return room.slice(0, addToPart(room, payload.length, high, low, timeHigh, timeLow, by));
}

function fold(payload: Uint8Array, origin: Origin, beforeMs: number): Uint8Array {
  const copy = payload.slice();
  return copy.slice(0, foldRuns(copy, copy.length, origin, beforeMs));
}

function sum(payload: Uint8Array): number {
  const into = new Int64();
  expect(sumOf(payload, 0, payload.length, into)).toBe(true);
  return into.high * 2 ** 32 + into.low;
}

const same = (a: Uint8Array, b: Uint8Array): void => expect(Buffer.compare(a, b)).toBe(0);

/** What happens to a counter that some copies exist of: one for each node and one that only listens. */
const step = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant("add" as const),
      node: fc.nat(NODES.length - 1),
      other: fc.constant(0),
      delta: fc.integer({ min: -100, max: 100 }),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant("merge" as const),
      node: fc.nat(NODES.length),
      other: fc.nat(NODES.length),
      delta: fc.constant(0),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constantFrom("restart" as const, "fold" as const),
      node: fc.nat(NODES.length - 1),
      other: fc.constant(0),
      delta: fc.constant(1),
    }),
  },
);

describe("copies that are folded and copies that are not", () => {
  test("come to the exact sum however they meet", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120, size: "max" }), (steps) => {
        const copies = [...NODES, null].map(() => empty());
        const runs = NODES.map((node, i) => runOrigin(node, i));
        const startsMs = NODES.map(() => 0);
        let expected = 0;
        let ms = 1_000;
        for (const { do: what, node, other, delta } of steps) {
          ms++;
          if (what === "merge") copies[node] = join(copies[node], copies[other]);
          else if (what === "restart") {
            runs[node] = nextRunOrigin(runs[node]);
            startsMs[node] = ms;
          } else {
            // A fold is part of an increment, and this node has all that it counted in earlier runs.
            if (what === "fold") copies[node] = fold(copies[node], runs[node], startsMs[node]);
            copies[node] = add(copies[node], runs[node], ms, delta);
            expected += delta;
          }
          expect(isCounter(copies[node], 0, copies[node].length)).toBe(true);
        }
        const forth = copies.reduce(join);
        const back = copies.toReversed().reduce(join);
        expect(sum(forth)).toBe(expected);
        same(forth, back);
        for (const copy of copies) same(join(forth, copy), forth);
      }),
      { numRuns: 1_000 },
    );
  });

  /** Any counter, folds among its parts, that may stand for anything: as from a stranger. */
  const any = fc
    .array(
      fc.tuple(fc.nat(NODES.length - 1), fc.nat(RUNS), fc.nat(12), fc.integer({ min: -5, max: 5 })),
      { maxLength: 12 },
    )
    .map((parts) => {
      let payload = empty();
      for (const [node, run, ms, delta] of parts) {
        const { high, low } = runOrigin(NODES[node], run);
        const origin = run === RUNS ? { high, low: (low | 0x0fff_ffff) >>> 0 } : { high, low };
        payload = add(payload, origin, ms, delta);
      }
      return payload.slice(0, removeCovered(payload, payload.length));
    });

  test("joins commute, associate and repeat, whatever the folds say", () => {
    fc.assert(
      fc.property(any, any, any, (a, b, c) => {
        same(join(a, b), join(b, a));
        same(join(join(a, b), c), join(a, join(b, c)));
        same(join(a, a), a);
        same(join(join(a, b), b), join(a, b));
      }),
      { numRuns: 5_000 },
    );
  });
});

test("a node that starts again and again keeps its counters small, and their sums", () => {
  let nowMs = 1_000_000;
  const { store } = new SyncNode("n", { nowMs: () => nowMs, tombstoneGraceMs: 1_000 });
  const [key, one] = [Buffer.from("k"), new Int64().set(0, 1)];
  const view = new Entry();
  for (let run = 1; run <= 200; run++) {
    store.counts.resume(runOrigin(store.origin, run * 7_919));
    noteStart(store.counts.runStartsMs, store.clockMs());
    for (let i = 0; i < 3; i++) {
      nowMs += 100;
      const { runStartsMs } = store.counts;
      store.counts.noteStable(
        stableStartMs(runStartsMs, nowMs, 1_000, store.origin, new Contacts(), []),
      );
      expect(store.increment(key, 0, key.length, one)).toBe(APPLIED);
    }
    expect(store.number.low).toBe(run * 3);
    store.read(store.find(key, 0, key.length), view);
    // The fold, and the runs of the last grace.
    expect(partsOf(view.valueLength)).toBeLessThanOrEqual(7);
  }
});

test("what an earlier version left is removed when it comes in", () => {
  const [node] = NODES;
  const folded = add(empty(), { ...node, low: (node.low | 0x0fff_ffff) >>> 0 }, 20, 5);
  const both = add(folded, runOrigin(node, 1), 10, 5);
  const { store } = new SyncNode("n", { nowMs: () => 1_000 });
  const entry = entryOf(both);
  expect(store.apply(entry)).toBe(APPLIED);
  const view = new Entry();
  store.read(0, view);
  same(view.valueBytes(), folded);
});

describe("a start is stable", () => {
  const SELF = { high: 1, low: 1 };
  const stable = (nowMs: number, members: [number, number][], starts = [1_000]): number => {
    const contacts = new Contacts();
    for (const [low, ms] of members) contacts.note(9, low, ms);
    contacts.note(SELF.high, SELF.low, 5);
    return stableStartMs(starts, nowMs, 100, SELF, contacts, []);
  };

  test("after the grace, and contact with every member since", () => {
    expect(stable(1_099, [])).toBe(0);
    expect(stable(1_100, [])).toBe(1_000);
    expect(stable(1_100, [[1, 1_000]])).toBe(0);
    expect(stable(1_100, [[1, 1_001]])).toBe(1_000);
    expect(
      stable(1_100, [
        [1, 1_001],
        [2, 999],
      ]),
    ).toBe(0);
  });

  test("when a member is gone for long, but not when all are", () => {
    expect(
      stable(1_700, [
        [1, 1_001],
        [2, 999],
      ]),
    ).toBe(1_000);
    expect(
      stable(1_698, [
        [1, 1_001],
        [2, 999],
      ]),
    ).toBe(0);
    expect(
      stable(9_999, [
        [1, 999],
        [2, 999],
      ]),
    ).toBe(0);
  });

  test("not while somebody was heard of and never met, who may have been told by the broker", () => {
    const contacts = new Contacts();
    const heardOf = [{ high: 9, low: 1 }];
    expect(stableStartMs([1_000], 1_100, 100, SELF, contacts, heardOf)).toBe(0);
    contacts.note(9, 1, 1_001);
    expect(stableStartMs([1_000], 1_100, 100, SELF, contacts, heardOf)).toBe(1_000);
  });

  test("the latest that is, and those before it are forgotten", () => {
    const starts = [500, 1_000, 1_050, 1_090];
    expect(stable(1_160, [[1, 1_060]], starts)).toBe(1_050);
    expect(starts).toEqual([1_050, 1_090]);
  });
});

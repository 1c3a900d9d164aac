/** What sessions make of expiries: they heal them alone, and give back what was let go too early. */
import { describe, expect, test } from "bun:test";
import type { SyncMode } from "../../src/core/sync/session.ts";
import { del, entriesOf, expire, get, incr, rootOf, set, setValue } from "../support/sync-data.ts";
import { runPair, SyncNode } from "../support/sync-pair.ts";

const START_MS = 1_700_000_000_000;
const HOUR_MS = 3_600_000;
const LARGE = "x".repeat(50_000);

interface Time {
  ms: number;
  aheadMs: number;
  /** What time it is by what its peers told the second; null while they did not. */
  toldMs: number | null;
}

/** Two nodes on one clock, and how far that of the second is ahead. */
function twoNodes(): { time: Time; nodes: [SyncNode, SyncNode] } {
  const time: Time = { ms: START_MS, aheadMs: 0, toldMs: null };
  const left = new SyncNode("left", { nowMs: () => time.ms });
  const nowMs = (): number => time.ms + time.aheadMs;
  const right = new SyncNode("right", { nowMs, expiredMs: () => time.toldMs ?? nowMs() });
  return { time, nodes: [left, right] };
}

const ways = [
  ["begun by the one that has it", 0],
  ["begun by the one that has not", 1],
] as const;

function heal(nodes: readonly SyncNode[], first: number, mode: SyncMode = "now") {
  const { initiator, responder } = runPair(nodes[first], nodes[1 - first], { mode });
  expect([initiator.reason, responder.reason]).toEqual(["", ""]);
  return { bytes: initiator.valueBytesSent + responder.valueBytesSent };
}

describe("a large value whose expiry was changed on one side", () => {
  test.each(ways)("does not travel, in a session %s", (_, first) => {
    const { time, nodes } = twoNodes();
    const [left, right] = nodes;
    set(left, "k", LARGE, time.ms + HOUR_MS);
    heal(nodes, 0);
    time.ms += 10;
    expire(left, "k", time.ms + 2 * HOUR_MS);
    expect(heal(nodes, first).bytes).toBe(0);
    expect(entriesOf(right)[0].expiresAtMs).toBe(time.ms + 2 * HOUR_MS);
    expect([get(right, "k"), rootOf(right)]).toEqual([LARGE, rootOf(left)]);
  });

  test.each(ways)("stays what it is where a newer value is, in a session %s", (_, first) => {
    const { time, nodes } = twoNodes();
    const [left, right] = nodes;
    set(left, "k", LARGE, time.ms + HOUR_MS);
    heal(nodes, 0);
    time.ms += 10;
    set(right, "k", `new ${LARGE}`, time.ms + HOUR_MS);
    time.ms += 10;
    expire(left, "k", time.ms + 2 * HOUR_MS);
    heal(nodes, first);
    for (const node of nodes) {
      expect(get(node, "k")).toBe(`new ${LARGE}`);
      expect(entriesOf(node)[0].expiresAtMs).toBe(time.ms + 2 * HOUR_MS);
    }
    expect(rootOf(right)).toBe(rootOf(left));
  });

  test.each(ways)("is not back where it was deleted, in a session %s", (_, first) => {
    const { time, nodes } = twoNodes();
    const [left, right] = nodes;
    set(left, "k", LARGE, time.ms + HOUR_MS);
    heal(nodes, 0);
    time.ms += 10;
    del(right, "k");
    time.ms += 10;
    expire(left, "k", 0);
    heal(nodes, first);
    expect([get(left, "k"), get(right, "k")]).toEqual([null, null]);
    expect(rootOf(right)).toBe(rootOf(left));
  });
});

test("a value that was written with KEEPTTL keeps an expiry that it did not know of", () => {
  const { time, nodes } = twoNodes();
  const [left, right] = nodes;
  set(left, "k", LARGE, time.ms + HOUR_MS);
  heal(nodes, 0);
  time.ms += 10;
  expire(right, "k", time.ms + 2 * HOUR_MS);
  time.ms += 10;
  setValue(left, "k", `new ${LARGE}`);
  heal(nodes, 0);
  for (const node of nodes) {
    expect(get(node, "k")).toBe(`new ${LARGE}`);
    expect(entriesOf(node)[0].expiresAtMs).toBe(START_MS + 10 + 2 * HOUR_MS);
  }
});

describe("a node whose clock was ahead", () => {
  test.each<[string, 0 | 1, SyncMode]>([
    ["begun by it", 1, "now"],
    ["begun by the other", 0, "now"],
    ["that looks at every key", 1, "full"],
    ["as of a while ago", 1, "watermark"],
  ])("gets back what it let go of, in a session %s", (_, first, mode) => {
    const { time, nodes } = twoNodes();
    const [left, right] = nodes;
    set(left, "small", "v", time.ms + HOUR_MS);
    set(left, "large", LARGE, time.ms + HOUR_MS);
    incr(left, "counter", 7);
    expire(left, "counter", time.ms + HOUR_MS);
    heal(nodes, 0);
    time.aheadMs = 2 * HOUR_MS;
    right.store.sweep(100);
    expect(right.store.size).toBe(0);
    for (const key of ["small", "large", "counter"]) expect(get(left, key)).not.toBeNull();
    time.aheadMs = 0;
    time.ms += 10_000;
    right.store.sweep(100);
    expect(rootOf(right)).not.toBe(rootOf(left));
    heal(nodes, first, mode);
    const shown = ["small", "large", "counter"].map((key) => get(right, key));
    expect(shown).toEqual(["v", LARGE, "7"]);
    expect(rootOf(right)).toBe(rootOf(left));
    expect(right.setAside).toEqual([]);
  });

  test("takes nothing from one whose clock says that it lives, by meeting it meanwhile", () => {
    const { time, nodes } = twoNodes();
    const [left, right] = nodes;
    set(left, "k", "v", time.ms + HOUR_MS);
    heal(nodes, 0);
    time.aheadMs = 2 * HOUR_MS;
    right.store.sweep(100);
    for (const first of [0, 1]) heal(nodes, first);
    expect(get(left, "k")).toBe("v");
    // Told by its peers what time it is, it sees that it misses the value.
    time.toldMs = time.ms;
    right.store.sweep(100);
    expect(rootOf(right)).not.toBe(rootOf(left));
    heal(nodes, 1);
    right.store.sweep(100);
    expect(rootOf(right)).toBe(rootOf(left));
    expect(get(right, "k")).toBeNull();
    time.aheadMs = 0;
    expect([get(left, "k"), get(right, "k")]).toEqual(["v", "v"]);
  });
});

test("what has expired is the same, whoever has let go of it", () => {
  const { time, nodes } = twoNodes();
  const [left, right] = nodes;
  set(left, "k", LARGE, time.ms + 1_000);
  heal(nodes, 0);
  time.ms += 10_000;
  left.store.sweep(100);
  expect(heal(nodes, 0).bytes).toBe(0);
  expect(rootOf(right)).toBe(rootOf(left));
});

test("who was away gets to know that an older value is over, without the one that is", () => {
  const { time, nodes } = twoNodes();
  const [left, right] = nodes;
  set(right, "k", "old");
  heal(nodes, 0);
  time.ms += 10;
  set(left, "k", LARGE, time.ms + 1_000);
  time.ms += 10_000;
  left.store.sweep(100);
  // The old value, which is small, may travel in vain.
  expect(heal(nodes, 0).bytes).toBeLessThanOrEqual("old".length);
  expect(get(right, "k")).toBeNull();
  expect(rootOf(right)).toBe(rootOf(left));
});

test.each(ways)(
  "a value that was replaced does not show when a clock is set back, %s",
  (_, first) => {
    const graceMs = 100_000;
    const time = { ms: START_MS };
    const options = { nowMs: () => time.ms, tombstoneGraceMs: graceMs };
    const right = new SyncNode("right", options);
    // It does not know the time for certain, so it lets go of nothing.
    const left = new SyncNode("left", { ...options, expiredMs: () => START_MS });
    set(left, "k", "replaced");
    time.ms += 10_000;
    heal([left, right], 0);
    // Nobody else hears of what takes its place, which expires and is forgotten.
    set(right, "k", "latest", time.ms + 1_000);
    time.ms += 10;
    const setBackMs = time.ms + 5_000;
    expire(left, "k", time.ms + 2.5 * graceMs);
    time.ms += 3 * graceMs;
    for (let passes = 0; passes < 2; passes++) right.store.sweep(1000);
    expect(entriesOf(right)).toEqual([]);
    heal([left, right], first);
    const healedMs = time.ms;
    time.ms = setBackMs;
    expect(get(right, "k")).toBeNull();
    // What is left is known to be the same.
    time.ms = healedMs;
    expect(entriesOf(right).length).toBe(1);
    left.store.sweep(1000);
    expect(heal([left, right], first).bytes).toBe(0);
  },
);

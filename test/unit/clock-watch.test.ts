/** Of what a node lets go as expired: not of what lives by the clocks of its peers. */
import { beforeEach, describe, expect, test } from "bun:test";
import { ClockWatch } from "../../src/clock-watch.ts";
import { silentLogger, type Fields } from "../../src/observability/log.ts";
import type { Timing } from "../../src/timing.ts";

const START_MS = 1_800_000_000_000;
const GRACE_MS = 86_400_000;

let passedMs: number;
let hasPeers: boolean;
let waiting: { task: () => void; atMs: number }[];
let watch: ClockWatch;
let clockMs: number;
let said: { readonly message: string; readonly fields: Fields }[];

const timing: Timing = {
  nowMs: () => passedMs,
  after(delayMs, task) {
    const entry = { task, atMs: passedMs + delayMs };
    waiting.push(entry);
    return () => void (waiting = waiting.filter((it) => it !== entry));
  },
  soon: (task) => timing.after(0, task),
};

function pass(ms: number): void {
  const untilMs = passedMs + ms;
  for (;;) {
    const next = waiting.sort((a, b) => a.atMs - b.atMs)[0];
    if (next === undefined || next.atMs > untilMs) break;
    waiting.shift();
    passedMs = next.atMs;
    next.task();
  }
  passedMs = untilMs;
}

const trueMs = (): number => START_MS + passedMs;
const tell = (nodeId: string, offMs = 0): void => watch.clock.noteTime(nodeId, trueMs() + offMs);
/** How far behind the true time that lies up to which what has expired may be let go of. */
const heldBackMs = (): number => trueMs() - watch.expiredForAllMs;

/** A node starts, with its clock so far ahead. */
function start(aheadMs = 0): void {
  clockMs = aheadMs;
  watch = new ClockWatch({
    wallMs: () => Math.floor(trueMs() + clockMs),
    sleptMs: () => 0,
    timing,
    maxSkewMs: 60_000,
    graceMs: GRACE_MS,
    hasPeers: () => hasPeers,
    mayHavePeers: hasPeers,
    logger: { ...silentLogger, warn: (message, fields = {}) => said.push({ message, fields }) },
  });
  watch.start();
}

beforeEach(() => {
  passedMs = 0;
  hasPeers = true;
  waiting = [];
  said = [];
});

describe("what has expired", () => {
  test("is let go of at once by a node that knows of no other", () => {
    hasPeers = false;
    start();
    expect(heldBackMs()).toBe(0);
  });

  test("is kept for a minute by a node whose peers have yet to say what time it is", () => {
    start();
    expect(watch.expiredForAllMs).toBe(0);
    pass(59_000);
    expect(watch.expiredForAllMs).toBe(0);
    pass(1_000);
    expect(heldBackMs()).toBe(0);
  });

  test("is let go of as soon as they have, when the clocks agree", () => {
    start();
    tell("peer", 300);
    pass(1_000);
    expect(heldBackMs()).toBe(0);
  });

  test.each([3_600_000, 90_000, 400])(
    "is kept until it has for peers that are %d ms behind",
    (ms) => {
      start(ms);
      tell("peer");
      pass(1_000);
      expect(Math.abs(heldBackMs())).toBeLessThanOrEqual(1);
      // What they said holds on, also when nobody has said anything for long.
      pass(3_600_000);
      expect(Math.abs(heldBackMs())).toBeLessThanOrEqual(1);
    },
  );

  test("is not kept for longer than the grace, whatever peers say", () => {
    start();
    tell("peer", -10 * GRACE_MS);
    pass(1_000);
    expect(watch.clock.nowMs() - watch.expiredForAllMs).toBeLessThanOrEqual(GRACE_MS);
  });
});

test("a step of the clock is told of in whole milliseconds", () => {
  start();
  passedMs += 1_000.3;
  watch.clock.look();
  clockMs = 3_600_000;
  passedMs += 0.4;
  watch.clock.look();
  expect(said.map(({ fields }) => fields["by_seconds"])).toEqual([3_600]);
});

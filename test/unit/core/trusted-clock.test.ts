/** Which of two times counts when the wall clock has jumped, by all that may tell. */
import { beforeEach, describe, expect, test } from "bun:test";
import {
  DOUBT_MS,
  PLAUSIBLE_FROM_MS,
  TrustedClock,
  UNTOLD_MS,
  type ClockChange,
  type ClockState,
  type TrustedClockOptions,
} from "../../../src/core/data/trusted-clock.ts";

const START_MS = 1_800_000_000_000;
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const SKEW_MS = 60_000;

/** What the time is in truth, and how the machine's clocks are off. */
let trueMs: number;
let offMs: number;
let sleptMs: number;
let hasPeers: boolean;
let changes: ClockChange[];

beforeEach(() => {
  trueMs = START_MS;
  offMs = 0;
  sleptMs = 0;
  hasPeers = true;
  changes = [];
});

const create = (): TrustedClock => new TrustedClock(optionsNow());

function optionsNow(): TrustedClockOptions {
  return {
    wallMs: () => Math.floor(trueMs + offMs),
    monotonicMs: () => trueMs - START_MS - sleptMs,
    sleptMs: () => sleptMs,
    maxAheadMs: SKEW_MS,
    graceMs: DAY_MS,
    hasPeers: () => hasPeers,
    mayHavePeers: hasPeers,
    onChange: (change) => changes.push(change),
  };
}

/** How far what the clock says is off. */
const off = (clock: TrustedClock): number => clock.nowMs() - trueMs;
const isIn = (clock: TrustedClock, state: ClockState): void => expect(clock.state).toBe(state);

test("as long as the two clocks agree it is the wall clock's time", () => {
  const clock = create();
  for (let i = 0; i < 100; i++) {
    trueMs += 1_000;
    // As NTP slews it.
    offMs += 0.4;
    expect(off(clock)).toBeCloseTo(Math.floor(offMs), -1);
  }
  isIn(clock, "trusted");
  expect(clock.steps).toBe(0);
  expect(changes).toEqual([]);
});

test.each([2_000, -2_000, 59_000, -59_000])("a step of %d ms is noticed and believed", (step) => {
  const clock = create();
  trueMs += 100;
  offMs = step;
  expect(off(clock)).toBe(step);
  isIn(clock, "trusted");
  expect(clock.steps).toBe(1);
  expect(clock.lastStepMs).toBe(step);
  expect(changes).toEqual([{ from: "trusted", to: "trusted", stepMs: step, gapMs: step }]);
});

test("a process that is put off between its looks at the two clocks sees no step", () => {
  let putOffMs = 0;
  const clock = new TrustedClock({
    wallMs() {
      const wallMs = trueMs;
      trueMs += putOffMs;
      putOffMs = 0;
      return wallMs;
    },
    monotonicMs: () => trueMs - START_MS,
    sleptMs: () => 0,
    maxAheadMs: SKEW_MS,
    graceMs: 2 * DAY_MS,
    hasPeers: () => true,
    mayHavePeers: true,
    onChange: (change) => changes.push(change),
  });
  putOffMs = HOUR_MS;
  clock.look();
  expect(changes).toEqual([]);
  expect(clock.steps).toBe(0);
});

describe("a step of an hour", () => {
  test("forward that is over in two seconds changes nothing", () => {
    const clock = create();
    offMs = HOUR_MS;
    expect(off(clock)).toBe(0);
    isIn(clock, "doubtful");
    expect(clock.mayBeBehind).toBe(true);
    trueMs += 2_000;
    expect(off(clock)).toBe(0);
    offMs = 0;
    expect(off(clock)).toBe(0);
    isIn(clock, "trusted");
    expect(clock.mayBeBehind).toBe(false);
  });

  test.each([HOUR_MS, -HOUR_MS])("by %d ms is believed when nobody says anything", (step) => {
    const clock = create();
    offMs = step;
    expect(off(clock)).toBe(Math.min(step, 0));
    trueMs += DOUBT_MS - 1;
    expect(off(clock)).toBe(Math.min(step, 0));
    isIn(clock, "doubtful");
    trueMs += 500;
    expect(off(clock)).toBe(step);
    isIn(clock, "trusted");
  });

  test.each([HOUR_MS, -HOUR_MS])("by %d ms that peers deny does not count", (step) => {
    const clock = create();
    offMs = step;
    clock.look();
    trueMs += 1;
    clock.noteTime("b", trueMs + 500);
    isIn(clock, "held");
    trueMs += DAY_MS;
    clock.noteTime("b", trueMs);
    expect(off(clock)).toBe(0);
    isIn(clock, "held");
    expect(clock.mayBeBehind).toBe(false);
    offMs = 0;
    expect(off(clock)).toBe(0);
    isIn(clock, "trusted");
  });

  test.each([HOUR_MS, -HOUR_MS])("by %d ms that peers confirm counts at once", (step) => {
    offMs = -step;
    const clock = create();
    offMs = 0;
    clock.look();
    isIn(clock, "doubtful");
    trueMs += 1;
    clock.noteTime("b", trueMs);
    expect(off(clock)).toBe(0);
    isIn(clock, "trusted");
  });

  test("is decided by most of the peers", () => {
    const clock = create();
    offMs = HOUR_MS;
    clock.look();
    trueMs += 1;
    for (const peer of ["b", "c"]) clock.noteTime(peer, trueMs);
    isIn(clock, "held");
    clock.noteTime("liar", trueMs + HOUR_MS);
    isIn(clock, "held");
    for (const peer of ["b", "c"]) clock.noteTime(peer, trueMs + HOUR_MS);
    isIn(clock, "trusted");
  });

  test("back is denied by what peers said before it", () => {
    const clock = create();
    clock.noteTime("b", trueMs);
    trueMs += 100_000;
    offMs = -HOUR_MS;
    expect(off(clock)).toBe(0);
    isIn(clock, "held");
  });

  test("forward is not: the machine may have slept, and nobody counted that", () => {
    const clock = create();
    clock.noteTime("b", trueMs);
    trueMs += HOUR_MS;
    sleptMs = HOUR_MS;
    const monotonicOnly = new TrustedClock({
      wallMs: () => trueMs,
      monotonicMs: () => trueMs - START_MS,
      sleptMs: () => 0,
      maxAheadMs: SKEW_MS,
      graceMs: 2 * DAY_MS,
      hasPeers: () => true,
      mayHavePeers: true,
      onChange() {},
    });
    monotonicOnly.noteTime("b", trueMs);
    trueMs += 1;
    isIn(monotonicOnly, "trusted");
    clock.look();
    isIn(clock, "trusted");
  });
});

test("a machine that slept for days knows the time when the system counted them", () => {
  const clock = create();
  clock.noteTime("b", trueMs);
  trueMs += 5 * DAY_MS;
  sleptMs = 5 * DAY_MS - 1_000;
  expect(off(clock)).toBe(0);
  isIn(clock, "trusted");
  trueMs += 1_000;
  expect(clock.aheadOfPeersMs).toBeLessThan(2_000);
});

test("one that slept and nobody counted it is in doubt until a peer or time tells", () => {
  const clock = create();
  clock.noteTime("b", trueMs);
  let uncounted = 0;
  const other = new TrustedClock({
    wallMs: () => trueMs,
    monotonicMs: () => trueMs - START_MS - uncounted,
    sleptMs: () => 0,
    maxAheadMs: SKEW_MS,
    graceMs: DAY_MS,
    hasPeers: () => true,
    mayHavePeers: true,
    onChange() {},
  });
  other.noteTime("b", trueMs);
  trueMs += HOUR_MS;
  uncounted = HOUR_MS;
  other.look();
  isIn(other, "doubtful");
  trueMs += 1;
  other.noteTime("b", trueMs);
  isIn(other, "trusted");
});

describe("a clock that was never set", () => {
  beforeEach(() => {
    offMs = 20_000 - START_MS;
  });

  test("is implausible until it is set, and then counts at once", () => {
    const clock = create();
    isIn(clock, "implausible");
    trueMs += HOUR_MS;
    clock.look();
    clock.noteTime("b", trueMs);
    isIn(clock, "implausible");
    expect(clock.isOff).toBe(true);
    offMs = 0;
    expect(off(clock)).toBe(0);
    isIn(clock, "trusted");
  });

  test("goes on from where the node was before, and is believed once set", () => {
    const clock = create();
    clock.begin(trueMs - 5 * DAY_MS);
    isIn(clock, "implausible");
    trueMs += 1_000;
    expect(off(clock)).toBe(-5 * DAY_MS);
    offMs = 0;
    expect(off(clock)).toBe(0);
    isIn(clock, "trusted");
  });

  test("takes the time that the node had before when a peer confirms it", () => {
    const clock = create();
    clock.begin(trueMs - 30_000);
    isIn(clock, "implausible");
    clock.noteTime("b", trueMs);
    isIn(clock, "held");
    expect(off(clock)).toBe(-30_000);
    // Leases would be late.
    expect(clock.mayBeBehind).toBe(true);
  });

  test("does not when the peer is far from it, or was never set either", () => {
    const clock = create();
    clock.begin(trueMs - HOUR_MS);
    clock.noteTime("b", trueMs);
    clock.noteTime("c", PLAUSIBLE_FROM_MS - 1);
    isIn(clock, "implausible");
  });
});

describe("after a restart with a clock an hour behind what the node has seen", () => {
  test("what was seen counts when peers agree with it, and leases only if it is close", () => {
    offMs = -HOUR_MS;
    const clock = create();
    clock.begin(trueMs - 3_000);
    isIn(clock, "doubtful");
    expect(off(clock)).toBe(-HOUR_MS);
    clock.noteTime("b", trueMs);
    isIn(clock, "held");
    expect(off(clock)).toBe(-3_000);
    expect(clock.mayBeBehind).toBe(false);
  });

  test("the wall clock counts when peers agree with that", () => {
    const clock = create();
    clock.begin(trueMs + HOUR_MS);
    clock.noteTime("b", trueMs);
    isIn(clock, "trusted");
    expect(off(clock)).toBe(0);
  });

  test("the wall clock counts when nobody says anything for a while", () => {
    const clock = create();
    clock.begin(trueMs + HOUR_MS);
    trueMs += DOUBT_MS + 500;
    expect(off(clock)).toBe(0);
    isIn(clock, "trusted");
  });
});

describe("a clock that is set while the data is being read", () => {
  test.each([5_000, -1_000])("by %d days is the one that the data agrees with", (days) => {
    offMs = days * DAY_MS;
    const clock = create();
    clock.nowMs();
    trueMs += 300;
    offMs = 0;
    clock.nowMs();
    clock.begin(trueMs - 10_000);
    isIn(clock, "trusted");
    trueMs += 1_000;
    expect(off(clock)).toBe(0);
    isIn(clock, "trusted");
  });

  test("is not believed where the data speaks against it", () => {
    const clock = create();
    trueMs += 300;
    offMs = 5_000 * DAY_MS;
    clock.begin(trueMs - 10_000);
    isIn(clock, "implausible");
    expect(off(clock)).toBe(-10_000);
  });
});

describe("days apart", () => {
  test.each([5 * DAY_MS, -5 * DAY_MS])("by %d ms nothing is believed without a peer", (step) => {
    const clock = create();
    clock.noteTime("b", trueMs);
    trueMs += HOUR_MS;
    clock.look();
    offMs = step;
    expect(off(clock)).toBe(0);
    isIn(clock, "implausible");
    trueMs += HOUR_MS;
    expect(off(clock)).toBe(0);
    isIn(clock, "implausible");
    clock.noteTime("b", trueMs + step);
    expect(off(clock)).toBe(step);
    isIn(clock, "trusted");
  });

  test("a clock that was never confirmed, and knows of nothing before, believes it", () => {
    offMs = 5_000 * DAY_MS;
    const clock = create();
    offMs = 0;
    clock.look();
    isIn(clock, "implausible");
    trueMs += DOUBT_MS + 500;
    expect(off(clock)).toBe(0);
    isIn(clock, "trusted");
  });

  test("a node without peers believes its clock after a while", () => {
    hasPeers = false;
    const clock = create();
    clock.begin(trueMs + 5 * DAY_MS);
    isIn(clock, "doubtful");
    trueMs += DOUBT_MS + 500;
    expect(off(clock)).toBe(0);
  });
});

describe("a node that differs from its peers, and whose clock has not stepped", () => {
  test("and is ahead goes by what two of them agree on", () => {
    offMs = HOUR_MS;
    const other = create();
    trueMs += 6_000;
    other.noteTime("b", trueMs - 500);
    expect(other.isOff).toBe(true);
    isIn(other, "trusted");
    other.noteTime("c", trueMs);
    isIn(other, "held");
    expect(Math.abs(off(other))).toBeLessThan(1_000);
    expect(other.mayBeBehind).toBe(false);
    offMs = 0;
    expect(off(other)).toBe(0);
    isIn(other, "trusted");
  });

  test("and is ahead stays as it is once a peer has agreed with it", () => {
    offMs = HOUR_MS;
    const clock = create();
    clock.noteTime("b", trueMs + HOUR_MS);
    for (const peer of ["c", "d", "e"]) clock.noteTime(peer, trueMs);
    isIn(clock, "trusted");
    expect([off(clock), clock.isOff]).toEqual([HOUR_MS, true]);
  });

  test("and is behind says so and is not moved forward, however many agree", () => {
    offMs = -HOUR_MS;
    const clock = create();
    for (const peer of ["b", "c", "d"]) clock.noteTime(peer, trueMs);
    isIn(clock, "trusted");
    expect([off(clock), clock.isOff, clock.mayBeBehind]).toEqual([-HOUR_MS, true, true]);
  });

  test("stays as it is when they do not agree", () => {
    const clock = create();
    clock.noteTime("b", trueMs + HOUR_MS);
    clock.noteTime("c", trueMs - HOUR_MS);
    expect(off(clock)).toBe(0);
    isIn(clock, "trusted");
  });

  test("knows the time though its clock was never set", () => {
    offMs = 20_000 - START_MS;
    const clock = create();
    clock.noteTime("b", trueMs);
    isIn(clock, "implausible");
    clock.noteTime("c", trueMs);
    isIn(clock, "held");
    expect(off(clock)).toBe(0);
  });

  test("is held back by a single one if it has just started and is ahead", () => {
    offMs = HOUR_MS;
    const clock = create();
    clock.begin(trueMs - 10_000);
    clock.noteTime("b", trueMs);
    isIn(clock, "held");
    expect(off(clock)).toBe(0);
  });

  test("is not by one that may have started later than itself", () => {
    const clock = create();
    expect(clock.isSure).toBe(false);
    trueMs += 6_000;
    expect(clock.isSure).toBe(true);
    clock.noteTime("behind", trueMs - HOUR_MS);
    expect(clock.isOff).toBe(true);
    isIn(clock, "trusted");
  });

  test("is not if it had seen later times before, or another has agreed with it since", () => {
    offMs = 0;
    const clock = create();
    clock.begin(trueMs - 10_000);
    clock.noteTime("behind", trueMs - HOUR_MS);
    expect(clock.isOff).toBe(true);
    isIn(clock, "trusted");
    const confirmed = create();
    confirmed.noteTime("b", trueMs);
    trueMs += HOUR_MS;
    confirmed.noteTime("behind", trueMs - HOUR_MS);
    expect(confirmed.isOff).toBe(true);
    isIn(confirmed, "trusted");
  });

  test("nor by one that is ahead of it", () => {
    const clock = create();
    clock.noteTime("ahead", trueMs + HOUR_MS);
    expect(clock.aheadOfPeersMs).toBe(-HOUR_MS);
    isIn(clock, "trusted");
    // Nobody has confirmed its clock, so its leases might be dead on arrival.
    expect(clock.mayBeBehind).toBe(true);
    clock.noteTime("b", trueMs);
    clock.noteTime("ahead", trueMs);
    clock.noteTime("ahead", trueMs + HOUR_MS);
    clock.noteTime("b", null);
    expect(clock.isOff).toBe(true);
    expect(clock.mayBeBehind).toBe(false);
    // What it said so long ago says nothing.
    trueMs += HOUR_MS;
    clock.look();
    expect(clock.aheadOfPeersMs).toBeNull();
  });
});

test("what peers have said is in doubt when all of them take it back", () => {
  const clock = create();
  for (const peer of ["b", "c"]) clock.noteTime(peer, trueMs - HOUR_MS);
  isIn(clock, "held");
  clock.noteTime("b", null);
  isIn(clock, "held");
  clock.noteTime("c", null);
  isIn(clock, "doubtful");
  trueMs += DOUBT_MS + 500;
  expect(off(clock)).toBe(0);
  isIn(clock, "trusted");
});

describe("after days off", () => {
  test.each([3, 20])("of %d, the wall clock counts once a peer or a while says so", (days) => {
    const clock = create();
    clock.begin(trueMs - days * DAY_MS);
    isIn(clock, "implausible");
    trueMs += DOUBT_MS + 500;
    expect(off(clock)).toBe(0);
    const other = create();
    other.begin(trueMs - days * DAY_MS);
    trueMs += 1;
    other.noteTime("b", trueMs);
    isIn(other, "trusted");
  });

  test("a node that knows no peers, and may have some, goes on from before for a while", () => {
    hasPeers = false;
    const clock = new TrustedClock({ ...optionsNow(), mayHavePeers: true });
    clock.begin(trueMs - 1_000 * DAY_MS);
    isIn(clock, "doubtful");
    expect(off(clock)).toBe(-1_000 * DAY_MS);
    trueMs += DOUBT_MS + 500;
    expect(off(clock)).toBe(0);
  });

  test("a clock that is years ahead waits for a peer", () => {
    offMs = 1_000 * DAY_MS;
    const clock = create();
    clock.begin(trueMs - 60_000);
    trueMs += HOUR_MS;
    clock.look();
    isIn(clock, "implausible");
    expect(clock.mayForget).toBe(false);
    clock.noteTime("b", trueMs);
    isIn(clock, "held");
  });
});

test("half of the peers do not hold back a clock: the doubt begins again", () => {
  offMs = HOUR_MS;
  const clock = create();
  clock.noteTime("b", trueMs + HOUR_MS);
  trueMs += 1_000;
  offMs = 0;
  clock.look();
  isIn(clock, "held");
  clock.noteTime("c", trueMs);
  isIn(clock, "doubtful");
  expect(off(clock)).toBe(0);
  trueMs += DOUBT_MS + 500;
  clock.look();
  isIn(clock, "trusted");
});

describe("a peer that has many names", () => {
  test("has one vote all the same", () => {
    const clock = create();
    offMs = HOUR_MS;
    clock.look();
    trueMs += 1;
    clock.noteTime("b", trueMs, "b:1");
    clock.noteTime("c", trueMs, "c:1");
    isIn(clock, "held");
    for (const name of ["x", "y", "z"]) clock.noteTime(name, trueMs + HOUR_MS, "liar:1");
    isIn(clock, "held");
    expect(clock.peers).toBe(3);
  });

  test("takes no other's by its name", () => {
    const clock = create();
    offMs = HOUR_MS;
    clock.look();
    trueMs += 1;
    for (const name of ["b", "c"]) clock.noteTime(name, trueMs, `${name}:1`);
    for (const name of ["b", "c"]) clock.noteTime(name, trueMs + HOUR_MS, "liar:1");
    isIn(clock, "held");
  });

  test("takes back at one way what it said at another", () => {
    const clock = create();
    offMs = -HOUR_MS;
    clock.noteTime("b", trueMs, "b:1");
    isIn(clock, "held");
    clock.noteTime("b", null);
    isIn(clock, "doubtful");
  });

  test("and one that has many addresses counts as one", () => {
    offMs = HOUR_MS;
    const clock = create();
    trueMs += 6_000;
    for (const address of ["b:1", "b:2"]) clock.noteTime("b", trueMs, address);
    expect(clock.peers).toBe(1);
    // A single one does not hold back a clock that never stepped.
    isIn(clock, "trusted");
  });
});

describe("of peers that wait for each other, as none knows the time", () => {
  test("each believes its clock in the end", () => {
    const clock = create();
    clock.noteTime("b", trueMs);
    trueMs += HOUR_MS;
    clock.look();
    offMs = -DAY_MS;
    clock.look();
    isIn(clock, "implausible");
    clock.noteTime("b", null);
    trueMs += UNTOLD_MS - 1;
    clock.look();
    isIn(clock, "implausible");
    trueMs += 2;
    clock.look();
    isIn(clock, "trusted");
    expect(off(clock)).toBe(-DAY_MS);
    // One that turns out to know it after all is believed.
    clock.noteTime("b", trueMs);
    isIn(clock, "held");
    expect(off(clock)).toBe(0);
  });

  test("none does that knows of somebody who knows the time, or of nobody", () => {
    const told = create();
    told.begin(trueMs - 1_000 * DAY_MS);
    trueMs += 1;
    told.noteTime("b", null);
    // A third time, so it is no vote.
    told.noteTime("c", trueMs + 5_000 * DAY_MS);
    const untold = create();
    untold.begin(trueMs - 1_000 * DAY_MS);
    trueMs += UNTOLD_MS + 1_000;
    for (const clock of [told, untold]) {
      clock.look();
      isIn(clock, "implausible");
    }
  });

  test("none does by a clock that was never set", () => {
    offMs = 20_000 - START_MS;
    const clock = create();
    clock.begin(trueMs - DAY_MS);
    clock.noteTime("b", null);
    trueMs += HOUR_MS;
    clock.look();
    isIn(clock, "implausible");
  });
});

test("deletions are forgotten by a time that a peer confirms, or that has held for long", () => {
  const clock = create();
  expect(clock.mayForget).toBe(false);
  clock.noteTime("b", trueMs);
  expect(clock.mayForget).toBe(true);
  clock.noteTime("b", trueMs - HOUR_MS);
  expect(clock.mayForget).toBe(false);
  trueMs += DAY_MS;
  clock.look();
  expect(clock.mayForget).toBe(true);
  hasPeers = false;
  expect(create().mayForget).toBe(true);
});

test("who was told that its clock is ahead remembers it for as long as a grace", () => {
  const clock = create();
  offMs = HOUR_MS;
  clock.noteTime("b", trueMs);
  expect(clock.mayForget).toBe(false);
  trueMs += DAY_MS - 60_000;
  clock.look();
  expect(clock.aheadOfPeersMs).toBe(null);
  expect(clock.mayForget).toBe(false);
  // It is set right by as much as it was ahead.
  offMs = 0;
  clock.look();
  trueMs += DOUBT_MS + 500;
  clock.look();
  isIn(clock, "trusted");
  expect(clock.mayForget).toBe(true);
  // Or who had said so takes it back.
  offMs = HOUR_MS;
  clock.noteTime("b", trueMs);
  clock.noteTime("b", null);
  trueMs += DAY_MS;
  clock.look();
  expect(clock.mayForget).toBe(true);
});

test("who has met no peers yet forgets nothing because its clock is years ahead", () => {
  hasPeers = false;
  offMs = 1_000 * DAY_MS;
  const clock = new TrustedClock({ ...optionsNow(), mayHavePeers: true });
  clock.begin(trueMs - 60_000);
  trueMs += DOUBT_MS + 500;
  clock.look();
  isIn(clock, "trusted");
  expect(clock.mayForget).toBe(false);
});

test("how far it is ahead of each peer that has said of late what time it is", () => {
  const clock = create();
  clock.noteTime("n2", trueMs - 5_000, "n2:1");
  clock.noteTime("n3", trueMs + 2_000);
  clock.noteTime("n3", null);
  expect([...clock.aheadOfEach()]).toEqual([["n2", 5_000]]);
  trueMs += HOUR_MS;
  expect([...clock.aheadOfEach()]).toEqual([]);
});

/** What is done a while after messages, and when their answers do not come. */
import { beforeEach, describe, expect, test } from "bun:test";
import { AnswerWatch } from "../../../src/replication/answer-watch.ts";
import { EchoCheck } from "../../../src/replication/echo-check.ts";
import { Heartbeat } from "../../../src/replication/heartbeat.ts";
import type { Timing } from "../../../src/timing.ts";
import { Timeline } from "../../sim/timeline.ts";

let timeline: Timeline;
let timing: Timing;
const pass = (ms: number) => timeline.runUntil(timeline.nowMs + ms);

beforeEach(() => {
  timeline = new Timeline();
  timing = {
    nowMs: () => timeline.nowMs,
    after: (delayMs, task) => timeline.after(delayMs, task),
    soon: (task) => timeline.after(0, task),
  };
});

test("after the last message there is a beat, and then others, later and later", () => {
  const beats: number[] = [];
  const heartbeat = new Heartbeat(timing, () => beats.push(timeline.nowMs));
  for (let i = 0; i < 10; i++) {
    heartbeat.restart();
    pass(500);
  }
  pass(100_000);
  // The last message was at 4.5 s.
  expect(beats).toEqual([6_500, 10_500, 20_500, 40_500]);
  heartbeat.restart();
  pass(2_000);
  expect(beats.length).toBe(5);
  heartbeat.restart();
  pass(2_000);
  expect(beats.length).toBe(6);
  heartbeat.stop();
  pass(100_000);
  expect(beats.length).toBe(6);
});

describe("a message without an answer", () => {
  let pings: number;
  let unanswered: number;
  let watch: AnswerWatch;

  beforeEach(() => {
    pings = 0;
    unanswered = 0;
    watch = new AnswerWatch(
      timing,
      () => pings++,
      () => unanswered++,
    );
  });

  test("is followed by a ping, whose answer shows that there is none to come", () => {
    watch.add();
    pass(10_000);
    expect([pings, unanswered]).toEqual([1, 0]);
    watch.pong();
    pass(10_000);
    expect(unanswered).toBe(1);
  });

  test("is waited for as long as the ping is: the link may be slow", () => {
    watch.add();
    pass(3_600_000);
    expect([pings, unanswered]).toEqual([1, 0]);
  });

  test("is no trouble when the answer comes after all, nor is what was sent after the ping", () => {
    const early = watch.add();
    pass(10_000);
    watch.add();
    watch.pong();
    watch.remove(early);
    pass(5_500);
    expect(unanswered).toBe(0);
    watch.stop();
    pass(60_000);
    expect(unanswered).toBe(0);
  });
});

describe("what a node publishes", () => {
  let sequence: number;
  let answer: () => void;
  let found: boolean[];
  let told: number;
  let check: EchoCheck;

  beforeEach(() => {
    sequence = 0;
    found = [];
    told = 0;
    check = new EchoCheck({
      timing,
      beat(acknowledged) {
        answer = acknowledged;
        return ++sequence;
      },
      onChange: (isHeard) => found.push(isHeard),
      onUnheard: () => told++,
    });
  });

  test("comes back, before its acknowledgement or after it", () => {
    for (const isEarly of [true, false]) {
      check.start(true);
      if (isEarly) check.noteHeard();
      answer();
      if (!isEarly) check.noteHeard();
      pass(60_000);
      expect(check.isHeard).toBe(true);
    }
    expect(found).toEqual([true, true]);
    expect(told).toBe(0);
  });

  test("does not, which is found once, told on and on, and looked at again", () => {
    check.start(true);
    pass(1_000);
    answer();
    pass(5_000);
    expect(check.isUnheard).toBe(true);
    expect(told).toBe(1);
    pass(30_000);
    expect(sequence).toBe(2);
    answer();
    pass(10_000);
    expect(found).toEqual([false]);
    expect(told).toBeGreaterThan(6);
    check.noteHeard();
    expect(found).toEqual([false, true]);
    const before = told;
    pass(60_000);
    expect(told).toBe(before);
  });

  test("cannot, without the subscription", () => {
    check.start(false);
    expect(found).toEqual([false]);
    check.stop();
    pass(100_000);
    expect([check.isUnheard, told]).toEqual([false, 1]);
  });
});

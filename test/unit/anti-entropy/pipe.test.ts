/** A pipe from one connection to another: nothing is lost, and neither side floods the other. */
import { beforeEach, expect, test } from "bun:test";
import { Pipe } from "../../../src/anti-entropy/pipe.ts";
import type { Link } from "../../../src/ports.ts";
import { Timeline } from "../../sim/timeline.ts";

const SILENCE_MS = 30_000;

class End implements Link {
  queuedBytes = 0;
  sent = "";
  isPaused = false;
  isEnded = false;

  constructor(readonly address: string) {}

  send(bytes: Uint8Array): void {
    this.sent += Buffer.from(bytes).toString();
  }

  pause(): void {
    this.isPaused = true;
  }

  resume(): void {
    this.isPaused = false;
  }

  end(): void {
    this.isEnded = true;
  }
}

let timeline: Timeline;
let near: End;
let far: End;
let pipe: Pipe;

beforeEach(() => {
  timeline = new Timeline();
  near = new End("client:1");
  far = new End("broker/n2");
  const timing = {
    nowMs: () => timeline.nowMs,
    after: (delayMs: number, task: () => void) => timeline.after(delayMs, task),
    soon: (task: () => void) => timeline.after(0, task),
  };
  pipe = new Pipe(near, timing, SILENCE_MS);
});

const bytes = (text: string) => Buffer.from(text);

test("what comes before there is another side waits for it; then both sides talk", () => {
  expect(near.isPaused).toBeTrue();
  pipe.nearHandler.receive(bytes("early "));
  const farHandler = pipe.connect(far);
  expect([far.sent, near.isPaused]).toEqual(["early ", false]);
  pipe.nearHandler.receive(bytes("and late"));
  farHandler.receive(bytes("answer"));
  expect([far.sent, near.sent]).toEqual(["early and late", "answer"]);
});

test("a side is not read while the other does not take what came", () => {
  const farHandler = pipe.connect(far);
  far.queuedBytes = 100_000;
  pipe.nearHandler.receive(bytes("x"));
  expect([near.isPaused, far.isPaused]).toEqual([true, false]);
  far.queuedBytes = 0;
  farHandler.drained();
  expect(near.isPaused).toBeFalse();
  near.queuedBytes = 100_000;
  farHandler.receive(bytes("x"));
  expect(far.isPaused).toBeTrue();
  pipe.nearHandler.drained();
  expect(far.isPaused).toBeFalse();
});

test.each(["near", "far"])("the end of the %p side ends both", async (side) => {
  const farHandler = pipe.connect(far);
  (side === "near" ? pipe.nearHandler : farHandler).closed();
  await pipe.ended;
  expect([near.isEnded, far.isEnded]).toEqual([true, true]);
  farHandler.receive(bytes("late"));
  expect(near.sent).toBe("");
});

test("who gets no other side is told so", async () => {
  pipe.refuse("ERROR no\n");
  await pipe.ended;
  expect([near.sent, near.isEnded]).toEqual(["ERROR no\n", true]);
  // And whoever comes too late finds nobody.
  pipe.connect(far);
  expect(far.isEnded).toBeTrue();
});

test("one through which next to nothing goes does not stay", async () => {
  pipe.connect(far);
  timeline.runUntil(10 * SILENCE_MS);
  expect([near.isEnded, far.isEnded]).toEqual([true, true]);
});

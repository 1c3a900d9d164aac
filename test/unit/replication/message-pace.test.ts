/** How many messages a second are let through, by what is configured and by what is found out. */
import { describe, expect, test } from "bun:test";
import * as fc from "fast-check";
import { MessagePace } from "../../../src/replication/message-pace.ts";

const HOUR_MS = 3_600_000;

/** A pace, and a sender that sends whenever it may. */
class Sender {
  nowMs = 1_000_000;
  readonly pace: MessagePace;
  readonly sentMs: number[] = [];

  constructor(configured = 0) {
    this.pace = new MessagePace(configured, () => this.nowMs);
    this.pace.begin();
  }

  send(): void {
    this.pace.spend();
    this.sentMs.push(this.nowMs);
  }

  /** Sends as much as may be sent, up to so many at a time, and lets the time pass. */
  run(forMs: number, atOnce = 100, stepMs = 5): void {
    for (const endMs = this.nowMs + forMs; this.nowMs < endMs; this.nowMs += stepMs) {
      for (let i = 0; i < atOnce && this.pace.pauseMs() === 0; i++) this.send();
    }
  }

  /** Most in any second. */
  busiest(): number {
    let most = 0;
    for (let from = 0, to = 0; to < this.sentMs.length; to++) {
      while (this.sentMs[to] - this.sentMs[from] >= 1_000) from++;
      most = Math.max(most, to - from + 1);
    }
    return most;
  }
}

test("without a limit all goes at once", () => {
  const sender = new Sender();
  sender.run(1_000, 50);
  expect(sender.sentMs.length).toBe(200 * 50);
  expect(sender.pace.perSecond).toBe(Infinity);
});

test("in no second there are more than the limit, and over a while most of it is used", () => {
  const pauses = fc.array(fc.integer({ min: 0, max: 3_000 }), { maxLength: 20 });
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 2_000 }), pauses, (limit, pausesMs) => {
      const sender = new Sender(limit);
      for (const pauseMs of pausesMs) {
        sender.nowMs += pauseMs;
        sender.run(100);
      }
      const before = sender.sentMs.length;
      sender.run(10_000, 1_000);
      expect(sender.busiest()).toBeLessThanOrEqual(limit);
      expect(sender.sentMs.length - before).toBeGreaterThanOrEqual(Math.floor(6.5 * limit) - 1);
    }),
  );
});

test("who leaves room for others waits until there is some", () => {
  const sender = new Sender(60);
  sender.nowMs += 1_000;
  for (let i = 0; i < 5; i++) sender.send();
  expect(sender.pace.pauseMs(true)).toBe(0);
  sender.send();
  expect(sender.pace.pauseMs(true)).toBeGreaterThan(0);
  expect(sender.pace.pauseMs()).toBe(0);
  sender.nowMs += sender.pace.pauseMs(true);
  expect(sender.pace.pauseMs(true)).toBe(0);
});

describe("what a broker takes is found out", () => {
  test("in a few steps, and not much less than it is", () => {
    fc.assert(
      fc.property(fc.integer({ min: 4, max: 1_000 }), (taken) => {
        const sender = new Sender();
        let refused = 0;
        for (;;) {
          sender.sentMs.length = 0;
          sender.nowMs += 20_000;
          sender.run(2_000, 20);
          if (sender.busiest() <= taken) break;
          expect(sender.pace.noteExcess()).toBe(true);
          expect(++refused).toBeLessThan(15);
        }
        if (refused > 0) expect(sender.pace.perSecond).toBeGreaterThanOrEqual(taken / 2 - 1);
      }),
    );
  });

  test("once for all that was under way, and forgotten after a while", () => {
    const sender = new Sender();
    sender.run(1_000, 10);
    for (let i = 0; i < 64; i++) expect(sender.pace.noteExcess()).toBe(true);
    expect(sender.pace.perSecond).toBe(1_000);
    sender.nowMs += 2 * HOUR_MS;
    expect(sender.pace.perSecond).toBe(Infinity);
  });

  test("but not by what cannot be for the number of messages", () => {
    const sender = new Sender();
    sender.send();
    sender.nowMs += 5_000;
    sender.pace.noteExcess();
    expect(sender.pace.perSecond).toBe(2);
    sender.nowMs += 5_000;
    expect(sender.pace.noteExcess()).toBe(false);
  });

  test("where it ends connections, by the second one that ends in a busy second", () => {
    const sender = new Sender();
    sender.run(1_000, 1);
    expect(sender.pace.noteHungUp()).toBe(false);
    sender.pace.begin();
    // The next one begins slowly, to show whether it was for the number.
    sender.run(4_900);
    expect(sender.pace.perSecond).toBe(10);
    sender.nowMs += 200;
    expect(sender.pace.perSecond).toBe(Infinity);
    sender.run(1_000, 1);
    expect(sender.pace.noteHungUp()).toBe(true);
    expect(sender.pace.perSecond).toBeLessThanOrEqual(100);
  });

  test("and not where it was away after that", () => {
    const sender = new Sender();
    for (let i = 0; i < 5; i++) {
      sender.pace.begin(i > 0);
      sender.run(1_000, 1);
      expect(sender.pace.noteHungUp()).toBe(false);
    }
    sender.pace.begin(true);
    expect(sender.pace.perSecond).toBe(Infinity);
  });

  test("and not where it ends one that begins slowly, or hours later", () => {
    const sender = new Sender();
    sender.run(1_000, 1);
    sender.pace.noteHungUp();
    for (let i = 0; i < 5; i++) {
      sender.pace.begin();
      sender.run(2_000);
      expect(sender.pace.noteHungUp()).toBe(false);
    }
    sender.nowMs += HOUR_MS;
    sender.pace.begin();
    sender.run(1_000, 1);
    expect(sender.pace.noteHungUp()).toBe(false);
    expect(sender.pace.perSecond).toBe(Infinity);
  });
});

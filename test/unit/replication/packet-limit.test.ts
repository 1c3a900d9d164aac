/** How long a packet may be, by what is said and by what is found out. */
import { expect, test } from "bun:test";
import * as fc from "fast-check";
import { PacketLimit } from "../../../src/replication/packet-limit.ts";

const HOUR_MS = 3_600_000;

test("the least of what is configured and what is announced", () => {
  const limit = new PacketLimit(131_072, () => 0);
  expect(limit.bytes).toBe(131_072);
  limit.announce(20_480);
  expect(limit.bytes).toBe(20_480);
  limit.announce(Infinity);
  expect(limit.bytes).toBe(131_072);
});

test("whatever a broker takes in truth is found in a few steps, and nothing that passes is given up", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1_024, max: 131_072 }), (taken) => {
      const limit = new PacketLimit(131_072, () => 0);
      let refused = 0;
      while (limit.bytes > taken) {
        expect(limit.noteTooLong(limit.bytes)).toBe(true);
        refused++;
      }
      expect(refused).toBeLessThanOrEqual(7);
      expect(limit.bytes).toBeGreaterThan(taken / 2 - 1);
      limit.notePassed(limit.bytes);
      expect(limit.noteTooLong(limit.bytes)).toBe(false);
    }),
  );
});

test("what passed is no longer than it may be, and never given up for something longer", () => {
  const limit = new PacketLimit(131_072, () => 0);
  limit.notePassed(20_000);
  expect(limit.noteTooLong(20_500)).toBe(true);
  expect(limit.bytes).toBe(20_000);
});

test("the shortest packets are not refused for their length", () => {
  const limit = new PacketLimit(131_072, () => 0);
  expect(limit.noteTooLong(500)).toBe(false);
  expect(limit.bytes).toBe(131_072);
});

test("what was found out is forgotten, for the broker may have been given another limit", () => {
  let nowMs = 0;
  const limit = new PacketLimit(131_072, () => nowMs);
  limit.noteTooLong(100_000);
  expect(limit.bytes).toBe(50_000);
  nowMs += HOUR_MS + 1;
  expect(limit.bytes).toBe(131_072);
});

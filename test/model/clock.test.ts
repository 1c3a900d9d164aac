/** The hybrid clock against one on a single big integer. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { HybridClock, timeHighOf, timeLowOf, unixMsOf } from "../../src/core/data/clock.ts";

const MAX_MS = 2 ** 48 - 1;
const MASK = 0xffff_ffffn;
const pack = (high: number, low: number): bigint => (BigInt(high) << 32n) | BigInt(low);

/** Milliseconds about which a word of the timestamp overflows, and any others. */
const unixMs = fc.oneof(
  fc.integer({ min: 0, max: MAX_MS - 10 }),
  fc.tuple(fc.nat(3), fc.nat(4)).map(([n, more]) => n * 65_536 + more),
);

const step = fc.oneof(
  { weight: 5, arbitrary: fc.record({ do: fc.constant("next" as const), at: fc.constant(0) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("jump" as const), at: unixMs }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("hold" as const), at: fc.constant(0) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("release" as const), at: fc.constant(0) }) },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant("observe" as const), at: unixMs, low: fc.nat(0xffff) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant("observe" as const),
      at: fc.constantFrom(65_535, 131_071),
      low: fc.constantFrom(0xfffe, 0xffff),
    }),
  },
);

test("every timestamp is max(now, last + 1), whatever the time does, and while it is held", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 100, size: "max" }), (steps) => {
      let now = 0;
      let naive = 0n;
      let isHeld = false;
      /** What was seen at the first look since `hold`. */
      let heldMs: number | null = null;
      let looks = 0;
      const clock = new HybridClock(() => (looks++, now));
      const look = (): number => {
        if (!isHeld) return now;
        return (heldMs ??= now);
      };
      for (const s of steps) {
        if (s.do === "jump") now = s.at;
        else if (s.do === "hold") {
          isHeld = true;
          looks = 0;
          clock.hold();
        } else if (s.do === "release") {
          isHeld = false;
          heldMs = null;
          clock.release();
        } else if (s.do === "next") {
          const physical = BigInt(look()) << 16n;
          naive = physical > naive ? physical : naive + 1n;
          clock.next();
        } else {
          const seen = (BigInt(s.at) << 16n) | BigInt(s.low);
          if (seen > naive) naive = seen;
          clock.observe(Number(seen >> 32n), Number(seen & MASK));
        }
        expect(pack(clock.high, clock.low)).toBe(naive);
        expect(clock.nowMs()).toBe(look());
        if (isHeld) expect(looks).toBeLessThan(2);
      }
    }),
    { numRuns: 300 },
  );
});

test("one that is too far ahead begins anew at the time, and knows what it had seen", () => {
  fc.assert(
    fc.property(
      fc.array(step, { maxLength: 100, size: "max" }),
      fc.constantFrom(0, 1_000, 60_000),
      (steps, maxAheadMs) => {
        let now = 0;
        let [naive, seen] = [0n, 0n];
        const clock = new HybridClock(() => now, maxAheadMs);
        for (const s of steps) {
          if (s.do === "hold" || s.do === "release") continue;
          if (s.do === "jump") now = s.at;
          else if (s.do === "next") {
            const physical = BigInt(now) << 16n;
            const isTooFar = naive >> 16n > BigInt(now + maxAheadMs);
            naive = isTooFar || physical > naive ? physical : naive + 1n;
            clock.next();
            expect(clock.isOutrun).toBe(seen >= naive);
            expect(clock.latestMs()).toBe(Math.max(now, Number(naive >> 16n)));
          } else {
            const given = (BigInt(s.at) << 16n) | BigInt(s.low);
            if (given > naive) naive = given;
            clock.observe(Number(given >> 32n), Number(given & MASK));
          }
          if (naive > seen) seen = naive;
          expect(pack(clock.high, clock.low)).toBe(naive);
          expect(pack(clock.seenHigh, clock.seenLow)).toBe(seen);
        }
      },
    ),
    { numRuns: 300 },
  );
});

test("a timestamp above another one is above that however far ahead it is, and the next is not", () => {
  let now = 1_000_000;
  const clock = new HybridClock(() => now, 60_000);
  const [high, low] = [timeHighOf(5_000_000), timeLowOf(5_000_000) + 7];
  clock.next();
  clock.raiseAbove(high, low);
  expect(pack(clock.high, clock.low)).toBe(pack(high, low) + 1n);
  clock.next();
  expect(unixMsOf(clock.high, clock.low)).toBe(now);
  expect(clock.isOutrun).toBe(true);
  now = 5_000_001;
  clock.next();
  expect(clock.isOutrun).toBe(false);
});

test("milliseconds survive the way into a timestamp and back", () => {
  fc.assert(
    fc.property(unixMs, fc.nat(0xffff), (ms, counter) => {
      expect(pack(timeHighOf(ms), timeLowOf(ms))).toBe(BigInt(ms) << 16n);
      expect(unixMsOf(timeHighOf(ms), timeLowOf(ms) + counter)).toBe(ms);
    }),
  );
});

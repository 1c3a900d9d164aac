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

test("milliseconds survive the way into a timestamp and back", () => {
  fc.assert(
    fc.property(unixMs, fc.nat(0xffff), (ms, counter) => {
      expect(pack(timeHighOf(ms), timeLowOf(ms))).toBe(BigInt(ms) << 16n);
      expect(unixMsOf(timeHighOf(ms), timeLowOf(ms) + counter)).toBe(ms);
    }),
  );
});

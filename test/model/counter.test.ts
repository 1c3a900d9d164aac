/** The arithmetic of counters against big integers. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  BASE_BYTES,
  BASE_NONE,
  BASE_STRING,
  PART_BYTES,
  addToPart,
  isCounter,
  joinParts,
  setVersionFromParts,
  sumOf,
  writeBase,
} from "../../src/core/data/counter.ts";
import { Int64, formatInt64, parseInt64 } from "../../src/core/data/int64.ts";
import { Entry } from "../../src/core/data/entry.ts";
import { largeCounter } from "../support/large-counter.ts";

const MIN = -(2n ** 63n);
const MAX = 2n ** 63n - 1n;

/** Integers of every size, and those about which something overflows or splits. */
const int64 = fc.oneof(
  fc.bigInt({ min: MIN, max: MAX }),
  fc.bigInt({ min: -100n, max: 100n }),
  fc
    .tuple(
      fc.constantFrom(MIN, MAX, 0n, 2n ** 32n, -(2n ** 32n), 2n ** 53n, -(2n ** 53n), 10n ** 18n),
      fc.bigInt({ min: -3n, max: 3n }),
    )
    .map(([near, by]) => near + by)
    .filter((n) => n >= MIN && n <= MAX),
  fc.tuple(fc.nat(18), fc.bigInt({ min: -1n, max: 1n })).map(([e, by]) => 10n ** BigInt(e) + by),
);

const toInt64 = (n: bigint): Int64 =>
  new Int64().set(Number(n >> 32n), Number(BigInt.asUintN(32, n)));
const toBigInt = ({ high, low }: Int64): bigint => (BigInt(high) << 32n) | BigInt(low);

function parse(text: string): bigint | undefined {
  const bytes = Buffer.from(`9${text}9`, "latin1");
  const into = new Int64();
  return parseInt64(bytes, 1, bytes.length - 2, into) ? toBigInt(into) : undefined;
}

function format(n: bigint): string {
  const out = new Uint8Array(30).fill(0x3f);
  const length = formatInt64(toInt64(n), out, 2);
  expect(out[1]).toBe(0x3f);
  expect(out[2 + length]).toBe(0x3f);
  return Buffer.from(out.subarray(2, 2 + length)).toString();
}

describe("decimal text", () => {
  test("of every 64-bit number is written and read exactly", () => {
    fc.assert(
      fc.property(int64, (n) => {
        expect(format(n)).toBe(String(n));
        expect(parse(String(n))).toBe(n);
      }),
      { numRuns: 3_000 },
    );
  });

  test("of anything else is refused", () => {
    const text = fc.oneof(
      fc.stringMatching(/^[-+]?[0-9]{0,22}$/),
      fc.string({ unit: fc.constantFrom("-", "0", "1", "9", " ", ".", "x", "\0"), maxLength: 5 }),
      fc.bigInt({ min: MIN * 3n, max: MAX * 3n }).map(String),
      fc.constantFrom(String(MAX + 1n), String(MIN - 1n), "18446744073709551616", "-0", "00", ""),
    );
    fc.assert(
      fc.property(text, (each) => {
        const isWellFormed = /^(0|-?[1-9][0-9]*)$/.test(each);
        const inRange = isWellFormed && BigInt(each) >= MIN && BigInt(each) <= MAX;
        expect(parse(each)).toBe(inRange ? BigInt(each) : undefined);
      }),
      { numRuns: 3_000 },
    );
  });
});

/** Bytes of a counter with this base and a running total for each origin. */
function counterOf(base: bigint, deltas: [origin: number, delta: bigint][]): Uint8Array {
  const payload = new Uint8Array(BASE_BYTES + deltas.length * PART_BYTES);
  writeBase(payload, BASE_STRING, 1, 2, 3, 4, toInt64(base));
  let length = BASE_BYTES;
  for (const [i, [origin, delta]] of deltas.entries()) {
    // Origins that differ in either word only.
    length = addToPart(payload, length, origin & 3, origin >> 2, 0, i, toInt64(delta));
  }
  return payload.slice(0, length);
}

function sum(payload: Uint8Array): { isExact: boolean; value: bigint } {
  const padded = Buffer.concat([Buffer.from("??"), payload, Buffer.from("??")]);
  const into = new Int64();
  const isExact = sumOf(padded, 2, payload.length, into);
  return { isExact, value: toBigInt(into) };
}

const deltas = fc.array(fc.tuple(fc.nat(15), int64), { maxLength: 40, size: "max" });

describe("totals", () => {
  test("add up exactly, and are held to the ends of the range", () => {
    fc.assert(
      fc.property(int64, deltas, (base, all) => {
        let exact = base;
        for (const [, delta] of all) exact += delta;
        const clamped = exact < MIN ? MIN : exact > MAX ? MAX : exact;
        const payload = counterOf(base, all);
        expect(sum(payload)).toEqual({ isExact: exact === clamped, value: clamped });
        expect(isCounter(payload, 0, payload.length)).toBeTrue();
        const origins = new Set(all.map(([origin]) => origin));
        expect(payload.length).toBe(BASE_BYTES + origins.size * PART_BYTES);
      }),
      { numRuns: 1_000 },
    );
  });

  test("come back from far outside 64 bits", () => {
    const far = Array.from({ length: 50 }, (): [number, bigint] => [1, MAX]);
    const back = Array.from({ length: 50 }, (): [number, bigint] => [2, -MAX]);
    expect(sum(counterOf(0n, far))).toEqual({ isExact: false, value: MAX });
    expect(sum(counterOf(7n, [...far, ...back]))).toEqual({ isExact: true, value: 7n });
  });

  test("of two counters join to the later one of each origin", () => {
    fc.assert(
      fc.property(deltas, fc.nat(40), fc.nat(40), (all, a, b) => {
        // Two replicas that have seen the history up to different points.
        const [one, other] = [counterOf(5n, all.slice(0, a)), counterOf(5n, all.slice(0, b))];
        const out = new Uint8Array(one.length + other.length);
        const length = joinParts(one, 0, one.length, other, 0, other.length, out);
        const expected = counterOf(5n, all.slice(0, Math.max(a, b)));
        expect(Buffer.compare(out.subarray(0, length), expected)).toBe(0);
      }),
    );
  });

  test("of two counters of many parts join to the parts of both, in order", () => {
    // Rows of parts that the one has, the other, or both.
    const rows = fc.array(fc.tuple(fc.constantFrom(1, 2, 3), fc.integer({ min: 1, max: 60 })), {
      maxLength: 12,
    });
    fc.assert(
      fc.property(rows, (rows) => {
        const owners = rows.flatMap(([owner, length]) => Array<number>(length).fill(owner));
        const of = (isThere: (owner: number) => boolean): Uint8Array => {
          const parts = owners.flatMap((owner, i) =>
            isThere(owner) ? [largeCounter("c", 1 + i, 1).value.subarray(BASE_BYTES)] : [],
          );
          const base = largeCounter("c", 1, 0).value;
          return new Uint8Array(Buffer.concat([base, ...parts]));
        };
        const [one, other] = [of((it) => it !== 2), of((it) => it !== 1)];
        const out = new Uint8Array(one.length + other.length);
        const length = joinParts(one, 0, one.length, other, 0, other.length, out);
        expect(
          Buffer.compare(
            out.subarray(0, length),
            of(() => true),
          ),
        ).toBe(0);
      }),
    );
  });
});

describe("well-formedness", () => {
  const payload = counterOf(5n, [
    [1, 10n],
    [2, 20n],
    [6, 30n],
  ]);
  const isWellFormed = (bytes: Uint8Array) => isCounter(bytes, 0, bytes.length);

  test("every other length is refused", () => {
    for (let length = 0; length < payload.length; length++) {
      const isWhole = length >= BASE_BYTES && (length - BASE_BYTES) % PART_BYTES === 0;
      expect(isWellFormed(payload.slice(0, length))).toBe(isWhole);
    }
  });

  test("origins out of order or twice are refused", () => {
    const part = (i: number) =>
      payload.slice(BASE_BYTES + i * PART_BYTES, BASE_BYTES + (i + 1) * PART_BYTES);
    const base = payload.slice(0, BASE_BYTES);
    const of = (...parts: number[]) => Buffer.concat([base, ...parts.map(part)]);
    expect(isWellFormed(of(0, 1, 2))).toBeTrue();
    for (const wrong of [of(0, 0), of(1, 0), of(0, 2, 1), of(2, 1)]) {
      expect(isWellFormed(wrong)).toBeFalse();
    }
  });

  test("an unknown kind of base, or a number where there is none, is refused", () => {
    const changed = (at: number, byte: number) => payload.with(at, byte);
    expect(isWellFormed(changed(0, 2))).toBeFalse();
    expect(isWellFormed(changed(0, BASE_NONE))).toBeFalse();
    expect(isWellFormed(changed(0, BASE_NONE).with(24, 0))).toBeTrue();
  });

  test("the version is the latest of base and parts", () => {
    const entry = new Entry();
    const versionOf = (bytes: Uint8Array) => {
      setVersionFromParts(entry.setValue(bytes));
      return [entry.timeHigh, entry.timeLow, entry.originHigh, entry.originLow];
    };
    expect(versionOf(counterOf(5n, []))).toEqual([1, 2, 3, 4]);
    expect(versionOf(payload)).toEqual([1, 2, 3, 4]);
    const later = payload.slice();
    later[BASE_BYTES + PART_BYTES + 11] = 9; // the second part's time, upper word
    expect(versionOf(later)).toEqual([9, 1, 2, 0]);
  });
});

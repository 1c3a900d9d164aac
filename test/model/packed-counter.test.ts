/** Counters as the store's table keeps them, against the form in which they travel. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import {
  BASE_BYTES,
  BASE_NONE,
  BASE_STRING,
  PART_BYTES,
  addToPart,
  setVersionFromParts,
  sumOf,
  writeBase,
} from "../../src/core/data/counter.ts";
import { Int64 } from "../../src/core/data/int64.ts";
import { Entry, KIND_COUNTER, KIND_STRING } from "../../src/core/data/entry.ts";
import type { Origin } from "../../src/core/data/origin.ts";
import { EntryTable } from "../../src/core/store/entry-table.ts";
import { MAX_ORIGINS } from "../../src/core/store/origin-table.ts";
import { contentsOf } from "../support/entry-contents.ts";

const KEY = Buffer.from("a key");
const MIN = -(2n ** 63n);
const MAX = 2n ** 63n - 1n;

const int64 = fc.oneof(
  fc.bigInt({ min: -5n, max: 5n }),
  fc.constantFrom(MIN, MAX, 2n ** 31n - 1n, 2n ** 31n, -(2n ** 31n), -(2n ** 31n) - 1n),
  fc.bigInt({ min: MIN, max: MAX }),
);
const word = fc.oneof(fc.constantFrom(0, 1, 0xffff_ffff), fc.nat());
const origin: fc.Arbitrary<Origin> = fc.record({ high: fc.nat(3), low: fc.nat(60) });

interface Counter {
  readonly isString: boolean;
  readonly number: bigint;
  readonly baseTime: readonly [number, number];
  readonly baseOrigin: Origin;
  readonly parts: readonly { origin: Origin; time: number; total: bigint }[];
  readonly expiresAtMs: number;
}
const part = fc.record({ origin, time: fc.integer({ min: 1, max: 1_000_000 }), total: int64 });
const counter: fc.Arbitrary<Counter> = fc.record({
  isString: fc.boolean(),
  number: int64,
  baseTime: fc.oneof(fc.constant([0, 0] as const), fc.tuple(word, word)),
  baseOrigin: fc.oneof(fc.constant({ high: 0, low: 0 }), origin),
  parts: fc.array(part, { maxLength: 3 }),
  expiresAtMs: fc.constantFrom(0, 0, 5_000_000_000_000),
});

function words(number: bigint): Int64 {
  return new Int64().set(Number(BigInt.asIntN(32, number >> 32n)), Number(number & 0xffff_ffffn));
}

function valueOf({ high, low }: Int64): bigint {
  return (BigInt(high) << 32n) | BigInt(low);
}

function entryOf(it: Counter, key: Uint8Array = KEY): Entry {
  const payload = new Uint8Array(BASE_BYTES + it.parts.length * PART_BYTES);
  const [timeHigh, timeLow] = it.baseTime;
  const { high, low } = it.baseOrigin;
  const number = words(it.isString ? it.number : 0n);
  const kind = it.isString ? BASE_STRING : BASE_NONE;
  writeBase(payload, kind, timeHigh, timeLow, high, low, number);
  let length = BASE_BYTES;
  for (const { origin: by, time, total } of it.parts) {
    length = addToPart(payload, length, by.high, by.low, 7, time, words(total));
  }
  const entry = new Entry().setKey(key).setValue(payload, 0, length);
  entry.kind = KIND_COUNTER;
  entry.setExpiry(it.expiresAtMs);
  setVersionFromParts(entry);
  return entry;
}

test("any counter is read as it was written, and so is what took its place", () => {
  const other = fc.oneof(counter, fc.constant("a string"));
  fc.assert(
    fc.property(fc.array(other, { minLength: 1, maxLength: 8 }), fc.boolean(), (all, isCrowded) => {
      const table = new EntryTable();
      const view = new Entry();
      // When all numbers of origins are taken, entries keep their origins themselves.
      for (let i = 0; isCrowded && i < MAX_ORIGINS; i++) {
        const some = new Entry().setKey(Buffer.from(`${i}`)).setVersion(1, 1, 1_000, i);
        table.writer.create(some, i, Infinity);
      }
      let id = -1;
      for (const each of all) {
        const entry =
          typeof each === "string"
            ? new Entry().setKey(KEY).setValue(Buffer.from(each)).setVersion(9, 9, 2, 77)
            : entryOf(each);
        if (id < 0) id = table.writer.create(entry, 5, Infinity);
        else expect(table.writer.replace(id, entry, Infinity)).toBeTrue();
        table.read(id, view);
        expect(contentsOf(view)).toBe(contentsOf(entry));
        expect(table.valueLengthOf(id)).toBe(entry.valueLength);
        expect(table.keys.matches(id, 5, KEY, 0, KEY.length)).toBeTrue();
        table.verify();
        if (!table.rows.isPacked(id)) continue;
        const [shown, expected] = [new Int64(), new Int64()];
        table.packed.readNumber(id, shown);
        sumOf(entry.value, entry.valueOffset, entry.valueLength, expected);
        expect(valueOf(shown)).toBe(valueOf(expected));
      }
    }),
    { numRuns: 100 },
  );
});

test("adding to one where it lies is adding to it anywhere", () => {
  const deltas = fc.array(int64, { minLength: 1, maxLength: 8 });
  fc.assert(
    fc.property(counter, part, deltas, (made, { origin: by, time, total }, increments) => {
      const table = new EntryTable();
      const [view, number, expected] = [new Entry(), new Int64(), new Int64()];
      const own = { ...made, parts: [{ origin: by, time, total }] };
      const entry = entryOf(own);
      const id = table.writer.create(entry, 5, Infinity);
      let sum = total;
      increments.forEach((delta, i) => {
        if (!table.rows.isPacked(id)) return;
        const before = contentsOf((table.read(id, view), view));
        const stranger = { high: by.high, low: by.low + 1 };
        expect(table.packed.canAdd(id, words(delta), stranger, number)).toBeFalse();
        const canAdd = table.packed.canAdd(id, words(delta), by, number);
        table.read(id, view);
        expect(contentsOf(view)).toBe(before);
        if (!canAdd) return;
        // What was asked about last is done.
        table.packed.canAdd(id, words(delta), by, number);
        table.packed.add(id, 7, time + i + 1);
        sum += delta;
        const counted = entryOf({
          ...own,
          parts: [{ origin: by, time: time + i + 1, total: sum }],
        });
        // As of an entry in which the base is later than its part, there is none.
        counted.setVersion(7, time + i + 1, by.high, by.low);
        table.read(id, view);
        expect(contentsOf(view)).toBe(contentsOf(counted));
        expect(sumOf(counted.value, 0, counted.valueLength, expected)).toBeTrue();
        expect(valueOf(number)).toBe(valueOf(expected));
      });
    }),
    { numRuns: 200 },
  );
});

test("one that began from nothing takes no more than its key, one on a number 14 bytes more", () => {
  const bytesOf = (make: (i: number) => Entry): number => {
    const table = new EntryTable();
    for (let i = 0; i < 20_000; i++) table.writer.create(make(i), i, Infinity);
    return table.bytes() / 20_000;
  };
  const key = (i: number): Uint8Array => Buffer.from(String(i).padStart(16, "0"));
  const from = (isString: boolean, i: number): Entry =>
    entryOf(
      {
        isString,
        number: 5n,
        baseTime: isString ? [1, 1] : [0, 0],
        baseOrigin: isString ? { high: 1, low: 1 } : { high: 0, low: 0 },
        parts: [{ origin: { high: 1, low: 2 }, time: 9, total: 12n }],
        expiresAtMs: 0,
      },
      key(i),
    );
  const string = (length: number) => (i: number) => {
    const entry = new Entry()
      .setKey(key(i))
      .setValue(new Uint8Array(length))
      .setVersion(1, 1, 1, 1);
    entry.kind = KIND_STRING;
    return entry;
  };
  expect(bytesOf((i) => from(false, i))).toBe(bytesOf(string(0)));
  expect(bytesOf((i) => from(true, i))).toBeLessThanOrEqual(bytesOf(string(2 + 14)));
});

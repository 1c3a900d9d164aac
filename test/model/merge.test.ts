/**
 * The laws of merging, on which everything else rests: commutative, associative, idempotent.
 * The entries are chosen to tie in as many ways as there are: few versions, values, expiries.
 */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  BASE_BYTES,
  BASE_NONE,
  BASE_STRING,
  PART_BYTES,
  addToPart,
  isCounter,
  setVersionFromParts,
  writeBase,
} from "../../src/core/data/counter.ts";
import { Int64 } from "../../src/core/data/int64.ts";
import {
  Entry,
  KIND_COUNTER,
  KIND_HUSK,
  KIND_OTHER,
  KIND_STRING,
  KIND_TOMBSTONE,
} from "../../src/core/data/entry.ts";
import {
  JOIN,
  REPLACE,
  compareExpiries,
  joinCounters,
  joinedBytes,
  mergeRule,
  setExpiry,
  setExpiryOf,
} from "../../src/core/data/merge.ts";
import { contentsOf } from "../support/entry-contents.ts";

const KEY = Buffer.from("k");
const small = (n: number): Int64 => new Int64().set(n < 0 ? -1 : 0, n);

const version = fc.tuple(fc.nat(1), fc.nat(1), fc.nat(1), fc.nat(1));
/** When something expires, and the version of that; null for that of the base. */
const expiry = fc.tuple(fc.constantFrom(0, 0, 100, 200), fc.option(version));

/** Gives an entry an expiry in the one way there is to write it. */
function expire(entry: Entry, [expiresAtMs, v]: [number, [number, number, number, number] | null]) {
  entry.setExpiry(expiresAtMs);
  if (v !== null) setExpiry(entry, expiresAtMs, new Entry().setVersion(...v));
  return entry;
}

const stringEntry = fc
  .tuple(version, fc.constantFrom("5", "-7", "", "x", "50"), expiry)
  .map(([v, value, at]) => {
    const entry = new Entry().setKey(KEY).setValue(Buffer.from(value));
    entry.setVersion(...v);
    entry.kind = KIND_STRING;
    return expire(entry, at);
  });

const bareEntry = fc
  .tuple(version, expiry, fc.constantFrom(KIND_TOMBSTONE, KIND_HUSK))
  .map(([v, at, kind]) => {
    const entry = new Entry().setKey(KEY);
    entry.setVersion(...v);
    entry.kind = kind;
    return expire(entry, at);
  });

/** Of a kind that only later versions know. */
const otherEntry = fc
  .tuple(version, fc.constantFrom("\x05", "\x05x", "\x06"), expiry)
  .map(([v, value, at]) => {
    const entry = new Entry().setKey(KEY).setValue(Buffer.from(value, "latin1"));
    entry.setVersion(...v);
    entry.kind = KIND_OTHER;
    return expire(entry, at);
  });

const part = fc.record({
  origin: fc.tuple(fc.nat(1), fc.nat(1)),
  time: fc.tuple(fc.nat(1), fc.nat(1)),
  total: fc.integer({ min: -2, max: 2 }),
});

const counter = fc
  .record({ base: version, isNone: fc.boolean(), number: fc.constantFrom(5, -7, 0), expiry })
  .chain((base) =>
    fc.uniqueArray(part, { maxLength: 4, selector: ({ origin }) => origin.join() }).map((parts) => {
      const payload = new Uint8Array(BASE_BYTES + parts.length * PART_BYTES);
      const number = small(base.isNone ? 0 : base.number);
      writeBase(payload, base.isNone ? BASE_NONE : BASE_STRING, ...base.base, number);
      let length = BASE_BYTES;
      for (const p of parts) {
        length = addToPart(payload, length, ...p.origin, ...p.time, small(p.total));
      }
      const entry = new Entry().setKey(KEY).setValue(payload, 0, length);
      entry.kind = KIND_COUNTER;
      setVersionFromParts(entry);
      return expire(entry, base.expiry);
    }),
  );

const anyEntry = fc.oneof(stringEntry, bareEntry, counter, counter, otherEntry);

/** The join of two entries, as `Store.apply` arrives at it. */
function merge(present: Entry, arriving: Entry): Entry {
  const merged = mergeValues(present, arriving);
  setExpiryOf(merged, compareExpiries(arriving, present) > 0 ? arriving : present);
  return merged;
}

function mergeValues(present: Entry, arriving: Entry): Entry {
  const verdict = mergeRule(present, arriving);
  if (verdict !== JOIN) return (verdict === REPLACE ? arriving : present).clone();
  const out = new Uint8Array(joinedBytes(present, arriving));
  const joined = present.clone().setValue(out, 0, joinCounters(present, arriving, out));
  setVersionFromParts(joined);
  return joined;
}

const same = (a: Entry, b: Entry) => expect(contentsOf(a)).toBe(contentsOf(b));

describe("merging", () => {
  test("is commutative", () => {
    fc.assert(
      fc.property(anyEntry, anyEntry, (a, b) => same(merge(a, b), merge(b, a))),
      { numRuns: 20_000 },
    );
  });

  test("is associative", () => {
    fc.assert(
      fc.property(anyEntry, anyEntry, anyEntry, (a, b, c) =>
        same(merge(merge(a, b), c), merge(a, merge(b, c))),
      ),
      { numRuns: 40_000 },
    );
  });

  test("is idempotent, and takes in what it was made of", () => {
    fc.assert(
      fc.property(anyEntry, anyEntry, (a, b) => {
        same(merge(a, a.clone()), a);
        const joined = merge(a, b);
        same(merge(joined, a), joined);
        same(merge(joined, b), joined);
      }),
      { numRuns: 20_000 },
    );
  });

  test("makes well-formed counters", () => {
    fc.assert(
      fc.property(counter, counter, (a, b) => {
        const joined = merge(a, b);
        expect(isCounter(joined.value, joined.valueOffset, joined.valueLength)).toBeTrue();
      }),
    );
  });

  test("prefers the later version, then the higher origin, then the greater value", () => {
    const write = (value: string, v: [number, number, number, number]) => {
      const entry = new Entry().setKey(KEY).setValue(Buffer.from(value));
      return entry.setVersion(...v);
    };
    const rising = [
      write("z", [1, 9, 9, 9]),
      write("y", [2, 1, 9, 9]),
      write("x", [2, 2, 1, 9]),
      write("w", [2, 2, 2, 1]),
      write("v", [2, 2, 2, 2]),
      write("va", [2, 2, 2, 2]),
      write("vb", [2, 2, 2, 2]),
    ];
    for (let i = 1; i < rising.length; i++) same(merge(rising[i - 1], rising[i]), rising[i]);
  });
});

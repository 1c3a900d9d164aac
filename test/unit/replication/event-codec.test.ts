/** The single-event form of other implementations. */
import { describe, expect, test } from "bun:test";
import { Encoder } from "cbor-x/index-no-eval";
import fc from "fast-check";
import { unixMsOf } from "../../../src/core/data/clock.ts";
import { KIND_STRING, KIND_TOMBSTONE } from "../../../src/core/data/entry.ts";
import { EventReader } from "../../../src/replication/event-codec.ts";
import { originOf } from "../../../src/core/data/origin.ts";

const MAX_VALUE_BYTES = 100;
const encoder = new Encoder({ useRecords: false, variableMapSize: true, tagUint8Array: false });
const EVENT = {
  v: 1,
  op: "set",
  key: "schlüssel",
  val: [1, 2, 255],
  ts: 1_700_000_000_123_456_789n,
  src: "elsewhere",
  op_id: Array.from({ length: 16 }, (_, i) => i),
  prev: null,
  ttl: null,
};

function read(event: unknown): EventReader | string {
  const reader = new EventReader(MAX_VALUE_BYTES);
  return reader.read(encoder.encode(event)) ?? reader;
}

function accepted(event: unknown): EventReader {
  const result = read(event);
  if (typeof result === "string") throw new Error(result);
  return result;
}

describe("a well-formed event", () => {
  test.each(["set", "incr", "decr", "append", "prepend"])("%s is the value it left", (op) => {
    const { entry, source } = accepted({ ...EVENT, op });
    expect(source).toBe("elsewhere");
    expect(entry.kind).toBe(KIND_STRING);
    expect(Buffer.from(entry.keyBytes()).toString()).toBe("schlüssel");
    expect([...entry.valueBytes()]).toEqual([1, 2, 255]);
    expect(entry.expiresAtMs).toBe(0);
    const { high, low } = originOf("elsewhere");
    expect([entry.originHigh, entry.originLow]).toEqual([high, low]);
  });

  test("del is a tombstone", () => {
    const { entry } = accepted({ ...EVENT, op: "del", val: null, ttl: 5 });
    expect(entry).toMatchObject({ kind: KIND_TOMBSTONE, valueLength: 0, expiresAtMs: 0 });
  });

  test("a byte string serves as a value, and so does an empty one", () => {
    expect([...accepted({ ...EVENT, val: Buffer.of(7) }).entry.valueBytes()]).toEqual([7]);
    expect(accepted({ ...EVENT, val: [] }).entry.valueLength).toBe(0);
  });

  test("nanoseconds keep their order, to some 15 of them", () => {
    const { entry } = accepted(EVENT);
    expect(unixMsOf(entry.timeHigh, entry.timeLow)).toBe(1_700_000_000_123);
    expect(entry.timeLow & 0xffff).toBe(Math.floor((456_789 * 65_536) / 1_000_000));
    const last = accepted({ ...EVENT, ts: 1_700_000_000_123_999_999n }).entry;
    expect(unixMsOf(last.timeHigh, last.timeLow)).toBe(1_700_000_000_123);
    expect(last.timeLow & 0xffff).toBe(65_535);
  });

  test("ttl counts in seconds from the time of the event", () => {
    expect(accepted({ ...EVENT, ttl: 60 }).entry.expiresAtMs).toBe(1_700_000_060_123);
  });

  test("a field with a long name, and one that is not known, are ignored", () => {
    const more = { note: [[1, { a: 2 }]], "a very long name": "x".repeat(100_000) };
    expect(accepted({ ...EVENT, ...more }).entry.valueLength).toBe(3);
  });

  test("op_id, prev and ttl may be left out, and a time may be small", () => {
    const { op_id: _, prev: __, ttl: ___, ...bare } = EVENT;
    expect(accepted({ ...bare, ts: 5 }).entry.timeHigh).toBe(0);
  });
});

describe("an event is refused", () => {
  const rows: [string, unknown, string][] = [
    ["another version", { ...EVENT, v: 2 }, "unknown"],
    ["no version", { ...EVENT, v: null }, "malformed"],
    ["an unknown operation", { ...EVENT, op: "swap" }, "unknown"],
    ["no operation", { ...EVENT, op: null }, "malformed"],
    ["an empty key", { ...EVENT, key: "" }, "malformed"],
    ["a byte key", { ...EVENT, key: Buffer.of(1) }, "malformed"],
    ["a long key", { ...EVENT, key: "ü".repeat(32_769) }, "oversized"],
    ["no value", { ...EVENT, val: null }, "malformed"],
    ["a text value", { ...EVENT, val: "text" }, "malformed"],
    ["a value of no bytes", { ...EVENT, val: [256] }, "malformed"],
    ["a value of texts", { ...EVENT, val: ["1"] }, "malformed"],
    ["a long value", { ...EVENT, val: Buffer.alloc(MAX_VALUE_BYTES + 1) }, "oversized"],
    ["no time", { ...EVENT, ts: null }, "malformed"],
    ["a negative time", { ...EVENT, ts: -1 }, "malformed"],
    ["a broken time", { ...EVENT, ts: 0.5 }, "malformed"],
    ["no source", { ...EVENT, src: null }, "malformed"],
    ["a source with a line in its name", { ...EVENT, src: "a\r\nloading:1" }, "malformed"],
    ["a source of many characters", { ...EVENT, src: "s".repeat(129) }, "malformed"],
    ["a short op_id", { ...EVENT, op_id: [1] }, "malformed"],
    ["a negative ttl", { ...EVENT, ttl: -1 }, "malformed"],
    ["an endless ttl", { ...EVENT, ttl: 2n ** 60n }, "malformed"],
    ["a text ttl", { ...EVENT, ttl: "60" }, "malformed"],
    ["an array", [EVENT], "malformed"],
    ["a tag", new Date(0), "malformed"],
    ["a field of many items", { ...EVENT, extra: Array(5_000).fill([]) }, "malformed"],
    ["a time of many items", { ...EVENT, ts: Array(5_000).fill([]) }, "malformed"],
    ["a long source", { ...EVENT, src: "s".repeat(70_000) }, "oversized"],
    [
      "many fields",
      Object.fromEntries(Array.from({ length: 70 }, (_, i) => [`f${i}`, i])),
      "malformed",
    ],
    [
      "a value of more numbers than bytes allowed",
      { ...EVENT, val: Array(101).fill(1) },
      "oversized",
    ],
  ];
  test.each(rows)("for %s", (_, event, reason) => {
    expect(read(event)).toBe(reason);
  });

  test("for a number whose reading would take hours", () => {
    // Tag 2: an integer of as many bytes as follow; cbor-x builds it byte by byte.
    const bignum = Buffer.concat([
      Buffer.of(0xc2, 0x5a, 0, 0x10, 0, 0),
      Buffer.alloc(0x10_0000, 1),
    ]);
    expect(new EventReader(MAX_VALUE_BYTES).read(bignum)).toBe("malformed");
  });

  test("for mutations, or taken; never thrown", () => {
    const good = encoder.encode(EVENT);
    const reader = new EventReader(MAX_VALUE_BYTES);
    const mutation = fc.tuple(fc.nat(good.length - 1), fc.nat(255));
    fc.assert(
      fc.property(fc.array(mutation, { minLength: 1, maxLength: 4 }), (mutations) => {
        const bad = Buffer.from(good);
        for (const [at, byte] of mutations) bad[at] = byte;
        const outcome = reader.read(bad);
        expect([null, "malformed", "unknown", "oversized"]).toContain(outcome);
        expect(reader.read(good)).toBeNull();
      }),
      { numRuns: 5_000 },
    );
  });
});

/** The batch form: both directions agree with a general CBOR codec, and nonsense does no harm. */
import { describe, expect, test } from "bun:test";
import { Decoder, Encoder } from "cbor-x/index-no-eval";
import fc from "fast-check";
import { CURRENT } from "../../../src/core/data/capabilities.ts";
import { isNodeId } from "../../../src/core/data/name.ts";
import {
  copyVersion,
  Entry,
  newVersion,
  type Kind,
  type VersionWords,
} from "../../../src/core/data/entry.ts";
import { hasValue } from "../../../src/core/data/merge.ts";
import {
  BatchReader,
  EVENT_DROPPED,
  EVENT_END,
  EVENT_ENTRY,
  EVENT_EXPIRY,
  EVENT_FLUSH,
  EVENT_REFERENCE,
} from "../../../src/replication/batch-reader.ts";
import { BatchWriter } from "../../../src/replication/batch-writer.ts";
import { originOf } from "../../../src/core/data/origin.ts";

const MAX_VALUE_BYTES = 1_000;

const word = fc.integer({ min: 0, max: 0xffff_ffff });
const entryArbitrary = fc
  .record({
    kind: fc.constantFrom<Kind>(0, 1, 2, 3, 4),
    key: fc.uint8Array({ minLength: 1, maxLength: 300 }),
    value: fc.uint8Array({ maxLength: 300 }),
    timeHigh: word,
    timeLow: word,
    expiresAtMs: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 2 ** 48 - 1 })),
    expiryVersion: fc.option(fc.tuple(fc.integer({ min: 1, max: 2 ** 32 - 1 }), word, word, word)),
  })
  .map(({ kind, key, value, timeHigh, timeLow, expiresAtMs, expiryVersion }) => {
    const entry = new Entry().setKey(key).setVersion(timeHigh, timeLow, 0, 0);
    entry.kind = kind;
    entry.setExpiry(expiresAtMs);
    if (expiryVersion !== null) {
      copyVersion(new Entry().setVersion(...expiryVersion), entry.expiryVersion);
    }
    return hasValue(kind) ? entry.setValue(value) : entry;
  });

const decoder = new Decoder({
  useRecords: false,
  mapsAsObjects: true,
  int64AsNumber: false,
} as never);
const encoder = new Encoder({ useRecords: false, variableMapSize: true, tagUint8Array: false });

function batchOf(entries: Entry[], source = "node-1", epoch = 7, sequence = 3): Buffer {
  const writer = new BatchWriter(source, epoch);
  writer.begin();
  for (const entry of entries) writer.addEntry(entry);
  return writer.finish(sequence);
}

/** Opens a message and walks over all of it. */
function opened(reader: BatchReader, message: Uint8Array): string | null {
  reader.start(message);
  for (;;) {
    const refusal = reader.look();
    if (refusal !== undefined) return refusal;
  }
}

function timestampOf(entry: VersionWords): bigint {
  return (BigInt(entry.timeHigh) << 32n) | BigInt(entry.timeLow);
}

describe("what is written", () => {
  test("is what a general decoder reads", () => {
    fc.assert(
      fc.property(fc.array(entryArbitrary), (entries) => {
        const batch = decoder.decode(batchOf(entries));
        expect(batch).toMatchObject({ v: CURRENT.highest, src: "node-1" });
        expect([BigInt(batch.epoch), BigInt(batch.seq)]).toEqual([7n, 3n]);
        expect(batch.events).toHaveLength(entries.length);
        entries.forEach((entry, i) => {
          const { op, key, val, ts, exp, xts, xsrc, ...rest } = batch.events[i];
          expect(op).toBe(["set", "del", "counter", "husk", "other"][entry.kind]);
          expect(Buffer.compare(key, entry.keyBytes())).toBe(0);
          if (!hasValue(entry.kind)) expect(val).toBeUndefined();
          else expect(Buffer.compare(val, entry.valueBytes())).toBe(0);
          expect(BigInt(ts)).toBe(timestampOf(entry));
          expect(BigInt(exp ?? 0)).toBe(BigInt(entry.expiresAtMs));
          const { expiryVersion } = entry;
          expect(BigInt(xts ?? 0)).toBe(timestampOf(expiryVersion));
          const { originHigh, originLow } = expiryVersion;
          expect(BigInt(xsrc ?? 0)).toBe((BigInt(originHigh) << 32n) | BigInt(originLow));
          expect(xts === undefined).toBe(xsrc === undefined);
          expect(rest).toEqual({});
        });
      }),
    );
  });

  test("is read back", () => {
    fc.assert(
      fc.property(
        fc.array(entryArbitrary),
        fc.string({ minLength: 1, unit: "grapheme" }).filter(isNodeId),
        (entries, source) => {
          const reader = new BatchReader(MAX_VALUE_BYTES);
          expect(opened(reader, batchOf(entries, source, 2 ** 52, 2 ** 40))).toBeNull();
          expect(reader).toMatchObject({ source, epoch: 2 ** 52, sequence: 2 ** 40 });
          const { high, low } = originOf(source);
          for (const entry of entries) {
            expect(reader.next()).toBe(EVENT_ENTRY);
            entry.setVersion(entry.timeHigh, entry.timeLow, high, low);
            expect(reader.entry.clone()).toEqual(entry.clone());
          }
          expect(reader.next()).toBe(EVENT_END);
          expect(reader.next()).toBe(EVENT_END);
        },
      ),
    );
  });

  test("holds floors and references, and starts afresh", () => {
    const writer = new BatchWriter("n", 1);
    const entry = new Entry().setKey(Buffer.from("k")).setVersion(5, 6, 0, 0);
    for (const sequence of [1, 2]) {
      writer.begin();
      writer.addFlush(3, 4);
      writer.addReference(entry);
      writer.addExpiry(entry, new Entry().setVersion(7, 8, 0, 0));
      entry.expiresAtMs = 9;
      writer.addExpiry(entry, new Entry().setVersion(7, 9, 0, 0));
      entry.expiresAtMs = 0;
      expect(writer.count).toBe(4);
      const reader = new BatchReader(0);
      expect(opened(reader, writer.finish(sequence))).toBeNull();
      expect(reader.sequence).toBe(sequence);
      expect(reader.next()).toBe(EVENT_FLUSH);
      expect(reader.entry).toMatchObject({ timeHigh: 3, timeLow: 4, ...originFields("n") });
      expect(reader.next()).toBe(EVENT_REFERENCE);
      expect(reader.entry).toMatchObject({ timeHigh: 5, timeLow: 6, keyLength: 1 });
      for (const [timeLow, expiresAtMs] of [
        [8, 0],
        [9, 9],
      ]) {
        expect(reader.next()).toBe(EVENT_EXPIRY);
        const version = { timeHigh: 7, timeLow, ...originFields("n") };
        expect(reader.entry).toMatchObject({ ...version, keyLength: 1, expiresAtMs });
      }
      expect(reader.next()).toBe(EVENT_END);
    }
  });

  test("grows beyond its first buffer", () => {
    const entry = new Entry().setKey(Buffer.from("k")).setValue(Buffer.alloc(300_000, 7));
    const reader = new BatchReader(300_000);
    expect(opened(reader, batchOf([entry, entry]))).toBeNull();
    for (let i = 0; i < 2; i++) {
      expect(reader.next()).toBe(EVENT_ENTRY);
      expect(Buffer.compare(reader.entry.valueBytes(), entry.valueBytes())).toBe(0);
    }
  });
});

function originFields(nodeId: string) {
  const { high, low } = originOf(nodeId);
  return { originHigh: high, originLow: low };
}

const SET = { op: "set", key: Buffer.from("k"), val: Buffer.from("v"), ts: 99n };
const HEADER = { v: CURRENT.highest, src: "n", epoch: 1, seq: 1 };

/** What comes of each event: its kind, or why it was dropped; or why the message was. */
function readAll(message: Uint8Array): (number | string)[] | string {
  const reader = new BatchReader(MAX_VALUE_BYTES);
  const refusal = opened(reader, message);
  if (refusal !== null) return refusal;
  const found: (number | string)[] = [];
  for (let kind = reader.next(); kind !== EVENT_END; kind = reader.next()) {
    found.push(kind === EVENT_DROPPED ? reader.dropped : kind);
  }
  return found;
}

describe("what is read", () => {
  const rows: [string, unknown, string | number][] = [
    ["fields in any order, unknown ones skipped", { later: [{ a: null }], ...SET }, EVENT_ENTRY],
    ["an unknown operation", { ...SET, op: "swap" }, "unknown"],
    ["no operation", { key: SET.key, val: SET.val, ts: 1 }, "malformed"],
    ["an operation of another type", { ...SET, op: 1 }, "malformed"],
    ["no key", { op: "set", val: SET.val, ts: 1 }, "malformed"],
    ["an empty key", { ...SET, key: Buffer.alloc(0) }, "malformed"],
    ["a text key", { ...SET, key: "k" }, "malformed"],
    ["the longest key", { ...SET, key: Buffer.alloc(65_536) }, EVENT_ENTRY],
    ["a longer key", { ...SET, key: Buffer.alloc(65_537) }, "oversized"],
    ["no value", { op: "set", key: SET.key, ts: 1 }, "malformed"],
    ["the longest value", { ...SET, val: Buffer.alloc(MAX_VALUE_BYTES) }, EVENT_ENTRY],
    ["a longer value", { ...SET, val: Buffer.alloc(MAX_VALUE_BYTES + 1) }, "oversized"],
    ["no time", { op: "del", key: SET.key }, "malformed"],
    ["a negative time", { ...SET, ts: -1 }, "malformed"],
    ["a broken time", { ...SET, ts: 1.5 }, "malformed"],
    ["the latest expiry", { ...SET, exp: 2n ** 48n - 1n }, EVENT_ENTRY],
    ["a later expiry", { ...SET, exp: 2n ** 48n }, "malformed"],
    ["an expiry with a version", { ...SET, exp: 5, xts: 2n ** 63n, xsrc: 7n }, EVENT_ENTRY],
    ["an expiry with half a version", { ...SET, exp: 5, xts: 2n ** 63n }, EVENT_ENTRY],
    ["an expiry with another", { ...SET, exp: 5, xts: "yesterday" }, "malformed"],
    ["an expiry alone", { op: "expire", key: SET.key, ts: 1, exp: 5 }, EVENT_EXPIRY],
    ["that of no key", { op: "expire", ts: 1, exp: 5 }, "malformed"],
    ["that of no time", { op: "expire", key: SET.key, exp: 5 }, "malformed"],
    ["one too late", { op: "expire", key: SET.key, ts: 1, exp: 2n ** 48n }, "malformed"],
    ["a husk", { op: "husk", key: SET.key, ts: 1, exp: 5 }, EVENT_ENTRY],
    ["a number for an event", 5, "malformed"],
    ["an array for an event", [], "malformed"],
  ];
  test.each(rows)("%s", (_, event, expected) => {
    const message = encoder.encode({ ...HEADER, events: [SET, event, SET] });
    expect(readAll(message)).toEqual([EVENT_ENTRY, expected, EVENT_ENTRY]);
  });

  const headers: [string, unknown, string][] = [
    ["a later version", { ...HEADER, v: CURRENT.highest + 1, events: [] }, "unknown"],
    ["no version there was", { ...HEADER, v: 0, events: [] }, "unknown"],
    ["no version", { src: "n", epoch: 1, seq: 1, events: [] }, "malformed"],
    ["no source", { v: 1, epoch: 1, seq: 1, events: [] }, "malformed"],
    ["an empty source", { ...HEADER, src: "", events: [] }, "malformed"],
    ["no epoch", { v: 1, src: "n", seq: 1, events: [] }, "malformed"],
    ["a number of 0", { ...HEADER, seq: 0, events: [] }, "malformed"],
    ["an epoch beyond 2^53", { ...HEADER, epoch: 2n ** 53n, events: [] }, "malformed"],
    ["no events", HEADER, "malformed"],
    ["a map of events", { ...HEADER, events: {} }, "malformed"],
    ["no map", [1], "malformed"],
    ["nesting", { ...HEADER, events: [[[[[[[[[[[[]]]]]]]]]]]] }, "malformed"],
    ["a tag", { ...HEADER, events: [new Date(0)] }, "malformed"],
  ];
  test.each(headers)("a message with %s", (_, message, expected) => {
    expect(readAll(encoder.encode(message))).toBe(expected);
  });

  test("a message of version 1, in which a deletion has no expiry", () => {
    const events = [
      { op: "del", key: SET.key, ts: 99n, exp: 5 },
      { ...SET, exp: 6 },
    ];
    const reader = new BatchReader(MAX_VALUE_BYTES);
    expect(opened(reader, encoder.encode({ ...HEADER, v: 1, events }))).toBeNull();
    for (const expiresAtMs of [0, 6]) {
      expect(reader.next()).toBe(EVENT_ENTRY);
      expect(reader.entry).toMatchObject({ expiresAtMs, expiryVersion: newVersion() });
    }
  });

  test("nothing, rest, and lengths that lie", () => {
    const good = batchOf([new Entry().setKey(Buffer.from("k"))]);
    expect(readAll(good)).toEqual([EVENT_ENTRY]);
    for (let length = 0; length < good.length; length++) {
      expect(readAll(good.subarray(0, length))).toBe("malformed");
    }
    expect(readAll(Buffer.concat([good, Buffer.of(0)]))).toBe("malformed");
    // An array and a map that claim 2^64 - 1 items, a string of as many bytes.
    for (const head of [0x9b, 0xbb, 0x5b, 0x7b]) {
      expect(readAll(Buffer.concat([Buffer.of(head), Buffer.alloc(8, 0xff)]))).toBe("malformed");
    }
  });

  test("mutated batches give known outcomes and leave the reader in order", () => {
    const good = batchOf([
      new Entry().setKey(Buffer.from("key")).setValue(Buffer.from("value")).setVersion(1, 2, 3, 4),
      new Entry().setKey(Buffer.from("other")).setValue(Buffer.alloc(30)),
    ]);
    const reader = new BatchReader(MAX_VALUE_BYTES);
    const mutation = fc.tuple(fc.nat(good.length - 1), fc.nat(255));
    fc.assert(
      fc.property(fc.array(mutation, { minLength: 1, maxLength: 4 }), (mutations) => {
        const bad = Buffer.from(good);
        for (const [at, byte] of mutations) bad[at] = byte;
        if (opened(reader, bad) === null) {
          for (let kind = reader.next(); kind !== EVENT_END; kind = reader.next()) {
            if (kind !== EVENT_ENTRY) continue;
            const { keyOffset, keyLength, valueOffset, valueLength } = reader.entry;
            expect(keyLength).toBeGreaterThan(0);
            expect(keyOffset + keyLength).toBeLessThanOrEqual(bad.length);
            expect(valueLength).toBeGreaterThanOrEqual(0);
            expect(valueOffset + valueLength).toBeLessThanOrEqual(bad.length);
          }
        }
        expect(opened(reader, good)).toBeNull();
        expect([reader.next(), reader.next(), reader.next()]).toEqual([1, 1, 0]);
      }),
      { numRuns: 5_000 },
    );
  });

  test("random bytes are malformed", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        expect(readAll(bytes)).toBe("malformed");
      }),
      { numRuns: 5_000 },
    );
  });
});

test("a long message is walked over a little at a time", () => {
  const reader = new BatchReader(MAX_VALUE_BYTES);
  const entry = new Entry()
    .setKey(Buffer.from("k"))
    .setValue(Buffer.from("v"))
    .setVersion(1, 1, 0, 0);
  reader.start(batchOf(Array(10_000).fill(entry)));
  let looks = 1;
  while (reader.look() === undefined) looks++;
  expect(looks).toBeGreaterThan(100);
  expect(reader.next()).toBe(EVENT_ENTRY);
});

test("an event or a field with too much in it is malformed", () => {
  const batch = { v: 1, src: "s", epoch: 1, seq: 1, events: [] as unknown[] };
  const empties = Array(5_000).fill([]);
  const reader = new BatchReader(MAX_VALUE_BYTES);
  expect(opened(reader, encoder.encode({ ...batch, extra: empties }))).toBe("malformed");
  expect(opened(reader, encoder.encode({ ...batch, events: [{ extra: empties }] }))).toBe(
    "malformed",
  );
  const fields = Object.fromEntries(Array.from({ length: 5_000 }, (_, i) => [`f${i}`, i]));
  expect(opened(reader, encoder.encode({ ...batch, events: [fields] }))).toBe("malformed");
  expect(opened(reader, encoder.encode({ ...batch, extra: empties.slice(0, 100) }))).toBeNull();
});

describe("traces", () => {
  const hex = (digits: number) =>
    fc
      .array(fc.constantFrom(..."0123456789abcdef"), { minLength: digits, maxLength: digits })
      .map((all) => `${all.join("").slice(1)}1`);
  const contexts = fc.array(
    fc.record({
      traceId: hex(32),
      spanId: hex(16),
      isSampled: fc.boolean(),
      state: fc.string({ unit: "grapheme-ascii", maxLength: 60 }),
    }),
    { maxLength: 80 },
  );

  test("come back as they were told, as far as they fit, and change nothing else", () => {
    const room = fc.integer({ min: 0, max: 3_000 });
    fc.assert(
      fc.property(
        fc.array(entryArbitrary, { maxLength: 5 }),
        contexts,
        room,
        (entries, told, more) => {
          const writer = new BatchWriter("node-1", 7);
          writer.begin();
          for (const entry of entries) writer.addEntry(entry);
          const { length } = writer;
          writer.addTraces(told, length + more);
          expect(writer.length).toBeLessThanOrEqual(length + more);
          const message = writer.finish(3);
          const { traces = [], ...rest } = decoder.decode(message);
          expect(rest).toEqual(decoder.decode(batchOf(entries)));

          const reader = new BatchReader(MAX_VALUE_BYTES);
          expect(opened(reader, message)).toBeNull();
          const found = reader.traces();
          expect(found).toEqual(told.slice(0, Math.min(traces.length, 64)));
          if (more > 100 * told.length) expect(traces.length).toBe(told.length);
          for (const _ of entries) expect(reader.next()).not.toBe(EVENT_END);
          expect(reader.next()).toBe(EVENT_END);
        },
      ),
    );
  });

  test("that are no traces are passed over, and the events taken", () => {
    const odd = fc.oneof(
      fc.constantFrom<unknown>(1, "text", null, [1], [["a"]], { a: 1 }),
      fc.array(fc.uint8Array({ maxLength: 30 })),
    );
    fc.assert(
      fc.property(odd, (traces) => {
        const batch = decoder.decode(batchOf([new Entry().setKey(Buffer.from("k"))]));
        const reader = new BatchReader(MAX_VALUE_BYTES);
        expect(opened(reader, encoder.encode({ ...batch, traces }))).toBeNull();
        for (const context of reader.traces()) expect(context.traceId).toMatch(/^[0-9a-f]{32}$/);
        expect(reader.next()).toBe(EVENT_ENTRY);
      }),
    );
  });
});

/** Records in both directions, and those of earlier formats, which are not written any more. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { copyVersion, Entry, newVersion, type Kind } from "../../../src/core/data/entry.ts";
import { PREFETCH_KEYS } from "../../../src/core/store/keyed-entries.ts";
import { hasValue } from "../../../src/core/data/merge.ts";
import { FRAME_HEADER_BYTES } from "../../../src/durability/frame.ts";
import { FrameBuffer } from "../../../src/durability/frame-buffer.ts";
import { readRecords, type RecordSink } from "../../../src/durability/record-reader.ts";
import { NO_RECORDS } from "../../support/no-records.ts";

/** What a payload comes to: entries, and the rest as text. */
function read(payload: Uint8Array): { entries: Entry[]; others: unknown[] } {
  const entries: Entry[] = [];
  const others: unknown[] = [];
  const sink: RecordSink = {
    ...NO_RECORDS,
    entry: (entry) => void entries.push(entry.clone()),
    patch: ({ entry, at, removed, hasExpiry }) => {
      const { expiresAtMs, valueLength } = entry;
      others.push({ at, removed, hasExpiry, expiresAtMs, bytes: valueLength });
    },
    expiry: ({ expiresAtMs, learnedMs, timeHigh, keyLength }) =>
      void others.push({ expiresAtMs, learnedMs, timeHigh, keyLength }),
  };
  expect(readRecords(payload, 0, payload.length, sink)).toBeGreaterThan(0);
  return { entries, others };
}

const word = fc.integer({ min: 0, max: 2 ** 32 - 1 });
const time = fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 2 ** 48 - 1 }));
const anyEntry = fc
  .record({
    kind: fc.constantFrom<Kind>(0, 1, 2, 3),
    key: fc.uint8Array({ minLength: 1, maxLength: 20 }),
    value: fc.uint8Array({ maxLength: 80 }),
    version: fc.tuple(word, word, word, word),
    expiresAtMs: time,
    expiryVersion: fc.option(fc.tuple(fc.integer({ min: 1, max: 2 ** 32 - 1 }), word, word, word)),
    learnedMs: time,
  })
  // In earlier formats that was when a tombstone came about.
  .filter(({ kind, expiresAtMs, expiryVersion }) => kind !== 1 || !expiresAtMs || !!expiryVersion)
  .map(({ kind, key, value, version, expiresAtMs, expiryVersion, learnedMs }) => {
    const entry = new Entry().setKey(key).setVersion(...version);
    entry.kind = kind;
    if (hasValue(kind)) entry.setValue(value);
    entry.setExpiry(expiresAtMs);
    if (expiryVersion) copyVersion(new Entry().setVersion(...expiryVersion), entry.expiryVersion);
    entry.learnedMs = learnedMs;
    return entry;
  });

test("what is written is read back", () => {
  fc.assert(
    fc.property(fc.array(anyEntry, { minLength: 1, maxLength: 8 }), (entries) => {
      const buffer = new FrameBuffer();
      for (const entry of entries) buffer.addEntry(entry);
      const payload = buffer.finish(0).subarray(FRAME_HEADER_BYTES);
      expect(read(payload).entries.map((it) => it.clone())).toEqual(
        entries.map((it) => it.clone()),
      );
    }),
  );
});

test("keys are known before their entries are read, and each of them once", () => {
  fc.assert(
    fc.property(
      fc.array(fc.option(anyEntry), { minLength: 1, maxLength: 60, size: "max" }),
      fc.nat(),
      (entries, cut) => {
        const buffer = new FrameBuffer();
        // What is no entry may stand anywhere between.
        for (const entry of entries) {
          if (entry === null) buffer.addFloor(newVersion());
          else buffer.addEntry(entry);
        }
        const whole = buffer.finish(0).subarray(FRAME_HEADER_BYTES);
        const ahead: string[] = [];
        let next = 0;
        const sink: RecordSink = {
          ...NO_RECORDS,
          ahead(bytes, starts, lengths, count) {
            expect(count).toBeLessThanOrEqual(PREFETCH_KEYS);
            for (let i = 0; i < count; i++) {
              ahead.push(Buffer.from(bytes).toString("hex", starts[i], starts[i] + lengths[i]));
            }
          },
          entry(entry) {
            // A single one is not worth it.
            const key = Buffer.from(entry.keyBytes()).toString("hex");
            if (ahead[next] === key) next++;
          },
        };
        // Also where the records end in the middle of one.
        readRecords(whole, 0, whole.length - (cut % 20), sink);
        if (cut % 20 === 0) expect(next).toBe(ahead.length);
        else expect(ahead.length - next).toBeLessThan(PREFETCH_KEYS);
      },
    ),
  );
});

test("an expiry holds no value", () => {
  const buffer = new FrameBuffer();
  const entry = new Entry().setKey(Buffer.from("key")).setValue(new Uint8Array(1_000_000));
  entry.expiresAtMs = 77;
  entry.learnedMs = 88;
  buffer.addExpiry(entry, new Entry().setVersion(9, 0, 0, 0));
  expect(buffer.length).toBeLessThan(100);
  const { others } = read(buffer.finish(0).subarray(FRAME_HEADER_BYTES));
  expect(others).toEqual([{ expiresAtMs: 77, learnedMs: 88, timeHigh: 9, keyLength: 3 }]);
});

/** An entry record as it was before format 4. */
function oldEntry(kind: Kind, value: string, expiresAtMs: bigint): Buffer {
  const head = Buffer.alloc(23);
  head[0] = 0x20 | kind | (expiresAtMs === 0n ? 0 : 4);
  head.writeUInt32BE(value.length, 3);
  for (let i = 0; i < 4; i++) head.writeUInt32BE(i + 5, 7 + 4 * i);
  const expiry = Buffer.alloc(expiresAtMs === 0n ? 0 : 8);
  if (expiresAtMs !== 0n) expiry.writeBigUInt64BE(expiresAtMs);
  return Buffer.concat([head, expiry, Buffer.from("k"), Buffer.from(value)]);
}

describe("of the formats before 4", () => {
  test("value and expiry have one version", () => {
    const [entry] = read(oldEntry(0, "value", 1_234n)).entries;
    expect(entry).toMatchObject({ kind: 0, valueLength: 5, expiresAtMs: 1_234, learnedMs: 0 });
    expect(entry.expiryVersion).toEqual(newVersion());
    expect(entry).toMatchObject({ timeHigh: 5, originLow: 8 });
  });

  test("a deletion says when it came about, and does not expire", () => {
    const [entry] = read(oldEntry(1, "", 1_234n)).entries;
    expect(entry).toMatchObject({ kind: 1, expiresAtMs: 0, learnedMs: 1_234 });
  });

  test("an expiry later than any there is now is the last one", () => {
    const [entry] = read(oldEntry(0, "value", 2n ** 60n)).entries;
    expect(entry.expiresAtMs).toBe(2 ** 48 - 1);
  });

  test("a patch has an expiry", () => {
    const bytes = Buffer.alloc(51 + 3);
    bytes[0] = 0x06;
    bytes.writeBigUInt64BE(1_234n, 35);
    bytes.writeUInt32BE(40, 43);
    bytes.writeUInt32BE(2, 47);
    expect(read(bytes).others).toEqual([
      { at: 40, removed: 2, hasExpiry: true, expiresAtMs: 1_234, bytes: 2 },
    ]);
  });
});

test("a patch of format 4 leaves the expiry as it is", () => {
  const bytes = Buffer.alloc(51 + 3);
  bytes[0] = 0x08;
  bytes.writeBigUInt64BE(1_234n, 35);
  bytes.writeUInt32BE(40, 43);
  bytes.writeUInt32BE(2, 47);
  expect(read(bytes).others).toEqual([
    { at: 40, removed: 2, hasExpiry: false, expiresAtMs: 0, bytes: 2 },
  ]);
});

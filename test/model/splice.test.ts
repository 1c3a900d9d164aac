/** Bytes in the place of others within strings, against plain buffers, beside readers. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { HybridClock } from "../../src/core/data/clock.ts";
import { Entry } from "../../src/core/data/entry.ts";
import type { SharedValue } from "../../src/core/store/entry-table.ts";
import { APPLIED, REFUSED_FULL } from "../../src/core/store/outcome.ts";
import { Store } from "../../src/core/store/store.ts";

const KEYS = ["a", "b", "c".repeat(300)].map((key) => Buffer.from(key));
const LIMIT = 8 * 1_048_576;

function createStore(memoryLimitBytes = 0): Store {
  return new Store({
    clock: new HybridClock(() => 1_000_000),
    origin: { high: 1, low: 2 },
    hashSeed: { high: 3, low: 4 },
    random: () => 0.5,
    memoryLimitBytes,
    maxClockSkewMs: 60_000,
    tombstoneGraceMs: 1_000,
  });
}

function valueOf(store: Store, key: Buffer): { id: number; entry: Entry; value: Buffer } {
  const id = store.find(key, 0, key.length);
  const entry = new Entry();
  if (id >= 0) store.read(id, entry);
  return { id, entry, value: Buffer.from(entry.valueBytes()) };
}

function write(store: Store, key: Buffer, value: Uint8Array, expiresAtMs = 0): number {
  return store.set(key, 0, key.length, value, 0, value.length, expiresAtMs);
}

/** As another node would have written it. */
function receive(store: Store, key: Buffer, value: Uint8Array, origin: number): void {
  const entry = new Entry().setKey(key).setValue(value);
  store.clock.next();
  entry.setVersion(store.clock.high, store.clock.low, 7, origin);
  expect(store.apply(entry)).toBe(APPLIED);
}

/** All numbers for origins are others'. */
function giveNumbersAway(store: Store): void {
  for (let i = 0; i < 200; i++) receive(store, Buffer.from("n"), Buffer.from("v"), i);
}

const step = fc.record({
  key: fc.nat(KEYS.length - 1),
  action: fc.constantFrom(
    "set",
    "splice",
    "splice",
    "splice",
    "read",
    "leave",
    "receive",
    "expire",
  ),
  size: fc.oneof(fc.nat(100), fc.integer({ min: 32_000, max: 34_000 }), fc.nat(90_000)),
  at: fc.double({ min: 0, max: 1, noNaN: true }),
  removed: fc.double({ min: 0, max: 1, noNaN: true }),
  byte: fc.nat(255),
});

test("a string with some of it replaced is what it should be, and readers see what they read", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), fc.boolean(), (steps, hasNoNumber) => {
      const store = createStore();
      if (hasNoNumber) giveNumbersAway(store);
      const expected = new Map<Buffer, Buffer>();
      const readers: { shared: SharedValue; was: Buffer }[] = [];
      for (const { key: which, action, size, at, removed, byte } of steps) {
        const key = KEYS[which];
        const value = expected.get(key);
        const bytes = Buffer.alloc(size, byte);
        if (action === "set" || value === undefined) {
          expect(write(store, key, bytes, byte % 2 === 0 ? 2_000_000 : 0)).toBe(APPLIED);
          expected.set(key, bytes);
        } else if (action === "receive") {
          receive(store, key, bytes, byte);
          expected.set(key, bytes);
        } else if (action === "expire") {
          store.expire(key, 0, key.length, byte % 2 === 0 ? 3_000_000 : 0);
        } else if (action === "splice") {
          const from = Math.round(at * value.length);
          const count = Math.round(removed * (value.length - from));
          const { id } = valueOf(store, key);
          expect(store.splice(id, from, count, bytes, 0, bytes.length)).toBe(APPLIED);
          expected.set(
            key,
            Buffer.concat([value.subarray(0, from), bytes, value.subarray(from + count)]),
          );
        } else if (action === "read") {
          const { id, entry } = valueOf(store, key);
          const shared = store.shareValue(id, entry);
          if (shared !== null) readers.push({ shared, was: Buffer.from(value) });
        } else readers.pop()?.shared.release();
        for (const [each, is] of expected) {
          expect(Buffer.compare(valueOf(store, each).value, is)).toBe(0);
        }
        for (const { shared, was } of readers) {
          const { bytes: from, offset, length } = shared;
          expect(Buffer.compare(from.subarray(offset, offset + length), was)).toBe(0);
        }
        store.verify();
      }
    }),
  );
});

test("what there is no room for leaves a string as it was", () => {
  const store = createStore(LIMIT);
  giveNumbersAway(store);
  const [key] = KEYS;
  const value = Buffer.alloc(32_767, "v");
  receive(store, key, value, 3);
  for (let i = 0; write(store, Buffer.from(`k${i}`), Buffer.alloc(1_000)) === APPLIED; i++);
  // A large value, whose slab of its own needs more than there is left.
  const before = valueOf(store, key);
  const bytes = Buffer.alloc(LIMIT, "w");
  expect(store.splice(before.id, 0, 0, bytes, 0, bytes.length)).toBe(REFUSED_FULL);
  const after = valueOf(store, key);
  expect(Buffer.compare(after.value, value)).toBe(0);
  expect(after.entry.timeLow).toBe(before.entry.timeLow);
  expect(after.entry.originLow).toBe(3);
  store.verify();
});

test("a long string that grows by little is hardly ever moved", () => {
  const store = createStore();
  const [key] = KEYS;
  write(store, key, Buffer.alloc(1_000_000));
  const { id } = valueOf(store, key);
  const one = Buffer.from("x");
  for (let i = 0; i < 50_000; i++) store.splice(id, 1_000_000 + i, 0, one, 0, 1);
  expect(store.workedBytes).toBeLessThan(1_100_000);
  expect(valueOf(store, key).value.subarray(1_000_000).toString()).toBe("x".repeat(50_000));
});

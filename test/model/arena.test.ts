/** Arena and entry table against naive ones, and memory under churn. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { Leftovers } from "../../src/core/store/leftovers.ts";
import { Arena, OUT_OF_MEMORY, offsetOf, slabOf } from "../../src/core/store/arena.ts";
import { EntryTable, type SharedValue } from "../../src/core/store/entry-table.ts";
import { compareBytes, Entry, KIND_STRING, type Kind } from "../../src/core/data/entry.ts";
import { seeded } from "../support/random.ts";

/** Lengths around every boundary: units, classes, the largest slot, slots with a slab of their own. */
const slotLength = fc.oneof(
  fc.nat(200),
  fc.integer({ min: 0, max: 40_000 }),
  fc.constantFrom(1, 8, 9, 127, 128, 129, 144, 145, 32_767, 32_768, 32_769, 70_000, 300_000),
);

/** A slot in use: what was written to it. */
interface Held {
  readonly reference: number;
  length: number;
  fill: number;
}

/** An arena whose slots are filled with a byte of their own; a slot that overlaps another shows. */
class CheckedArena {
  readonly arena = new Arena();
  readonly held: Held[] = [];
  private nextFill = 0;

  allocate(length: number, limitBytes: number): boolean {
    const reference = this.arena.allocate(length, limitBytes);
    if (reference === OUT_OF_MEMORY) return false;
    const held = { reference, length, fill: 0 };
    this.held.push(held);
    this.write(held, length);
    return true;
  }

  write(held: Held, length: number): void {
    held.length = length;
    held.fill = this.nextFill = (this.nextFill + 1) & 0xff;
    this.bytesOf(held).fill(held.fill);
  }

  free(i: number): void {
    const [held] = this.held.splice(i, 1);
    this.checkOne(held);
    this.arena.free(held.reference);
  }

  check(): void {
    for (const held of this.held) this.checkOne(held);
    let reserved = 0;
    for (const slab of this.arena.bytes) reserved += slab.length;
    expect(this.arena.bytesReserved).toBe(reserved);
    this.arena.verify(new Set(this.held.map(({ reference }) => reference)));
  }

  private bytesOf({ reference, length }: Held): Uint8Array {
    const slab = this.arena.bytes[slabOf(reference)];
    const offset = offsetOf(reference);
    expect(offset + length).toBeLessThanOrEqual(slab.length);
    return slab.subarray(offset, offset + length);
  }

  private checkOne(held: Held): void {
    const bytes = this.bytesOf(held);
    if (!bytes.every((byte) => byte === held.fill)) throw new Error("a slot was overwritten");
  }
}

describe("arena", () => {
  test("leaves its memory when all is dropped, but for what is being read", () => {
    const arena = new Arena();
    for (let i = 0; i < 20_000; i++) arena.allocate(40, Infinity);
    const read = arena.allocate(100_000, Infinity);
    for (let i = 0; i < 30; i++) arena.allocate(100_000, Infinity);
    const shared = arena.share(read)!;
    const views = arena.bytes.filter((bytes) => bytes !== shared);
    const leftovers = new Leftovers();
    arena.clear(leftovers);
    expect(arena.bytesReserved).toBe(0);
    expect(leftovers.giveBack(() => true)).toBeTrue();
    const given = views.filter(({ length }) => length === 0).length;
    expect(given).toBeGreaterThan(0);
    expect(given).toBeLessThan(views.length);
    expect(leftovers.giveBack(() => false)).toBeFalse();
    expect(views.every(({ length }) => length === 0)).toBeTrue();
    expect(shared.length).toBeGreaterThanOrEqual(100_000);
    arena.verify(new Set());
  });

  test("gives memory back when the last slot of a slab is free, not when it is collected", () => {
    const arena = new Arena();
    const perSlab = Math.floor(262_144 / 40);
    const slots = Array.from({ length: 3 * perSlab }, () => arena.allocate(40, Infinity));
    const large = arena.allocate(100_000, Infinity);
    const read = arena.allocate(100_000, Infinity);
    const shared = arena.share(read)!;
    const views = [...arena.bytes];
    for (const slot of slots) arena.free(slot);
    arena.free(large);
    arena.free(read);
    // One slab is kept for what comes next.
    const sizes = views.map(({ length }) => length);
    expect(sizes.filter((length) => length > 0)).toEqual([262_144, shared.length]);
    expect(shared.length).toBeGreaterThanOrEqual(100_000);
  });

  test("a slot wastes three bytes at most, or an eighth of itself if it is large", () => {
    const arena = new Arena();
    for (let length = 5; length <= 32_768; length++) {
      const wasted = arena.capacityOf(arena.allocate(length, Infinity)) - length;
      if (wasted > (length <= 64 ? 3 : length / 8)) throw new Error(`${length} wastes ${wasted}`);
    }
    expect(arena.bytesReserved).toBeGreaterThan(0);
  });

  const step = fc.oneof(
    { weight: 5, arbitrary: fc.record({ do: fc.constant("allocate" as const), n: slotLength }) },
    { weight: 3, arbitrary: fc.record({ do: fc.constant("free" as const), n: fc.nat() }) },
    {
      weight: 2,
      arbitrary: fc.record({ do: fc.constant("rewrite" as const), n: fc.nat(), to: slotLength }),
    },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("clear" as const), n: fc.constant(0) }) },
  );

  test("slots never overlap, and its account of memory is right", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 150, size: "max" }), (steps) => {
        const checked = new CheckedArena();
        for (const s of steps) {
          const { held, arena } = checked;
          if (s.do === "allocate") checked.allocate(s.n, Infinity);
          else if (s.do === "clear") {
            const leftovers = new Leftovers();
            arena.clear(leftovers);
            leftovers.giveBack(() => false);
            held.length = 0;
          } else if (held.length === 0) continue;
          else if (s.do === "free") checked.free(s.n % held.length);
          else {
            const one = held[s.n % held.length];
            if (arena.fitsInPlace(one.reference, s.to)) checked.write(one, s.to);
          }
        }
        checked.check();
        while (checked.held.length > 0) checked.free(0);
        checked.check();
      }),
      { numRuns: 150 },
    );
  });

  test("never takes more than the limit, and gives room again once slots are freed", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 3_000_000 }),
        fc.array(slotLength, { minLength: 1, maxLength: 60, size: "max" }),
        (limit, lengths) => {
          const checked = new CheckedArena();
          for (const length of lengths) {
            checked.allocate(length, limit);
            expect(checked.arena.bytesReserved).toBeLessThanOrEqual(limit);
          }
          checked.check();
          const count = checked.held.length;
          const again = checked.held.map(({ length }) => length);
          while (checked.held.length > 0) checked.free(checked.held.length - 1);
          for (const length of again) expect(checked.allocate(length, limit)).toBeTrue();
          expect(checked.held.length).toBe(count);
        },
      ),
      { numRuns: 100 },
    );
  });

  test("slots that are freed here and there are used again before memory grows", () => {
    const checked = new CheckedArena();
    for (let i = 0; i < 50_000; i++) checked.allocate(64, Infinity);
    const before = checked.arena.bytesReserved;
    for (let i = 0; i < 25_000; i++) checked.free(i);
    for (let i = 0; i < 25_000; i++) checked.allocate(64, Infinity);
    expect(checked.arena.bytesReserved).toBe(before);
    checked.check();
  });

  test("what is freed goes back to the system", () => {
    const checked = new CheckedArena();
    for (let i = 0; i < 20_000; i++) checked.allocate(64, Infinity);
    checked.allocate(5_000_000, Infinity);
    const random = seeded(1);
    while (checked.held.length > 0) checked.free(Math.floor(random() * checked.held.length));
    expect(checked.arena.bytesReserved).toBeLessThanOrEqual(262_144);
  });
});

/** What a row should hold. */
interface Row {
  key: Uint8Array;
  value: Uint8Array;
  kind: Kind;
  version: [number, number, number, number];
  expiresAtMs: number;
  hash: number;
}

const word = fc.integer({ min: 0, max: 0xffff_ffff });
const bytesOf = (max: number) =>
  fc.oneof(
    fc.uint8Array({ maxLength: 60 }),
    fc.tuple(fc.nat(max), fc.nat(255)).map(([n, b]) => new Uint8Array(n).fill(b)),
  );
const row: fc.Arbitrary<Row> = fc.record({
  key: bytesOf(65_535).map((key) => (key.length === 0 ? new Uint8Array([7]) : key)),
  value: bytesOf(100_000),
  kind: fc.constantFrom<Kind>(0, 1, 2),
  version: fc.tuple(word, word, word, word),
  expiresAtMs: fc.oneof(
    fc.constant(0),
    fc.constantFrom(1, 0xffff_ffff, 0x1_0000_0000, Number.MAX_SAFE_INTEGER),
    fc.nat(),
  ),
  hash: word,
});

function entryOf(r: Row): Entry {
  // Not at the start of its buffer: offsets must be honoured.
  const buffer = Buffer.concat([Buffer.from("???"), r.key, Buffer.from("!"), r.value]);
  const entry = new Entry().setKey(buffer, 3, r.key.length);
  entry.setValue(buffer, 4 + r.key.length, r.value.length).setVersion(...r.version);
  entry.kind = r.kind;
  entry.expiresAtMs = r.expiresAtMs;
  return entry;
}

/** The value of a row, to be read while others write. */
function share(table: EntryTable, id: number): SharedValue | null {
  const entry = new Entry();
  table.read(id, entry);
  return table.shareValue(id, entry);
}

/** Whether what is read is still the value that the row had. */
function isStill({ bytes, offset, length }: SharedValue, row: Row): boolean {
  return Buffer.compare(bytes.subarray(offset, offset + length), row.value) === 0;
}

function checkRow(table: EntryTable, id: number, r: Row): void {
  const entry = new Entry();
  table.read(id, entry);
  expect(Buffer.compare(entry.keyBytes(), r.key)).toBe(0);
  expect(Buffer.compare(entry.valueBytes(), r.value)).toBe(0);
  const { kind, expiresAtMs, timeHigh, timeLow, originHigh, originLow } = entry;
  expect({ kind, expiresAtMs }).toEqual({ kind: r.kind, expiresAtMs: r.expiresAtMs });
  expect([timeHigh, timeLow, originHigh, originLow]).toEqual(r.version);
  expect(table.rows.isUsed(id)).toBeTrue();
  expect(table.rows.kindOf(id)).toBe(r.kind);
  expect(table.rows.hasExpiry(id)).toBe(r.expiresAtMs !== 0);
  expect(table.expiresAtMs(id)).toBe(r.expiresAtMs);
  expect(table.rows.hashOf(id)).toBe(r.hash);
  expect(table.keys.matches(id, r.hash, r.key, 0, r.key.length)).toBeTrue();
  expect(table.keys.matches(id, r.hash, r.key, 0, r.key.length - 1)).toBeFalse();
}

describe("entry table", () => {
  const step = fc.oneof(
    { weight: 4, arbitrary: fc.record({ do: fc.constant("create" as const), row, n: fc.nat() }) },
    { weight: 4, arbitrary: fc.record({ do: fc.constant("replace" as const), row, n: fc.nat() }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant("release" as const), row, n: fc.nat() }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("compact" as const), row, n: fc.nat() }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant("share" as const), row, n: fc.nat() }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("unshare" as const), row, n: fc.nat() }) },
  );

  /** A table with so many slabs already, as a large store has, that cost this test nothing. */
  function tableWith(slabs: number): EntryTable {
    const table = new EntryTable();
    (table as unknown as { arena: Arena }).arena.bytes.length = slabs;
    return table;
  }

  // From the second on references take more than 32 bits.
  test.each([0, 131_060, 1 << 20])(
    "agrees with a map from id to entry beyond %i slabs",
    (slabs) => {
      fc.assert(
        fc.property(fc.array(step, { maxLength: 80, size: "max" }), (steps) => {
          const table = tableWith(slabs);
          const naive = new Map<number, Row>();
          const read: { value: SharedValue; row: Row }[] = [];
          for (const s of steps) {
            for (const { value, row } of read) expect(isStill(value, row)).toBeTrue();
            const ids = [...naive.keys()];
            const id = ids[s.n % Math.max(1, ids.length)];
            if (s.do === "create") {
              const created = table.writer.create(entryOf(s.row), s.row.hash, Infinity);
              expect(naive.has(created)).toBeFalse();
              naive.set(created, s.row);
            } else if (s.do === "compact") {
              table.compactor.compact(64, Infinity);
            } else if (s.do === "unshare") {
              for (const { value } of read.splice(0, 1)) value.release();
            } else if (id === undefined) {
              continue;
            } else if (s.do === "share") {
              const row = naive.get(id)!;
              const value = share(table, id);
              if (value !== null) read.push({ value, row });
            } else if (s.do === "replace") {
              const { key, hash } = naive.get(id)!;
              const replacement = { ...s.row, key, hash };
              // Without memory, as far as it goes.
              const limit = s.n % 4 === 0 ? 0 : Infinity;
              if (table.writer.replace(id, entryOf(replacement), limit)) naive.set(id, replacement);
              else expect(limit).toBe(0);
            } else {
              table.release(id);
              naive.delete(id);
              expect(table.rows.isUsed(id)).toBeFalse();
            }
          }
          expect(table.rows.count).toBe(naive.size);
          table.verify();
          const rows = [...naive];
          for (const [id, r] of rows) checkRow(table, id, r);
          for (let i = 1; i < rows.length; i++) {
            const [[a, first], [, second]] = [rows[i - 1], rows[i]];
            const order = compareBytes(
              first.key,
              0,
              first.key.length,
              second.key,
              0,
              second.key.length,
            );
            expect(Math.sign(table.keys.compareToKey(a, second.key, 0, second.key.length))).toBe(
              Math.sign(order),
            );
          }
        }),
        { numRuns: slabs === 0 ? 150 : 30 },
      );
    },
  );

  test("an entry may be replaced by one with its own value and another expiry, in place or moved", () => {
    const lengths = fc.oneof(
      fc.integer({ min: 0, max: 300 }),
      fc.integer({ min: 30_000, max: 70_000 }),
    );
    const expiries = fc.array(fc.constantFrom(0, 1, 2 ** 40), { minLength: 1, maxLength: 6 });
    fc.assert(
      fc.property(
        lengths,
        fc.integer({ min: 1, max: 100 }),
        expiries,
        (length, keyLength, changes) => {
          const table = new EntryTable();
          const r: Row = {
            key: Buffer.from(Array.from({ length: keyLength }, (_, i) => i & 0xff)),
            value: Buffer.from(Array.from({ length }, (_, i) => (i * 7) & 0xff)),
            kind: KIND_STRING,
            version: [1, 2, 3, 4],
            expiresAtMs: 0,
            hash: 6,
          };
          const id = table.writer.create(entryOf(r), r.hash, Infinity);
          const view = new Entry();
          for (const expiresAtMs of changes) {
            table.read(id, view);
            const next = new Entry().setKey(r.key).setVersion(1, 2, 3, 4);
            next.setValue(view.value, view.valueOffset, view.valueLength).expiresAtMs = expiresAtMs;
            expect(table.writer.replace(id, next, Infinity)).toBeTrue();
            checkRow(table, id, { ...r, expiresAtMs });
          }
        },
      ),
      { numRuns: 150 },
    );
  });

  test("what takes no more room is replaced even when there is no memory, in place", () => {
    const table = new EntryTable();
    const row = { kind: KIND_STRING, version: [1, 2, 3, 4], expiresAtMs: 5, hash: 6 } as const;
    const key = Buffer.from("key");
    const make = (value: string): Row => ({
      ...row,
      version: [1, 2, 3, 4],
      key,
      value: Buffer.from(value),
    });
    for (const length of [200, 40_000]) {
      const id = table.writer.create(entryOf(make("v".repeat(length))), row.hash, Infinity);
      expect(table.writer.replace(id, entryOf(make("w".repeat(length * 3))), 0)).toBeFalse();
      checkRow(table, id, make("v".repeat(length)));
      expect(table.writer.replace(id, entryOf(make("")), 0)).toBeTrue();
      checkRow(table, id, make(""));
      expect(table.writer.replace(id, entryOf(make("x".repeat(length / 2))), 0)).toBeTrue();
      checkRow(table, id, make("x".repeat(length / 2)));
    }
  });

  test("a long value that is read is not written over, and is again when it is not read", () => {
    const long = (byte: number): Row => ({
      key: Buffer.from("key"),
      value: new Uint8Array(100_000).fill(byte),
      kind: KIND_STRING,
      version: [1, 2, 3, 4],
      expiresAtMs: 0,
      hash: 6,
    });
    for (const limit of [Infinity, 0]) {
      const table = new EntryTable();
      const id = table.writer.create(entryOf(long(1)), 6, Infinity);
      const values = [share(table, id)!, share(table, id)!];
      values[0].release();
      values[0].release();
      expect(table.writer.replace(id, entryOf(long(2)), limit)).toBeTrue();
      expect(isStill(values[1], long(1))).toBeTrue();
      checkRow(table, id, long(2));
      const again = share(table, id)!;
      again.release();
      expect(table.writer.replace(id, entryOf(long(3)), limit)).toBeTrue();
      // In place: what was not read any more is what was written over.
      expect(isStill(again, long(3))).toBeTrue();
    }
  });

  test("an entry may be replaced by one whose key is a view of it", () => {
    const table = new EntryTable();
    const first: Row = {
      key: Buffer.from("a key of some length"),
      value: Buffer.from("v".repeat(100)),
      kind: KIND_STRING,
      version: [1, 2, 3, 4],
      expiresAtMs: 5,
      hash: 6,
    };
    const id = table.writer.create(entryOf(first), first.hash, Infinity);
    const view = new Entry();
    table.read(id, view);
    const tombstone = new Entry().setKey(view.key, view.keyOffset, view.keyLength);
    tombstone.kind = 1;
    tombstone.expiresAtMs = 5;
    table.writer.replace(id, tombstone, Infinity);
    checkRow(table, id, {
      ...first,
      value: new Uint8Array(0),
      kind: 1,
      version: [0, 0, 0, 0],
    });
  });

  const small = (n: number, valueLength: number): Row => ({
    key: Buffer.from(`k${String(n).padStart(7, "0")}`),
    value: new Uint8Array(valueLength).fill(n & 0xff),
    kind: KIND_STRING,
    version: [0, n, 0, 0],
    expiresAtMs: 0,
    hash: n,
  });
  const SLAB_BYTES = 262_144;

  test("fragmentation stays bounded under churn", () => {
    const table = new EntryTable();
    const random = seeded(2);
    const live = new Map<number, Row>();
    const add = (n: number, length: number) => {
      const r = small(n, length);
      live.set(table.writer.create(entryOf(r), n, Infinity), r);
    };
    for (let n = 0; n < 100_000; n++) add(n, n % 2 === 0 ? 20 : 60);
    const rowBytes = 4 * 32_768 * 24; // rows are kept for their ids
    const check = (what: string) => {
      while (table.compactor.compact(1_000, Infinity));
      table.verify();
      let liveBytes = 0;
      for (const r of live.values()) liveBytes += 8 + r.value.length + 8;
      const most = 2 * liveBytes + 6 * SLAB_BYTES + rowBytes;
      if (table.bytes() > most) throw new Error(`${what}: ${table.bytes()} bytes, most ${most}`);
    };
    // One in ten stays, scattered over all slabs.
    for (const id of live.keys()) {
      if (random() < 0.9) {
        table.release(id);
        live.delete(id);
      }
    }
    check("after deleting");
    // The values of what is left change size, over and over.
    for (let round = 0; round < 5; round++) {
      for (const [id, r] of live) {
        const replacement = { ...r, value: new Uint8Array((r.value.length + 40) % 120).fill(9) };
        table.writer.replace(id, entryOf(replacement), Infinity);
        live.set(id, replacement);
      }
      check(`round ${round}`);
    }
    for (const [id, r] of live) checkRow(table, id, r);
  });

  test("compaction needs no memory and loses nothing", () => {
    const table = new EntryTable();
    const live = new Map<number, Row>();
    for (let n = 0; n < 30_000; n++) {
      const r = small(n, 60);
      live.set(table.writer.create(entryOf(r), n, Infinity), r);
    }
    for (const id of live.keys()) {
      if (id % 5 !== 0) {
        table.release(id);
        live.delete(id);
      }
    }
    const before = table.bytes();
    while (table.compactor.compact(1_000, 0));
    table.verify();
    expect(table.bytes()).toBeLessThan(before - 4 * SLAB_BYTES);
    for (const [id, r] of live) checkRow(table, id, r);
  });

  test("refuses to grow beyond the limit and changes nothing then", () => {
    const table = new EntryTable();
    const limit = 3 * 1_048_576;
    const live = new Map<number, Row>();
    for (let n = 0; ; n++) {
      const r = small(n, 200);
      const id = table.writer.create(entryOf(r), n, limit);
      if (id < 0) break;
      live.set(id, r);
    }
    expect(table.bytes()).toBeLessThanOrEqual(limit);
    expect(live.size).toBeGreaterThan(5_000);
    const [[id, r]] = live;
    expect(
      table.writer.replace(id, entryOf({ ...r, value: new Uint8Array(5_000) }), limit),
    ).toBeFalse();
    for (const [each, expected] of live) checkRow(table, each, expected);
    expect(table.rows.count).toBe(live.size);
  });
});

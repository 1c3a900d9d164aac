/** The memory that a store takes and gives back, and what it does in the background for it. */
import { describe, expect, test } from "bun:test";
import { Entry } from "../../src/core/data/entry.ts";
import { APPLIED, REFUSED_FULL } from "../../src/core/store/outcome.ts";
import { seeded } from "../support/random.ts";
import { versionOf } from "./naive-store.ts";
import { START_MS, GRACE_MS, bytes, high, low, entryOf, TestStore } from "./test-store.ts";

describe("background work", () => {
  test("gives back, slice by slice, the memory of all that a flush has dropped", () => {
    const real = new TestStore();
    for (let i = 0; i < 30_000; i++) real.set(`key${i}`, "x".repeat(30));
    const { table, index, order } = (real.store as any).entries;
    const buffers: { length: number }[] = [
      ...table.arena.bytes,
      ...table.rows.chunks,
      ...index.directory.map(({ slots }: { slots: Uint32Array }) => slots),
      ...order.blocks.ids,
      ...order.blocks.words,
      ...order.blocks.headers,
    ];
    const left = (): number => buffers.filter(({ length }) => length > 0).length;
    const all = left();
    real.store.flush();
    expect(left()).toBe(all);
    real.set("new", "y");
    real.store.sweep(1, () => true);
    expect(left()).toBeLessThan(all);
    expect(left()).toBeGreaterThan(0);
    while (left() > 0) real.store.sweep(1, () => true);
    expect(real.get("new")).toBe("y");
    real.store.verify();
  });

  test("carries a flush out in slices, unseen by clients", () => {
    const real = new TestStore();
    for (let i = 0; i < 10_000; i++) real.set(`old${i}`, "x");
    const floor = (BigInt(real.store.clock.high) << 32n) | BigInt(real.store.clock.low);
    real.nowMs += 10;
    real.set("new", "y");
    // A floor from elsewhere, above what was written before and below what came after.
    expect(real.store.applyFloor(high(floor), low(floor), 0xffff_ffff, 0)).toBe(APPLIED);
    let slices = 0;
    do {
      expect(real.get("old1")).toBeUndefined();
      expect(real.get("old9999")).toBeUndefined();
      expect(real.get("new")).toBe("y");
      slices++;
    } while (real.store.sweep(1_000));
    expect(slices).toBeGreaterThanOrEqual(10);
    expect(real.ordered()).toEqual(["new"]);
    expect(real.store.size).toBe(1);
    real.checkObserved();
  });

  test("turns what expires into tombstones, and drops those after their grace", () => {
    const real = new TestStore();
    real.set("expires", "x", START_MS + 100);
    real.set("stays", "x");
    real.set("deleted", "x");
    real.delete("deleted");
    real.nowMs = START_MS + 99;
    expect(real.get("expires")).toBe("x");
    real.nowMs = START_MS + 100;
    expect(real.get("expires")).toBeUndefined();
    real.sweep();
    expect([real.store.size, real.store.tombstoneCount]).toEqual([1, 2]);
    real.nowMs = START_MS + GRACE_MS + 1;
    real.sweep();
    expect([real.store.size, real.store.tombstoneCount]).toEqual([1, 1]);
    real.nowMs = START_MS + 100 + GRACE_MS + 1;
    real.sweep();
    expect([real.store.size, real.store.tombstoneCount]).toEqual([1, 0]);
    expect(real.dump().size).toBe(1);
  });

  test("a sweep whose time is up goes on later, and changes one entry at least", () => {
    const real = new TestStore();
    for (let i = 0; i < 1_000; i++) real.set(`key${i}`, "x", i % 2 === 0 ? START_MS + 100 : 0);
    real.nowMs = START_MS + 100;
    for (let call = 1; call <= 500; call++) {
      const { tombstoneCount } = real.store;
      while (real.store.tombstoneCount === tombstoneCount) real.store.sweep(1_000_000, () => true);
      expect(real.store.tombstoneCount).toBe(call);
    }
    expect(real.store.size).toBe(500);
    real.nowMs += GRACE_MS + 1;
    for (let call = 0; call < 1_100; call++) real.store.sweep(1_000_000, () => true);
    expect([real.store.size, real.store.tombstoneCount]).toEqual([500, 0]);
  });
});

describe("memory", () => {
  const LIMIT = 6 * 1_048_576;

  test("where there is room for others, one value that is too large says nothing", () => {
    const real = new TestStore(32 * 1_048_576);
    expect(real.set("key", "v".repeat(40_000_000))).toBe(REFUSED_FULL);
    expect(real.store.isFullForClients).toBeFalse();
  });

  test("past the limit writes are refused, reads and deletes go on, and deleting makes room", () => {
    const real = new TestStore(LIMIT);
    const value = "v".repeat(100);
    let count = 0;
    while (real.set(`key${count}`, value) === APPLIED) count++;
    expect(count).toBeGreaterThan(5_000);
    expect(real.store.isFullForClients).toBeTrue();
    expect(real.delete("key1")).toBeTrue();
    expect(real.store.isFullForClients).toBeFalse();
    expect(real.set("key1", value)).toBe(APPLIED);
    // The first deletion needs a slab for its size, and the index may grow after the last write.
    expect(real.store.bytes()).toBeLessThanOrEqual(LIMIT + 262_144 + 65_536);
    const before = real.dump();
    expect(real.set("one more", value)).toBe(REFUSED_FULL);
    expect(real.set("key0", "v".repeat(1_500_000))).toBe(REFUSED_FULL);
    expect(
      real.store.apply(
        entryOf("from elsewhere", {
          version: versionOf(BigInt(START_MS) << 16n, 9n),
          text: "v".repeat(1_500_000),
          expiresAtMs: 0,
          parts: null,
        }),
      ),
    ).toBe(REFUSED_FULL);
    expect(real.dump()).toEqual(before);
    real.checkObserved();

    expect(real.get("key0")).toBe(value);
    expect(real.set("key0", "w".repeat(100))).toBe(APPLIED);
    for (let i = 0; i < count; i++) expect(real.delete(`key${i}`)).toBeTrue();
    expect(real.store.size).toBe(0);
    real.nowMs += GRACE_MS + 1;
    for (let i = 0; i < 20; i++) real.sweep();
    // Not all of it: a class of sizes keeps its last slab.
    for (let i = 0; i < count * 0.8; i++) expect(real.set(`key${i}`, value)).toBe(APPLIED);
  });

  /** Fills a store with small values up to its limit. */
  function full(): { real: TestStore; count: number } {
    const real = new TestStore(LIMIT);
    let count = 0;
    while (real.set(`key${count}`, "v".repeat(100)) === APPLIED) count++;
    return { real, count };
  }

  const foreign = (key: string, text: string | null, n = 9): Entry =>
    entryOf(key, {
      version: versionOf((BigInt(START_MS) << 16n) + BigInt(n), 9n),
      text,
      expiresAtMs: 0,
      parts: null,
    });

  test("at the limit what peers did to keys that are here is taken, and their deletions", () => {
    const { real } = full();
    expect(real.store.apply(foreign("unknown", "v".repeat(100)))).toBe(REFUSED_FULL);
    real.nowMs += 10;
    expect(real.store.apply(foreign("key0", "w".repeat(3_000), 600_000))).toBe(APPLIED);
    expect(real.get("key0")).toBe("w".repeat(3_000));
    expect(real.store.apply(foreign("key1", null, 600_000))).toBe(APPLIED);
    expect(real.store.apply(foreign("unknown", null))).toBe(APPLIED);
    expect(real.get("key1")).toBeUndefined();
    real.checkObserved();
  });

  test("a flood of deletions of unknown keys ends in the reserve, and changes nothing else", () => {
    const { real, count } = full();
    let taken = 0;
    while (taken < 1_000_000 && real.store.apply(foreign(`unknown${taken}`, null)) === APPLIED) {
      taken++;
    }
    expect(taken).toBeGreaterThan(1_000);
    expect(taken).toBeLessThan(100_000);
    expect(real.store.bytes()).toBeLessThanOrEqual(LIMIT + 4 * 1_048_576 + 131_072);
    expect(real.store.size).toBe(count);
    // What is here can still be deleted, by clients and by peers.
    real.nowMs += 10;
    expect(real.delete("key0")).toBeTrue();
    expect(real.store.apply(foreign("key1", null, 600_000))).toBe(APPLIED);
    expect(real.store.size).toBe(count - 2);
  });

  test("bytes within a string are written where they lie, at the limit and with an expiry, too", () => {
    const { real } = full();
    const key = bytes("key7");
    expect(real.set("key7", "v".repeat(100), START_MS + 900)).toBe(APPLIED);
    const before = real.observed.get(real.store.find(key, 0, key.length));
    const patch = bytes("??patch");
    const write = (at: number) =>
      real.store.splice(real.store.find(key, 0, key.length), at, 5, patch, 2, 5);
    expect(write(0)).toBe(APPLIED);
    expect(write(95)).toBe(APPLIED);
    expect(() => write(96)).toThrow("no such part");
    expect(real.get("key7")).toBe(`patch${"v".repeat(90)}patch`);
    expect(real.observed.get(real.store.find(key, 0, key.length))).not.toBe(before);
    real.checkObserved();
    // A counter is no string, whatever it shows.
    const other = new TestStore();
    expect(other.increment("key7", 12_345n)).toBe(APPLIED);
    const id = other.store.find(key, 0, key.length);
    expect(() => other.store.splice(id, 0, 5, patch, 2, 5)).toThrow("no such part");
    expect(other.get("key7")).toBe("12345");
  });

  test("a flood of keys written and deleted again ends at the limit", () => {
    const real = new TestStore(LIMIT);
    let count = 0;
    while (count < 1_000_000 && real.set(`key${count}`, "") === APPLIED) {
      expect(real.delete(`key${count++}`)).toBeTrue();
    }
    expect(count).toBeLessThan(200_000);
    expect(real.store.bytes()).toBeLessThanOrEqual(LIMIT + 131_072);
    real.nowMs += GRACE_MS + 1;
    for (let i = 0; i < 20; i++) real.sweep();
    expect(real.set("key", "")).toBe(APPLIED);
  });

  test("is accounted for, and given back by a flush", () => {
    const real = new TestStore();
    const empty = real.store.bytes();
    let data = 0;
    for (let i = 0; i < 100_000; i++) {
      real.set(`key${i}`, "v".repeat(i % 200));
      data += `key${i}`.length + (i % 200);
    }
    expect(real.store.bytes()).toBeGreaterThan(data);
    expect(real.store.bytes()).toBeLessThan(data * 2);
    real.store.flush();
    expect(real.store.bytes()).toBe(empty);
    expect(real.get("key1")).toBeUndefined();
    expect(real.set("key1", "again")).toBe(APPLIED);
    expect(real.get("key1")).toBe("again");
  });

  test("stays bounded when keys come and go and values change size", () => {
    const real = new TestStore();
    const random = seeded(4);
    const write = () => {
      const key = `key${Math.floor(random() * 20_000)}`;
      real.set(key, "v".repeat(Math.floor(random() * 300)));
    };
    for (let i = 0; i < 60_000; i++) write();
    const before = real.store.bytes();
    for (let round = 0; round < 20; round++) {
      for (let i = 0; i < 10_000; i++) write();
      for (let i = 0; i < 3_000; i++) real.delete(`key${Math.floor(random() * 20_000)}`);
      real.nowMs += GRACE_MS * 2;
      for (let i = 0; i < 20; i++) real.sweep();
    }
    expect(real.store.bytes()).toBeLessThan(before * 1.5);
  });
});

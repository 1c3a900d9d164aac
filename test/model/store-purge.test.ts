/** What leaves the store for good: tombstones past their grace, and entries put away elsewhere. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { HybridClock } from "../../src/core/data/clock.ts";
import { Entry, KIND_STRING, KIND_TOMBSTONE } from "../../src/core/data/entry.ts";
import { MerkleTree, LATEST } from "../../src/core/tree/merkle.ts";
import { RecordDigester, treeKeyOf } from "../../src/core/tree/record-digest.ts";
import { APPLIED } from "../../src/core/store/outcome.ts";
import { Store } from "../../src/core/store/store.ts";

const GRACE_MS = 1_000;

class TestStore {
  nowMs = 1_000_000;
  readonly removed: string[] = [];
  readonly store = new Store({
    clock: new HybridClock(() => this.nowMs),
    origin: { high: 1, low: 2 },
    hashSeed: { high: 3, low: 4 },
    random: () => 0.5,
    memoryLimitBytes: 0,
    maxClockSkewMs: 60_000,
    tombstoneGraceMs: GRACE_MS,
  });
  private readonly view = new Entry();

  constructor() {
    this.store.observers.push({
      changed() {},
      removed: (id) => {
        this.store.read(id, this.view);
        this.removed.push(new TextDecoder().decode(this.view.keyBytes()));
      },
      flushed() {},
    });
  }

  set(key: string, expiresAtMs = 0): void {
    const bytes = new TextEncoder().encode(key);
    expect(this.store.set(bytes, 0, bytes.length, bytes, 0, bytes.length, expiresAtMs)).toBe(
      APPLIED,
    );
  }

  delete(key: string): void {
    const bytes = new TextEncoder().encode(key);
    this.store.delete(bytes, 0, bytes.length);
  }

  locate(key: string): number {
    const bytes = new TextEncoder().encode(key);
    return this.store.locate(bytes, 0, bytes.length);
  }
}

test("the purge time is the latest death among what was purged", () => {
  const operation = fc.record({
    key: fc.constantFrom("a", "b", "c", "d"),
    action: fc.constantFrom("set", "expire", "delete", "sweep"),
    afterMs: fc.integer({ min: 0, max: 700 }),
  });
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 60 }), (operations) => {
      const node = new TestStore();
      const diedAtMs = new Map<string, number>();
      const expiresAtMs = new Map<string, number>();
      let purgedUpToMs = 0;
      for (const { key, action, afterMs } of operations) {
        node.nowMs += afterMs;
        const expiry = expiresAtMs.get(key) ?? Infinity;
        if (action === "set" || action === "expire") {
          const at = action === "expire" ? node.nowMs + 300 : 0;
          node.set(key, at);
          diedAtMs.delete(key);
          if (at > 0) expiresAtMs.set(key, at);
          else expiresAtMs.delete(key);
        } else if (action === "delete") {
          const isLive = node.locate(key) >= 0 && !diedAtMs.has(key) && expiry > node.nowMs;
          node.delete(key);
          if (isLive) {
            diedAtMs.set(key, node.nowMs);
            expiresAtMs.delete(key);
          }
        } else {
          node.store.sweep(1_000);
          for (const [gone, atMs] of diedAtMs) {
            if (atMs + GRACE_MS >= node.nowMs) continue;
            purgedUpToMs = Math.max(purgedUpToMs, atMs);
            diedAtMs.delete(gone);
            expect(node.locate(gone)).toBe(-1);
          }
          for (const [dead, atMs] of expiresAtMs) {
            if (atMs > node.nowMs) continue;
            diedAtMs.set(dead, atMs);
            expiresAtMs.delete(dead);
          }
        }
        expect(node.store.deletions.purgedUpToMs).toBe(purgedUpToMs);
      }
    }),
  );
});

test("a discarded entry leaves no trace, and observers hear of it while it can be read", () => {
  const node = new TestStore();
  const tree = new MerkleTree(node.store, new RecordDigester(treeKeyOf("c")));
  node.store.observers.push(tree);
  const rootOf = () => {
    while (tree.update(LATEST, LATEST, 10, () => 0));
    return tree.rootHex();
  };
  node.set("kept");
  const root = rootOf();
  node.set("string");
  node.set("expiring", node.nowMs + 10_000);
  node.set("deleted");
  node.delete("deleted");
  expect(rootOf()).not.toBe(root);
  for (const key of ["string", "expiring", "deleted"]) node.store.discard(node.locate(key));
  expect(node.removed).toEqual(["string", "expiring", "deleted"]);
  expect(node.store.size).toBe(1);
  expect(node.store.tombstoneCount).toBe(0);
  expect(node.store.order.size).toBe(1);
  expect(node.locate("string")).toBe(-1);
  expect(rootOf()).toBe(root);
  expect(node.store.deletions.purgedUpToMs).toBe(0);

  // An older entry may come back, which a tombstone would have prevented.
  const older = new Entry().setKey(new TextEncoder().encode("deleted")).setVersion(1, 0, 1, 2);
  older.kind = KIND_STRING;
  expect(node.store.apply(older)).toBe(APPLIED);
  older.kind = KIND_TOMBSTONE;
  older.setVersion(1, 1, 1, 2);
  expect(node.store.apply(older)).toBe(APPLIED);
});

describe("sessions that go on and on", () => {
  const sweepFor = (it: TestStore, ms: number) => {
    for (const end = it.nowMs + ms; it.nowMs < end; it.nowMs += 10) it.store.sweep(100);
  };

  test("hold back purges for an eighth of the grace at most, and then all at once", () => {
    const it = new TestStore();
    it.store.deletions.beginSession();
    for (const key of ["a", "b", "c"]) {
      it.set(key);
      it.delete(key);
      it.nowMs += GRACE_MS / 32;
    }
    sweepFor(it, GRACE_MS);
    expect(it.removed).toEqual([]);
    sweepFor(it, GRACE_MS / 4);
    expect(it.removed.sort()).toEqual(["a", "b", "c"]);
    expect(it.store.deletions.purges).toBe(3);
  });

  test("do so anew after that, and not at all once they are over", () => {
    const it = new TestStore();
    it.store.deletions.beginSession();
    it.set("a");
    it.delete("a");
    sweepFor(it, 1.5 * GRACE_MS);
    it.set("b");
    it.delete("b");
    sweepFor(it, 1.05 * GRACE_MS);
    expect(it.removed).toEqual(["a"]);
    it.store.deletions.endSession();
    it.store.sweep(100);
    expect(it.removed).toEqual(["a", "b"]);
  });
});

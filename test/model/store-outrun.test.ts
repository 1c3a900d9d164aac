/**
 * A store whose clock jumps hours and years in both directions: whatever it writes wins over what
 * it had of that key before, on a node that gets both in any order, and peers take what clients may
 * write.
 */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { HybridClock } from "../../src/core/data/clock.ts";
import { Int64 } from "../../src/core/data/int64.ts";
import { Entry } from "../../src/core/data/entry.ts";
import { APPLIED } from "../../src/core/store/outcome.ts";
import { Store } from "../../src/core/store/store.ts";
import { contentsOf } from "../support/entry-contents.ts";
import { seeded } from "../support/random.ts";

const START_MS = 1_800_000_000_000;
const HOUR_MS = 3_600_000;
const SKEW_MS = 60_000;
const KEYS = ["a", "b", "c"].map((name) => new TextEncoder().encode(name));

function createStore(nowMs: () => number, origin: number, skewMs = SKEW_MS): Store {
  return new Store({
    clock: new HybridClock(nowMs, skewMs),
    origin: { high: origin, low: origin },
    hashSeed: { high: 1, low: 2 },
    random: seeded(1),
    memoryLimitBytes: 0,
    maxClockSkewMs: skewMs,
    tombstoneGraceMs: 1e13,
  });
}

const step = fc.oneof(
  fc.record({ do: fc.constantFrom("set", "delete", "increment"), key: fc.nat(2), by: fc.nat(9) }),
  fc.record({
    do: fc.constant("jump"),
    key: fc.constant(0),
    by: fc.constantFrom(-400, -1, 0, 1, 400),
  }),
);

/** Does a step, if it is a write that clients may make; whether it was made. */
function write(store: Store, what: string, key: Uint8Array, by: number): boolean {
  if (store.aheadUntilMs(key, 0, 1) > 0) return false;
  const delta = new Int64().set(0, by);
  const value = new TextEncoder().encode(String(by));
  if (what === "set") return store.set(key, 0, 1, value, 0, value.length, 0) === APPLIED;
  if (what === "delete") return store.delete(key, 0, 1);
  return store.increment(key, 0, 1, delta) === APPLIED;
}

function contents(store: Store): Map<string, string> {
  const found = new Map<string, string>();
  const view = new Entry();
  for (let id = 0; id < store.idLimit; id++) {
    if (!store.isUsed(id)) continue;
    store.read(id, view);
    found.set(String(view.keyBytes()), contentsOf(view));
  }
  return found;
}

test("what is written after a jump wins over what was there, and peers take it", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60, size: "max" }), fc.integer(), (steps, seed) => {
      let nowMs = START_MS;
      const store = createStore(() => nowMs, 1);
      const versions: Entry[] = [];
      const view = new Entry();
      for (const { do: what, key, by } of steps) {
        if (what === "jump") {
          nowMs = START_MS + by * HOUR_MS;
          store.clock.settle();
          continue;
        }
        nowMs += 1;
        if (!write(store, what, KEYS[key], by)) continue;
        store.read(store.locate(KEYS[key], 0, 1), view);
        versions.push(view.clone());
        store.verify();
        // A peer with the same time takes it.
        expect(createStore(() => nowMs, 2).apply(view)).toBe(APPLIED);
      }
      // Later, on a node that gets all that was ever written, in any order.
      const other = createStore(() => nowMs, 2, 1e13);
      const random = seeded(seed);
      for (const entry of versions.sort(() => random() - 0.5)) other.apply(entry);
      expect(contents(other)).toEqual(contents(store));
    }),
    { numRuns: 300 },
  );
});

test("a flush while the clock is outrun leaves nothing, and nothing of before comes back", () => {
  let nowMs = START_MS + HOUR_MS;
  const store = createStore(() => nowMs, 1);
  const [key] = KEYS;
  expect(write(store, "set", key, 1)).toBe(true);
  const before = new Entry();
  store.read(store.locate(key, 0, 1), before);
  const copy = before.clone();
  nowMs = START_MS;
  store.clock.settle();
  expect(store.aheadUntilMs()).toBe(START_MS + HOUR_MS - SKEW_MS);
  store.flush();
  expect(store.size).toBe(0);
  nowMs = START_MS + HOUR_MS;
  store.apply(copy);
  expect(store.size).toBe(0);
});

test("a deletion made with an earlier time than was vouched for counts as one of later", () => {
  let nowMs = START_MS + HOUR_MS;
  const store = createStore(() => nowMs, 1);
  const [key] = KEYS;
  nowMs = START_MS;
  store.clock.settle();
  write(store, "set", key, 1);
  store.deletions.vouch(START_MS + HOUR_MS);
  expect(write(store, "delete", key, 0)).toBe(true);
  const view = new Entry();
  store.read(store.locate(key, 0, 1), view);
  expect(view.learnedMs).toBeGreaterThan(START_MS + HOUR_MS);
});

/** The store against a naive one, and its promises to the nodes that share its data. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { HybridClock } from "../../src/core/data/clock.ts";
import {
  BASE_BYTES,
  BASE_NONE,
  BASE_STRING,
  PART_BYTES,
  addToPart,
  setVersionFromParts,
  writeBase,
} from "../../src/core/data/counter.ts";
import { Int64 } from "../../src/core/data/int64.ts";
import {
  Entry,
  KIND_COUNTER,
  KIND_HUSK,
  KIND_STRING,
  KIND_TOMBSTONE,
} from "../../src/core/data/entry.ts";
import {
  APPLIED,
  NOT_A_NUMBER,
  OUT_OF_RANGE,
  REFUSED_FULL,
  REFUSED_FUTURE,
  REFUSED_INVALID,
  REFUSED_READ_ONLY,
  UNCHANGED,
} from "../../src/core/store/outcome.ts";
import { inOneGo } from "../../src/core/store/pieces.ts";
import { KEEP_EXPIRY } from "../../src/core/store/own-writes.ts";
import { Store } from "../../src/core/store/store.ts";
import { seeded } from "../support/random.ts";
import { NaiveStore, shown, versionOf, type Part, type State } from "./naive-store.ts";
import { contentsOf } from "../support/entry-contents.ts";

const START_MS = 1_700_000_000_000;
const SKEW_MS = 1_000;
const GRACE_MS = 5_000;
const ORIGIN = { high: 0, low: 1 };
const MASK = 0xffff_ffffn;
const MAX = 2n ** 63n - 1n;

const bytes = (text: string): Uint8Array => Buffer.from(text, "latin1");
const high = (word: bigint): number => Number((word >> 32n) & MASK);
const low = (word: bigint): number => Number(word & MASK);
const toInt64 = (n: bigint): Int64 => new Int64().set(high(n) | 0, low(n));

/** The entry that stands for a state of the naive store. */
function entryOf(key: string, state: State): Entry {
  const entry = new Entry().setKey(bytes(key));
  const [time, origin] = [state.version >> 64n, state.version & (2n ** 64n - 1n)];
  entry.setVersion(high(time), low(time), high(origin), low(origin));
  const { expiryVersion } = state;
  entry.setExpiry(state.expiresAtMs);
  if (expiryVersion !== undefined) {
    const [t, o] = [expiryVersion >> 64n, expiryVersion & (2n ** 64n - 1n)];
    Object.assign(entry.expiryVersion, { timeHigh: high(t), timeLow: low(t) });
    Object.assign(entry.expiryVersion, { originHigh: high(o), originLow: low(o) });
  }
  if (state.parts === null) {
    entry.kind = state.isHusk ? KIND_HUSK : state.text === null ? KIND_TOMBSTONE : KIND_STRING;
    return entry.setValue(bytes(state.text ?? ""));
  }
  const payload = new Uint8Array(BASE_BYTES + state.parts.size * PART_BYTES);
  const { timeHigh, timeLow, originHigh, originLow } = entry;
  const baseKind = state.text === null ? BASE_NONE : BASE_STRING;
  const number = toInt64(BigInt(state.text ?? "0"));
  writeBase(payload, baseKind, timeHigh, timeLow, originHigh, originLow, number);
  let length = BASE_BYTES;
  for (const [each, { time, total }] of state.parts) {
    // A total may need more than 64 bits, in steps that do not.
    let left = total;
    do {
      const delta = left > MAX ? MAX : left < -MAX ? -MAX : left;
      const [o, t] = [each, time];
      length = addToPart(payload, length, high(o), low(o), high(t), low(t), toInt64(delta));
      left -= delta;
    } while (left !== 0n);
  }
  entry.kind = KIND_COUNTER;
  entry.setValue(payload, 0, length);
  setVersionFromParts(entry);
  return entry;
}

class TestStore {
  nowMs = START_MS;
  readonly store: Store;
  /** What an observer that only listens knows: id → key and contents. */
  readonly observed = new Map<number, string>();
  private readonly view = new Entry();

  constructor(memoryLimitBytes = 0, origin = ORIGIN, seed = 1) {
    this.store = new Store({
      clock: new HybridClock(() => this.nowMs),
      origin,
      hashSeed: { high: seed, low: seed },
      random: seeded(seed),
      memoryLimitBytes,
      maxClockSkewMs: SKEW_MS,
      tombstoneGraceMs: GRACE_MS,
    });
    this.store.observers.push({
      changed: (id) => void this.observed.set(id, this.describe(id)),
      removed: (id) => {
        expect(this.observed.get(id)).toBe(this.describe(id));
        this.observed.delete(id);
      },
      flushed: (_, cleared) => {
        if (cleared) this.observed.clear();
      },
    });
  }

  set(key: string, value: string, expiresAtMs = 0): number {
    const [k, v] = [bytes(`?${key}`), bytes(`??${value}`)];
    return this.store.set(k, 1, k.length - 1, v, 2, v.length - 2, expiresAtMs);
  }

  setValue(key: string, value: string): number {
    return this.set(key, value, KEEP_EXPIRY);
  }

  expire(key: string, expiresAtMs: number): boolean {
    const k = bytes(`?${key}?`);
    return this.store.expire(k, 1, key.length, expiresAtMs) === APPLIED;
  }

  delete(key: string): boolean {
    const k = bytes(`?${key}?`);
    return this.store.delete(k, 1, key.length);
  }

  increment(key: string, delta: bigint): number {
    const k = bytes(`?${key}?`);
    return this.store.increment(k, 1, key.length, toInt64(delta));
  }

  get(key: string): string | undefined {
    const k = bytes(`?${key}?`);
    const id = this.store.find(k, 1, key.length);
    if (id < 0) return undefined;
    this.store.readValue(id, this.view);
    return Buffer.from(this.view.valueBytes()).toString("latin1");
  }

  /** A full pass from the first row: the first call may only finish one that was under way. */
  sweep(): void {
    for (let pass = 0; pass < 2; pass++) while (this.store.sweep(1_000_000));
  }

  /** Every entry: key → contents. */
  dump(): Map<string, string> {
    const all = new Map<string, string>();
    for (let id = 0; id < this.store.idLimit; id++) {
      if (!this.store.isUsed(id)) continue;
      this.store.read(id, this.view);
      all.set(Buffer.from(this.view.keyBytes()).toString("latin1"), contentsOf(this.view));
    }
    return all;
  }

  ordered(): string[] {
    const keys: string[] = [];
    const { order } = this.store;
    for (let at = order.seek(new Uint8Array(0), 0, 0); at >= 0; at = order.next(at)) {
      this.store.read(order.at(at), this.view);
      keys.push(Buffer.from(this.view.keyBytes()).toString("latin1"));
    }
    return keys;
  }

  checkObserved(): void {
    const current = new Map<number, string>();
    for (let id = 0; id < this.store.idLimit; id++) {
      if (this.store.isUsed(id)) current.set(id, this.describe(id));
    }
    expect(new Map([...this.observed].sort(([a], [b]) => a - b))).toEqual(current);
  }

  private describe(id: number): string {
    const entry = new Entry();
    this.store.read(id, entry);
    // Nobody is told when a value is let go as it expired.
    if (entry.kind === KIND_STRING && entry.expiresAtMs !== 0) {
      entry.kind = KIND_HUSK;
      entry.valueLength = 0;
    }
    return `${Buffer.from(entry.keyBytes()).toString("latin1")} ${contentsOf(entry)}`;
  }
}

const someKey = fc.constantFrom("a", "b", "ab", "c", "k".repeat(300), "\0\xff");
const someText = fc.oneof(
  fc.constantFrom("", "1", "-5", "text", "01", String(MAX), String(-MAX - 1n), "v".repeat(40_000)),
  fc.string({ unit: "binary-ascii", maxLength: 30 }),
);
const someTextOrNone: fc.Arbitrary<string | null> = fc.option(someText);
const someDelta = fc.oneof(fc.bigInt({ min: -9n, max: 9n }), fc.constantFrom(MAX, -MAX - 1n));
/** Milliseconds before or after the present, beyond every limit as well. */
const someMs = fc.integer({ min: -20, max: 20 }).map((n) => n * 100);
const someExpiry = fc.oneof(
  fc.constant(null),
  fc.integer({ min: -5, max: 60 }).map((n) => n * 100),
);
const someOrigin = fc.constantFrom(1n, 2n, (3n << 32n) | 1n);
const someTime = fc.record({ ms: someMs, counter: fc.nat(2) });

/** A step of this name with these fields. */
const op = <Name extends string, Fields extends object>(
  name: Name,
  fields: { [Field in keyof Fields]: fc.Arbitrary<Fields[Field]> },
): fc.Arbitrary<{ do: Name } & Fields> =>
  fc.record(fields).map((values) => ({ do: name, ...values }) as { do: Name } & Fields);

const step = fc.oneof(
  { weight: 5, arbitrary: op("set", { key: someKey, text: someText, expiry: someExpiry }) },
  { weight: 3, arbitrary: op("delete", { key: someKey }) },
  { weight: 2, arbitrary: op("set value", { key: someKey, text: someText }) },
  { weight: 4, arbitrary: op("expire", { key: someKey, expiry: someExpiry }) },
  {
    weight: 4,
    arbitrary: op("expire elsewhere", {
      key: someKey,
      expiry: someExpiry,
      time: someTime,
      origin: someOrigin,
    }),
  },
  { weight: 5, arbitrary: op("increment", { key: someKey, delta: someDelta }) },
  {
    weight: 5,
    arbitrary: op("apply", {
      key: someKey,
      text: someTextOrNone,
      expiry: someExpiry,
      time: someTime,
      origin: someOrigin,
    }),
  },
  {
    weight: 4,
    arbitrary: op("count elsewhere", {
      key: someKey,
      origin: someOrigin,
      time: someTime,
      total: someDelta,
    }),
  },
  { weight: 1, arbitrary: op("flush", {}) },
  { weight: 1, arbitrary: op("floor", { time: someTime, origin: someOrigin }) },
  { weight: 3, arbitrary: op("time", { ms: fc.integer({ min: -300, max: 3_000 }) }) },
  { weight: 2, arbitrary: op("sweep", {}) },
);

describe("the store", () => {
  test("agrees with a naive one whatever is done to it", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60, size: "max" }), (steps) => {
        const real = new TestStore();
        const naive = new NaiveStore(1n, GRACE_MS, SKEW_MS, START_MS);
        const at = (time: { ms: number; counter: number }) =>
          (BigInt(real.nowMs + time.ms) << 16n) | BigInt(time.counter);
        const expiryAt = (expiry: number | null) => (expiry === null ? 0 : real.nowMs + expiry);
        const apply = (key: string, state: State) => {
          naive.apply(key, state);
          real.store.apply(entryOf(key, state));
        };

        for (const s of steps) {
          switch (s.do) {
            case "set":
              expect(real.set(s.key, s.text, expiryAt(s.expiry))).toBe(APPLIED);
              naive.set(s.key, s.text, expiryAt(s.expiry));
              break;
            case "delete":
              expect(real.delete(s.key)).toBe(naive.delete(s.key));
              break;
            case "set value":
              expect(real.setValue(s.key, s.text)).toBe(APPLIED);
              naive.setValue(s.key, s.text);
              break;
            case "expire":
              expect(real.expire(s.key, expiryAt(s.expiry))).toBe(
                naive.expire(s.key, expiryAt(s.expiry)),
              );
              break;
            case "expire elsewhere": {
              const expiry = { version: versionOf(at(s.time), s.origin), atMs: expiryAt(s.expiry) };
              naive.applyExpiry(s.key, expiry);
              const state = { version: expiry.version, expiresAtMs: expiry.atMs };
              real.store.applyExpiry(entryOf(s.key, { ...state, text: "", parts: null }));
              break;
            }
            case "increment": {
              const expected = naive.increment(s.key, s.delta);
              const outcome = real.increment(s.key, s.delta);
              if (expected === "not a number") expect(outcome).toBe(NOT_A_NUMBER);
              else if (expected === "out of range") expect(outcome).toBe(OUT_OF_RANGE);
              else {
                expect(outcome).toBe(APPLIED);
                const { high: h, low: l } = real.store.number;
                expect((BigInt(h) << 32n) | BigInt(l)).toBe(expected);
              }
              // A refused increment may have moved the clock, which nobody minds.
              const { clock } = real.store;
              naive.clock = (BigInt(clock.high) << 32n) | BigInt(clock.low);
              break;
            }
            case "apply": {
              const version = versionOf(at(s.time), s.origin);
              apply(s.key, { version, text: s.text, expiresAtMs: expiryAt(s.expiry), parts: null });
              break;
            }
            case "count elsewhere": {
              // A peer that knows what we know counts on from there.
              const present = naive.states.get(s.key);
              const isBase =
                present?.parts === null && /^(0|-?[1-9]\d{0,17})$/.test(present.text ?? "x");
              const base =
                present?.parts || isBase
                  ? present!
                  : { version: naive.floor, text: null, expiresAtMs: 0, parts: null };
              const parts = new Map<bigint, Part>(base.parts);
              parts.set(s.origin, { time: at(s.time), total: s.total });
              apply(s.key, { ...base, parts });
              break;
            }
            case "flush":
              real.store.flush();
              naive.flush();
              break;
            case "floor": {
              const time = at(s.time);
              naive.applyFloor(versionOf(time, s.origin));
              real.store.applyFloor(high(time), low(time), high(s.origin), low(s.origin));
              break;
            }
            case "time":
              real.nowMs = naive.nowMs = real.nowMs + s.ms;
              break;
            case "sweep":
              real.sweep();
              naive.sweep();
          }
          for (const key of naive.states.keys()) {
            const live = naive.live(key);
            expect(real.get(key)).toBe(live === undefined ? undefined : shown(live));
          }
          real.checkObserved();
        }

        real.sweep();
        naive.sweep();
        const expected = [...naive.states].map(([key, state]): [string, string] => [
          key,
          contentsOf(entryOf(key, state)),
        ]);
        expect(real.dump()).toEqual(new Map(expected));
        const visible = [...naive.states].filter(([key]) => naive.live(key) !== undefined);
        expect(real.store.size).toBe(visible.length);
        expect(real.store.tombstoneCount).toBe(naive.states.size - visible.length);
        expect(real.ordered()).toEqual(visible.map(([key]) => key).sort());
        real.checkObserved();
        real.store.verify();
      }),
      { numRuns: 1_500 },
    );
  });
});

/** What is true whoever writes: one version, one state. Counters grow from any of them. */
const history = fc
  .record({
    writes: fc.uniqueArray(
      fc.record({
        key: someKey,
        text: fc.option(fc.constantFrom("5", "-7", "text", "", "v".repeat(3_000))),
        time: fc.integer({ min: -30, max: 9 }),
        origin: someOrigin,
        expiresAtMs: fc.constantFrom(0, 0, START_MS - 1_000, START_MS + 1_000),
      }),
      { maxLength: 12, selector: (w) => `${w.time} ${w.origin}` },
    ),
    counts: fc.array(
      fc.record({ on: fc.nat(), origin: someOrigin, time: fc.nat(20), total: someDelta }),
      { maxLength: 12 },
    ),
    floors: fc.array(fc.tuple(fc.integer({ min: -30, max: 9 }), fc.constant(9n)), { maxLength: 2 }),
  })
  .map(({ writes, counts, floors }) => {
    const timeOf = (n: number) => (BigInt(START_MS + n * 10) << 16n) | 1n;
    const states = writes.map(({ key, text, time, origin, expiresAtMs }) => {
      const version = versionOf(timeOf(time), origin);
      const state: State = {
        version,
        text,
        expiresAtMs: text === null ? 0 : expiresAtMs,
        parts: null,
      };
      return { key, state };
    });
    const grown = counts.flatMap(({ on, origin, time, total }) => {
      if (states.length === 0) return [];
      const { key, state } = states[on % states.length];
      if (state.text !== null && !/^-?\d+$/.test(state.text)) return [];
      const parts = new Map([[origin, { time: timeOf(time), total }]]);
      return [{ key, state: { ...state, parts } }];
    });
    return {
      entries: [...states, ...grown].map(({ key, state }) => entryOf(key, state)),
      floors: floors.map(([time, origin]) => [timeOf(time), origin] as const),
    };
  });

test("keys that were prefetched are found as any others are, and so are those beside them", () => {
  const range = fc.record({ at: fc.nat(11), length: fc.integer({ min: 1, max: 3 }) });
  fc.assert(
    fc.property(
      fc.stringMatching(/^[ab]{16}$/),
      fc.stringMatching(/^[ab]{16}$/),
      fc.array(range, { maxLength: 8 }),
      fc.array(range, { minLength: 1, maxLength: 12 }),
      (text, later, ahead, wanted) => {
        const real = new TestStore();
        for (const { at, length } of wanted) real.set(text.slice(at, at + length), "v");
        const idOf = new Map<string, number>();
        for (const key of real.ordered()) idOf.set(key, real.store.find(bytes(key), 0, key.length));
        const keys = bytes(text).slice();
        const sorted = ahead.toSorted((a, b) => a.at - b.at);
        const starts = Int32Array.from(sorted, ({ at }) => at);
        const check = (held: string): void => {
          for (const { at, length } of [...wanted, ...ahead]) {
            const id = idOf.get(held.slice(at, at + length)) ?? -1;
            expect(real.store.find(keys, at, length)).toBe(id);
          }
        };
        real.store.beginRun();
        const lengths = Int32Array.from(sorted, ({ length }) => length);
        const inputs = sorted.map(() => keys);
        real.store.prefetch(inputs, starts, lengths, sorted.length);
        check(text);
        real.store.endRun();
        keys.set(bytes(later));
        check(later);
      },
    ),
    { numRuns: 500 },
  );
});

test("what was prefetched in a run within a run is known until that ends, and no longer", () => {
  const real = new TestStore();
  for (const key of ["aa", "bb", "cc", "dd"]) real.set(key, "v");
  const outer = bytes("aabb").slice();
  const inner = bytes("ccdd").slice();
  const find = (keys: Uint8Array, at: number): number => real.store.find(keys, at, 2);
  const ids = [find(outer, 0), find(outer, 2), find(inner, 0), find(inner, 2)];
  const starts = Int32Array.of(0, 2);
  const lengths = Int32Array.of(2, 2);
  real.store.beginRun();
  real.store.prefetch([outer, outer], starts, lengths, 2);
  real.store.beginRun();
  expect([find(outer, 0), find(outer, 2)]).toEqual(ids.slice(0, 2));
  real.store.prefetch([inner, inner], starts, lengths, 2);
  expect([find(inner, 0), find(inner, 2)]).toEqual(ids.slice(2));
  real.store.endRun();
  inner.set(bytes("ddcc"));
  expect([find(inner, 0), find(inner, 2)]).toEqual([ids[3], ids[2]]);
  real.store.endRun();
});

test("a counter whose time is over begins anew, and so does one that is flushed", () => {
  const real = new TestStore();
  const one = new Int64().set(0, 1);
  const increment = (key: string): number => {
    expect(real.store.increment(bytes(key), 0, key.length, one)).toBe(APPLIED);
    return real.store.number.low;
  };
  for (const key of ["expires", "stays"]) expect([increment(key), increment(key)]).toEqual([1, 2]);
  real.store.expire(bytes("expires"), 0, 7, real.nowMs + 10);
  expect(increment("expires")).toBe(3);
  real.nowMs += 10;
  expect([increment("expires"), increment("stays")]).toEqual([1, 3]);
  // Another node's floor, which is carried out little by little.
  const { clock } = real.store;
  clock.next();
  const entry = new Entry().setKey(bytes("later")).setValue(bytes("v"));
  real.store.apply(entry.setVersion(clock.high, clock.low + 1, 0, 2));
  expect(real.store.applyFloor(clock.high, clock.low - 1, 0, 2)).toBe(APPLIED);
  expect([increment("expires"), increment("stays")]).toEqual([1, 1]);
});

test("who hears of changes hears before what may change, while there are writes", () => {
  const real = new TestStore();
  for (const key of ["aa", "bb"]) real.set(key, "v");
  const told: number[][] = [];
  real.store.observers.push({
    changed() {},
    removed() {},
    flushed() {},
    touch: (ids, count) => void told.push([...ids.subarray(0, count)]),
  });
  const keys = bytes("aazzbb").slice();
  const inputs = [keys, keys, keys];
  const prefetch = (): void => {
    real.store.beginRun();
    real.store.prefetch(inputs, Int32Array.of(0, 2, 4), Int32Array.of(2, 2, 2), 3);
    real.store.endRun();
  };
  real.set("cc", "v");
  prefetch();
  const idOf = (at: number): number => real.store.find(keys, at, 2);
  expect(told).toEqual([[idOf(0), -1, idOf(4)]]);
  // Since then there were none.
  prefetch();
  expect(told.length).toBe(1);
});

/** Each look at the clock takes as long as a lookup. */
test("the clock is asked once a write, and in reading only about what has an expiry", () => {
  let looks = 0;
  const store = new Store({
    clock: new HybridClock(() => (looks++, START_MS)),
    origin: ORIGIN,
    hashSeed: { high: 1, low: 1 },
    random: () => 0.5,
    memoryLimitBytes: 0,
    maxClockSkewMs: SKEW_MS,
    tombstoneGraceMs: GRACE_MS,
  });
  const looksOf = (action: () => unknown): number => {
    looks = 0;
    action();
    return looks;
  };
  const [key, value, expiring, counter] = ["key", "7", "expiring", "counter"].map(bytes);
  expect(looksOf(() => store.set(key, 0, 3, value, 0, 1, 0))).toBe(1);
  expect(looksOf(() => store.find(key, 0, 3))).toBe(0);
  store.set(expiring, 0, 8, value, 0, 1, START_MS + 1);
  expect(looksOf(() => store.find(expiring, 0, 8))).toBe(1);
  for (let i = 0; i < 3; i++) {
    expect(looksOf(() => store.increment(counter, 0, 7, toInt64(5n)))).toBe(1);
  }
});

describe("replicas", () => {
  test("that get the same entries in any order, twice or more, are the same", () => {
    fc.assert(
      fc.property(history, fc.nat(), ({ entries, floors }, seed) => {
        const random = seeded(seed);
        const dumps = [1, 2].map((n) => {
          const replica = new TestStore(0, { high: 7, low: n }, n);
          const steps = [
            ...entries.map((entry) => () => void replica.store.apply(entry.clone())),
            ...floors.map(
              ([t, o]) =>
                () =>
                  void replica.store.applyFloor(high(t), low(t), high(o), low(o)),
            ),
          ];
          const all = [...steps, ...steps.filter(() => random() < 0.5)];
          while (all.length > 0) {
            const [apply] = all.splice(Math.floor(random() * all.length), 1);
            apply();
            if (random() < 0.3) replica.sweep();
          }
          replica.store.verify();
          replica.sweep();
          replica.checkObserved();
          return replica.dump();
        });
        expect([...dumps[0]].sort()).toEqual([...dumps[1]].sort());
      }),
      { numRuns: 1_500 },
    );
  });

  test("lose no increment, whoever counts and whenever they hear of each other", () => {
    const action = fc.record({
      node: fc.nat(2),
      key: fc.constantFrom("new", "set"),
      delta: fc.bigInt({ min: -1_000n, max: 1_000n }),
      /** Who is told what the node holds by now; itself: nobody. */
      tells: fc.nat(2),
    });
    fc.assert(
      fc.property(fc.array(action, { maxLength: 60, size: "max" }), (actions) => {
        const nodes = [1, 2, 3].map((n) => new TestStore(0, { high: n, low: n }, n));
        const tell = (from: TestStore, to: TestStore) => {
          const view = new Entry();
          for (let id = 0; id < from.store.idLimit; id++) {
            from.store.read(id, view);
            if (from !== to) to.store.apply(view.clone());
          }
        };
        nodes[0].set("set", "100");
        for (const node of nodes) tell(nodes[0], node);
        const expected: Record<string, bigint> = { new: 0n, set: 100n };
        for (const { node, key, delta, tells } of actions) {
          expect(nodes[node].increment(key, delta)).toBe(APPLIED);
          expected[key] += delta;
          nodes[node].nowMs += 1;
          tell(nodes[node], nodes[tells]);
        }
        for (const from of nodes) for (const to of nodes) tell(from, to);
        for (const node of nodes) {
          expect(node.get("set")).toBe(String(expected["set"]));
          if (actions.some(({ key }) => key === "new")) {
            expect(node.get("new")).toBe(String(expected["new"]));
          }
        }
      }),
      { numRuns: 200 },
    );
  });

  test("that count past 64 bits together show the end of the range, and find back", () => {
    const [a, b] = [new TestStore(0, { high: 1, low: 1 }), new TestStore(0, { high: 2, low: 2 })];
    a.increment("n", MAX);
    b.increment("n", MAX);
    const view = new Entry();
    b.store.read(0, view);
    expect(a.store.apply(view.clone())).toBe(APPLIED);
    expect(a.get("n")).toBe(String(MAX));
    expect(a.increment("n", 1n)).toBe(OUT_OF_RANGE);
    expect(a.increment("n", -MAX)).toBe(APPLIED);
    expect(a.get("n")).toBe(String(MAX));
    expect(a.increment("n", -5n)).toBe(APPLIED);
    expect(a.get("n")).toBe(String(MAX - 5n));
  });
});

describe("what the gate refuses changes nothing", () => {
  const version = (BigInt(START_MS) << 16n) | 1n;
  const state: State = {
    version: versionOf(version, 5n),
    text: "5",
    expiresAtMs: 0,
    parts: new Map([[5n, { time: version, total: 1n }]]),
  };
  const plain = (change: (entry: Entry) => unknown) => {
    const entry = entryOf("key", { ...state, parts: null });
    change(entry);
    return entry;
  };
  const counter = (change: (entry: Entry) => unknown) => {
    const entry = entryOf("key", state);
    change(entry);
    return entry;
  };
  const future = (BigInt(START_MS + SKEW_MS + 1) << 16n) | 0n;
  const edge = (BigInt(START_MS + SKEW_MS) << 16n) | 0xffffn;

  test.each<[string, Entry, number]>([
    ["a string", plain(() => {}), APPLIED],
    ["a counter", counter(() => {}), APPLIED],
    ["the edge of the skew", plain((e) => e.setVersion(high(edge), low(edge), 0, 0)), APPLIED],
    [
      "a future version",
      plain((e) => e.setVersion(high(future), low(future), 0, 0)),
      REFUSED_FUTURE,
    ],
    [
      "a counter with a future part",
      entryOf("key", { ...state, parts: new Map([[5n, { time: future, total: 1n }]]) }),
      REFUSED_FUTURE,
    ],
    [
      "a counter that hides a future part behind another version",
      entryOf("key", {
        ...state,
        parts: new Map([[5n, { time: future, total: 1n }]]),
      }).setVersion(0, 1, 0, 0),
      REFUSED_FUTURE,
    ],
    ["no key", plain((e) => (e.keyLength = 0)), REFUSED_INVALID],
    ["the longest key", plain((e) => e.setKey(new Uint8Array(65_536))), APPLIED],
    ["a longer key", plain((e) => e.setKey(new Uint8Array(65_537))), REFUSED_INVALID],
    ["an unknown kind", plain((e) => (e.kind = 5 as never)), REFUSED_INVALID],
    ["a husk", plain((e) => Object.assign(e, { kind: KIND_HUSK, valueLength: 0 })), APPLIED],
    ["a husk with a value", plain((e) => (e.kind = KIND_HUSK)), REFUSED_INVALID],
    [
      "an expiry of a future version",
      entryOf("key", { ...state, parts: null, expiryVersion: versionOf(future, 1n) }),
      REFUSED_FUTURE,
    ],
    [
      "a counter with an expiry of a future version",
      entryOf("key", { ...state, expiryVersion: versionOf(future, 1n) }),
      REFUSED_FUTURE,
    ],
    ["the last expiry there is", plain((e) => (e.expiresAtMs = 2 ** 48 - 1)), APPLIED],
    ["a later one", plain((e) => (e.expiresAtMs = 2 ** 48)), REFUSED_INVALID],
    ["a tombstone with a value", plain((e) => (e.kind = KIND_TOMBSTONE)), REFUSED_INVALID],
    ["a negative expiry", plain((e) => (e.expiresAtMs = -1)), REFUSED_INVALID],
    ["an expiry beyond all numbers", plain((e) => (e.expiresAtMs = 2 ** 60)), REFUSED_INVALID],
    ["an expiry that is none", plain((e) => (e.expiresAtMs = NaN)), REFUSED_INVALID],
    ["a counter cut short", counter((e) => e.valueLength--), REFUSED_INVALID],
    ["a counter that is none", plain((e) => (e.kind = KIND_COUNTER)), REFUSED_INVALID],
    [
      "a counter grown from nothing that expires",
      entryOf("key", { ...state, text: null, expiresAtMs: START_MS + 1 }),
      APPLIED,
    ],
  ])("%s", (_, entry, outcome) => {
    const real = new TestStore();
    expect(real.store.apply(entry)).toBe(outcome as never);
    expect(real.dump().size).toBe(outcome === APPLIED ? 1 : 0);
    expect(real.observed.size).toBe(real.dump().size);
    if (outcome !== APPLIED) expect(real.store.clock.high).toBe(0);
    else expect(real.store.apply(entry)).toBe(UNCHANGED);
  });

  test("an expiry of a deletion's own version, which there is none of", () => {
    const real = new TestStore();
    const tombstone = { ...state, text: null, parts: null, expiresAtMs: START_MS + 5 };
    expect(real.store.apply(entryOf("key", tombstone))).toBe(APPLIED);
    const view = new Entry();
    real.store.read(0, view);
    expect(view.expiresAtMs).toBe(0);
  });

  test("everything but what is known, while nothing can be written down", () => {
    const real = new TestStore();
    const known = entryOf("known", { ...state, parts: null });
    expect(real.store.apply(known)).toBe(APPLIED);
    real.store.setReadOnly(true);
    const other = entryOf("other", { ...state, parts: null });
    expect(real.store.apply(other)).toBe(REFUSED_READ_ONLY);
    expect(real.store.applyFloor(high(edge), low(edge), 0, 0)).toBe(REFUSED_READ_ONLY);
    expect(real.dump().size).toBe(1);
    real.store.setReadOnly(false);
    expect(real.store.apply(other)).toBe(APPLIED);
    expect(real.store.applyFloor(high(edge), low(edge), 0, 0)).toBe(APPLIED);
  });

  test("a floor from the future", () => {
    const real = new TestStore();
    real.set("a", "1");
    expect(real.store.applyFloor(high(future), low(future), 0, 0)).toBe(REFUSED_FUTURE);
    expect(real.get("a")).toBe("1");
    expect(real.store.applyFloor(high(edge), low(edge), 0, 0)).toBe(APPLIED);
    expect(real.get("a")).toBeUndefined();
    expect(real.store.applyFloor(high(edge), low(edge), 0, 0)).toBe(UNCHANGED);
  });
});

describe("recovery", () => {
  const farAhead = (BigInt(START_MS + SKEW_MS) << 16n) * 2n;

  test("takes what it is given as at any other time, and has it in order at the end", () => {
    const item = fc.record({
      key: fc.oneof(
        someKey,
        fc.nat(600).map((n) => `key:${n}`),
      ),
      text: someTextOrNone,
      time: someTime,
      origin: someOrigin,
      isFloor: fc.nat(40).map((n) => n === 0),
    });
    fc.assert(
      fc.property(fc.array(item, { maxLength: 400, size: "max" }), fc.nat(400), (items, before) => {
        const plain = new TestStore();
        const recovering = new TestStore();
        for (const [i, { key, text, time, origin, isFloor }] of items.entries()) {
          if (i === before) recovering.store.beginRecovery();
          // Some 2 s ahead at most, so that the plain one takes it too.
          plain.nowMs = recovering.nowMs = START_MS + 2_000;
          const at = (BigInt(START_MS + time.ms) << 16n) | BigInt(time.counter);
          const state = { version: versionOf(at, origin), text, expiresAtMs: 0, parts: null };
          for (const { store } of [plain, recovering]) {
            if (isFloor) store.applyFloor(high(at), low(at), high(origin), low(origin));
            else store.apply(entryOf(key, state));
          }
        }
        if (items.length <= before) recovering.store.beginRecovery();
        expect(recovering.ordered()).toEqual([]);
        inOneGo(recovering.store.endRecovery());
        for (const goOn of [
          (_: TestStore) => {},
          (each: TestStore) => {
            for (let n = 0; n < 600; n += 3) each.increment(`key:${n}`, 1n);
          },
          (each: TestStore) => each.sweep(),
          (each: TestStore) => {
            for (let n = 0; n < 600; n += 2) each.delete(`key:${n}`);
          },
        ]) {
          goOn(plain);
          goOn(recovering);
          expect(recovering.dump()).toEqual(plain.dump());
          expect(recovering.ordered()).toEqual(plain.ordered());
          recovering.checkObserved();
        }
      }),
      { numRuns: 60 },
    );
  });

  test("takes back what is ahead of the clock, which then is not behind it", () => {
    const real = new TestStore();
    const entry = entryOf("key", {
      version: versionOf(farAhead, 5n),
      text: "5",
      expiresAtMs: 0,
      parts: null,
    });
    expect(real.store.apply(entry)).toBe(REFUSED_FUTURE);
    real.store.beginRecovery();
    expect(real.store.applyFloor(high(farAhead), 0, 0, 0)).toBe(APPLIED);
    expect(real.store.apply(entry)).toBe(APPLIED);
    inOneGo(real.store.endRecovery());
    expect(real.get("key")).toBe("5");
    expect(real.set("key", "6")).toBe(APPLIED);
    expect(real.get("key")).toBe("6");
    // Not a moment longer.
    expect(
      real.store.apply(
        entryOf("key", {
          version: versionOf(farAhead * 2n, 5n),
          text: "7",
          expiresAtMs: 0,
          parts: null,
        }),
      ),
    ).toBe(REFUSED_FUTURE);
  });

  test("takes back what is beyond the memory limit, and the limit holds from then on", () => {
    const real = new TestStore(1_048_576);
    const value = "v".repeat(1_000);
    real.store.beginRecovery();
    for (let i = 0; i < 3_000; i++) {
      const version = versionOf(BigInt(START_MS) << 16n, BigInt(i));
      const entry = entryOf(`key${i}`, { version, text: value, expiresAtMs: 0, parts: null });
      expect(real.store.apply(entry)).toBe(APPLIED);
    }
    inOneGo(real.store.endRecovery());
    expect(real.store.bytes()).toBeGreaterThan(3_000_000);
    expect(real.ordered()).toHaveLength(3_000);
    expect(real.set("one more", "v".repeat(40_000))).toBe(REFUSED_FULL);
    expect(real.delete("key0")).toBeTrue();
  });
});

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

/** The store against a naive one, and its promises to the nodes that share its data. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { HybridClock } from "../../src/core/data/clock.ts";
import { Int64 } from "../../src/core/data/int64.ts";
import { Entry } from "../../src/core/data/entry.ts";
import {
  APPLIED,
  NOT_A_NUMBER,
  OUT_OF_RANGE,
  REFUSED_FULL,
  REFUSED_FUTURE,
} from "../../src/core/store/outcome.ts";
import { inOneGo } from "../../src/core/store/pieces.ts";
import { Store } from "../../src/core/store/store.ts";
import { seeded } from "../support/random.ts";
import { NaiveStore, shown, versionOf, type Part, type State } from "./naive-store.ts";
import { contentsOf } from "../support/entry-contents.ts";
import {
  START_MS,
  SKEW_MS,
  GRACE_MS,
  ORIGIN,
  MAX,
  bytes,
  high,
  low,
  toInt64,
  entryOf,
  TestStore,
} from "./test-store.ts";

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
  fc.record(fields).map((values) => ({ do: name, ...values }));

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
                  ? present
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

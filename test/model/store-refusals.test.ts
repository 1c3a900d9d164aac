/** What the store refuses, and that it leaves no trace. */
import { describe, expect, test } from "bun:test";
import { Entry, KIND_COUNTER, KIND_HUSK, KIND_TOMBSTONE } from "../../src/core/data/entry.ts";
import {
  APPLIED,
  REFUSED_FUTURE,
  REFUSED_INVALID,
  REFUSED_READ_ONLY,
  UNCHANGED,
} from "../../src/core/store/outcome.ts";
import { versionOf, type State } from "./naive-store.ts";
import { START_MS, SKEW_MS, high, low, entryOf, TestStore } from "./test-store.ts";

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

/** A store on a clock that the test moves, and entries for it, for the tests of the store. */
import { expect } from "bun:test";
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
import { APPLIED } from "../../src/core/store/outcome.ts";
import { KEEP_EXPIRY } from "../../src/core/store/own-writes.ts";
import { Store } from "../../src/core/store/store.ts";
import { seeded } from "../support/random.ts";
import type { State } from "./naive-store.ts";
import { contentsOf } from "../support/entry-contents.ts";

/** When the clock of each begins, in Unix ms. */
export const START_MS = 1_700_000_000_000;
/** How far ahead an entry may be, in ms. */
export const SKEW_MS = 1_000;
/** How long deletions are kept. */
export const GRACE_MS = 5_000;
/** The store's own. */
export const ORIGIN = { high: 0, low: 1 };
/** The lower word of a bigint. */
const MASK = 0xffff_ffffn;
/** The largest counter. */
export const MAX = 2n ** 63n - 1n;

/** Text in latin1. */
export const bytes = (text: string): Uint8Array => Buffer.from(text, "latin1");
/** The upper 32 bits, unsigned. */
export const high = (word: bigint): number => Number((word >> 32n) & MASK);
/** The lower 32 bits, unsigned. */
export const low = (word: bigint): number => Number(word & MASK);
/** The same number. */
export const toInt64 = (n: bigint): Int64 => new Int64().set(high(n) | 0, low(n));

/** The entry that stands for a state of the naive store. */
export function entryOf(key: string, state: State): Entry {
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

/** The store, with an observer that knows what it was told. */
export class TestStore {
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

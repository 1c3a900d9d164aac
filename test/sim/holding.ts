/**
 * What a node holds, as the oracle sees it: for each key its base, and up to which time it has
 * the increments of each origin.
 */
import type { Entry } from "../../src/core/data/entry.ts";

/**
 * What a node holds of one key: a base, twice its version plus 1 when it is no string, and
 * increments on it; and beside that an expiry, twice its version plus 1 when it is never.
 */
export interface Held {
  base: bigint;
  expiry: bigint;
  /** For each origin, up to which time its increments on this base are held. */
  parts: Map<bigint, bigint>;
}

/** What one node holds. */
export class Holding {
  readonly keys = new Map<string, Held>();
  private flushed = 0n;

  /** What has a base below it is gone. */
  get floor(): bigint {
    return this.flushed;
  }

  /** A flush takes what is below it, with the expiry of it, however late that was set. */
  raiseFloor(floor: bigint): void {
    this.flushed = floor;
    for (const [key, { base }] of this.keys) if (base >> 1n < floor) this.keys.delete(key);
  }

  clone(): Holding {
    const copy = new Holding();
    for (const [key, held] of this.keys) {
      copy.keys.set(key, { ...held, parts: new Map(held.parts) });
    }
    copy.flushed = this.flushed;
    return copy;
  }

  /** Takes up everything the other holds. */
  join(other: Holding): void {
    if (other.floor > this.floor) this.raiseFloor(other.floor);
    for (const [key, held] of other.keys) {
      // What is flushed here leaves nothing, no expiry either, to what was written since.
      if (held.base >> 1n >= this.floor) this.joinKey(key, held);
    }
  }

  joinKey(key: string, { base, parts, expiry }: Held): void {
    const held = this.keys.get(key);
    const isNewer = held === undefined || base > held.base;
    const latest = held !== undefined && held.expiry > expiry ? held.expiry : expiry;
    if (isNewer) this.keys.set(key, { base, parts: new Map(parts), expiry: latest });
    else held.expiry = latest;
    if (isNewer || base < held.base) return;
    for (const [origin, time] of parts) {
      if (time > (held.parts.get(origin) ?? 0n)) held.parts.set(origin, time);
    }
  }
}

/**
 * Up to which time the increments of an origin are held: as a part of their own, or in the fold of
 * all runs of its node, whose origin ends in 28 bits that are set.
 */
export function heldUntil(parts: ReadonlyMap<bigint, bigint>, origin: bigint): bigint {
  const own = parts.get(origin) ?? 0n;
  const fold = parts.get(foldOf(origin)) ?? 0n;
  return own > fold ? own : fold;
}

/** The origin of the fold of an origin's node. */
export function foldOf(origin: bigint): bigint {
  return origin | 0xfff_ffffn;
}

/** What the keys begin with that a liar writes, as of any time, so that nothing need be true of them. */
export const LIARS_KEYS = "liar:";

/** Whether a key is a liar's. */
export function isLiars(key: string): boolean {
  return key.startsWith(LIARS_KEYS);
}

/** Whether one has all that the other has of a key. */
export function includes(one: Held, other: Held): boolean {
  if (one.expiry < other.expiry) return false;
  if (one.base !== other.base) return one.base > other.base;
  return [...other.parts].every(([origin, time]) => heldUntil(one.parts, origin) >= time);
}

/** What an entry is to the oracle. */
export function readState(entry: Entry): Held {
  const parts = new Map<bigint, bigint>();
  const { kind, timeHigh, timeLow, originHigh, originLow, expiryVersion } = entry;
  let version = versionOf(timeHigh, timeLow, originHigh, originLow);
  let isNone = kind === KIND_TOMBSTONE;
  if (kind === KIND_COUNTER) {
    const { value, valueOffset, valueLength } = entry;
    const view = new DataView(value.buffer, value.byteOffset + valueOffset, valueLength);
    version = (view.getBigUint64(1) << 64n) | view.getBigUint64(9);
    isNone = view.getUint8(0) === 1;
    for (let at = 25; at < valueLength; at += 32) {
      parts.set(view.getBigUint64(at), view.getBigUint64(at + 8));
    }
  }
  const { timeHigh: high, timeLow: low, originHigh: oHigh, originLow: oLow } = expiryVersion;
  const apart = versionOf(high, low, oHigh, oLow);
  const never = entry.expiresAtMs === 0 ? 1n : 0n;
  const expiry = (apart === 0n ? version : apart) * 2n + never;
  return { base: version * 2n + (isNone ? 1n : 0n), parts, expiry };
}

/** A version as one number. */
export function versionOf(
  timeHigh: number,
  timeLow: number,
  originHigh: number,
  originLow: number,
): bigint {
  const time = (BigInt(timeHigh) << 32n) | BigInt(timeLow);
  return (time << 64n) | (BigInt(originHigh) << 32n) | BigInt(originLow);
}

/** When a base was written, in Unix ms. */
export function baseMs(base: bigint): number {
  // Below the milliseconds: a bit for the kind, 64 of the origin, 16 of the clock's counter.
  return Number(base >> 81n);
}

/** Bytes as text. */
export function textOf(bytes: Uint8Array, offset = 0, length = bytes.length): string {
  return decoder.decode(bytes.subarray(offset, offset + length));
}

const decoder = new TextDecoder();
const KIND_TOMBSTONE = 1;
const KIND_COUNTER = 2;

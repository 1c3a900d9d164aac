/**
 * Signed 64-bit integers in two words, and their decimal text: a number of the language is exact up
 * to 2^53 only. PURE.
 */

/** The longest decimal text of a number, sign included. */
export const MAX_NUMBER_TEXT_BYTES = 20;

const BILLION = 1_000_000_000;
const WORD = 2 ** 32;

/** A signed 64-bit integer in two words; `high` carries the sign. Reused, never kept. */
export class Int64 {
  high = 0;
  low = 0;

  /** Sets both words; `low` is unsigned, `high` signed. */
  set(high: number, low: number): this {
    this.high = high | 0;
    this.low = low >>> 0;
    return this;
  }
}

/**
 * Reads a signed 64-bit decimal as Redis does: an optional minus, no plus, no leading
 * zeros, no spaces. False when the bytes are anything else or out of range.
 */
export function parseInt64(
  bytes: Uint8Array,
  offset: number,
  length: number,
  into: Int64,
): boolean {
  if (length === 0 || length > MAX_NUMBER_TEXT_BYTES) return false;
  const negative = bytes[offset] === 0x2d;
  const first = negative ? offset + 1 : offset;
  const end = offset + length;
  if (first === end) return false;
  if (bytes[first] === 0x30) {
    if (end - first !== 1 || negative) return false;
    into.set(0, 0);
    return true;
  }
  let high = 0;
  let low = 0;
  for (let i = first; i < end; i++) {
    const digit = bytes[i] - 0x30;
    if (digit < 0 || digit > 9) return false;
    const scaled = low * 10 + digit;
    low = scaled >>> 0;
    high = high * 10 + (scaled - low) / 0x1_0000_0000;
    if (high > 0xffff_ffff) return false;
  }
  // Magnitude is (high, low), both unsigned; at most 2^63, and that only when negative.
  if (high > 0x8000_0000) return false;
  if (high === 0x8000_0000 && !(negative && low === 0)) return false;
  if (negative) negate(high, low, into);
  else into.set(high, low);
  return true;
}

function negate(high: number, low: number, into: Int64): void {
  const negatedLow = (~low + 1) >>> 0;
  into.set(~high + (negatedLow === 0 ? 1 : 0), negatedLow);
}

/** Writes the decimal text of `number` at `offset`; returns its length, at most 20. */
export function formatInt64(number: Int64, out: Uint8Array, offset: number): number {
  let at = offset;
  let high = number.high;
  let low = number.low;
  if (high < 0) {
    out[at++] = 0x2d;
    negate(high, low, magnitude);
    high = magnitude.high >>> 0;
    low = magnitude.low;
  }
  if (high < 0x20_0000) return at - offset + formatSafe(high * 0x1_0000_0000 + low, out, at);
  // Above 2^53: split off the last nine digits by long division on 16-bit limbs.
  let quotient = 0;
  let rest = 0;
  for (let limb = 3; limb >= 0; limb--) {
    const word = limb > 1 ? high : low;
    rest = rest * 65_536 + ((word >>> (limb & 1 ? 16 : 0)) & 0xffff);
    const digit = Math.floor(rest / BILLION);
    quotient = quotient * 65_536 + digit;
    rest -= digit * BILLION;
  }
  at += formatSafe(quotient, out, at);
  for (let i = 8; i >= 0; i--) {
    out[at + i] = 0x30 + (rest % 10);
    rest = Math.floor(rest / 10);
  }
  return at + 9 - offset;
}

function formatSafe(number: number, out: Uint8Array, offset: number): number {
  let length = 1;
  for (let limit = 10; number >= limit; limit *= 10) length++;
  let at = offset + length - 1;
  let rest = number;
  // A whole number of 32 bits is divided several times as fast.
  for (; rest > 0x7fff_ffff; at--) {
    const next = Math.floor(rest / 10);
    out[at] = 0x30 + (rest - next * 10);
    rest = next;
  }
  for (let left = rest | 0; at >= offset; at--) {
    const next = (left / 10) | 0;
    out[at] = 0x30 + (left - next * 10);
    left = next;
  }
  return length;
}

const magnitude = new Int64();

/** Adds `delta` to `number`; false, with nothing changed, when the sum is outside 64 bits. */
export function addInt64(number: Int64, delta: Int64): boolean {
  const low = number.low + delta.low;
  const high = number.high + delta.high + (low >= WORD ? 1 : 0);
  if (high !== (high | 0)) return false;
  number.set(high, low);
  return true;
}

/**
 * Puts entry ids in the order of their keys, a million in a fraction of a second.
 *
 * Keys that come in order already, as keys with a date in them do, are only looked through. The
 * others are sorted and merged into those. Sorting reads each key once, in the order given, which
 * is mostly the order in memory. It takes the eight bytes after the prefix that all keys share, and
 * orders the keys by those with a radix sort (least significant digit first; Knuth, TAOCP 3,
 * 5.2.5). Only keys that agree in those eight bytes are looked at again.
 */
import { KeySlice, type KeySource } from "./key-order.ts";

/** Up to this many are sorted by insertion. */
const FEW = 16;
/**
 * Keys that agree in this many bytes are compared as a whole: they may differ only by zeros at the
 * end.
 */
const DEEP_BYTES = 256;

type Compare = (a: number, b: number) => number;

/** Eight bytes of each of some keys, in the order of the keys. */
export interface KeyWindow {
  /** Where in the keys these bytes begin. All keys share what comes before. */
  readonly skip: number;
  /** The first four of them, and the others, big-endian, zeros past the end of a key. */
  readonly high: Uint32Array;
  readonly low: Uint32Array;
}

/**
 * Sorts ids by key, in place. No two of them have the same key. Returns what was looked at of each
 * key, so that nobody has to look again; null if that was not the same of all.
 */
export function sortByKey(ids: Uint32Array, keys: KeySource): KeyWindow | null {
  const key = new KeySlice();
  const compare: Compare = (a, b) => {
    keys.locateKey(b, key);
    return keys.compareToKey(a, key.bytes, key.offset, key.length);
  };
  const run = ascendingRun(ids, compare);
  if (run < ids.length / 2) return sortRange(ids, 0, ids.length, 0, keys, compare);
  if (run < ids.length) {
    const rest = ids.slice(run);
    sortRange(rest, 0, rest.length, 0, keys, compare);
    mergeFromEnd(ids, run, rest, compare);
  }
  return null;
}

/** How many ids at the start ascend. */
function ascendingRun(ids: Uint32Array, compare: Compare): number {
  let end = 1;
  while (end < ids.length && compare(ids[end - 1], ids[end]) < 0) end++;
  return Math.min(end, ids.length);
}

/** Merges the first `count` of `ids` and the `rest`, both ascending, into `ids`. */
function mergeFromEnd(ids: Uint32Array, count: number, rest: Uint32Array, compare: Compare): void {
  let left = count - 1;
  let right = rest.length - 1;
  for (let at = ids.length - 1; right >= 0; at--) {
    const takeLeft = left >= 0 && compare(ids[left], rest[right]) > 0;
    ids[at] = takeLeft ? ids[left--] : rest[right--];
  }
}

/** Sorts the ids from `start` to `end`, whose keys agree in their first `skip` bytes. */
function sortRange(
  ids: Uint32Array,
  start: number,
  end: number,
  skip: number,
  keys: KeySource,
  compare: Compare,
): KeyWindow | null {
  if (end - start <= FEW) {
    insertionSort(ids, start, end, compare);
    return null;
  }
  const shared = sharedBytes(ids, start, end, skip, keys);
  if (shared >= DEEP_BYTES) {
    ids.subarray(start, end).sort(compare);
    return null;
  }
  const unsorted = ids.slice(start, end);
  const high = wordsOf(unsorted, shared, keys);
  const low = wordsOf(unsorted, shared + 4, keys);
  const order = orderOf(high, low);
  for (let i = 0; i < order.length; i++) ids[start + i] = unsorted[order[i]];
  for (let from = 0; from < order.length;) {
    const first = order[from];
    let to = from + 1;
    while (to < order.length && high[order[to]] === high[first] && low[order[to]] === low[first])
      to++;
    if (to - from > 1) sortRange(ids, start + from, start + to, shared + 8, keys, compare);
    from = to;
  }
  return {
    skip: shared,
    high: high.map((_, i) => high[order[i]]),
    low: low.map((_, i) => low[order[i]]),
  };
}

function insertionSort(ids: Uint32Array, start: number, end: number, compare: Compare): void {
  for (let i = start + 1; i < end; i++) {
    const id = ids[i];
    let at = i;
    for (; at > start && compare(ids[at - 1], id) > 0; at--) ids[at] = ids[at - 1];
    ids[at] = id;
  }
}

/**
 * Length of the prefix that the keys share, padded with zeros, at least `skip` and up to
 * DEEP_BYTES.
 */
function sharedBytes(
  ids: Uint32Array,
  start: number,
  end: number,
  skip: number,
  keys: KeySource,
): number {
  const first = ids[start];
  let shared = DEEP_BYTES;
  for (let i = start + 1; i < end && shared > skip; i++) {
    for (let at = skip; at < shared; at += 4) {
      const difference = keys.prefix32(first, at) ^ keys.prefix32(ids[i], at);
      if (difference !== 0) shared = Math.min(shared, at + (Math.clz32(difference) >>> 3));
    }
  }
  return Math.max(shared, skip);
}

/** Four bytes of each key, as unsigned numbers. */
function wordsOf(ids: Uint32Array, skip: number, keys: KeySource): Uint32Array {
  const words = new Uint32Array(ids.length);
  for (let i = 0; i < ids.length; i++) words[i] = keys.prefix32(ids[i], skip) ^ 0x8000_0000;
  return words;
}

/** The indices that put the pairs of words in order, high word first. */
function orderOf(high: Uint32Array, low: Uint32Array): Uint32Array {
  let order = new Uint32Array(high.length).map((_, i) => i);
  let spare = new Uint32Array(high.length);
  for (const words of [low, high]) {
    const varying = varyingBits(words);
    for (let shift = 0; shift < 32; shift += 8) {
      if (((varying >>> shift) & 0xff) === 0) continue;
      distribute(words, shift, order, spare);
      [order, spare] = [spare, order];
    }
  }
  return order;
}

function varyingBits(words: Uint32Array): number {
  let varying = 0;
  for (let i = 1; i < words.length; i++) varying |= words[i] ^ words[0];
  return varying;
}

/** Orders indices by one byte of their words; those that agree in it stay as they are. */
function distribute(words: Uint32Array, shift: number, from: Uint32Array, to: Uint32Array): void {
  const next = new Uint32Array(256);
  for (let i = 0; i < words.length; i++) next[(words[i] >>> shift) & 0xff]++;
  for (let byte = 0, sum = 0; byte < 256; byte++) {
    const count = next[byte];
    next[byte] = sum;
    sum += count;
  }
  for (let i = 0; i < from.length; i++) {
    const index = from[i];
    to[next[(words[index] >>> shift) & 0xff]++] = index;
  }
}

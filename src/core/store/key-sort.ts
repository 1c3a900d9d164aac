/**
 * Puts entry ids in the order of their keys, a million in a tenth of a second.
 *
 * Keys that come in order already, as keys with a date in them do, are only looked through. The
 * others are sorted and merged into those. Sorting reads each key once, in the order given, which
 * is mostly the order in memory. It takes the eight bytes after the prefix that all keys share, and
 * orders ids together with those by a radix sort (least significant digit first; Knuth, TAOCP 3,
 * 5.2.5), which goes through memory from front to back. Only keys that agree in those eight bytes
 * are looked at again.
 */
import { release } from "../bytes.ts";
import { KeySlice, prefix32, type KeySource } from "./key-order.ts";
import type { Pieces } from "./pieces.ts";

/** Up to this many are sorted by insertion. */
const FEW = 16;
/**
 * Keys that agree in this many bytes are compared as a whole: they may differ only by zeros at the
 * end.
 */
const DEEP_BYTES = 256;
/** So many ids are gone over in a piece. */
const PIECE_IDS = 32_768;
/** From so many ids on it takes two bytes at a time: counting 65,536 values costs some 0.1 ms. */
const MANY = 65_536;
/** The bytes that all keys share are guessed from so many. */
const SAMPLES = 64;

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
 * key, so that nobody has to look again; null if that was not the same of all. Its memory is the
 * caller's to give back.
 */
export function* sortByKey(ids: Uint32Array, keys: KeySource): Pieces<KeyWindow | null> {
  const key = new KeySlice();
  const compare: Compare = (a, b) => {
    keys.locateKey(b, key);
    return keys.compareToKey(a, key.bytes, key.offset, key.length);
  };
  const run = yield* ascendingRun(ids, compare);
  if (run < ids.length / 2) return yield* sortRange(ids, keys, 0, compare);
  if (run < ids.length) {
    const rest = ids.slice(run);
    yield* sortRange(rest, keys, 0, compare);
    yield* mergeFromEnd(ids, run, rest, compare);
  }
  return null;
}

/** How many ids at the start ascend. */
function* ascendingRun(ids: Uint32Array, compare: Compare): Pieces<number> {
  let end = Math.min(1, ids.length);
  while (end < ids.length) {
    const upTo = Math.min(ids.length, end + PIECE_IDS);
    while (end < upTo && compare(ids[end - 1], ids[end]) < 0) end++;
    if (end < upTo) return end;
    yield;
  }
  return end;
}

/** Merges the first `count` of `ids` and the `rest`, both ascending, into `ids`. */
function* mergeFromEnd(
  ids: Uint32Array,
  count: number,
  rest: Uint32Array,
  compare: Compare,
): Pieces<void> {
  let left = count - 1;
  let right = rest.length - 1;
  for (let at = ids.length - 1; right >= 0; at--) {
    const takeLeft = left >= 0 && compare(ids[left], rest[right]) > 0;
    ids[at] = takeLeft ? ids[left--] : rest[right--];
    if (at % PIECE_IDS === 0) yield;
  }
}

/** Sorts ids whose keys agree in their first `skip` bytes. */
function* sortRange(
  ids: Uint32Array,
  keys: KeySource,
  skip: number,
  compare: Compare,
): Pieces<KeyWindow | null> {
  if (ids.length <= FEW) {
    insertionSort(ids, compare);
    return null;
  }
  const reader = new WindowReader(ids, keys, skip);
  let columns = newColumns(ids);
  for (let isRight = false; !isRight;) {
    if (reader.shared >= DEEP_BYTES) {
      ids.sort(compare);
      return null;
    }
    isRight = yield* readWindows(reader, columns);
  }
  columns = yield* radixSort(columns);
  ids.set(columns.ids);
  release(columns.ids);
  const { high, low } = columns;
  let since = 0;
  for (let from = 0; from < ids.length;) {
    const to = endOfAlike(high, low, from);
    if (to - from > FEW) yield* sortRange(ids.subarray(from, to), keys, reader.shared + 8, compare);
    else if (to - from > 1) insertionSort(ids.subarray(from, to), compare);
    since += to - from;
    from = to;
    if (since < PIECE_IDS) continue;
    since = 0;
    yield;
  }
  return { skip: reader.shared, high, low };
}

function insertionSort(ids: Uint32Array, compare: Compare): void {
  for (let i = 1; i < ids.length; i++) {
    const id = ids[i];
    let at = i;
    for (; at > 0 && compare(ids[at - 1], id) > 0; at--) ids[at] = ids[at - 1];
    ids[at] = id;
  }
}

/** The end of those from `from` on that agree with it in both words. */
function endOfAlike(high: Uint32Array, low: Uint32Array, from: number): number {
  let to = from + 1;
  while (to < high.length && high[to] === high[from] && low[to] === low[from]) to++;
  return to;
}

/** Ids, and eight bytes of the key of each. */
interface Columns {
  readonly ids: Uint32Array;
  readonly high: Uint32Array;
  readonly low: Uint32Array;
}

function newColumns(ids: Uint32Array): Columns {
  const { length } = ids;
  return { ids: ids.slice(), high: new Uint32Array(length), low: new Uint32Array(length) };
}

/** Reads eight bytes of keys, and finds out how many before those they all share. */
class WindowReader {
  /**
   * Length of the prefix that the keys looked at so far share, padded with zeros, at least `skip`
   * and up to DEEP_BYTES.
   */
  shared = DEEP_BYTES;
  private readonly key = new KeySlice();
  /** The first key's words. */
  private readonly words = new Int32Array(DEEP_BYTES / 4);

  constructor(
    ids: Uint32Array,
    private readonly keys: KeySource,
    private readonly skip: number,
  ) {
    for (let i = 0; i < this.words.length; i++) this.words[i] = keys.prefix32(ids[0], i * 4);
    const step = Math.ceil(ids.length / SAMPLES);
    for (let i = step; i < ids.length; i += step) {
      keys.locateKey(ids[i], this.key);
      this.compare();
    }
  }

  /** Reads the bytes from `at` on of the keys from number `from` to `to`. */
  read({ ids, high, low }: Columns, from: number, to: number, at: number): void {
    const { key, keys } = this;
    for (let i = from; i < to; i++) {
      keys.locateKey(ids[i], key);
      this.compare();
      const { bytes, offset, length } = key;
      high[i] = prefix32(bytes, offset, length, at) ^ 0x8000_0000;
      low[i] = prefix32(bytes, offset, length, at + 4) ^ 0x8000_0000;
    }
  }

  private compare(): void {
    const { words, skip } = this;
    const { bytes, offset, length } = this.key;
    for (let at = skip & ~3; at < this.shared; at += 4) {
      const difference = words[at >>> 2] ^ prefix32(bytes, offset, length, at);
      if (difference === 0) continue;
      const shared = Math.max(skip, at + (Math.clz32(difference) >>> 3));
      if (shared < this.shared) this.shared = shared;
      return;
    }
  }
}

/** False if the keys share less than it seemed: then it takes a second pass. */
function* readWindows(reader: WindowReader, columns: Columns): Pieces<boolean> {
  const at = reader.shared;
  const count = columns.ids.length;
  for (let from = 0; from < count; from += PIECE_IDS) {
    reader.read(columns, from, Math.min(count, from + PIECE_IDS), at);
    yield;
  }
  return reader.shared === at;
}

/** Orders by both words, `high` first; returns the columns in which the result is. */
function* radixSort(unsorted: Columns): Pieces<Columns> {
  const count = unsorted.ids.length;
  const bits = count >= MANY ? 16 : 8;
  let from = unsorted;
  let to = newColumns(unsorted.ids);
  for (const word of ["low", "high"] as const) {
    for (let shift = 0; shift < 32; shift += bits) {
      const next = new Uint32Array(1 << bits);
      for (let at = 0; at < count; at += PIECE_IDS) {
        countDigits(from[word], shift, next, at, Math.min(count, at + PIECE_IDS));
        yield;
      }
      // All the same?
      if (next[(from[word][0] >>> shift) & (next.length - 1)] === count) continue;
      toStarts(next);
      for (let at = 0; at < count; at += PIECE_IDS) {
        distribute(from, to, from[word], shift, next, at, Math.min(count, at + PIECE_IDS));
        yield;
      }
      [from, to] = [to, from];
    }
  }
  // A million of them are 12 MB, which the collector might leave where they are for a long time.
  for (const words of [to.ids, to.high, to.low]) release(words);
  return from;
}

function countDigits(
  words: Uint32Array,
  shift: number,
  counts: Uint32Array,
  start: number,
  end: number,
): void {
  const mask = counts.length - 1;
  for (let i = start; i < end; i++) counts[(words[i] >>> shift) & mask]++;
}

/** Makes of how many there are of each digit where the first of them goes. */
function toStarts(counts: Uint32Array): void {
  for (let digit = 0, sum = 0; digit < counts.length; digit++) {
    const count = counts[digit];
    counts[digit] = sum;
    sum += count;
  }
}

/** Moves rows to where their digit says; those that agree in it stay in order. */
function distribute(
  from: Columns,
  to: Columns,
  words: Uint32Array,
  shift: number,
  next: Uint32Array,
  start: number,
  end: number,
): void {
  const mask = next.length - 1;
  const { ids, high, low } = from;
  const { ids: toIds, high: toHigh, low: toLow } = to;
  for (let i = start; i < end; i++) {
    const at = next[(words[i] >>> shift) & mask]++;
    toIds[at] = ids[i];
    toHigh[at] = high[i];
    toLow[at] = low[i];
  }
}

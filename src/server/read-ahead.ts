/**
 * Hides the latency of memory from pipelined requests.
 *
 * A lookup is a chain of three loads, each from somewhere else in a large memory, and
 * each waits for the one before. Done request by request, most of the time goes by waiting. So
 * before a run of requests is executed, their keys are found by a quick look over the
 * bytes, and the three loads are made for all of them, step by step: loads of one step do not
 * depend on each other, so the processor has many under way at once. (Valkey 8 does the same,
 * "memory prefetching" in its release notes; a GET from a million keys takes 35 % less time here.)
 *
 * Nothing depends on it: what it makes of bytes that are no request is of no consequence.
 */
import { PREFETCH_KEYS } from "../core/store/keyed-entries.ts";
import type { Store } from "../core/store/store.ts";

const STAR = 0x2a;
const CR = 0x0d;
/** The least bytes of a request with a key: `*2 $3 GET $1 k`, each with its CRLF. */
const LEAST_REQUEST_BYTES = 20;

/** See the file header. */
export class ReadAhead {
  private readonly inputs: Uint8Array[] = Array.from({ length: PREFETCH_KEYS }, () => NOTHING);
  private readonly starts = new Int32Array(PREFETCH_KEYS);
  private readonly lengths = new Int32Array(PREFETCH_KEYS);
  private keys = 0;
  /** The chunks that were looked at together, from which one on, and how many are left. */
  private chunks: readonly Uint8Array[] = [];
  private nextChunk = 0;
  private chunksLeft = 0;

  constructor(private readonly store: Store) {}

  /**
   * Touches what the requests from `from` on will need, up to PREFETCH_KEYS keys. Returns where
   * it stopped looking: no need to call again before execution has come that far.
   */
  look(input: Uint8Array, from: number, end: number): number {
    if (this.chunksLeft > 0 && this.isLookedAt(input)) return end;
    this.keys = 0;
    const at = this.collect(input, from, end);
    if (this.keys > 1) this.prefetch();
    return at > from ? at : end;
  }

  /**
   * Touches what the requests in several chunks will need, from chunk `from` on, up to
   * PREFETCH_KEYS keys. They are to be worked on in this order, as one run of the store, until
   * `endMany`. Returns up to which chunk, but one at least.
   */
  beginMany(chunks: readonly Uint8Array[], from: number): number {
    this.keys = 0;
    const end = Math.min(chunks.length, from + MOST_CHUNKS);
    let at = from;
    for (; at < end && this.keys < PREFETCH_KEYS; at++) {
      const { keys } = this;
      const { length } = chunks[at];
      const hasMore = this.collect(chunks[at], 0, length) + LEAST_REQUEST_BYTES <= length;
      if (!hasMore || this.keys < PREFETCH_KEYS || at === from) continue;
      this.keys = keys;
      break;
    }
    this.chunks = chunks;
    this.nextChunk = from;
    this.chunksLeft = at - from;
    this.store.beginRun();
    if (this.keys > 1) this.prefetch();
    return at;
  }

  /** Ends what `beginMany` began. */
  endMany(): void {
    this.chunksLeft = 0;
    this.store.endRun();
  }

  /** Whether a chunk is the next of those, or one behind it, as some are not worked on. */
  private isLookedAt(input: Uint8Array): boolean {
    const { chunks, nextChunk } = this;
    for (let i = 0; i < this.chunksLeft; i++) {
      if (chunks[nextChunk + i] !== input) continue;
      this.nextChunk += i + 1;
      this.chunksLeft -= i + 1;
      return true;
    }
    return false;
  }

  private prefetch(): void {
    const { inputs, starts, lengths, keys } = this;
    this.store.prefetch(inputs, starts, lengths, keys);
  }

  /** Notes keys of the requests from `from` on. Returns where it stopped looking. */
  private collect(input: Uint8Array, from: number, end: number): number {
    const { inputs, starts, lengths } = this;
    let { keys } = this;
    let at = from;
    while (keys < PREFETCH_KEYS && at + LEAST_REQUEST_BYTES <= end && input[at] === STAR) {
      let parts = input[at + 1] - 0x30;
      at += 2;
      if (input[at] !== CR) parts = parts * 10 + input[at++] - 0x30;
      // A hundred parts and more: a request that does enough by itself.
      if (input[at] !== CR || parts < 2) break;
      at += 2;
      let nextKey = 1;
      let step = parts;
      for (let part = 0; part < parts && at < end; part++) {
        let length = 0;
        let digit = 0;
        for (at++; at < end; at++) {
          digit = input[at] - 0x30;
          if (digit < 0 || digit > 9) break;
          length = length * 10 + digit;
        }
        at += 2;
        if (part === 0) step = keyStep(input, at, length, parts);
        else if (part === nextKey) {
          nextKey += step;
          if (at + length <= end && length <= LONGEST_KEY_BYTES && keys < PREFETCH_KEYS) {
            inputs[keys] = input;
            starts[keys] = at;
            lengths[keys++] = length;
          }
        }
        at += length + 2;
      }
    }
    this.keys = keys;
    return at;
  }
}

/**
 * How far from one key to the next, by the name of a command at `at`: MGET has nothing but keys,
 * MSET a value behind each, and nearly all others a single key.
 */
function keyStep(input: Uint8Array, at: number, length: number, parts: number): number {
  if (length < 4 || (input[at] | LOWER) !== LOWER_M) return parts;
  const second = input[at + 1] | LOWER;
  return second === LOWER_G ? 1 : second === LOWER_S ? 2 : parts;
}

const LOWER = 0x20;
const LOWER_M = 0x6d;
const LOWER_G = 0x67;
const LOWER_S = 0x73;
/** Among so many it is looked for which one is worked on. */
const MOST_CHUNKS = 2 * PREFETCH_KEYS;
const NOTHING = new Uint8Array(0);
/** Hashing longer keys twice would cost more than it saves. */
const LONGEST_KEY_BYTES = 128;

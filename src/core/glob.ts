/**
 * Redis' glob patterns on bytes: `*`, `?`, `[abc]`, `[^a-z]`, `\` to escape.
 *
 * Stars cut a pattern into segments of elements that match one byte each. The first and the last
 * segment are bound to the ends of the key; of those between, each is looked for where the one
 * before ended, leftmost first, and what was found is never given up again: it cannot help to match
 * a segment later than one could. A segment of plain bytes is looked for in linear time (Knuth,
 * Morris and Pratt, 1977). One with `?` or a class takes segment times key at worst, so all
 * matching is counted in elements compared and may stop in the middle, to go on later.
 */
import { MAX_KEY_BYTES } from "./data/entry.ts";

/** A longer pattern is refused: it could still match no more than the longest key. */
export const MAX_PATTERN_BYTES = 2 * MAX_KEY_BYTES;

/** Elements of a pattern: a byte, any byte, or from CLASS on the number of a class. */
const ANY = 256;
const CLASS = 257;
/** A class is a set of bytes: so many 32-bit words. */
const CLASS_WORDS = 8;

/** A pattern made ready, and the matching of one key against it. */
export class Glob {
  /** Whether the key matches, once `advance` has come to an end. */
  isMatch = false;
  /** The key that `advance` is at. */
  key: Uint8Array = NOTHING;
  keyOffset = 0;
  keyLength = 0;

  private readonly elements: Int32Array;
  private elementCount = 0;
  /** Where each segment begins in `elements`, and at last the end: one segment more than stars. */
  private readonly starts: number[] = [0];
  /** The table of Knuth, Morris and Pratt for plain segments; -1 at the start of every other. */
  private readonly failure: Int32Array;
  private readonly classes: number[] = [];

  // Where `advance` is: segment, bytes of the key consumed, elements of the segment that match
  // there.
  private segment = 0;
  private at = 0;
  private matched = 0;
  /** The bytes that the segments between may use. */
  private end = 0;
  private isDone = true;
  private isKept = false;

  /** The pattern must not be longer than MAX_PATTERN_BYTES. */
  constructor(pattern: Uint8Array) {
    this.elements = new Int32Array(pattern.length);
    this.compile(pattern);
    this.starts.push(this.elementCount);
    this.failure = new Int32Array(this.elementCount);
    for (let i = 1; i < this.starts.length - 2; i++) this.prepare(i);
  }

  /**
   * Whether the whole key matches, in one go. For keys and patterns that nobody made on purpose.
   */
  matches(key: Uint8Array, offset: number, length: number): boolean {
    this.begin(key, offset, length);
    this.advance(Infinity);
    return this.isMatch;
  }

  /**
   * Begins with a key, which must stay as it is until `advance` has come to an end, or `keepKey`.
   */
  begin(key: Uint8Array, offset: number, length: number): void {
    this.key = key;
    this.keyOffset = offset;
    this.keyLength = length;
    this.isMatch = this.isDone = this.isKept = false;
    this.segment = this.at = this.matched = 0;
    this.end = length;
  }

  /** Copies the key, unless that is done: what it lies in may change. */
  keepKey(): void {
    if (this.isKept) return;
    this.isKept = true;
    this.key = this.key.slice(this.keyOffset, this.keyOffset + this.keyLength);
    this.keyOffset = 0;
  }

  /**
   * Compares up to `work` elements, but at least one segment's end. Returns what is left of the
   * work, 0 at least, or -1 if it was not enough: then it is called again.
   */
  advance(work: number): number {
    if (this.segment === 0) {
      work -= this.compareEnds();
      if (this.isDone) return Math.max(0, work);
    }
    const last = this.starts.length - 2;
    while (this.segment < last) {
      const isPlain = this.failure[this.starts[this.segment]] === 0;
      work = isPlain ? this.findPlain(work) : this.findAny(work);
      if (this.isDone) return Math.max(0, work);
      if (work <= 0) return -1;
    }
    this.isMatch = this.isDone = true;
    return work;
  }

  /** Compares the segments that are bound to the ends of the key. Returns the elements compared. */
  private compareEnds(): number {
    const { starts, keyLength } = this;
    const last = starts.length - 2;
    const head = starts[1];
    const tail = starts[last + 1] - starts[last];
    const isWhole = last === 0;
    const fits = isWhole ? keyLength === head : keyLength >= this.elementCount;
    if (!fits || !this.equals(0, 0, head)) return this.fail(head);
    if (!isWhole && !this.equals(starts[last], keyLength - tail, tail))
      return this.fail(head + tail);
    this.segment = isWhole ? last : 1;
    this.at = head;
    this.end = keyLength - (isWhole ? 0 : tail);
    return head + tail;
  }

  private fail(work: number): number {
    this.isDone = true;
    return work;
  }

  private equals(element: number, at: number, count: number): boolean {
    for (let i = 0; i < count; i++) if (!this.isAt(element + i, at + i)) return false;
    return true;
  }

  private isAt(element: number, at: number): boolean {
    const wanted = this.elements[element];
    const byte = this.key[this.keyOffset + at];
    if (wanted < CLASS) return wanted === byte || wanted === ANY;
    return (this.classes[(wanted - CLASS) * CLASS_WORDS + (byte >>> 5)] & (1 << (byte & 31))) !== 0;
  }

  /** Looks for a segment of plain bytes. Returns the work left. */
  private findPlain(work: number): number {
    const { elements, failure, key, keyOffset, end } = this;
    const start = this.starts[this.segment];
    const length = this.starts[this.segment + 1] - start;
    let { at, matched } = this;
    while (matched < length && at < end && work > 0) {
      const byte = key[keyOffset + at++];
      work--;
      while (matched > 0 && elements[start + matched] !== byte) {
        matched = failure[start + matched - 1];
        work--;
      }
      if (elements[start + matched] === byte) matched++;
    }
    this.at = at;
    this.matched = matched;
    return this.next(length, at === end, work);
  }

  /** Looks for a segment of any elements. Returns the work left. */
  private findAny(work: number): number {
    const start = this.starts[this.segment];
    const length = this.starts[this.segment + 1] - start;
    while (this.matched < length && this.at + length - this.matched <= this.end && work > 0) {
      work--;
      if (this.isAt(start + this.matched, this.at)) {
        this.matched++;
        this.at++;
      } else {
        this.at -= this.matched - 1;
        this.matched = 0;
      }
    }
    return this.next(length, this.at + length - this.matched > this.end, work);
  }

  /** Goes on to the next segment if this one is found, or ends if it cannot be any more. */
  private next(length: number, isExhausted: boolean, work: number): number {
    if (this.matched === length) {
      this.segment++;
      this.matched = 0;
    } else if (isExhausted) this.isDone = true;
    return work;
  }

  /** Fills `elements` and `starts`. */
  private compile(pattern: Uint8Array): void {
    let length = 0;
    for (let p = 0; p < pattern.length; p++) {
      const byte = pattern[p];
      if (byte === STAR) {
        this.starts.push(length);
        while (pattern[p + 1] === STAR) p++;
      } else if (byte === QUESTION) {
        this.elements[length++] = ANY;
      } else if (byte === OPENING_BRACKET) {
        this.elements[length++] = CLASS + this.classes.length / CLASS_WORDS;
        p = this.compileClass(pattern, p + 1);
      } else {
        if (byte === BACKSLASH && p + 1 < pattern.length) p++;
        this.elements[length++] = pattern[p];
      }
    }
    this.elementCount = length;
  }

  /** Adds the class whose members begin at `p`; returns where it ends. */
  private compileClass(pattern: Uint8Array, p: number): number {
    const first = this.classes.length;
    for (let i = 0; i < CLASS_WORDS; i++) this.classes.push(0);
    const isNegated = pattern[p] === CARET;
    if (isNegated) p++;
    for (; p < pattern.length && pattern[p] !== CLOSE; p++) {
      const isEscaped = pattern[p] === BACKSLASH && p + 1 < pattern.length;
      if (isEscaped) p++;
      const byte = pattern[p];
      if (!isEscaped && pattern[p + 1] === DASH && p + 2 < pattern.length) {
        p += 2;
        this.addRange(first, Math.min(byte, pattern[p]), Math.max(byte, pattern[p]));
      } else this.addRange(first, byte, byte);
    }
    for (let i = first; isNegated && i < this.classes.length; i++)
      this.classes[i] = ~this.classes[i];
    return p;
  }

  private addRange(first: number, from: number, to: number): void {
    for (let word = from >>> 5; word <= to >>> 5; word++) {
      const low = Math.max(from - word * 32, 0);
      const high = Math.min(to - word * 32, 31);
      this.classes[first + word] |= (0xffff_ffff << low) & (0xffff_ffff >>> (31 - high));
    }
  }

  /** Makes a segment's table, if all its elements are bytes. */
  private prepare(segment: number): void {
    const { elements, failure } = this;
    const start = this.starts[segment];
    const end = this.starts[segment + 1];
    for (let i = start; i < end; i++) {
      if (elements[i] < ANY) continue;
      failure[start] = -1;
      return;
    }
    let matched = 0;
    for (let i = start + 1; i < end; i++) {
      while (matched > 0 && elements[i] !== elements[start + matched]) {
        matched = failure[start + matched - 1];
      }
      if (elements[i] === elements[start + matched]) matched++;
      failure[i] = matched;
    }
  }
}

const NOTHING = new Uint8Array(0);
const STAR = 0x2a;
const QUESTION = 0x3f;
const OPENING_BRACKET = 0x5b;
const CLOSE = 0x5d;
const CARET = 0x5e;
const BACKSLASH = 0x5c;
const DASH = 0x2d;

/**
 * The few pieces of CBOR (RFC 8949) that the hot path needs: a writer into one reused
 * buffer and a pull reader that allocates nothing.
 *
 * The reader exists because what arrives comes from strangers. It trusts no length
 * before checking it against the bytes at hand, nests at most MAX_DEPTH deep, steps over no
 * more than MAX_SKIPPED items at once, and refuses tags, which no message of ours has and which let
 * a general decoder be made to build arbitrarily expensive values.
 *
 * Invariant of the reader: `start <= offset <= end`.
 */
import { readU32 } from "../core/bytes.ts";

/** Major type 0: an unsigned integer. */
export const UINT = 0;
/** Major type 2: a byte string. */
export const BYTES = 2;
/** Major type 3: a text string, UTF-8. */
export const TEXT = 3;
/** Major type 4: an array. */
export const ARRAY = 4;
/** Major type 5: a map. */
export const MAP = 5;

const MAX_DEPTH = 8;
/**
 * Most items that `skip` steps over, whatever they are nested in: no event has more by far, and
 * this many take a twentieth of a millisecond.
 */
const MAX_SKIPPED = 4_096;
const INDEFINITE = 31;
const BREAK = 0xff;
const WORD = 0x1_0000_0000;
/** From here on a native copy is faster than a loop. */
const NATIVE_COPY_BYTES = 48;

/** The bytes are not what they should be. Says where, in bytes from the start. */
export class CborError extends Error {
  override name = "CborError";
}

/** Writes CBOR into a buffer it keeps and grows; `room` first, then any writes that fit. */
export class CborWriter {
  /** What was written is `bytes[0, length)`. Replaced when `room` has to grow it. */
  bytes: Uint8Array;
  /** Bytes written so far; set it back to drop what was written after. */
  length = 0;

  constructor(capacity: number) {
    this.bytes = new Uint8Array(capacity);
  }

  /** Makes sure that `count` more bytes fit. */
  room(count: number): void {
    const needed = this.length + count;
    if (needed <= this.bytes.length) return;
    const grown = new Uint8Array(Math.max(needed, this.bytes.length * 2));
    grown.set(this.bytes.subarray(0, this.length));
    this.bytes = grown;
  }

  /** The head of an item: its major type and a value or length below 2^32. At most 5 bytes. */
  head(major: number, value: number): void {
    const bytes = this.bytes;
    const type = major << 5;
    if (value < 24) {
      bytes[this.length++] = type | value;
    } else if (value < 256) {
      bytes[this.length++] = type | 24;
      bytes[this.length++] = value;
    } else if (value < 65_536) {
      bytes[this.length++] = type | 25;
      bytes[this.length++] = value >>> 8;
      bytes[this.length++] = value;
    } else {
      bytes[this.length++] = type | 26;
      this.word(value);
    }
  }

  /** An unsigned 64-bit integer in two words, always 9 bytes long. */
  uint64(high: number, low: number): void {
    this.bytes[this.length++] = 0x1b;
    this.word(high);
    this.word(low);
  }

  /** An unsigned safe integer, always 9 bytes long. */
  integer(value: number): void {
    this.uint64(Math.floor(value / WORD), value % WORD);
  }

  /** A bare big-endian 32-bit word. */
  word(value: number): void {
    const bytes = this.bytes;
    bytes[this.length++] = value >>> 24;
    bytes[this.length++] = value >>> 16;
    bytes[this.length++] = value >>> 8;
    bytes[this.length++] = value;
  }

  /** A byte string. */
  byteString(source: Uint8Array, offset: number, length: number): void {
    this.head(BYTES, length);
    this.raw(source, offset, length);
  }

  /** A text string. Makes room itself; not for hot paths. */
  text(value: string): void {
    const encoded = new TextEncoder().encode(value);
    this.room(encoded.length + 5);
    this.head(TEXT, encoded.length);
    this.raw(encoded, 0, encoded.length);
  }

  /** Bytes that are CBOR already, or the body of a string. */
  raw(source: Uint8Array, offset: number, length: number): void {
    const bytes = this.bytes;
    let at = this.length;
    this.length += length;
    if (length >= NATIVE_COPY_BYTES) {
      bytes.set(source.subarray(offset, offset + length), at);
      return;
    }
    const end = offset + length;
    for (let from = offset; from < end; from++) bytes[at++] = source[from];
  }
}

/** Reads CBOR from the front. Everything throws CborError on bytes that do not fit. */
export class CborReader {
  bytes: Uint8Array = new Uint8Array(0);
  /** The next byte to be read. */
  offset = 0;
  /** One past the last byte. */
  end = 0;

  /** Major type of the head read last. */
  major = 0;
  /** Upper word of the value or length in the head read last. */
  high = 0;
  /** Lower word of it. */
  low = 0;
  private info = 0;
  private skipped = 0;

  /** Starts over on these bytes. */
  reset(bytes: Uint8Array): void {
    this.bytes = bytes;
    this.offset = 0;
    this.end = bytes.length;
  }

  /** Reads the head of an item into `major`, `high` and `low`. Indefinite lengths are refused. */
  head(): void {
    this.anyHead();
    if (this.info === INDEFINITE) this.fail("a definite length");
  }

  /** Reads the head of an item of that major type; returns its value or length, exact to 2^53. */
  expect(major: number): number {
    this.head();
    if (this.major !== major) this.fail(`major type ${major}`);
    return this.high * WORD + this.low;
  }

  /** Reads the head of a byte or text string that lies wholly in the bytes; returns its length. */
  string(major: number): number {
    const length = this.expect(major);
    if (length > this.end - this.offset) this.fail(`${length} more bytes`);
    return length;
  }

  /** Reads a text string. Not for hot paths. */
  text(): string {
    const length = this.string(TEXT);
    try {
      return utf8.decode(this.bytes.subarray(this.offset, (this.offset += length)));
    } catch {
      return this.fail("UTF-8");
    }
  }

  /** Steps over one item of any type but a tag. */
  skip(): void {
    this.skipped = 0;
    this.skipItem(0);
  }

  private skipItem(depth: number): void {
    if (depth > MAX_DEPTH) this.fail(`at most ${MAX_DEPTH} levels`);
    if (++this.skipped > MAX_SKIPPED) this.fail(`at most ${MAX_SKIPPED} items`);
    this.anyHead();
    const major = this.major;
    if (major === 6) this.fail("no tag");
    if (this.info === INDEFINITE) {
      this.skipIndefinite(major, depth);
      return;
    }
    const value = this.high * WORD + this.low;
    if (major === BYTES || major === TEXT) {
      if (value > this.end - this.offset) this.fail(`${value} more bytes`);
      this.offset += value;
    } else if (major === ARRAY || major === MAP) {
      const items = major === MAP ? value * 2 : value;
      // Every item takes at least a byte, so a huge count ends the loop early.
      for (let i = 0; i < items; i++) this.skipItem(depth + 1);
    }
  }

  private skipIndefinite(major: number, depth: number): void {
    if (major !== BYTES && major !== TEXT && major !== ARRAY && major !== MAP) {
      this.fail("an item");
    }
    let items = 0;
    while (this.offset < this.end && this.bytes[this.offset] !== BREAK) {
      if (++this.skipped > MAX_SKIPPED) this.fail(`at most ${MAX_SKIPPED} items`);
      // The pieces of a string are definite strings of the same type.
      if (major === BYTES || major === TEXT) {
        // In two statements: `string` moves the offset itself.
        const length = this.string(major);
        this.offset += length;
      } else {
        this.skipItem(depth + 1);
      }
      items++;
    }
    if (this.offset === this.end) this.fail("a break");
    if (major === MAP && items % 2 !== 0) this.fail("a value for the last key");
    this.offset++;
  }

  private anyHead(): void {
    if (this.offset >= this.end) this.fail("more bytes");
    const first = this.bytes[this.offset++];
    this.major = first >>> 5;
    this.info = first & 31;
    this.high = 0;
    if (this.info < 24 || this.info === INDEFINITE) {
      this.low = this.info;
      return;
    }
    const size = 1 << (this.info - 24);
    if (size > 8) this.fail("a known length");
    if (size > this.end - this.offset) this.fail(`${size} more bytes`);
    if (size === 8) this.high = this.word();
    if (size >= 4) this.low = this.word();
    else if (size === 2) this.low = (this.bytes[this.offset++] << 8) | this.bytes[this.offset++];
    else this.low = this.bytes[this.offset++];
  }

  private word(): number {
    this.offset += 4;
    return readU32(this.bytes, this.offset - 4);
  }

  /** Throws: at this byte something else was expected. */
  fail(expected: string): never {
    throw new CborError(`byte ${this.offset}: expected ${expected}`);
  }
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

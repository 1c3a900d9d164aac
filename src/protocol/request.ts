/**
 * A parsed request: the command's name and its arguments as ranges of a buffer that
 * somebody else owns. One Request is reused for all commands, so nothing is
 * allocated per command and ranges are valid only while the command runs.
 *
 * Ranges are kept relative to `base`, the start of the request in `bytes`. So a
 * request that has arrived in part can be set aside with its connection's bytes,
 * moved to another buffer, and continued.
 */
import { release } from "../core/bytes.ts";

/** See the file header. */
export class Request {
  /** The buffer the ranges point into. */
  bytes: Uint8Array = new Uint8Array(0);
  /** Where the request starts in `bytes`. */
  base = 0;
  /** Number of ranges: the name and the arguments. */
  parts = 0;
  /** Whether it came as a RESP array, so that the reply is RESP too. */
  isResp = false;

  /** RESP: parts announced by the header, 0 before it was read. */
  expectedParts = 0;
  /** RESP: bytes of the request read so far, relative to `base`. */
  readBytes = 0;
  /** RESP: how long the request is at least, as far as is known: relative to `base`. */
  neededBytes = 0;
  /** RESP: bytes of a refused argument that are still to be skipped. */
  skipBytes = 0;
  /** RESP: an argument was too large; the request is read to its end and refused. */
  isRefused = false;

  /** What `detach` made of it; null unless it was called. */
  detached: Request | null = null;

  private ranges = new Int32Array(FIRST_PARTS * 2);

  /** Number of arguments, the command's name not counted. */
  get count(): number {
    return this.parts - 1;
  }

  /** Where argument `i` starts in `bytes`; -1 is the command's name. */
  start(i: number): number {
    return this.base + this.ranges[(i + 1) << 1];
  }

  /** Length of argument `i` in bytes; -1 is the command's name. */
  length(i: number): number {
    return this.ranges[((i + 1) << 1) + 1];
  }

  /**
   * Argument `i` as text, and no more of it than its first `mostBytes`, however much was sent. Not
   * for hot paths.
   */
  text(i: number, mostBytes = MOST_TEXT_BYTES): string {
    const start = this.start(i);
    const length = Math.min(this.length(i), mostBytes);
    return decoder.decode(this.bytes.subarray(start, start + length));
  }

  /** Whether argument `i` is this word, whatever its case. `upper` is in capitals. */
  is(i: number, upper: string): boolean {
    if (i >= this.count || this.length(i) !== upper.length) return false;
    const start = this.start(i);
    for (let at = 0; at < upper.length; at++) {
      let byte = this.bytes[start + at];
      if (byte >= 0x61 && byte <= 0x7a) byte -= 32;
      if (byte !== upper.charCodeAt(at)) return false;
    }
    return true;
  }

  /**
   * The request, for work that goes on when the command has returned; this one holds nothing any
   * more. The buffer it lies in must not be written to meanwhile.
   */
  detach(): Request {
    const kept = new Request();
    kept.bytes = this.bytes;
    kept.base = this.base;
    kept.parts = this.parts;
    kept.isResp = this.isResp;
    kept.ranges = this.ranges;
    this.ranges = new Int32Array(FIRST_PARTS * 2);
    this.parts = 0;
    this.detached = kept;
    return kept;
  }

  /** Forgets the name and what follows it, `count` parts in all: then the next one is the name. */
  drop(count: number): void {
    this.ranges.copyWithin(0, count << 1, this.parts << 1);
    this.parts -= count;
  }

  /** Forgets the parts, for the next request. */
  reset(): void {
    this.parts = 0;
    this.detached = null;
    this.isResp = false;
    this.expectedParts = 0;
    this.readBytes = 0;
    this.neededBytes = 0;
    this.skipBytes = 0;
    this.isRefused = false;
    if (this.ranges.length <= KEPT_PARTS * 2) return;
    release(this.ranges);
    this.ranges = new Int32Array(FIRST_PARTS * 2);
  }

  /** Memory taken by the ranges, in bytes. */
  get rangeBytes(): number {
    return this.ranges.byteLength;
  }

  /** Adds a part. `start` is relative to `base`. */
  add(start: number, length: number): void {
    const at = this.parts << 1;
    if (at === this.ranges.length) {
      const larger = new Int32Array(at * 2);
      larger.set(this.ranges);
      if (this.parts > KEPT_PARTS) release(this.ranges);
      this.ranges = larger;
    }
    this.ranges[at] = start;
    this.ranges[at + 1] = length;
    this.parts++;
  }
}

const decoder = new TextDecoder();
/** Room for the parts of an ordinary request. */
const FIRST_PARTS = 16;
/** Room for more is not kept for the next request. */
const KEPT_PARTS = 4096;
/** No name, address or option is longer. */
const MOST_TEXT_BYTES = 1024;

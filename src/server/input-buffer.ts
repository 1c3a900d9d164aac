/** Input of a connection that is not consumed yet. */

import { releaseLarge, unfilled } from "../core/bytes.ts";

/** The bytes are `bytes[start]` to `bytes[end]`; whoever consumes them moves `start`. */
export class InputBuffer {
  bytes: Uint8Array = NOTHING;
  start = 0;
  end = 0;
  /** How long the unfinished request says that it is; 0 when it does not say. */
  expectedBytes = 0;
  /** Whether `bytes` is a buffer of our own, with room beyond `end`. */
  private hasRoom = false;
  /** Somebody else will look at `bytes` later. */
  private isLent = false;

  /** Bytes not consumed. */
  get length(): number {
    return this.end - this.start;
  }

  /** Takes a chunk, which is the inbox's to keep. */
  add(chunk: Uint8Array): void {
    if (this.start === this.end) this.hold(chunk, chunk.length);
    else this.append(chunk);
  }

  /** Lets go of what is consumed: a few bytes must not keep the large chunk they came in. */
  compact(): void {
    const { length } = this;
    if (length === 0) this.clear();
    else if (this.bytes.length > this.mostRoom(length) + 1024) {
      // Not slice(), which in a Buffer makes no copy.
      this.hold(new Uint8Array(this.bytes.subarray(this.start, this.end)), length);
    }
  }

  /** Forgets everything. */
  clear(): void {
    this.hold(NOTHING, 0);
  }

  /**
   * What was consumed is still needed: the buffer it lies in is left alone until the collector
   * takes it.
   */
  lend(): void {
    this.isLent = true;
  }

  /** The position of the next LF from `at` on, or -1. */
  findLineEnd(at: number): number {
    const { bytes, end } = this;
    // Short lines are searched here, long ones natively.
    for (const near = Math.min(at + 64, end); at < near; at++) {
      if (bytes[at] === LF) return at;
    }
    if (at === end) return -1;
    const found = bytes.indexOf(LF, at);
    return found < end ? found : -1;
  }

  /** Joins a chunk to what was kept, in a buffer with room for more. */
  private append(chunk: Uint8Array): void {
    const needed = this.end + chunk.length;
    if (this.hasRoom && needed <= this.bytes.length) {
      this.bytes.set(chunk, this.end);
      this.end = needed;
      releaseLarge(chunk);
      return;
    }
    const kept = this.bytes.subarray(this.start, this.end);
    const length = kept.length + chunk.length;
    // Growing by a factor keeps the copying of a long request linear.
    const larger = unfilled(this.roomFor(length));
    larger.set(kept);
    larger.set(chunk, kept.length);
    releaseLarge(chunk);
    this.hold(larger, length);
    this.hasRoom = true;
  }

  /** Room is made for all of a request whose length is known, once some part of that has come. */
  private roomFor(length: number): number {
    if (this.expectedBytes > length) return Math.min(this.expectedBytes, this.mostRoom(length));
    return Math.min(length * 2, length + MOST_ROOM_BYTES);
  }

  private mostRoom(length: number): number {
    return length * (this.expectedBytes > length ? 8 : 4);
  }

  private hold(bytes: Uint8Array, length: number): void {
    if (!this.isLent) releaseLarge(this.bytes);
    this.isLent = false;
    this.bytes = bytes;
    this.start = 0;
    this.end = length;
    this.hasRoom = false;
  }
}

const NOTHING = new Uint8Array(0);
const MOST_ROOM_BYTES = 4 * 1024 * 1024;
const LF = 0x0a;

/** A reused buffer in which a new value is put together from pieces. */
import { enlarged, release } from "../core/bytes.ts";

/** See the file header. */
export class ValueBuilder {
  /** The buffer; the value is its first `length` bytes. */
  bytes = new Uint8Array(1024);
  /** Length of the value so far. */
  length = 0;

  /**
   * Begins a new value, and lets go of a buffer that one large value left behind. Who says how long
   * it will be saves copying what is there when it outgrows its buffer.
   */
  reset(length = 0): void {
    this.length = 0;
    if (this.bytes.length > KEPT_BYTES) {
      release(this.bytes);
      this.bytes = new Uint8Array(1024);
    }
    this.reserve(length);
  }

  /** Appends bytes. */
  add(bytes: Uint8Array, offset: number, length: number): void {
    this.reserve(length);
    this.bytes.set(bytes.subarray(offset, offset + length), this.length);
    this.length += length;
  }

  /** Appends zero bytes; nothing when `count` is not positive. */
  addZeros(count: number): void {
    if (count <= 0) return;
    this.reserve(count);
    this.bytes.fill(0, this.length, this.length + count);
    this.length += count;
  }

  private reserve(count: number): void {
    if (this.length + count <= this.bytes.length) return;
    this.bytes = enlarged(this.bytes, this.length, this.length + count);
  }
}

const KEPT_BYTES = 1024 * 1024;

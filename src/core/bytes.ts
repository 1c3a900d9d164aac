/** Gives the memory of a buffer back at once, where waiting for the collector would let it pile up. */

/** All views of the same buffer are empty afterwards, so it must have no other user. */
export function release(bytes: Uint8Array | Int32Array): void {
  (bytes.buffer as ArrayBuffer).transfer(0);
}

/** A scratch buffer that one large need made larger than this is let go of. */
const KEPT_BYTES = 1024 * 1024;

/** A buffer to work in that grows to what is asked for, and does not stay large for ever. */
export class ScratchBytes {
  /** What `reserve` returned last. */
  bytes: Uint8Array = new Uint8Array(1024);

  /** At least so many bytes, of any content; they are the caller's until the next call. */
  reserve(length: number): Uint8Array {
    const isTooLarge = this.bytes.length > KEPT_BYTES && length < KEPT_BYTES;
    if (this.bytes.length < length || isTooLarge) {
      this.bytes = new Uint8Array(Math.max(1024, length * 2));
    }
    return this.bytes;
  }
}

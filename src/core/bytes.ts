/** Gives the memory of a buffer back at once, where waiting for the collector would let it pile up. */

/** All views of the same buffer are empty afterwards, so it must have no other user. */
export function release(bytes: Uint8Array | Int32Array): void {
  (bytes.buffer as ArrayBuffer).transfer(0);
}

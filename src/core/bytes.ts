/** Bytes as all parts need them: big-endian integers, buffers that grow, memory given back. */

const WORD = 0x1_0000_0000;
/** A buffer that one large need made larger than this is let go of. */
const KEPT_BYTES = 1024 * 1024;

/** Reads an unsigned 32-bit integer, big-endian. */
export function readU32(bytes: Uint8Array, at: number): number {
  return ((bytes[at] << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3]) >>> 0;
}

/** Writes the low 32 bits of an integer, big-endian. */
export function writeU32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 24;
  bytes[at + 1] = value >>> 16;
  bytes[at + 2] = value >>> 8;
  bytes[at + 3] = value;
}

/** Reads an integer of 8 bytes, big-endian: up to 2^64, exact up to 2^53 - 1. */
export function readU64(bytes: Uint8Array, at: number): number {
  return readU32(bytes, at) * WORD + readU32(bytes, at + 4);
}

/** Writes an integer from 0 to 2^53 - 1 in 8 bytes, big-endian. */
export function writeU64(bytes: Uint8Array, at: number, value: number): void {
  writeU32(bytes, at, Math.floor(value / WORD));
  writeU32(bytes, at + 4, value >>> 0);
}

/**
 * Bytes that hold anything at all, for whoever writes each one before it is read. Where zeros are
 * asked for, all of 8 MiB is written in one go, and the system has to find memory for it: 10 ms and
 * more. Throws a RangeError when there is none.
 */
export function unfilled(length: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.allocUnsafeSlow(length).buffer);
}

/**
 * A buffer of at least `needed` bytes, and at least twice as many as the one given, of which it
 * begins with the first `used`. The one given must have no other user: if it is large, its
 * memory is given back. No more than `mostBytes`, which `needed` must not exceed.
 */
export function enlarged(
  bytes: Uint8Array,
  used: number,
  needed: number,
  mostBytes = Infinity,
): Uint8Array<ArrayBuffer> {
  const larger = unfilled(Math.min(Math.max(bytes.length * 2, needed), mostBytes));
  larger.set(bytes.subarray(0, used));
  releaseLarge(bytes);
  return larger;
}

/**
 * Gives the memory of a buffer back at once, where waiting for the collector would let it pile up.
 * All views of the same buffer are empty afterwards, so it must have no other user.
 */
export function release(bytes: Uint8Array | Uint16Array | Uint32Array | Int32Array): void {
  (bytes.buffer as ArrayBuffer).transfer(0);
}

/** The same of a buffer that is large, provided the bytes are all of it. */
export function releaseLarge(bytes: Uint8Array): void {
  if (bytes.length > RELEASED_BYTES && bytes.length === bytes.buffer.byteLength) release(bytes);
}

/** The same of a view, where nobody looks at anything else in its buffer any more either. */
export function releaseLargeOf(view: Uint8Array): void {
  if (view.buffer.byteLength > RELEASED_BYTES) release(view);
}

/** Larger ones are given back at once: what comes next comes into memory that is still cached. */
const RELEASED_BYTES = 8 * 1024;

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

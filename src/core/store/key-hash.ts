/**
 * HalfSipHash-1-3 (Aumasson and Bernstein, "SipHash", 2012; the 32-bit variant that
 * the Linux kernel keys its hash tables with): a keyed hash whose collisions cannot
 * be chosen by a client that does not know the seed. Written on 32-bit integers,
 * which is what JavaScript computes fast.
 */

/**
 * Hash of `length` bytes of `bytes` from `offset` on, as an unsigned 32-bit integer.
 * `seedLow` and `seedHigh` are the secret key, 32 bits each.
 */
export function hashKey(
  bytes: Uint8Array,
  offset: number,
  length: number,
  seedLow: number,
  seedHigh: number,
): number {
  let v0 = seedLow | 0;
  let v1 = seedHigh | 0;
  let v2 = 0x6c796765 ^ seedLow;
  let v3 = 0x74656462 ^ seedHigh;
  const end = offset + length;
  const wholeEnd = end - (length & 3);
  let at = offset;
  // One compression round a word, one more for the tail with the length in its top
  // byte, three to finish: all the same mixing, so all in one loop.
  for (let finishing = 0; finishing < 4;) {
    let word = 0;
    if (at < wholeEnd) {
      word = bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24);
      at += 4;
      v3 ^= word;
    } else {
      if (finishing === 0) {
        word = length << 24;
        if (at < end) word |= bytes[at];
        if (at + 1 < end) word |= bytes[at + 1] << 8;
        if (at + 2 < end) word |= bytes[at + 2] << 16;
        v3 ^= word;
      } else if (finishing === 1) {
        v2 ^= 0xff;
      }
      finishing++;
    }
    v0 = (v0 + v1) | 0;
    v1 = (v1 << 5) | (v1 >>> 27);
    v1 ^= v0;
    v0 = (v0 << 16) | (v0 >>> 16);
    v2 = (v2 + v3) | 0;
    v3 = (v3 << 8) | (v3 >>> 24);
    v3 ^= v2;
    v0 = (v0 + v3) | 0;
    v3 = (v3 << 7) | (v3 >>> 25);
    v3 ^= v0;
    v2 = (v2 + v1) | 0;
    v1 = (v1 << 13) | (v1 >>> 19);
    v1 ^= v2;
    v2 = (v2 << 16) | (v2 >>> 16);
    if (finishing <= 1) v0 ^= word;
  }
  return (v1 ^ v3) >>> 0;
}

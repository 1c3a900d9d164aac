/**
 * Digests cut short for the wire. The tree holds 128 bits of each. 48 bits would be enough to find
 * out where two sides differ, but collisions of 48 bits, or of 64, can be made on purpose, and two
 * entries that look alike on the wire would never be healed. So what travels is not a part of the
 * digest but a keyed hash of it. The key is random: both sides contribute to it when they introduce
 * themselves. Nobody can have prepared entries that collide under it, and two that collide by
 * chance, once in 2.8e14, do not collide in the next session.
 */

/** 64 random bits, in two words. */
export interface Salt {
  readonly high: number;
  readonly low: number;
}

/**
 * The salt of a session, made from what each side contributed. A salt that is known beforehand
 * would protect from nothing.
 */
export function sessionSalt(initiators: Salt, responders: Salt): Salt {
  const words = Uint32Array.of(initiators.high, initiators.low, responders.high, responders.low);
  const digest = new DataView(Bun.SHA256.hash(words).buffer);
  return { high: digest.getUint32(0), low: digest.getUint32(4) };
}

/** Words of a digest in the tree. */
const WORDS = 4;
const TWO_TO_32 = 0x1_0000_0000;

/**
 * Cuts digests short: HalfSipHash-1-3 with an output of 64 bits (see `key-hash.ts`), of which 48
 * are kept, as a number, which is exact.
 */
export class DigestShortener {
  private low = 0;
  private high = 0;

  /** 32 bits of the salt, for what needs no more. */
  get key(): number {
    return this.low;
  }

  /** Sets the salt, which has to be done before anything is compared. */
  setSalt(salt: Salt): void {
    this.low = salt.low | 0;
    this.high = salt.high | 0;
  }

  /**
   * The short form of the digest at `at` in `words`; 0 for one of zeros, which stands for no
   * entries, and no other.
   */
  of(words: Uint32Array, at: number): number {
    if ((words[at] | words[at + 1] | words[at + 2] | words[at + 3]) === 0) return 0;
    let v0 = this.low;
    let v1 = this.high ^ 0xee;
    let v2 = 0x6c796765 ^ this.low;
    let v3 = 0x74656462 ^ this.high;
    let first = 0;
    // A round a word, one for the length, three to finish, three more for the second half.
    for (let round = 0; round < WORDS + 7; round++) {
      const word = round < WORDS ? words[at + round] : round === WORDS ? 0x1000_0000 : 0;
      if (round === WORDS + 1) v2 ^= 0xee;
      if (round === WORDS + 4) {
        first = v1 ^ v3;
        v1 ^= 0xdd;
      }
      v3 ^= word;
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
      v0 ^= word;
    }
    return (first & 0xffff) * TWO_TO_32 + ((v1 ^ v3) >>> 0) || 1;
  }
}

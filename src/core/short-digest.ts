/**
 * Digests cut short for the wire. The tree holds 128 bits of each; 48 of them are enough between two
 * sides that merely want to know where they differ. But 48 bits, or 64, can be made to collide on
 * purpose, and two entries that look alike on the wire would never be healed. So what
 * travels is not a part of the digest but a keyed hash of it, with a key that both sides have thrown
 * dice for when they introduced themselves: nobody can have prepared entries that collide under
 * it, and two that do by chance, once in 2.8e14, do not in the next session.
 */

/** 64 random bits, in two words. */
export interface Salt {
  readonly high: number;
  readonly low: number;
}

/** The salt of a session, of what each side brought. With one that both know beforehand there is no safety. */
export function sessionSalt(initiators: Salt, responders: Salt): Salt {
  const words = Uint32Array.of(initiators.high, initiators.low, responders.high, responders.low);
  const digest = new DataView(Bun.SHA256.hash(words).buffer);
  return { high: digest.getUint32(0), low: digest.getUint32(4) };
}

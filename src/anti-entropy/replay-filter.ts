/**
 * Which openings of sealed sessions were used: the ephemeral key in each is used once by whoever
 * has the secret, so one that comes again was heard by somebody and is repeated. What is said in
 * an opening stays true however late it comes, and the answer is of no use to who repeats it, so
 * it does no harm that this is forgotten with the process, and after many more openings; it only
 * bounds what repeating can cost.
 */
import { readU32 } from "../core/bytes.ts";

/** See the file header. */
export class ReplayFilter {
  private readonly seen = new Set<number>();

  /** So many are remembered; the one that was used first is forgotten. */
  constructor(private readonly capacity: number) {}

  /** Whether a key was used. */
  has(ephemeral: Uint8Array): boolean {
    return this.seen.has(markOf(ephemeral));
  }

  /** Notes that a key is used. False if it was before. */
  note(ephemeral: Uint8Array): boolean {
    const mark = markOf(ephemeral);
    if (this.seen.has(mark)) return false;
    this.seen.add(mark);
    if (this.seen.size > this.capacity) this.seen.delete(this.seen.values().next().value!);
    return true;
  }
}

/** 53 of its bits: nobody can find two keys that have the same ones, and do anybody harm. */
function markOf(ephemeral: Uint8Array): number {
  return (readU32(ephemeral, 0) & 0x1f_ffff) * 2 ** 32 + readU32(ephemeral, 4);
}

/**
 * A part of a bucket as the sync protocol lists it: the digests of its entries, each cut short
 * (`short-digest.ts`), as numbers; so lists are compared with one sort and binary searches.
 */
import { DIGEST_WORDS } from "../tree/digest-list.ts";
import type { MerkleBuckets } from "../tree/merkle-buckets.ts";
import type { DigestShortener } from "./short-digest.ts";
import type { FrameReader, FrameWriter } from "./frames.ts";

const TWO_TO_32 = 0x1_0000_0000;
/** Up to this many are sorted here: cheaper than a call. */
const FEW = 48;
const scratch = new Uint32Array(DIGEST_WORDS);

/** The short form of the digest under which an entry stands in its bucket. */
export function digestOfId(buckets: MerkleBuckets, id: number, shortener: DigestShortener): number {
  buckets.copyDigest(id, scratch, 0);
  return shortener.of(scratch, 0);
}

/** Writes a digest in DIGEST_PREFIX_BYTES. */
export function writeDigest(writer: FrameWriter, digest: number): void {
  writer.u16(Math.floor(digest / TWO_TO_32));
  writer.u32(digest >>> 0);
}

/** Reads such a digest. */
export function readDigest(reader: FrameReader): number {
  return reader.u16() * TWO_TO_32 + reader.u32();
}

/** A set of digests: filled, sorted, then searched. Reused from bucket to bucket. */
export class DigestSet {
  count = 0;
  digests = new Float64Array(64);

  /** Adds a digest. */
  add(digest: number): void {
    if (this.count === this.digests.length) {
      const larger = new Float64Array(this.count * 2);
      larger.set(this.digests);
      this.digests = larger;
    }
    this.digests[this.count++] = digest;
  }

  /** Sorts what was added; `indexOf` needs that. */
  sort(): void {
    const { digests, count } = this;
    if (count > FEW) {
      digests.subarray(0, count).sort();
      return;
    }
    for (let i = 1; i < count; i++) {
      const digest = digests[i];
      let at = i;
      for (; at > 0 && digests[at - 1] > digest; at--) digests[at] = digests[at - 1];
      digests[at] = digest;
    }
  }

  /** Where a digest stands, or -1. */
  indexOf(digest: number): number {
    const { digests } = this;
    let from = 0;
    let to = this.count - 1;
    while (from <= to) {
      const middle = (from + to) >>> 1;
      const there = digests[middle];
      if (there === digest) return middle;
      if (there < digest) from = middle + 1;
      else to = middle - 1;
    }
    return -1;
  }
}

/**
 * A part of a bucket. The first 16 bits of a key's digest choose the bucket. A part is named by
 * further digits of 4 bits each, and has those entries whose key's digest goes on with those
 * digits; without any digits it is the whole bucket. Buckets that are large, by chance or because
 * somebody filled them on purpose, are compared part by part.
 */
/**
 * The most digits of a part. Together with the bucket these are 64 bits of a key's digest. Nobody
 * can afford to find more than a handful of keys that agree in all of them.
 */
export const MAX_DEPTH = 12;

/** See the file header. */
export interface Part {
  readonly bucket: number;
  /** Number of digits, up to MAX_DEPTH. */
  readonly depth: number;
  /** The digits as one number, the first the highest. */
  readonly path: number;
}

/** All of a bucket. */
export function wholeBucket(bucket: number): Part {
  return { bucket, depth: 0, path: 0 };
}

/** One of the 16 parts of a part. */
export function partOf({ bucket, depth, path }: Part, digit: number): Part {
  return { bucket, depth: depth + 1, path: path * 16 + digit };
}

/** Whether two parts are the same. */
export function isSamePart(a: Part, b: Part): boolean {
  return a.bucket === b.bucket && a.depth === b.depth && a.path === b.path;
}

/** The digit at `index`, counted from 0, of a part that has as many. */
export function digitOf({ depth, path }: Part, index: number): number {
  return Math.floor(path / 16 ** (depth - 1 - index)) % 16;
}

/** The digit of a key's digest at `index`; 0 is the first after the bits of the bucket. */
export function digitOfKey(keyDigest: Uint8Array, index: number): number {
  const byte = keyDigest[2 + (index >>> 1)];
  return (index & 1) === 0 ? byte >>> 4 : byte & 15;
}

/** First in, first out. */
export class PartQueue<T extends Part = Part> {
  private parts: T[] = [];
  private head = 0;

  /** How many wait. */
  get length(): number {
    return this.parts.length - this.head;
  }

  /** Appends one. */
  push(part: T): void {
    this.parts.push(part);
  }

  /** Removes the first and returns it; undefined when there is none. */
  shift(): T | undefined {
    const part = this.parts[this.head++];
    if (this.head >= this.parts.length) {
      this.parts = [];
      this.head = 0;
    }
    return part;
  }
}

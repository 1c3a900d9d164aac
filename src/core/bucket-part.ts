/**
 * A part of a bucket: those of its entries whose key's digest goes on, behind the bits that chose
 * the bucket, with certain digits of 4 bits. With no digits it is the whole bucket. Buckets that are
 * large, by chance or because somebody filled them on purpose, are compared part by part.
 */
import type { FrameReader, FrameWriter } from "./sync-frames.ts";

/**
 * Most digits: 64 bits of a key's digest with those of the bucket. To have more than a handful of
 * keys agree in those costs what nobody has.
 */
export const MAX_DEPTH = 12;
/** Most bytes that a part takes on the wire. */
export const PART_BYTES = 9;

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

/** The digit, counted from 0, of a part that goes on so deep. */
export function digitOf({ depth, path }: Part, index: number): number {
  return Math.floor(path / 16 ** (depth - 1 - index)) % 16;
}

/** The digit that a key's digest has there; 0 is the first behind the bits of the bucket. */
export function digitOfKey(keyDigest: Uint8Array, index: number): number {
  const byte = keyDigest[2 + (index >>> 1)]!;
  return (index & 1) === 0 ? byte >>> 4 : byte & 15;
}

/** Writes a part, for which there is room. */
export function writePart(writer: FrameWriter, { bucket, depth, path }: Part): void {
  writer.u16(bucket);
  writer.u8(depth);
  if (depth === 0) return;
  writer.u16(Math.floor(path / 0x1_0000_0000));
  writer.u32(path >>> 0);
}

/** Reads a part; raises `overrun` when there is none such. */
export function readPart(reader: FrameReader): Part {
  const [bucket, depth] = [reader.u16(), reader.u8()];
  const path = depth === 0 ? 0 : reader.u16() * 0x1_0000_0000 + reader.u32();
  if (depth > MAX_DEPTH || path >= 16 ** depth) reader.overrun = true;
  return { bucket, depth, path };
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

  /** Takes the first; undefined when there is none. */
  shift(): T | undefined {
    const part = this.parts[this.head++];
    if (this.head >= this.parts.length) {
      this.parts = [];
      this.head = 0;
    }
    return part;
  }
}

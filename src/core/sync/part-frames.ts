/** Parts of buckets as they travel: bucket u16 · depth u8 · [path 6 bytes]. */
import { MAX_DEPTH, type Part } from "../tree/bucket-part.ts";
import type { FrameReader, FrameWriter } from "./frames.ts";

/** Most bytes that a part takes on the wire. */
export const BUCKET_PART_BYTES = 9;

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

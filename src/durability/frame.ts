/**
 * The frame: the unit in which bytes reach a file. PURE.
 *
 * Every file of this project (log segment, snapshot, backup) is a row of frames and nothing
 * else. All integers are big-endian.
 *
 *   0   magic            4d 4b 56 46, "MKVF"
 *   4   payload bytes    u32, at least 1
 *   8   payload CRC-32   u32
 *   12  position         u64: where in the file the frame starts
 *   20  unsynced bytes   u32: this many bytes before the frame were not known to be durable when
 *                        it was written (0 in files that are only put in place when whole)
 *   24  header CRC-32    u32, over bytes 0 to 23
 *   28  payload          records, see `record.ts`
 *
 * A CRC-32 notices every change within 32 bits in a row, so any flipped byte is noticed: in
 * the header by the header's, in the payload by the payload's. (A longer random change slips
 * through once in 2^32.) The header has its own so that a length can be trusted before as much
 * is read. The position tells a frame from a copy of one inside somebody's value.
 *
 * "Unsynced bytes" decide what a bad frame near the end of a log means. If no whole frame after
 * it says that it had been durable, it was under way to the disk when the power failed, and
 * cutting there loses nothing that was promised. If one does, bytes that were safe have been
 * changed since, and that is damage.
 */
import { readU32, writeU32, readU64, writeU64 } from "../core/bytes.ts";

/** Bytes of a frame before its payload. */
export const FRAME_HEADER_BYTES = 28;
/**
 * The version of frames and records together; in the first record of every file. Since 2 there are
 * drop records, since 3 patch records, since 4 expiries with versions of their own, and since 5
 * splices.
 */
export const FORMAT_VERSION = 5;
/** The first version that can still be read. */
export const OLDEST_FORMAT_VERSION = 1;

/** What every frame begins with. */
export const MAGIC_BYTES: readonly number[] = [0x4d, 0x4b, 0x56, 0x46];
const MAGIC = 0x4d4b_5646;
const CHECKED_BYTES = FRAME_HEADER_BYTES - 4;

/** What a frame's header says; reused by `readHeader`. */
export interface FrameHeader {
  payloadBytes: number;
  payloadChecksum: number;
  /** Bytes from the start of the file that had been durable when the frame was written. */
  syncedBytes: number;
}

/**
 * Fills in the header of a frame whose payload lies in `bytes` from FRAME_HEADER_BYTES to
 * `length`, to be written at `position` of a file of which `syncedBytes` are durable. Returns
 * the finished frame, a view.
 */
export function finishFrame(
  bytes: Uint8Array,
  length: number,
  position: number,
  syncedBytes: number,
): Uint8Array {
  writeU32(bytes, 0, MAGIC);
  writeU32(bytes, 4, length - FRAME_HEADER_BYTES);
  writeU32(bytes, 8, Bun.hash.crc32(bytes.subarray(FRAME_HEADER_BYTES, length)));
  writeU64(bytes, 12, position);
  writeU32(bytes, 20, position - syncedBytes);
  writeU32(bytes, 24, Bun.hash.crc32(bytes.subarray(0, CHECKED_BYTES)));
  return bytes.subarray(0, length);
}

/**
 * Reads the header at `at`, all of which is there and which is at `position` of its file.
 * False when it is none.
 */
export function readHeader(
  bytes: Uint8Array,
  at: number,
  position: number,
  into: FrameHeader,
): boolean {
  if (readU32(bytes, at) !== MAGIC) return false;
  const checksum = Bun.hash.crc32(bytes.subarray(at, at + CHECKED_BYTES));
  if (readU32(bytes, at + CHECKED_BYTES) !== checksum) return false;
  if (readU64(bytes, at + 12) !== position) return false;
  into.payloadBytes = readU32(bytes, at + 4);
  into.payloadChecksum = readU32(bytes, at + 8);
  into.syncedBytes = position - readU32(bytes, at + 20);
  return into.payloadBytes > 0;
}

/**
 * Whether the payload that starts at `start`, all of which is there, is the one that was written.
 */
export function isIntact(bytes: Uint8Array, start: number, header: FrameHeader): boolean {
  const payload = bytes.subarray(start, start + header.payloadBytes);
  return Bun.hash.crc32(payload) === header.payloadChecksum;
}

/** The first place from `at` on where a header may start, or -1. */
export function findMagic(bytes: Uint8Array, at: number, end: number): number {
  for (;;) {
    const found = bytes.indexOf(MAGIC_BYTES[0], at);
    if (found < 0 || found + FRAME_HEADER_BYTES > end) return -1;
    if (readU32(bytes, found) === MAGIC) return found;
    at = found + 1;
  }
}

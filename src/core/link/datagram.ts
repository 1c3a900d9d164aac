/**
 * A datagram of a `DatagramStream`. Everything is big-endian:
 *
 *   u8 flags · u32 sent · u32 echo · u64 received up to · u32 credit ·
 *   u8 number of ranges · ranges of (u32, u32) · u64 offset · payload
 *
 * Every datagram says what its sender has received: all bytes before `receivedUpTo`, and ranges
 * beyond it, each as the distance from there and a length. `credit` is how many bytes from
 * there on it has room for. The payload is the sender's bytes from `offset` on. `sent` is when that
 * was, in ms by a clock of its sender's own, and `echo` is what the other side's latest datagram
 * with a payload had there, or 0: so round trips are measured, whatever was sent twice.
 */
import { readU32, readU64, writeU32, writeU64 } from "../bytes.ts";

/** Nothing comes behind the payload: the sender is done, and takes no more either. */
const FINAL = 1;
/** The sender asks what the other side has received, and for room. */
const PROBE = 2;
/** Fixed part, in bytes. */
const HEADER_BYTES = 30;
const RANGE_BYTES = 8;
/** Where the number of ranges is. */
const COUNT_AT = 21;
/** Most ranges told of in one datagram: what is missing first is sent anew first. */
export const MAX_RANGES = 8;
/** The most that a datagram has beside its payload, in bytes. */
export const MAX_OVERHEAD_BYTES = HEADER_BYTES + MAX_RANGES * RANGE_BYTES;
/** No datagram is longer than this, in bytes. */
const MAX_DATAGRAM_BYTES = 65_536;

/** A run of bytes of a stream, from `start` to before `end`. */
export interface Range {
  readonly start: number;
  readonly end: number;
}

/** What one side tells of what it has received. */
export interface Receipt {
  readonly receivedUpTo: number;
  /** Beyond that and apart from each other, in ascending order. */
  readonly ranges: readonly Range[];
  /** Bytes from `receivedUpTo` on that there is room for. */
  readonly credit: number;
  /** `sentMs` of the datagram that was received last; 0 for none since the last receipt. */
  readonly echoMs: number;
}

/** One datagram. */
export interface Datagram extends Receipt {
  /** As in `clockWord`. */
  readonly sentMs: number;
  readonly offset: number;
  readonly payload: Uint8Array;
  readonly isFinal: boolean;
  readonly isProbe: boolean;
}

/** A time in ms as datagrams tell it: 32 bits of it, and never 0. */
export function clockWord(ms: number): number {
  return Math.floor(ms) >>> 0 || 1;
}

/** Its bytes. */
export function encodeDatagram(datagram: Datagram): Uint8Array {
  const { receivedUpTo, ranges, credit, sentMs, echoMs } = datagram;
  const { offset, payload, isFinal, isProbe } = datagram;
  const bytes = new Uint8Array(HEADER_BYTES + ranges.length * RANGE_BYTES + payload.length);
  bytes[0] = (isFinal ? FINAL : 0) | (isProbe ? PROBE : 0);
  writeU32(bytes, 1, sentMs);
  writeU32(bytes, 5, echoMs);
  writeU64(bytes, 9, receivedUpTo);
  writeU32(bytes, 17, credit);
  bytes[COUNT_AT] = ranges.length;
  let at = COUNT_AT + 1;
  for (const { start, end } of ranges) {
    writeU32(bytes, at, start - receivedUpTo);
    writeU32(bytes, at + 4, end - start);
    at += RANGE_BYTES;
  }
  writeU64(bytes, at, offset);
  bytes.set(payload, at + 8);
  return bytes;
}

/** Reads one; null when it is none. The payload is a view of the bytes. */
export function decodeDatagram(bytes: Uint8Array): Datagram | null {
  if (bytes.length < HEADER_BYTES || bytes.length > MAX_DATAGRAM_BYTES) return null;
  const [flags, count] = [bytes[0], bytes[COUNT_AT]];
  if (flags > (FINAL | PROBE) || count > MAX_RANGES) return null;
  const payloadAt = HEADER_BYTES + count * RANGE_BYTES;
  if (bytes.length < payloadAt) return null;
  const receivedUpTo = readU64(bytes, 9);
  const offset = readU64(bytes, payloadAt - 8);
  const largest = Number.MAX_SAFE_INTEGER / 2;
  if (receivedUpTo > largest || offset > largest) return null;
  const ranges: Range[] = [];
  for (let at = COUNT_AT + 1; at < payloadAt - 8; at += RANGE_BYTES) {
    const start = receivedUpTo + readU32(bytes, at);
    ranges.push({ start, end: start + readU32(bytes, at + 4) });
  }
  return {
    receivedUpTo,
    ranges,
    credit: readU32(bytes, 17),
    sentMs: readU32(bytes, 1),
    echoMs: readU32(bytes, 5),
    offset,
    payload: bytes.subarray(payloadAt),
    isFinal: (flags & FINAL) !== 0,
    isProbe: (flags & PROBE) !== 0,
  };
}

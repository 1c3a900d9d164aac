/**
 * Requests as RESP arrays of bulk strings (https://redis.io/docs/reference/protocol-spec).
 *
 * Resumable: what was read of an incomplete request stays in the Request, so no byte is
 * looked at twice however the input is split. An argument that is too large is skipped
 * without being buffered, and the request is refused as a whole.
 */
import type { Request } from "./request.ts";

/** The request is complete. */
export const COMPLETE = 0;
/** More bytes are needed. */
export const INCOMPLETE = 1;
/** The bytes are not RESP; the connection cannot be understood any further. */
export const MALFORMED = 2;
/** An argument, or all together, exceeded the limits; the request was skipped to its end. */
export const TOO_LARGE = 3;

/** Nothing is wrong, but so many parts were read that others should have their turn first. */
export const PAUSED = 4;

/** What became of an attempt to read a request. */
export type ParseStatus = 0 | 1 | 2 | 3 | 4;

/** Most parts a request may have (Redis' own limit). */
const MAX_PARTS = 1024 * 1024;
/** Parts that are read in one call: less than a millisecond's work. */
const PARTS_A_CALL = 8192;
/** Redis' own limit for a bulk string; lengths above are not RESP. */
const MAX_BULK_BYTES = 512 * 1024 * 1024;
/** What somebody may send who has not logged in (Redis' own limits). */
const STRANGERS_PARTS = 10;
/** The same of a line, or of one part of an array, in bytes. */
export const STRANGERS_BYTES = 16 * 1024;
/** A header line is a type byte, a number and CRLF; longer ones are not RESP. */
const MAX_HEADER_BYTES = 32;

const NEED_MORE = -1;
const BAD = -2;

/** Reads RESP requests within the given limits. Holds no state of a connection. */
export class RespParser {
  /** Where the header line read last ends. */
  private lineEnd = 0;
  /** Why the last request was MALFORMED, in Redis' words. */
  problem = "";

  constructor(
    private maxValueBytes: number,
    private maxRequestBytes: number,
  ) {}

  /** Other limits from now on, as given to the constructor. */
  setLimits(maxValueBytes: number, maxRequestBytes: number): void {
    this.maxValueBytes = maxValueBytes;
    this.maxRequestBytes = maxRequestBytes;
  }

  /**
   * Continues to read a request from `request.base + request.readBytes` up to `end`.
   * Afterwards `request.readBytes` is what was consumed of it. Nobody has logged in if it comes
   * from a stranger.
   */
  parse(request: Request, bytes: Uint8Array, end: number, isStranger = false): ParseStatus {
    request.bytes = bytes;
    request.isResp = true;
    let at = request.base + request.readBytes;
    if (request.expectedParts === 0) {
      const count = this.readHeader(bytes, at, end);
      if (count === NEED_MORE) return INCOMPLETE;
      if (count === BAD || count > MAX_PARTS) {
        this.problem = "invalid multibulk length";
        return MALFORMED;
      }
      if (isStranger && count > STRANGERS_PARTS) {
        this.problem = "unauthenticated multibulk length";
        return MALFORMED;
      }
      at = this.lineEnd;
      request.readBytes = at - request.base;
      // An empty array is nothing asked, as in Redis.
      if (count === 0) return COMPLETE;
      request.expectedParts = count;
    }
    const pauseAt = request.parts + PARTS_A_CALL;
    while (request.parts < request.expectedParts) {
      if (request.parts === pauseAt) return PAUSED;
      if (request.skipBytes > 0) {
        const skipped = Math.min(request.skipBytes, end - at);
        at += skipped;
        request.skipBytes -= skipped;
        request.readBytes = at - request.base;
        if (request.skipBytes > 0) return INCOMPLETE;
        request.add(0, 0);
        continue;
      }
      if (at === end) return INCOMPLETE;
      if (bytes[at] !== DOLLAR) {
        this.problem = `expected '$', got '${printable(bytes[at])}'`;
        return MALFORMED;
      }
      const length = this.readHeader(bytes, at, end);
      if (length === NEED_MORE) return INCOMPLETE;
      if (length === BAD || length > MAX_BULK_BYTES) {
        this.problem = "invalid bulk length";
        return MALFORMED;
      }
      if (isStranger && length > STRANGERS_BYTES) {
        this.problem = "unauthenticated bulk length";
        return MALFORMED;
      }
      const start = this.lineEnd;
      const next = start + length + 2;
      if (
        request.isRefused ||
        length > this.maxValueBytes ||
        next - request.base > this.maxRequestBytes
      ) {
        request.isRefused = true;
        request.skipBytes = next - start;
        at = start;
        continue;
      }
      request.neededBytes = next - request.base;
      if (next > end) return INCOMPLETE;
      request.add(start - request.base, length);
      at = next;
      request.readBytes = at - request.base;
    }
    return request.isRefused ? TOO_LARGE : COMPLETE;
  }

  /**
   * Reads the number of a header line from its type byte on; a negative one counts as 0 for arrays.
   */
  private readHeader(bytes: Uint8Array, at: number, end: number): number {
    const isArray = bytes[at] === STAR;
    let value = 0;
    let i = at + 1;
    const isNegative = bytes[i] === MINUS && i < end;
    if (isNegative) i++;
    const firstDigit = i;
    for (; i < end; i++) {
      const digit = bytes[i] - 0x30;
      if (digit < 0 || digit > 9) break;
      value = value * 10 + digit;
      if (i - at > MAX_HEADER_BYTES) return BAD;
    }
    if (i >= end) return NEED_MORE;
    if (bytes[i] !== CR || i === firstDigit) return BAD;
    if (i + 1 >= end) return NEED_MORE;
    if (bytes[i + 1] !== LF) return BAD;
    this.lineEnd = i + 2;
    if (isNegative) return isArray ? 0 : BAD;
    return value;
  }
}

const STAR = 0x2a;
const DOLLAR = 0x24;
const MINUS = 0x2d;
const CR = 0x0d;
const LF = 0x0a;

function printable(byte: number): string {
  return byte > 0x20 && byte < 0x7f ? String.fromCharCode(byte) : " ";
}

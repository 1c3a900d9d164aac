/** Reading of numbers and expiry options from requests, shared by the commands that take them. */
import { Int64, parseInt64 } from "../core/counter.ts";
import type { Reply } from "../protocol/reply.ts";
import type { Request } from "../protocol/request.ts";

/** `parseExpiry`: the argument is no expiry option. */
export const NO_EXPIRY = -1;

const number = new Int64();

/** Argument `i` as an integer exact in a JavaScript number, or undefined. */
export function readInteger(request: Request, i: number): number | undefined {
  if (!parseInt64(request.bytes, request.start(i), request.length(i), number)) return undefined;
  const value = number.high * 0x1_0000_0000 + number.low;
  return Number.isSafeInteger(value) ? value : undefined;
}

/**
 * Reads `EX s`, `PX ms`, `EXAT s` or `PXAT ms` at argument `i`. Returns Unix milliseconds,
 * NO_EXPIRY when it is none of them, or undefined after answering an error.
 */
export function parseExpiry(
  request: Request,
  i: number,
  reply: Reply,
  command: string,
  nowMs: number,
): number | undefined {
  const seconds = request.is(i, "EX") || request.is(i, "EXAT");
  if (!seconds && !request.is(i, "PX") && !request.is(i, "PXAT")) return NO_EXPIRY;
  if (i + 1 >= request.count) {
    reply.respError("ERR syntax error");
    return undefined;
  }
  const amount = readInteger(request, i + 1);
  if (amount === undefined) {
    reply.error("Value is not a valid number");
    return undefined;
  }
  const isAbsolute = request.length(i) === 4;
  const atMs = amount * (seconds ? 1000 : 1) + (isAbsolute ? 0 : nowMs);
  if (amount <= 0 || !Number.isSafeInteger(atMs)) {
    reply.respError(`ERR invalid expire time in '${command}' command`);
    return undefined;
  }
  return atMs;
}

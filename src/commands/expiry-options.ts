/** Reading of numbers and expiry options from requests, shared by the commands that take them. */
import { Int64, parseInt64 } from "../core/data/int64.ts";
import { MAX_EXPIRES_AT_MS } from "../core/data/entry.ts";
import type { Reply } from "../protocol/reply.ts";
import type { Request } from "../protocol/request.ts";
import { answerClock, type Context } from "./command.ts";

const number = new Int64();
/** What a signed 64-bit integer reaches below zero. */
const LOWEST = -(2 ** 63);
const TIME_UNKNOWN =
  "no expiry counts from now: this machine's clock may be behind; give one at a time, or try later";

/**
 * Argument `i` as an integer of 64 bits, or undefined when it is none. Beyond 2^53 it is rounded:
 * large enough for everything that has a limit.
 */
export function readInteger(request: Request, i: number): number | undefined {
  if (!parseInt64(request.bytes, request.start(i), request.length(i), number)) return undefined;
  return number.high * 0x1_0000_0000 + number.low;
}

/**
 * The time from which something counts that is to expire so much later. NaN when this node may be
 * behind the time: then it would be dead already where it arrives.
 */
export function expiryStart({ services, store }: Context): number {
  return services.time.knowsExpiries ? store.clock.nowMs() : NaN;
}

/**
 * When something expires, in Unix milliseconds, that has `amount` of a unit to go from `fromMs`.
 * `fromMs` may come from `expiryStart`. Undefined after answering the error when that is unknown,
 * or the expiry further away than any may be.
 */
export function expiryOf(
  amount: number,
  unitMs: number,
  fromMs: number,
  command: string,
  reply: Reply,
): number | undefined {
  const atMs = amount * unitMs + fromMs;
  if (Number.isNaN(fromMs)) return void answerClock(reply, TIME_UNKNOWN);
  if (atMs <= MAX_EXPIRES_AT_MS && amount * unitMs >= LOWEST) return atMs;
  answerInvalidExpiry(command, reply);
  return undefined;
}

function answerInvalidExpiry(command: string, reply: Reply): void {
  reply.error("Value out of range", `invalid expire time in '${command}' command`);
}

/** Whether argument `i` is one of the options `EX s`, `PX ms`, `EXAT s` and `PXAT ms`. */
export function isExpiryOption(request: Request, i: number): boolean {
  return (
    request.is(i, "EX") || request.is(i, "PX") || request.is(i, "EXAT") || request.is(i, "PXAT")
  );
}

/**
 * Reads the expiry option at argument `i`, whose number is the argument after it. Returns Unix
 * milliseconds, or undefined after answering an error.
 */
export function readExpiry(
  request: Request,
  i: number,
  reply: Reply,
  command: string,
  context: Context,
): number | undefined {
  const amount = readInteger(request, i + 1);
  if (amount === undefined) {
    reply.error("Value is not a valid number");
    return undefined;
  }
  if (amount <= 0) {
    answerInvalidExpiry(command, reply);
    return undefined;
  }
  const isAbsolute = request.length(i) === 4;
  const unitMs = request.is(i, "EX") || request.is(i, "EXAT") ? 1000 : 1;
  return expiryOf(amount, unitMs, isAbsolute ? 0 : expiryStart(context), command, reply);
}

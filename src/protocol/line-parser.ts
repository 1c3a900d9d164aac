/**
 * Requests as text lines. First the name, which tells the shape of the rest; then the
 * arguments. Bytes are never altered, only found; quoted values are unquoted in place.
 *
 * Where the two dialects differ: in `plain` a value may be quoted, its trailing white space
 * is data, and a tab may follow the name; in `tagged` none of that.
 */
import { quotedEnd, unquoteInPlace } from "./quoting.ts";
import type { Request } from "./request.ts";

/** Words between spaces: `EXISTS a b`. */
export const SHAPE_WORDS = 0;
/** One key, then the rest of the line as a value: `SET key the value`. */
export const SHAPE_KEY_VALUE = 1;
/** The rest of the line as one value: `ECHO the message`. */
export const SHAPE_VALUE = 2;
/** Words, every second of them a value: `MSET k1 v1 k2 "v 2"`. */
export const SHAPE_PAIRS = 3;

/** How the arguments of a command lie in a line. */
export type LineShape = 0 | 1 | 2 | 3;

const SPACE = 0x20;
const TAB = 0x09;

/**
 * Finds the command's name in the line `start` to `end` (without its terminator) and adds
 * it to the request. Returns where the arguments begin, or -1 for an empty line.
 */
export function parseName(
  request: Request,
  bytes: Uint8Array,
  start: number,
  end: number,
  isPlain: boolean,
): number {
  if (!isPlain) end = trimmedEnd(bytes, start, end);
  let at = start;
  while (at < end && isBlank(bytes[at])) at++;
  if (at === end) return -1;
  const nameStart = at;
  while (at < end && bytes[at] !== SPACE && !(isPlain && bytes[at] === TAB)) at++;
  request.bytes = bytes;
  request.base = start;
  request.add(nameStart - start, at - nameStart);
  return at < end ? at + 1 : at;
}

/** Adds the arguments in `at` to `end` to the request, as their shape says. */
export function parseArguments(
  request: Request,
  shape: LineShape,
  isPlain: boolean,
  at: number,
  end: number,
): void {
  const { bytes } = request;
  if (!isPlain) end = trimmedEnd(bytes, at, end);
  switch (shape) {
    case SHAPE_VALUE:
      if (at < end) addValue(request, isPlain, at, end);
      return;
    case SHAPE_KEY_VALUE: {
      while (at < end && bytes[at] === SPACE) at++;
      const keyStart = at;
      while (at < end && bytes[at] !== SPACE) at++;
      if (at === keyStart) return;
      request.add(keyStart - request.base, at - keyStart);
      if (at + 1 < end) addValue(request, isPlain, at + 1, end);
      return;
    }
    default:
      addWords(request, shape === SHAPE_PAIRS && isPlain, at, trimmedEnd(bytes, at, end));
  }
}

function addWords(request: Request, valuesQuoted: boolean, at: number, end: number): void {
  const { bytes } = request;
  for (;;) {
    while (at < end && bytes[at] === SPACE) at++;
    if (at >= end) return;
    const start = at;
    const isValue = valuesQuoted && request.count % 2 === 1;
    const close = isValue ? quotedEnd(bytes, start, end) : -1;
    if (close >= 0 && (close === end || bytes[close] === SPACE)) {
      request.add(start - request.base, unquoteInPlace(bytes, start, close));
      at = close;
      continue;
    }
    while (at < end && bytes[at] !== SPACE) at++;
    request.add(start - request.base, at - start);
  }
}

function addValue(request: Request, isPlain: boolean, start: number, end: number): void {
  const { bytes } = request;
  const isQuoted = isPlain && quotedEnd(bytes, start, end) === end;
  const length = isQuoted ? unquoteInPlace(bytes, start, end) : end - start;
  request.add(start - request.base, length);
}

function trimmedEnd(bytes: Uint8Array, start: number, end: number): number {
  while (end > start && isBlank(bytes[end - 1])) end--;
  return end;
}

function isBlank(byte: number): boolean {
  return byte === SPACE || byte === TAB;
}

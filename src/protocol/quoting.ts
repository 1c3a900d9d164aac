/**
 * Values in lines of the `plain` dialect.
 *
 * A value is printed bare where that cannot be misread, and quoted otherwise. A value
 * that is one well-formed double-quoted string is unquoted; all else is taken literally.
 * The law, for every byte string v: parse(print(v)) = v.
 */

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const TAB = 0x09;

/**
 * Where the well-formed quoted string that starts at `start` ends (one past its closing
 * quote), or -1 when there is none before `end`.
 */
export function quotedEnd(bytes: Uint8Array, start: number, end: number): number {
  if (start >= end || bytes[start] !== QUOTE) return -1;
  for (let at = start + 1; at < end; at++) {
    const byte = bytes[at];
    if (byte === QUOTE) return at + 1;
    if (byte !== BACKSLASH) continue;
    const escape = bytes[++at];
    if (at >= end) return -1;
    if (escape === 0x78) {
      if (at + 2 >= end || hexDigit(bytes[at + 1]) < 0 || hexDigit(bytes[at + 2]) < 0) return -1;
      at += 2;
    } else if (unescaped(escape!) < 0) {
      return -1;
    }
  }
  return -1;
}

/**
 * Unquotes the well-formed quoted string in `start` to `end` in place, which is possible
 * because it only gets shorter. The contents begin at `start`; returns their length.
 */
export function unquoteInPlace(bytes: Uint8Array, start: number, end: number): number {
  let to = start;
  for (let at = start + 1; at < end - 1; at++) {
    let byte = bytes[at];
    if (byte === BACKSLASH) {
      const escape = bytes[++at];
      if (escape === 0x78) {
        byte = (hexDigit(bytes[at + 1]) << 4) | hexDigit(bytes[at + 2]);
        at += 2;
      } else {
        byte = unescaped(escape);
      }
    }
    bytes[to++] = byte;
  }
  return to - start;
}

/** Whether a value has to be printed quoted. */
export function needsQuotes(bytes: Uint8Array, offset: number, length: number): boolean {
  if (length === 0) return true;
  const first = bytes[offset];
  if (first === QUOTE) return true;
  if (first === 0x28 && length === 6 && startsWith(bytes, offset, "(null)")) return true;
  if (first === 0x45 && length >= 5 && startsWith(bytes, offset, "ERROR")) return true;
  for (let at = offset, end = offset + length; at < end; at++) {
    if (isControl(bytes[at])) return true;
  }
  return false;
}

/** Length of the value when printed quoted, at most four times its length plus two. */
export function quotedLength(bytes: Uint8Array, offset: number, length: number): number {
  let total = 2;
  for (let at = offset, end = offset + length; at < end; at++) total += escapeLength(bytes[at]);
  return total;
}

/** Writes the value quoted into `out` from `to` on; returns one past its end. */
export function writeQuoted(
  bytes: Uint8Array,
  offset: number,
  length: number,
  out: Uint8Array,
  to: number,
): number {
  out[to++] = QUOTE;
  for (let at = offset, end = offset + length; at < end; at++) {
    const byte = bytes[at];
    switch (escapeLength(byte)) {
      case 1:
        out[to++] = byte;
        break;
      case 2:
        out[to++] = BACKSLASH;
        out[to++] = byte === 0x0a ? 0x6e : byte === 0x0d ? 0x72 : byte;
        break;
      default:
        out[to++] = BACKSLASH;
        out[to++] = 0x78;
        out[to++] = HEX.charCodeAt(byte >>> 4);
        out[to++] = HEX.charCodeAt(byte & 15);
    }
  }
  out[to++] = QUOTE;
  return to;
}

const HEX = "0123456789abcdef";

function escapeLength(byte: number): number {
  if (byte === QUOTE || byte === BACKSLASH || byte === 0x0a || byte === 0x0d) return 2;
  return isControl(byte) ? 4 : 1;
}

/** Control bytes, save the tab, which a line may hold. */
function isControl(byte: number): boolean {
  return (byte < 0x20 && byte !== TAB) || byte === 0x7f;
}

function startsWith(bytes: Uint8Array, offset: number, text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    if (bytes[offset + i] !== text.charCodeAt(i)) return false;
  }
  return true;
}

/** The byte that a one-letter escape stands for, or -1. */
function unescaped(letter: number): number {
  switch (letter) {
    case QUOTE:
    case BACKSLASH:
      return letter;
    case 0x6e:
      return 0x0a;
    case 0x72:
      return 0x0d;
    case 0x74:
      return TAB;
    default:
      return -1;
  }
}

function hexDigit(byte: number): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30;
  const lower = byte | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -1;
}

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
const LF = 0x0a;
const CR = 0x0d;

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
    } else if (unescaped(escape) < 0) {
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
  const end = offset + length;
  let at = offset;
  for (; end - at >= BLOCK_BYTES; at += BLOCK_BYTES) {
    if (blockHas(CONTROL, bytes, at)) return true;
  }
  for (; at < end; at++) {
    if (isControl(bytes[at])) return true;
  }
  return false;
}

/** Length of the value when printed quoted, at most four times its length plus two. */
export function quotedLength(bytes: Uint8Array, offset: number, length: number): number {
  const end = offset + length;
  let total = 2 + length;
  let at = offset;
  for (; end - at >= BLOCK_BYTES; at += BLOCK_BYTES) {
    if (blockHas(ESCAPED, bytes, at)) total += escapesIn(bytes, at, at + BLOCK_BYTES);
  }
  return total + escapesIn(bytes, at, end);
}

/** Writes the value quoted into `out` from `to` on; returns one past its end. */
export function writeQuoted(
  bytes: Uint8Array,
  offset: number,
  length: number,
  out: Uint8Array,
  to: number,
): number {
  const end = offset + length;
  let at = offset;
  out[to++] = QUOTE;
  for (; end - at >= BLOCK_BYTES; at += BLOCK_BYTES) {
    if (blockHas(ESCAPED, bytes, at)) {
      to = writeEscaped(bytes, at, at + BLOCK_BYTES, out, to);
    } else {
      out.set(bytes.subarray(at, at + BLOCK_BYTES), to);
      to += BLOCK_BYTES;
    }
  }
  to = writeEscaped(bytes, at, end, out, to);
  out[to++] = QUOTE;
  return to;
}

/**
 * Long values are searched in blocks of this, by the engine for regular expressions: in a loop of
 * our own, millions of bytes take five to ten times as long until it is compiled well, and that may
 * be never when each call ends it in another way.
 */
const BLOCK_BYTES = 4096;
const CONTROL = /[\x00-\x08\x0a-\x1f\x7f]/;
const ESCAPED = /[\x00-\x08\x0a-\x1f\x7f"\\]/;

function blockHas(pattern: RegExp, bytes: Uint8Array, start: number): boolean {
  const block = Buffer.from(bytes.buffer, bytes.byteOffset + start, BLOCK_BYTES);
  return pattern.test(block.toString("latin1"));
}

const HEX = "0123456789abcdef";

/** What each byte takes within quotes. */
const ESCAPED_LENGTHS = Uint8Array.from({ length: 256 }, (_, byte) => {
  if (byte === QUOTE || byte === BACKSLASH || byte === LF || byte === CR) return 2;
  return isControl(byte) ? 4 : 1;
});

/** How much longer these bytes become within quotes. */
function escapesIn(bytes: Uint8Array, start: number, end: number): number {
  let more = 0;
  for (let at = start; at < end; at++) more += ESCAPED_LENGTHS[bytes[at]] - 1;
  return more;
}

function writeEscaped(
  bytes: Uint8Array,
  start: number,
  end: number,
  out: Uint8Array,
  to: number,
): number {
  for (let at = start; at < end; at++) {
    const byte = bytes[at];
    switch (ESCAPED_LENGTHS[byte]) {
      case 1:
        out[to++] = byte;
        break;
      case 2:
        out[to++] = BACKSLASH;
        out[to++] = byte === LF ? 0x6e : byte === CR ? 0x72 : byte;
        break;
      default:
        out[to++] = BACKSLASH;
        out[to++] = 0x78;
        out[to++] = HEX.charCodeAt(byte >>> 4);
        out[to++] = HEX.charCodeAt(byte & 15);
    }
  }
  return to;
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

/**
 * A request as others may see it, in `SLOWLOG` and `MONITOR`: cut where it is long, and without
 * what proves who somebody is.
 */
import type { Request } from "../protocol/request.ts";
import type { AskedRow } from "./asked-row.ts";

/** How much is shown. */
export interface ShownLimits {
  /** The command's name counts. */
  readonly parts: number;
  /** Of each part. */
  readonly bytes: number;
  /** Of all parts together. */
  readonly totalBytes: number;
}

const REDACTED = Buffer.from("(redacted)");

/** The command's name and its arguments, in bytes that are the caller's. */
export function shownParts(row: AskedRow, given: Request, limits: ShownLimits): Uint8Array[] {
  const request = given.detached ?? given;
  const total = request.count + 1;
  // What stands for the rest is a part itself.
  const shown = total > limits.parts ? limits.parts - 1 : total;
  const parts: Uint8Array[] = [];
  let left = limits.totalBytes;
  for (let i = -1; i < shown - 1; i++) {
    const mostBytes = Math.min(limits.bytes, left);
    parts.push(isSecret(row, request, i) ? REDACTED : shownPart(request, i, mostBytes));
    left -= Math.min(mostBytes, request.length(i));
  }
  if (shown < total) parts.push(Buffer.from(`... (${total - shown} more arguments)`));
  return parts;
}

function shownPart(request: Request, i: number, mostBytes: number): Uint8Array {
  const start = request.start(i);
  const length = request.length(i);
  if (length <= mostBytes) return new Uint8Array(request.bytes.subarray(start, start + length));
  const rest = Buffer.from(`... (${length - mostBytes} more bytes)`);
  return Buffer.concat([request.bytes.subarray(start, start + mostBytes), rest]);
}

/**
 * Whether an argument is a password, or stands where one may stand: it may belong to a request that
 * is not well written.
 */
function isSecret({ command }: AskedRow, request: Request, i: number): boolean {
  if (i < 0) return false;
  switch (command.names[0]) {
    case "AUTH":
      return true;
    case "HELLO":
      return request.is(i - 1, "AUTH") || request.is(i - 2, "AUTH");
    case "ACL":
      return i >= 1 && request.is(0, "SETUSER");
    case "CONFIG":
      return i >= 2 && i % 2 === 0 && request.is(0, "SET");
    default:
      return false;
  }
}

/** A part in double quotes, as Redis' MONITOR writes it: what is no printable ASCII as `\x00`. */
export function quotedPart(bytes: Uint8Array): string {
  // Not one character after the other to a string, which makes a piece of it for each.
  const text = Buffer.allocUnsafe(bytes.length * "\\x00".length + 2);
  let end = text.write('"');
  for (const byte of bytes) {
    if (byte >= 0x20 && byte < 0x7f && byte !== QUOTE && byte !== BACKSLASH) text[end++] = byte;
    else end += text.write(ESCAPES[byte] ?? `\\x${byte.toString(16).padStart(2, "0")}`, end);
  }
  end += text.write('"', end);
  return text.toString("latin1", 0, end);
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

const ESCAPES: Readonly<Record<number, string>> = {
  0x07: "\\a",
  0x08: "\\b",
  0x09: "\\t",
  0x0a: "\\n",
  0x0d: "\\r",
  [QUOTE]: '\\"',
  [BACKSLASH]: "\\\\",
};

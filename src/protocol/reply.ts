/**
 * Writes replies, in whichever way the request was made, into one growing buffer.
 *
 * Commands say what they mean (`value`, `missing`, `count`, …) and this file knows how
 * each dialect prints it, so the reply table of the protocol is written down once.
 * Everything is bytes; nothing is allocated per reply.
 */
import { enlarged, release } from "../core/bytes.ts";
import { Int64, formatInt64 } from "../core/data/int64.ts";
import { copyBytes } from "../core/data/entry.ts";
import { needsQuotes, quotedLength, writeQuoted } from "./quoting.ts";

/** Lines for people and scripts: `GET` prints the bare value. */
export const PLAIN = 0;
/** Lines for the older client libraries: `VALUE …`, `NOT_FOUND`; they end with CRLF. */
export const TAGGED = 1;
/** Redis' protocol, version 2. */
export const RESP2 = 2;
/** Redis' protocol, version 3. */
export const RESP3 = 3;

/** How a reply is written. */
export type Dialect = 0 | 1 | 2 | 3;

/** The errors of the line dialects; a detail may follow. The text is part of the protocol. */
export type ErrorText =
  | "Invalid command"
  | "Missing arguments"
  | "Too many arguments"
  | "Invalid key"
  | "Value is not a valid number"
  | "Value out of range"
  | "Value too large"
  | "Line too long"
  | "Storage full"
  | "Connection failed"
  | "Too many connections"
  | "Not authenticated"
  | "Permission denied"
  | "Read only"
  | "Internal error";

/** Thrown while a reply is written that is larger than may be sent. */
export class ReplyTooLarge extends Error {}

/** A growing buffer of replies; see the file header. */
export class Reply {
  /** The buffer; replies are its first `length` bytes. */
  bytes: Uint8Array;
  /** Bytes written so far. */
  length = 0;
  /** How the next reply is written. */
  dialect: Dialect = PLAIN;
  /** Errors written so far, since the start. */
  errors = 0;

  private readonly number = new Int64();

  /**
   * Writing beyond `maxBytes` throws ReplyTooLarge, so that no reply takes more memory. The buffer
   * starts with `firstBytes`.
   */
  constructor(
    public maxBytes = Infinity,
    private readonly firstBytes = INITIAL_BYTES,
  ) {
    this.bytes = new Uint8Array(firstBytes);
  }

  /** Whether the reply goes to a RESP client. */
  get isResp(): boolean {
    return this.dialect >= RESP2;
  }

  /** Forgets what was written, and the buffer too if one large reply made it large. */
  reset(): void {
    this.length = 0;
    if (this.bytes.length <= KEPT_BYTES) return;
    release(this.bytes);
    this.bytes = new Uint8Array(this.firstBytes);
  }

  /** Whether so much was written that the buffer will not be kept. */
  get isLarge(): boolean {
    return this.bytes.length > KEPT_BYTES;
  }

  /** What was written, as long as nothing else is. */
  get written(): Uint8Array {
    return this.bytes.subarray(0, this.length);
  }

  /**
   * What was written, which is the caller's from now on: the reply begins anew in another buffer,
   * once there is more to write.
   */
  handOver(): Uint8Array {
    const { written } = this;
    this.bytes = NOTHING;
    this.length = 0;
    return written;
  }

  /** Bytes that are part of a reply already. */
  copied(bytes: Uint8Array, offset: number, length: number): void {
    this.reserve(length);
    this.copy(bytes, offset, length);
  }

  /** `OK`. */
  ok(): void {
    this.simple("OK");
  }

  /** A fixed word or sentence: a line, or a RESP simple string. ASCII without line breaks. */
  simple(text: string): void {
    this.reserve(text.length + 3);
    if (this.isResp) this.bytes[this.length++] = PLUS;
    this.ascii(text);
    this.endLine();
  }

  /** A value that is there. `tag` is what `tagged` puts before it. */
  value(bytes: Uint8Array, offset: number, length: number, tag = "VALUE "): void {
    if (this.isResp) return this.bulk(bytes, offset, length);
    this.reserve(length + tag.length + 2);
    if (this.dialect === TAGGED) this.ascii(tag);
    this.printed(bytes, offset, length);
    this.endLine();
  }

  /** Whether a value is printed as it is: `beginValue`, the bytes themselves, `endOfLine`. */
  isVerbatim(bytes: Uint8Array, offset: number, length: number): boolean {
    return this.dialect !== PLAIN || !needsQuotes(bytes, offset, length);
  }

  /** What comes before a value of so many bytes that is printed as it is. */
  beginValue(length: number): void {
    if (this.isResp) this.bulkHeader(length);
    else if (this.dialect === TAGGED) this.raw("VALUE ");
  }

  /** A value that is not there. */
  missing(): void {
    switch (this.dialect) {
      case PLAIN:
        return this.simple("(null)");
      case TAGGED:
        return this.simple("NOT_FOUND");
      case RESP2:
        return this.raw("$-1\r\n");
      case RESP3:
        return this.raw("_\r\n");
    }
  }

  /** A number of things, an exact integer below 2^53. `tag` as in `value`. */
  count(number: number, tag: string): void {
    this.number.set(Math.floor(number / 0x1_0000_0000), number >>> 0);
    this.integer(this.number, tag);
  }

  /** A signed 64-bit number. `tag` as in `value`. */
  integer(number: Int64, tag = "VALUE "): void {
    this.reserve(tag.length + 24);
    if (this.isResp) this.bytes[this.length++] = COLON;
    else if (this.dialect === TAGGED) this.ascii(tag);
    this.length += formatInt64(number, this.bytes, this.length);
    this.endLine();
  }

  /** An error in the words of the line dialects, or in Redis' own for RESP. */
  error(text: ErrorText, detail = ""): void {
    if (this.isResp) return this.respError(respErrorText(text, detail));
    this.errors++;
    // The client libraries that speak `tagged` look for the word and a space.
    const prefix = this.dialect === TAGGED ? "ERROR " : "ERROR: ";
    this.line(detail === "" ? prefix + text : `${prefix}${text} - ${detail}`);
  }

  /**
   * An error in Redis' own words, its code first. To a line it is an invalid command, the words
   * without their code the detail.
   */
  respError(text: string): void {
    if (!this.isResp) return this.error("Invalid command", text.slice(text.indexOf(" ") + 1));
    this.errors++;
    this.raw(`-${oneLine(text)}\r\n`);
  }

  /** One line of text, line dialects only. Line breaks in it become spaces. */
  line(text: string): void {
    this.text(oneLine(text));
    this.reserve(2);
    this.endLine();
  }

  /** A text of several lines: a RESP bulk string. */
  bulkText(text: string): void {
    const bytes = encoder.encode(text);
    this.bulk(bytes, 0, bytes.length);
  }

  /** A RESP bulk string. */
  bulk(bytes: Uint8Array, offset: number, length: number): void {
    this.reserve(length + 16);
    this.bytes[this.length++] = DOLLAR;
    this.decimal(length);
    this.crlf();
    this.copy(bytes, offset, length);
    this.crlf();
  }

  /** The header of a RESP bulk string of `length` bytes; the caller writes them and CRLF next. */
  bulkHeader(length: number): void {
    this.header(DOLLAR, length);
  }

  /** The header of a RESP array of `count` elements, which the caller writes next. */
  array(count: number): void {
    this.header(STAR, count);
  }

  /** The header of a RESP3 map of `count` pairs; an array of twice as many in RESP2. */
  map(count: number): void {
    if (this.dialect === RESP3) this.header(PERCENT, count);
    else this.header(STAR, count * 2);
  }

  /** A key in a line: printed so that it cannot be taken for two. */
  key(bytes: Uint8Array, offset: number, length: number): void {
    this.printed(bytes, offset, length);
  }

  /** Text as it is, in UTF-8. */
  text(text: string): void {
    this.reserve(text.length * 3);
    this.length += encoder.encodeInto(text, this.bytes.subarray(this.length)).written;
  }

  /** ASCII as it is. */
  raw(text: string): void {
    this.reserve(text.length);
    this.ascii(text);
  }

  /** Ends a line as the dialect does: CRLF, or LF in `plain`. */
  endOfLine(): void {
    this.reserve(2);
    this.endLine();
  }

  private printed(bytes: Uint8Array, offset: number, length: number): void {
    if (this.dialect === PLAIN && needsQuotes(bytes, offset, length)) {
      this.reserve(quotedLength(bytes, offset, length) + 2);
      this.length = writeQuoted(bytes, offset, length, this.bytes, this.length);
    } else {
      this.reserve(length + 2);
      this.copy(bytes, offset, length);
    }
  }

  private header(type: number, count: number): void {
    this.reserve(16);
    this.bytes[this.length++] = type;
    this.decimal(count);
    this.crlf();
  }

  private decimal(number: number): void {
    let digits = 1;
    for (let limit = 10; number >= limit; limit *= 10) digits++;
    for (let i = this.length + digits - 1, rest = number; i >= this.length; i--) {
      const next = (rest / 10) | 0;
      this.bytes[i] = 0x30 + (rest - next * 10);
      rest = next;
    }
    this.length += digits;
  }

  private copy(bytes: Uint8Array, offset: number, length: number): void {
    const out = this.bytes;
    const at = this.length;
    if (length > LOOP_COPY_BYTES) copyBytes(bytes, offset, length, out, at);
    else for (let i = 0; i < length; i++) out[at + i] = bytes[offset + i];
    this.length = at + length;
  }

  private ascii(text: string): void {
    const out = this.bytes;
    for (let i = 0; i < text.length; i++) out[this.length++] = text.charCodeAt(i);
  }

  private endLine(): void {
    if (this.dialect !== PLAIN) this.bytes[this.length++] = CR;
    this.bytes[this.length++] = LF;
  }

  private crlf(): void {
    this.bytes[this.length++] = CR;
    this.bytes[this.length++] = LF;
  }

  private reserve(count: number): void {
    const needed = this.length + count;
    if (needed <= this.bytes.length) return;
    if (needed > this.maxBytes) throw new ReplyTooLarge();
    const atLeast = this.bytes === NOTHING ? Math.min(INITIAL_BYTES, this.maxBytes) : 0;
    const length = Math.max(needed, atLeast);
    this.bytes = enlarged(this.bytes, this.length, length, this.maxBytes);
  }
}

const INITIAL_BYTES = 64 * 1024;
const NOTHING = new Uint8Array(0);
/** A buffer that grew beyond this is not kept. */
const KEPT_BYTES = 1024 * 1024;

const LOOP_COPY_BYTES = 24;

const PLUS = 0x2b;
const COLON = 0x3a;
const DOLLAR = 0x24;
const STAR = 0x2a;
const PERCENT = 0x25;
const CR = 0x0d;
const LF = 0x0a;

const encoder = new TextEncoder();

/** Redis' own words where clients know them by heart, ours with its general code elsewhere. */
function respErrorText(text: ErrorText, detail: string): string {
  switch (text) {
    case "Value is not a valid number":
      return "ERR value is not an integer or out of range";
    case "Value out of range":
      return detail === "" ? "ERR increment or decrement would overflow" : `ERR ${detail}`;
    case "Storage full":
      return detail === ""
        ? "OOM command not allowed when used memory > 'storage.memory_limit_mb'"
        : `OOM command not allowed: ${detail}`;
    case "Not authenticated":
      return "NOAUTH Authentication required.";
    case "Permission denied":
      return detail === "" ? "NOPERM permission denied" : `NOPERM ${detail}`;
    case "Read only":
      return detail === "" ? "READONLY this node takes no writes" : `READONLY ${detail}`;
    default:
      return detail === "" ? `ERR ${text}` : `ERR ${text} - ${detail}`;
  }
}

function oneLine(text: string): string {
  return text.replace(/[\r\n\0]+/g, " ");
}

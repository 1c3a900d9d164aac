/** Writes JSON as bytes: without the objects and strings of each part, which would pile up. */
import { isUtf8 } from "node:buffer";
import { TextBuffer } from "./text-buffer.ts";

/** Bytes of a text whose characters are escaped at once: six of them for each, at the most. */
const TEXT_BYTES = 12 * 1024;

/** Bytes as text, or in base64, which are written out from where they lie when they are sent. */
export class BytesText {
  constructor(
    private readonly bytes: Uint8Array,
    private readonly isText: boolean,
  ) {}

  /** How many bytes there are. */
  get length(): number {
    return this.bytes.length;
  }

  /** Writes it with its quotes. It is short. */
  write(into: TextBuffer): void {
    into.addText('"');
    this.writePart(0, this.length, into);
    into.addText('"');
  }

  /** The same, piece by piece, of any length. */
  *pieces(into: TextBuffer): Iterable<null> {
    const { bytes, isText } = this;
    into.addText('"');
    for (let at = 0; at < bytes.length;) {
      let end = Math.min(at + TEXT_BYTES, bytes.length);
      // Not within a character.
      while (isText && end < bytes.length && (bytes[end] & 0xc0) === 0x80) end--;
      this.writePart(at, end, into);
      yield null;
      at = end;
    }
    into.addText('"');
  }

  /** Most texts stand in JSON as they are: of those no strings are made, which pile up. */
  private writePart(start: number, end: number, into: TextBuffer): void {
    const { bytes } = this;
    const part = start === 0 && end === bytes.length ? bytes : bytes.subarray(start, end);
    if (this.isText && isPlain(part)) return into.add(part);
    const { buffer, byteOffset, length } = part;
    const all = Buffer.from(buffer, byteOffset, length);
    if (!this.isText) return into.addText(all.toString("base64"));
    into.addText(JSON.stringify(all.toString("utf8")).slice(1, -1));
  }
}

/** Whether nothing of a text is to be escaped in JSON. */
function isPlain(bytes: Uint8Array): boolean {
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i];
    if (byte < SPACE || byte === QUOTE || byte === BACKSLASH) return false;
  }
  return true;
}

/**
 * Bytes as fields of a JSON object: `name`, or `name_base64` when they are no UTF-8. They must stay
 * as they are until they are written out.
 */
export function bytesField(name: string, bytes: Uint8Array): Record<string, BytesText> {
  const isText = isUtf8(bytes);
  return { [isText ? name : `${name}_base64`]: new BytesText(bytes, isText) };
}

/** A list whose items are made when they are written. */
export class LazyList {
  constructor(readonly items: Iterable<unknown>) {}
}

/** A value that is known when all before it is written. */
export class LaterValue {
  constructor(readonly read: () => string | null) {}
}

/**
 * JSON that is written out already, in UTF-8. In a list it may be several items, with commas
 * between.
 */
export class WrittenJson {
  constructor(readonly written: Uint8Array) {}
}

/**
 * Writes JSON of objects, lists, all of the above and what JSON has, in pieces: null when one is
 * written, or bytes that come next. Names of fields are those that this program has, so they are
 * few.
 */
export function* jsonPieces(value: unknown, into: TextBuffer): Iterable<Uint8Array | null> {
  if (isFlat(value)) {
    writeFlat(value, into);
    yield null;
  } else if (value instanceof WrittenJson) yield value.written;
  else if (value instanceof LaterValue) yield* jsonPieces(value.read(), into);
  else if (value instanceof BytesText) yield* value.pieces(into);
  else if (value instanceof LazyList || Array.isArray(value)) {
    let before = "[";
    for (const item of value instanceof LazyList ? value.items : value) {
      into.addText(before);
      before = ",";
      if (!isFlat(item)) yield* jsonPieces(item, into);
      else {
        writeFlat(item, into);
        yield null;
      }
    }
    into.addText(before === "[" ? "[]" : "]");
  } else {
    let before = "{";
    for (const [name, field] of Object.entries(value as object)) {
      if (field === undefined) continue;
      into.addText(before);
      into.addText(writtenName(name));
      yield* jsonPieces(field, into);
      before = ",";
    }
    into.addText("}");
  }
}

/** Whether it is written at once: what is no object, or one of nothing else. */
function isFlat(value: unknown): boolean {
  if (isShort(value)) return true;
  if (value instanceof WrittenJson || value instanceof BytesText) return false;
  if (value instanceof LazyList || value instanceof LaterValue) return false;
  if (Array.isArray(value)) return false;
  const fields = value as Readonly<Record<string, unknown>>;
  // No list of names is made: there may be very many objects.
  for (const name in fields) if (!isShort(fields[name])) return false;
  return true;
}

function isShort(value: unknown): boolean {
  if (typeof value !== "object" || value === null) return true;
  return value instanceof BytesText && value.length <= TEXT_BYTES;
}

function writeFlat(value: unknown, into: TextBuffer): void {
  if (isShort(value)) return writeShort(value, into);
  const fields = value as Readonly<Record<string, unknown>>;
  let before = "{";
  for (const name in fields) {
    const field = fields[name];
    if (field === undefined) continue;
    into.addText(before);
    into.addText(writtenName(name));
    writeShort(field, into);
    before = ",";
  }
  into.addText(before === "{" ? "{}" : "}");
}

function writeShort(value: unknown, into: TextBuffer): void {
  if (value instanceof BytesText) value.write(into);
  else into.addText(JSON.stringify(value));
}

function writtenName(name: string): string {
  let written = names.get(name);
  if (written === undefined) {
    written = `${JSON.stringify(name)}:`;
    if (names.size < MOST_NAMES) names.set(name, written);
  }
  return written;
}

const names = new Map<string, string>();
const MOST_NAMES = 256;
/** What is written at once is put together here, as it is never two things at a time. */
export const shared = new TextBuffer();

/** Adds all of it, in which nothing is written out already. */
export function writeJson(value: unknown, into: TextBuffer): void {
  if (isFlat(value)) writeFlat(value, into);
  else for (const _ of jsonPieces(value, into));
}

/** The same as a text. */
export function jsonText(value: unknown): string {
  shared.clear();
  writeJson(value, shared);
  return shared.toString();
}

const SPACE = 0x20;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;

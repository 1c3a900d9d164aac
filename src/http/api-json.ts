/**
 * JSON of any length on its way out. What is short is written at once. The rest goes piece by
 * piece, each when the client has read the one before: so nothing is written out that nobody reads,
 * and others have their turn.
 */
import { isUtf8 } from "node:buffer";
import type { AnswerTurns } from "./answer-turns.ts";
import { TextBuffer } from "./text-buffer.ts";

/** What is written at once, in bytes, and how long that may take. */
const MOST_PIECE_BYTES = 64 * 1024;
const PIECE_MS = 1;
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
function* jsonPieces(value: unknown, into: TextBuffer): Iterable<Uint8Array | null> {
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
const shared = new TextBuffer();

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

/** Answers with JSON. `onEnd` is called, once, when it is read, or is not to be read any more. */
export function answerJson(
  value: unknown,
  turns: AnswerTurns,
  onEnd: () => void,
  headers = new Headers(),
): { response: Response; cut: () => void } {
  const pieces = jsonPieces(value, shared)[Symbol.iterator]();
  let ahead: Uint8Array | null = null;
  const next = (): Piece => {
    const bytes = ahead;
    ahead = null;
    if (bytes !== null) return { bytes, isAll: false };
    const endMs = turns.timing.nowMs() + PIECE_MS;
    shared.clear();
    for (let count = 1; shared.length < MOST_PIECE_BYTES && ahead === null; count++) {
      const piece = pieces.next();
      if (piece.done === true) return { bytes: shared.copy(), isAll: true };
      const { value } = piece;
      if (value !== null && shared.length + value.length > MOST_PIECE_BYTES) ahead = value;
      else if (value !== null) shared.add(value);
      if (count % 16 === 0 && turns.timing.nowMs() > endMs) break;
    }
    return { bytes: shared.copy(), isAll: false };
  };
  headers.set("content-type", "application/json;charset=utf-8");
  let beginning: Piece | null = next();
  if (beginning.isAll) {
    onEnd();
    return { response: new Response(beginning.bytes, { headers }), cut: () => {} };
  }
  let isOver = false;
  const end = (): void => {
    isOver = true;
    onEnd();
  };
  const { stream, cut } = streamOf(end, async () => {
    const first = beginning;
    beginning = null;
    if (first !== null) return first;
    await turns.enter(null);
    // What it would be made of may be given back already.
    return isOver ? { bytes: new Uint8Array(0), isAll: true } : next();
  });
  return { response: new Response(stream, { headers }), cut };
}

/** What is sent at once. */
interface Piece {
  readonly bytes: Uint8Array;
  readonly isAll: boolean;
}

/**
 * A stream of what `next` returns, asked for when the one before is on its way. `onEnd` is called,
 * once, when it is over; `cut` ends it early.
 */
export function streamOf(
  onEnd: () => void,
  next: () => Promise<Piece>,
): { stream: ReadableStream<Uint8Array>; cut: () => void } {
  let isOver = false;
  let cut = (): void => {};
  const end = (): void => {
    if (!isOver) onEnd();
    isOver = true;
  };
  const stream = new ReadableStream<Uint8Array>(
    {
      start(controller) {
        cut = () => {
          if (isOver) return;
          end();
          controller.error(new Error("others needed the room"));
        };
      },
      async pull(controller) {
        const { bytes, isAll } = await next();
        if (isOver) return;
        if (bytes.length > 0) controller.enqueue(bytes);
        if (!isAll) return;
        end();
        controller.close();
      },
      cancel: end,
    },
    { highWaterMark: 0 },
  );
  markStream(stream);
  return { stream, cut: () => cut() };
}

const streams = new WeakSet<ReadableStream>();

/** Says of a stream that it is made as it is read, so that nobody waits for all of it. */
export function markStream(stream: ReadableStream): void {
  streams.add(stream);
}

/** Whether a stream was marked so. */
export function isStream(stream: ReadableStream): boolean {
  return streams.has(stream);
}

const SPACE = 0x20;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;

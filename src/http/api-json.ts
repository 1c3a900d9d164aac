/**
 * JSON of any length on its way in and out. What is short is written at once. The rest goes piece
 * by piece, each when the client has read the one before: so nothing is written out that nobody
 * reads, and others have their turn.
 *
 * What comes in is small, and has few parts: to read JSON takes up to 60 ns a byte, and memory for
 * each of its parts.
 */
import { isUtf8 } from "node:buffer";
import type { AnswerTurns } from "./answer-turns.ts";

/** Most characters of JSON that come in. */
export const MAX_JSON_BYTES = 1024 * 1024;
/** Most brackets, commas and colons in them, and brackets in one another. */
const MAX_JSON_PARTS = 32_768;
const MAX_JSON_DEPTH = 16;

/** What is written at once, and how long that may take. */
const PIECE_CHARACTERS = 64 * 1024;
const PIECE_MS = 1;
/** Bytes of a text whose characters are escaped at once: six of them for each, at the most. */
const TEXT_BYTES = 12 * 1024;

/** Bytes as text, or in base64, which are written out piece by piece. */
export class LongText {
  constructor(
    private readonly bytes: Uint8Array,
    private readonly isText: boolean,
  ) {}

  /** Its characters as they stand between quotes. */
  *pieces(): Iterable<string> {
    const { bytes, isText } = this;
    const all = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    for (let at = 0; at < all.length;) {
      let end = Math.min(at + TEXT_BYTES, all.length);
      // Not within a character.
      while (isText && end < all.length && (all[end] & 0xc0) === 0x80) end--;
      if (isText) yield JSON.stringify(all.toString("utf8", at, end)).slice(1, -1);
      else yield all.toString("base64", at, end);
      at = end;
    }
  }
}

/** Bytes as fields of a JSON object: `name`, or `name_base64` when they are no UTF-8. */
export function bytesField(name: string, bytes: Uint8Array): Record<string, string | LongText> {
  const isText = isUtf8(bytes);
  const field = isText ? name : `${name}_base64`;
  if (bytes.length > TEXT_BYTES) return { [field]: new LongText(bytes, isText) };
  return { [field]: Buffer.from(bytes).toString(isText ? "utf8" : "base64") };
}

/** A list whose items are made when they are written. */
export class LazyList {
  constructor(readonly items: Iterable<unknown>) {}
}

/** JSON of objects, lists, both of the above and what JSON has, in pieces. */
function* jsonPieces(value: unknown): Iterable<string> {
  if (value instanceof LongText) {
    yield '"';
    yield* value.pieces();
    yield '"';
  } else if (value instanceof LazyList || Array.isArray(value)) {
    let before = "[";
    for (const item of value instanceof LazyList ? value.items : value) {
      yield before;
      yield* jsonPieces(item);
      before = ",";
    }
    yield before === "[" ? "[]" : "]";
  } else if (typeof value === "object" && value !== null) {
    let before = "{";
    for (const [name, field] of Object.entries(value)) {
      if (field === undefined) continue;
      yield `${before}${JSON.stringify(name)}:`;
      yield* jsonPieces(field);
      before = ",";
    }
    yield before === "{" ? "{}" : "}";
  } else yield JSON.stringify(value);
}

/** All of it. */
export function jsonText(value: unknown): string {
  return [...jsonPieces(value)].join("");
}

/** Answers with JSON. `onEnd` is called, once, when it is read, or is not to be read any more. */
export function answerJson(
  value: unknown,
  turns: AnswerTurns,
  onEnd: () => void,
  headers = new Headers(),
): { response: Response; cut: () => void } {
  const pieces = jsonPieces(value)[Symbol.iterator]();
  const next = (): { text: string; isAll: boolean } => {
    const endMs = turns.timing.nowMs() + PIECE_MS;
    let text = "";
    for (let count = 1; text.length < PIECE_CHARACTERS; count++) {
      const piece = pieces.next();
      if (piece.done === true) return { text, isAll: true };
      text += piece.value;
      if (count % 16 === 0 && turns.timing.nowMs() > endMs) break;
    }
    return { text, isAll: false };
  };
  headers.set("content-type", "application/json;charset=utf-8");
  const first = next();
  if (first.isAll) {
    onEnd();
    return { response: new Response(first.text, { headers }), cut: () => {} };
  }
  let beginning: string | null = first.text;
  const { stream, cut } = streamOf(onEnd, async () => {
    if (beginning === null) await turns.enter(null);
    const { text, isAll } = beginning === null ? next() : { text: beginning, isAll: false };
    beginning = null;
    return { bytes: encoder.encode(text), isAll };
  });
  return { response: new Response(stream, { headers }), cut };
}

/**
 * A stream of what `next` returns, asked for when the one before is on its way. `onEnd` is called,
 * once, when it is over; `cut` ends it early.
 */
export function streamOf(
  onEnd: () => void,
  next: () => Promise<{ bytes: Uint8Array; isAll: boolean }>,
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

/** The object that JSON is of; undefined when it is none, or one of very many parts. */
export function parseObject(bytes: Uint8Array): Readonly<Record<string, unknown>> | undefined {
  if (!hasFewParts(bytes)) return undefined;
  try {
    const value: unknown = JSON.parse(
      Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString(),
    );
    const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
    return isObject ? (value as Readonly<Record<string, unknown>>) : undefined;
  } catch {
    return undefined;
  }
}

/** Of what is no JSON it does not matter. */
function hasFewParts(bytes: Uint8Array): boolean {
  let parts = 0;
  let depth = 0;
  for (let i = 0; i < bytes.length; i++) {
    switch (bytes[i]) {
      case QUOTE:
        i = endOfString(bytes, i);
        break;
      case OPEN_LIST:
      case OPEN_OBJECT:
        depth++;
        parts++;
        break;
      case CLOSE_LIST:
      case CLOSE_OBJECT:
        depth--;
        break;
      case COMMA:
      case COLON:
        parts++;
    }
    if (parts > MAX_JSON_PARTS || depth > MAX_JSON_DEPTH) return false;
  }
  return true;
}

/** Where the string ends that begins there. */
function endOfString(bytes: Uint8Array, start: number): number {
  for (let i = start + 1; i < bytes.length; i++) {
    if (bytes[i] === BACKSLASH) i++;
    else if (bytes[i] === QUOTE) return i;
  }
  return bytes.length;
}

const encoder = new TextEncoder();
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN_LIST = 0x5b;
const CLOSE_LIST = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;
const COMMA = 0x2c;
const COLON = 0x3a;

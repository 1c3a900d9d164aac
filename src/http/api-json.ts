/**
 * JSON of any length on its way out. What is short is written at once. The rest goes piece by
 * piece, each when the client has read the one before: so nothing is written out that nobody reads,
 * and others have their turn.
 */
import { isUtf8 } from "node:buffer";
import type { AnswerTurns } from "./answer-turns.ts";

/** What is written at once, in characters, and how long that may take. */
export const PIECE_CHARACTERS = 64 * 1024;
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

/**
 * Bytes as fields of a JSON object: `name`, or `name_base64` when they are no UTF-8. More than
 * `mostBytes` are written out from where they lie, when they are sent.
 */
export function bytesField(
  name: string,
  bytes: Uint8Array,
  mostBytes = TEXT_BYTES,
): Record<string, string | LongText> {
  const isText = isUtf8(bytes);
  const field = isText ? name : `${name}_base64`;
  if (bytes.length > mostBytes) return { [field]: new LongText(bytes, isText) };
  return { [field]: Buffer.from(bytes).toString(isText ? "utf8" : "base64") };
}

/** A list whose items are made when they are written. */
export class LazyList {
  constructor(readonly items: Iterable<unknown>) {}
}

/**
 * JSON that is written out already, as text, or in UTF-8, which is sent as a piece of its own. In a
 * list it may be several items, with commas between.
 */
export class WrittenJson {
  constructor(readonly written: string | Uint8Array) {}
}

/** JSON of objects, lists, all of the above and what JSON has, in pieces. */
function* jsonPieces(value: unknown): Iterable<string | Uint8Array> {
  if (value instanceof WrittenJson) yield value.written;
  else if (value instanceof LongText) {
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

/** All of it, in which nothing is written out already. */
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
  let ahead: Uint8Array | null = null;
  const next = (): Piece => {
    const bytes = ahead;
    ahead = null;
    if (bytes !== null) return { bytes, isAll: false };
    const endMs = turns.timing.nowMs() + PIECE_MS;
    let text = "";
    for (let count = 1; text.length < PIECE_CHARACTERS && ahead === null; count++) {
      const piece = pieces.next();
      if (piece.done === true) return { bytes: encoder.encode(text), isAll: true };
      if (typeof piece.value === "string") text += piece.value;
      else ahead = piece.value;
      if (count % 16 === 0 && turns.timing.nowMs() > endMs) break;
    }
    return { bytes: encoder.encode(text), isAll: false };
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

const encoder = new TextEncoder();

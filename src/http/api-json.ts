/**
 * JSON of any length on its way out. What is short is written at once. The rest goes piece by
 * piece, each when the client has read the one before: so nothing is written out that nobody reads,
 * and others have their turn.
 */
import type { AnswerTurns } from "./answer-turns.ts";
import { jsonPieces, shared } from "./json-writer.ts";

/** What is written at once, in bytes, and how long that may take. */
const MOST_PIECE_BYTES = 64 * 1024;
const PIECE_MS = 1;
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
    return { response: wholeResponse(beginning.bytes, headers), cut: () => {} };
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

const wholes = new WeakMap<Response, Uint8Array>();

/**
 * An answer of these bytes. They lie beside it: a response keeps a copy of its body until the next
 * collection, and the collector does not know how long that is.
 */
function wholeResponse(bytes: Uint8Array, headers: Headers): Response {
  const response = new Response(null, { headers });
  wholes.set(response, bytes);
  return response;
}

/** The body of an answer, if that is no stream; none is empty. */
export async function bodyBytes(response: Response): Promise<Uint8Array> {
  return wholes.get(response) ?? response.bytes();
}

/**
 * A request that nobody sent: words, put where those of a request would lie. One of these is used
 * again and again, for hundreds of commands in a turn of the event loop.
 */
import { release, ScratchBytes, unfilled } from "../core/bytes.ts";
import { Request } from "../protocol/request.ts";

/** A word of a command: a text in ASCII, or bytes. */
export type Word = Uint8Array | string;

/** A request above this has memory of its own, which is given back when it was run. */
const KEPT_BYTES = 64 * 1024;

/** See the file header. */
export class WordRequest {
  readonly request = new Request();
  private readonly scratch = new ScratchBytes();
  /** Memory of this request alone, which is nobody else's. */
  private own: Uint8Array | null = null;

  /**
   * Makes it a request of these words. A long one of bytes stays where it lies if the others find
   * room behind it, so its buffer must be nobody else's.
   */
  write(words: readonly Word[]): void {
    const { request } = this;
    const length = words.reduce((sum, word) => sum + word.length, 0);
    const kept = length > KEPT_BYTES ? withRoomBehind(words, length) : undefined;
    request.reset();
    request.isResp = true;
    request.bytes = kept === undefined ? this.reserve(length) : new Uint8Array(kept.buffer);
    let at = kept === undefined ? 0 : kept.byteOffset + kept.length;
    for (const word of words) {
      if (word === kept) request.add(kept.byteOffset, kept.length);
      else {
        request.add(at, word.length);
        at = put(word, request.bytes, at);
      }
    }
  }

  /** It was run, and nothing of it is needed any more. */
  forget(): void {
    this.request.reset();
    if (this.own !== null) release(this.own);
    this.own = null;
  }

  private reserve(length: number): Uint8Array {
    if (length <= KEPT_BYTES) return this.scratch.reserve(length);
    this.own = unfilled(length);
    return this.own;
  }
}

/** A word of most of the request's bytes, behind which the others have room in its buffer. */
function withRoomBehind(words: readonly Word[], length: number): Uint8Array | undefined {
  return words.find((word): word is Uint8Array => {
    if (typeof word === "string" || word.length < length / 2) return false;
    const room = word.buffer.byteLength - word.byteOffset - word.length;
    return room >= length - word.length;
  });
}

/** Puts a word there; returns where it ends. */
function put(word: Word, bytes: Uint8Array, at: number): number {
  if (typeof word !== "string") bytes.set(word, at);
  else for (let i = 0; i < word.length; i++) bytes[at + i] = word.charCodeAt(i);
  return at + word.length;
}

/** The body of a request, as it comes: of a length that was told, or in chunks (RFC 9112, 7.1). */
import { enlarged, releaseLargeOf, unfilled } from "../core/bytes.ts";

/** Why a body is no body: told with the status. */
export class BodyProblem extends Error {
  constructor(
    readonly status: 400 | 413,
    message: string,
  ) {
    super(message);
  }
}

/** Longest line between chunks, and most bytes of what may follow the last one. */
const MAX_LINE_BYTES = 256;
const MAX_TRAILER_BYTES = 4 * 1024;
/** So many of these lines are read at a time, which takes about half a millisecond. */
const LINES_AT_ONCE = 1_000;
/** Room behind a body of known length, for whoever has something to put beside it. */
const BEHIND_BYTES = 1024;
const CR = 0x0d;
const LF = 0x0a;

/** Takes the bytes behind a head until the body is over. */
export class RequestBody {
  isOver: boolean;
  /** What has come lies in its first `length` bytes. */
  private all: Uint8Array<ArrayBuffer>;
  private length = 0;
  /** Of what is being read: the body, or a chunk. */
  private left: number;
  private line: number[] = [];
  private trailerBytes = 0;
  private state: "data" | "end" | "size" | "trailer";

  /** `announced`: its length, null for chunks. Throws a BodyProblem when that is too much. */
  constructor(
    announced: number | null,
    private readonly mostBytes: number,
  ) {
    if (announced !== null && announced > mostBytes) throw this.tooLong();
    this.left = announced ?? 0;
    this.all = unfilled(announced === null ? 0 : announced + BEHIND_BYTES);
    this.state = announced === null ? "size" : "data";
    this.isOver = announced === 0;
  }

  /**
   * Takes what belongs to it, but no more than can be taken in one go; returns how many bytes that
   * are. Throws a BodyProblem.
   */
  take(bytes: Uint8Array): number {
    let at = 0;
    let lines = 0;
    while (at < bytes.length && !this.isOver && lines < LINES_AT_ONCE) {
      if (this.state === "data") at += this.takeData(bytes, at);
      else {
        if (bytes[at] === LF) lines++;
        this.takeLine(bytes[at++]);
      }
    }
    return at;
  }

  /** All of it, for the caller to keep. */
  bytes(): Uint8Array<ArrayBuffer> {
    return this.all.subarray(0, this.length);
  }

  /** Nobody wants it any more. */
  discard(): void {
    releaseLargeOf(this.all);
  }

  private takeData(bytes: Uint8Array, at: number): number {
    const count = Math.min(this.left, bytes.length - at);
    const { length, all, mostBytes } = this;
    if (length + count > all.length) this.all = enlarged(all, length, length + count, mostBytes);
    this.all.set(bytes.subarray(at, at + count), length);
    this.length += count;
    this.left -= count;
    if (this.left > 0) return count;
    if (this.isChunked) this.state = "end";
    else this.isOver = true;
    return count;
  }

  private isChunked = false;

  /** Lines of chunked bodies, a byte at a time. */
  private takeLine(byte: number): void {
    const { line } = this;
    if (byte !== LF) {
      if (line.at(-1) === CR || line.length >= MAX_LINE_BYTES) throw senseless();
      line.push(byte);
      return;
    }
    if (line.pop() !== CR) throw senseless();
    const text = String.fromCharCode(...line);
    line.length = 0;
    if (this.state === "trailer") {
      this.trailerBytes += text.length;
      if (this.trailerBytes > MAX_TRAILER_BYTES) throw senseless();
      this.isOver = text === "";
    } else if (this.state === "end") {
      if (text !== "") throw senseless();
      this.state = "size";
    } else this.beginChunk(text);
  }

  /** What follows a semicolon is for whoever knows it. */
  private beginChunk(text: string): void {
    const size = /^([0-9a-f]{1,8})[ \t]*(?:;.*)?$/i.exec(text);
    if (size === null) throw senseless();
    this.left = parseInt(size[1], 16);
    this.isChunked = true;
    if (this.length + this.left > this.mostBytes) throw this.tooLong();
    this.state = this.left === 0 ? "trailer" : "data";
  }

  private tooLong(): BodyProblem {
    return new BodyProblem(413, `The body may have ${this.mostBytes} bytes`);
  }
}

function senseless(): BodyProblem {
  return new BodyProblem(400, "The chunks of the body make no sense");
}

/**
 * Cuts what arrives into pieces, with a turn of the event loop between them. A socket delivers half
 * a mebibyte at once, and whoever parses that takes it for thousands of small messages in one go.
 */
import { Transform, type Duplex, type TransformCallback } from "node:stream";
import type { Timing } from "../timing.ts";

/** Some hundred small messages: about a millisecond. */
const PIECE_BYTES = 16 * 1024;

class Pieces extends Transform {
  constructor(private readonly timing: Timing) {
    super();
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    const pass = (from: number): void => {
      if (this.destroyed) return;
      this.push(chunk.subarray(from, from + PIECE_BYTES));
      const next = from + PIECE_BYTES;
      if (next >= chunk.length) done();
      else this.timing.soon(() => pass(next));
    };
    pass(0);
  }
}

/** From now on, whatever the stream is piped into gets its bytes in pieces. */
export function pipeInPieces(stream: Duplex, timing: Timing): Duplex {
  const pipe = stream.pipe.bind(stream);
  stream.pipe = (target, options) => pipe(new Pieces(timing)).pipe(target, options);
  return stream;
}

/**
 * A reply of many elements that is put together in slices, while the store changes, and sent in
 * pieces: neither the gathering nor the sending of a long list holds anybody up, and no buffer
 * ever has to hold all of it.
 *
 * Elements are written into `part` as into any reply and then counted with `add`. One that
 * does not fit any more is taken back, and `isFull` says so: whoever gathers then either says where
 * to go on, or answers an error. Nothing is left out in silence. Long values are not copied.
 */
import { release } from "../core/bytes.ts";
import type { SharedValue } from "../core/store/entry-table.ts";
import { Reply, type Dialect } from "../protocol/reply.ts";
import type { ReplyContinuation } from "./command.ts";
import type { ClientSession } from "./client-session.ts";

/** Gathered elements are put aside when they take this much: most of what the buffer has then. */
const PART_BYTES = 48 * 1024;
/** At most this much is sent at once. */
const PIECE_BYTES = 256 * 1024;
/** Less than that, in a buffer that is mostly empty, is copied into one of its own. */
const SMALL_PART_BYTES = 1024;
/** A small list takes little memory. */
const FIRST_BYTES = 1024;

/** See the file header. */
export class ListReply {
  /** Elements gathered. */
  count = 0;
  /** An element was taken back because the reply would have become larger than it may. */
  isFull = false;
  /** Where the next element is written. */
  readonly part: Reply;

  /** Those made here, and values where they lie. */
  private readonly pieces: SharedValue[] = [];
  private gatheredBytes = 0;
  private elementStart = 0;
  private sentBytes = 0;

  /**
   * `maxBytes` bounds the elements; what `after` writes before them comes on top. What is held
   * counts as the session's.
   */
  constructor(
    dialect: Dialect,
    private readonly maxBytes: number,
    private readonly session: ClientSession,
  ) {
    this.part = new Reply(Infinity, FIRST_BYTES);
    this.part.dialect = dialect;
  }

  /** Bytes of all elements. */
  get bytes(): number {
    return this.gatheredBytes + this.elementStart;
  }

  /** Counts what was written into `part` as one element; false if it had to be taken back. */
  add(): boolean {
    const { part } = this;
    if (this.gatheredBytes + part.length > this.maxBytes) {
      part.length = this.elementStart;
      this.isFull = true;
      return false;
    }
    this.count++;
    if (part.length >= PART_BYTES) {
      this.gatheredBytes += part.length;
      this.keepPiece();
    }
    this.elementStart = part.length;
    return true;
  }

  /**
   * Counts as one element what was written into `part` with this value behind it and the end of the
   * line; false if it had to be taken back.
   */
  addLong(value: SharedValue): boolean {
    const { part } = this;
    const end = part.length + value.length + LINE_END_BYTES;
    if (this.gatheredBytes + end > this.maxBytes) {
      value.release();
      part.length = this.elementStart;
      this.isFull = true;
      return false;
    }
    this.count++;
    this.gatheredBytes += part.length + value.length;
    if (part.length > 0) this.keepPiece();
    this.keep(value);
    part.endOfLine();
    this.elementStart = part.length;
    return true;
  }

  /** Gives the memory back, for nobody will ask for what is gathered. */
  release(): void {
    for (const piece of this.pieces) piece.release();
    this.pieces.length = 0;
  }

  /** Forgets all elements, for an error takes their place. */
  drop(): void {
    for (const piece of this.pieces) this.session.hold(-heldBytes(piece));
    this.release();
    this.part.length = this.elementStart = this.gatheredBytes = this.count = 0;
  }

  /** The whole: what `begin` writes, then the elements. */
  after(begin: (reply: Reply) => void): ReplyContinuation {
    let hasBegun = false;
    return (reply) => {
      if (!hasBegun) {
        hasBegun = true;
        begin(reply);
        if (this.part.length > 0) this.keepPiece();
        this.pieces.reverse();
      }
      return this.writeNext(reply);
    };
  }

  /** Keeps what is in `part`, which begins anew. */
  private keepPiece(): void {
    const { part } = this;
    const { length } = part;
    const isSmall = length <= SMALL_PART_BYTES && length < part.bytes.length / 2;
    const bytes = isSmall ? new Uint8Array(part.bytes.subarray(0, length)) : part.handOver();
    part.length = 0;
    this.keep({ bytes, offset: 0, length, release: () => release(bytes) });
  }

  /** The session is charged for the whole buffer. */
  private keep(piece: SharedValue): void {
    this.pieces.push(piece);
    this.session.held = this;
    this.session.hold(heldBytes(piece));
  }

  /** Writes the next piece; true when there are more. */
  private writeNext(reply: Reply): boolean {
    for (let room = PIECE_BYTES; room > 0 && this.pieces.length > 0;) {
      const piece = this.pieces[this.pieces.length - 1];
      const count = Math.min(room, piece.length - this.sentBytes);
      reply.copied(piece.bytes, piece.offset + this.sentBytes, count);
      room -= count;
      this.sentBytes += count;
      if (this.sentBytes < piece.length) break;
      this.sentBytes = 0;
      this.session.hold(-heldBytes(piece));
      piece.release();
      this.pieces.pop();
    }
    return this.pieces.length > 0;
  }
}

const LINE_END_BYTES = 2;

function heldBytes({ bytes }: SharedValue): number {
  return bytes.buffer.byteLength;
}

/**
 * What has come of a stream and is not read yet, in one piece. However small the pieces are in
 * which it comes, each byte is copied a few times at most, and what is kept is in proportion to
 * what is unread. What is read at once is not copied at all.
 */

import { releaseLarge, unfilled } from "../core/bytes.ts";

/** See the file header. */
export class UnreadBytes {
  private buffer: Uint8Array = NOTHING;
  private at = 0;
  private end = 0;
  /** Whether the buffer has no other user, so that there may be written to it. */
  private isOwn = false;

  get length(): number {
    return this.end - this.at;
  }

  /** All of it, valid until the next call of a method. */
  get bytes(): Uint8Array {
    return this.buffer.subarray(this.at, this.end);
  }

  /** Adds what came, which must stay as it is until `settle` is called. */
  push(bytes: Uint8Array): void {
    if (this.length === 0) return this.adopt(bytes);
    const isShort = this.end + bytes.length > this.buffer.length;
    if (!this.isOwn || isShort) this.move(2 * (this.length + bytes.length));
    this.buffer.set(bytes, this.end);
    this.end += bytes.length;
  }

  /** Removes so many bytes from its beginning. */
  skip(count: number): void {
    this.at += count;
  }

  /**
   * To be called when nothing more can be read: copies what is left of what came, and lets go of
   * what a little of much would keep.
   */
  settle(): void {
    if (this.length === 0) this.adopt(NOTHING);
    else if (!this.isOwn || this.length < this.buffer.length / 4) this.move(this.length);
  }

  private adopt(bytes: Uint8Array): void {
    if (this.isOwn) releaseLarge(this.buffer);
    this.buffer = bytes;
    this.at = 0;
    this.end = bytes.length;
    this.isOwn = false;
  }

  /** To a buffer of its own with room for so many bytes. */
  private move(room: number): void {
    const { bytes, length } = this;
    const moved = unfilled(room);
    moved.set(bytes);
    if (this.isOwn) releaseLarge(this.buffer);
    this.buffer = moved;
    this.at = 0;
    this.end = length;
    this.isOwn = true;
  }
}

const NOTHING = new Uint8Array(0);

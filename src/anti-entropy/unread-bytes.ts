/**
 * What has come of a stream and is not read yet, in one piece. However small the pieces are in
 * which it comes, each byte is copied a few times at most, and what is kept is in proportion to
 * what is unread.
 */

/** See the file header. */
export class UnreadBytes {
  private buffer: Uint8Array = new Uint8Array(0);
  private at = 0;
  private end = 0;
  /** Whether the buffer has no other user, so that there may be written to it. */
  private isOwn = true;

  get length(): number {
    return this.end - this.at;
  }

  /** All of it, valid until the next call of a method. */
  get bytes(): Uint8Array {
    return this.buffer.subarray(this.at, this.end);
  }

  /** Adds what came, which is this one's from now on. */
  push(bytes: Uint8Array): void {
    if (this.length === 0) return this.adopt(bytes);
    if (!this.isOwn || this.end + bytes.length > this.buffer.length) this.makeRoom(bytes.length);
    this.buffer.set(bytes, this.end);
    this.end += bytes.length;
  }

  /** Removes so many bytes from its beginning. */
  skip(count: number): void {
    this.at += count;
  }

  /** To be called when nothing more can be read: a little of much that came does not keep all. */
  settle(): void {
    if (this.length === 0) this.adopt(new Uint8Array(0));
    else if (this.length < this.buffer.length / 4) this.makeRoom(0);
  }

  private adopt(bytes: Uint8Array): void {
    this.buffer = bytes;
    this.at = 0;
    this.end = bytes.length;
    this.isOwn = false;
  }

  private makeRoom(count: number): void {
    const { bytes } = this;
    const larger = new Uint8Array(2 * (bytes.length + count));
    larger.set(bytes);
    this.buffer = larger;
    this.at = 0;
    this.end = bytes.length;
    this.isOwn = true;
  }
}

/**
 * Output of a connection, whoever made it: what the kernel does not take, and what must not leave
 * yet because it may show writes that are not safe from a crash, is queued and sent in order.
 */
import type { Socket } from "bun";
import { release, unfilled } from "./core/bytes.ts";

/** See the file header. */
export class SendQueue {
  /** Bytes queued. */
  length = 0;
  private readonly pieces: Uint8Array[] = [];
  /** For each piece, how far the journal has to be safe before it may leave. */
  private readonly positions: number[] = [];
  /** Length of the buffer of the last piece, if that is our own to write to; else 0. */
  private lastRoom = 0;
  private isGone = false;

  /**
   * `onGone` is called, soon after, when a write finds nobody at the other side. Of a socket that
   * is not read from the runtime does not tell that by itself.
   */
  constructor(
    private readonly socket: Pick<Socket, "write">,
    private readonly onGone: () => void = () => {},
  ) {}

  /** Memory taken by what is queued. */
  get heldBytes(): number {
    let bytes = 0;
    for (const piece of this.pieces) bytes += memoryOf(piece);
    return this.lastRoom === 0 ? bytes : bytes + this.lastRoom - this.pieces.at(-1)!.length;
  }

  /** Whether what is next waits for the journal, given how far that is safe. */
  isHeld(safePosition: number): boolean {
    return this.pieces.length > 0 && this.positions[0] > safePosition;
  }

  /**
   * Sends the first `length` bytes, and queues a copy of what does not leave now. Without positions
   * all may leave.
   */
  send(bytes: Uint8Array, length = bytes.length, position = 0, safePosition = 0): void {
    const sent = this.trySend(bytes, length, position, safePosition);
    if (sent < length && !this.join(bytes, sent, length, position)) {
      // Not slice(), which in a Buffer makes no copy.
      this.queue(new Uint8Array(bytes.subarray(sent, length)), position);
    }
  }

  /**
   * Adds to the last piece what is short beside it and may leave no earlier anyway: a client that
   * does not read would have thousands of small ones, each of which takes more than what it holds.
   */
  private join(bytes: Uint8Array, from: number, to: number, position: number): boolean {
    const { pieces, positions } = this;
    const at = pieces.length - 1;
    const length = to - from;
    if (at < 0 || position > positions[at]) return false;
    let last = pieces[at];
    const before = last.length;
    const joined = before + length;
    if (joined > JOINED_BYTES) return false;
    if (last.byteOffset + joined > this.lastRoom) {
      last = unfilled(Math.min(2 * joined, JOINED_BYTES));
      last.set(pieces[at]);
      if (isLarge(pieces[at])) release(pieces[at]);
      this.lastRoom = last.length;
    }
    pieces[at] = new Uint8Array(last.buffer, last.byteOffset, joined);
    pieces[at].set(bytes.subarray(from, to), before);
    this.length += length;
    return true;
  }

  /**
   * Sends the first `length` bytes if they may leave, which they may once the journal is safe up to
   * `position`. Returns how many the kernel took; all, when there is nobody left to send to.
   */
  trySend(bytes: Uint8Array, length: number, position: number, safePosition: number): number {
    if (this.length > 0 || position > safePosition) return 0;
    // A view of them, made for each reply, would have to be collected.
    const sent = this.socket.write(bytes, 0, length);
    if (sent >= 0) return sent;
    this.noteGone();
    return length;
  }

  /** Queues bytes, which are the queue's from now on with the buffer they lie in. */
  queue(bytes: Uint8Array, position: number): void {
    // First, for a buffer that is exchanged for a smaller one is empty afterwards.
    this.length += bytes.length;
    this.lastRoom = 0;
    this.pieces.push(shrunk(bytes));
    this.positions.push(position);
  }

  /** Sends of the queue what may leave and the kernel takes. */
  flush(safePosition = 0): void {
    while (this.pieces.length > 0 && this.positions[0] <= safePosition) {
      this.joinSmall(safePosition);
      const bytes = this.pieces[0];
      const sent = this.socket.write(bytes);
      if (sent < 0) return this.noteGone();
      this.length -= sent;
      if (sent < bytes.length) {
        const rest = bytes.subarray(sent);
        this.pieces[0] = shrunk(rest);
        if (this.pieces[0] !== rest && this.pieces.length === 1) this.lastRoom = 0;
        return;
      }
      this.pieces.shift();
      this.positions.shift();
      if (this.pieces.length === 0) this.lastRoom = 0;
      if (isLarge(bytes)) release(bytes);
    }
  }

  /** Forgets everything. */
  clear(): void {
    for (const bytes of this.pieces) if (isLarge(bytes)) release(bytes);
    this.length = this.lastRoom = this.pieces.length = this.positions.length = 0;
  }

  /** Whoever sends may be in the middle of something. */
  private noteGone(): void {
    if (!this.isGone) queueMicrotask(this.onGone);
    this.isGone = true;
  }

  /** Makes one of the first pieces that may leave, because each write is a system call. */
  private joinSmall(safePosition: number): void {
    const { pieces, positions } = this;
    let count = 0;
    let bytes = 0;
    while (count < pieces.length && positions[count] <= safePosition) {
      bytes += pieces[count].length;
      if (bytes > JOINED_BYTES) break;
      count++;
    }
    if (count < 2) return;
    if (count === pieces.length) this.lastRoom = 0;
    pieces.splice(0, count, Buffer.concat(pieces.slice(0, count)));
    positions.splice(0, count, 0);
  }
}

const JOINED_BYTES = 64 * 1024;

/** Whether a piece has a large buffer, which is then its own. */
function isLarge(bytes: Uint8Array): boolean {
  return bytes.buffer.byteLength > JOINED_BYTES;
}

function memoryOf(bytes: Uint8Array): number {
  return isLarge(bytes) ? bytes.buffer.byteLength : bytes.length;
}

/** The same bytes, in a smaller buffer when most of a large one is not needed any more. */
function shrunk(bytes: Uint8Array): Uint8Array {
  if (memoryOf(bytes) < 2 * bytes.length) return bytes;
  const copy = new Uint8Array(bytes);
  release(bytes);
  return copy;
}

/**
 * A stream of bytes in both directions over a way that carries datagrams only, and may lose,
 * repeat, delay and reorder them: what one side writes, the other gets, in order and once. It is a
 * pure step machine: datagrams and times go in, datagrams and bytes come out.
 *
 * Whoever has one asks `next` for what is to be sent, after anything has happened to it and at
 * `dueMs`. A side that is done says so behind its last byte, and from then on takes nothing more
 * either, like a socket that was closed.
 *
 * It knows nothing of who is at the other end. Whatever comes from there, memory stays within two
 * windows and what `write` was given.
 */
import { clockWord, decodeDatagram, encodeDatagram, MAX_OVERHEAD_BYTES } from "./datagram.ts";
import { StreamReceiver } from "./stream-receiver.ts";
import { StreamSender } from "./stream-sender.ts";

/** No datagram is longer than this unless fewer bytes would carry nothing. */
export const MIN_DATAGRAM_BYTES = MAX_OVERHEAD_BYTES + 256;
/** What either side may send before it has heard for how much there is room. */
const FIRST_CREDIT_BYTES = 16_384;

/** What one is made with. */
export interface DatagramStreamOptions {
  /** How long a datagram may be now; at least `MIN_DATAGRAM_BYTES`, and 65,536 at most. */
  readonly maxDatagramBytes: () => number;
  /** Most bytes under way, and most that are kept here until they are read; 16 KiB at least. */
  readonly windowBytes: number;
  /** Gets what comes, in order; the bytes are its to keep. */
  readonly onBytes: (bytes: Uint8Array) => void;
}

/** One side. Times are monotonic, in ms. */
export class DatagramStream {
  private readonly sender: StreamSender;
  private readonly receiver: StreamReceiver;

  constructor({ maxDatagramBytes, windowBytes, onBytes }: DatagramStreamOptions) {
    const segmentBytes = (): number => maxDatagramBytes() - MAX_OVERHEAD_BYTES;
    this.sender = new StreamSender(segmentBytes, windowBytes, FIRST_CREDIT_BYTES);
    this.receiver = new StreamReceiver(windowBytes, onBytes);
  }

  /** Bytes that were written and not sent once. */
  get unsentBytes(): number {
    return this.sender.unsentBytes;
  }

  /** Whether something waits to be sent, anew or for the first time. */
  get hasToSend(): boolean {
    return this.sender.hasToSend;
  }

  /** How often bytes were sent anew. */
  get resends(): number {
    return this.sender.resends;
  }

  /** Whether the other side has got everything, and that it was everything. */
  get isFinished(): boolean {
    return this.sender.isFinished;
  }

  /** Whether the other side is done, and all it sent was passed on. */
  get isPeerFinished(): boolean {
    return this.receiver.isFinished;
  }

  /** When `next` has something though nothing has happened; Infinity for never. */
  get dueMs(): number {
    return Math.min(this.sender.dueMs, this.receiver.receiptDueMs);
  }

  /** Sends bytes, which are copied. */
  write(bytes: Uint8Array): void {
    this.sender.write(bytes);
  }

  /** Says behind everything written that this side is done. */
  finish(): void {
    this.sender.finish();
  }

  /** Passes on nothing that comes until `resume`, so that the other side is held back. */
  pause(): void {
    this.receiver.pause();
  }

  /** Passes on again, what has come meanwhile first. */
  resume(nowMs: number): void {
    this.receiver.resume(nowMs);
  }

  /** Takes a datagram. False when it is none that the other side can have sent. */
  receive(bytes: Uint8Array, nowMs: number): boolean {
    const datagram = decodeDatagram(bytes);
    if (datagram === null || !this.sender.hear(datagram, nowMs)) return false;
    return this.receiver.take(datagram, nowMs);
  }

  /**
   * What is to be sent now; null when there is nothing. With `isReceipt` only what tells of what
   * was received, which is short.
   */
  next(nowMs: number, isReceipt = false): Uint8Array | null {
    const segment = isReceipt ? null : this.sender.take(nowMs);
    const isProbe = segment === null && this.sender.takeProbe(nowMs);
    const isDue = segment !== null || isProbe || nowMs >= this.receiver.receiptDueMs;
    if (!isDue) return null;
    return encodeDatagram({
      ...this.receiver.receipt(),
      sentMs: clockWord(nowMs),
      offset: segment?.start ?? this.sender.offset,
      payload: segment?.bytes ?? new Uint8Array(0),
      isFinal: segment?.isFinal ?? false,
      isProbe,
    });
  }

  /** The way was interrupted: what was under way is sent anew. */
  interrupt(): void {
    this.sender.loseAll();
  }
}

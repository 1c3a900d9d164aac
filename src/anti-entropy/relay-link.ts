/** A connection to another node through the broker: a Link over a stream of datagrams. */
import { DatagramStream } from "../core/link/datagram-stream.ts";
import type { Link, LinkHandler } from "../ports.ts";
import type { Cancel, Timing } from "../timing.ts";
import { relayAddress } from "./destination.ts";
import { decodeAnswer, isAnswer } from "./relay-messages.ts";

/** Most bytes under way in one direction, and most kept here while nobody reads. */
const WINDOW_BYTES = 131_072;
/** How long the other side has to get what is left, after `end`. */
const CLOSING_MS = 10_000;

/** What one is made with. */
export interface RelayLinkOptions {
  readonly nodeId: string;
  /** Where the other side receives. */
  readonly box: string;
  readonly timing: Timing;
  /** How long a datagram may be now. */
  readonly maxDatagramBytes: () => number;
  /** There may be something to send. */
  readonly onReady: () => void;
  /** Nothing more is sent, and what still comes is of no interest. */
  readonly onOver: () => void;
  /** Something came that the other side cannot have sent. */
  readonly onRefused: () => void;
}

/** See the file header. */
export class RelayLink implements Link {
  readonly address: string;
  /** Where the other side receives, and who that is. */
  readonly box: string;
  readonly nodeId: string;
  /** It was ended on this side; the other may still have to get what is left. */
  hasEnded = false;
  private readonly stream: DatagramStream;
  private handler: LinkHandler | null = null;
  private hasQueued = false;
  private isOver = false;
  private cancelClosing: Cancel = () => {};

  constructor(private readonly options: RelayLinkOptions) {
    this.nodeId = options.nodeId;
    this.box = options.box;
    this.address = relayAddress(options.nodeId);
    this.stream = new DatagramStream({
      maxDatagramBytes: options.maxDatagramBytes,
      windowBytes: WINDOW_BYTES,
      onBytes: (bytes) => this.handler?.receive(bytes),
    });
  }

  get queuedBytes(): number {
    return this.stream.unsentBytes;
  }

  /** How often bytes were sent anew. */
  get resends(): number {
    return this.stream.resends;
  }

  /** Whether something waits to be sent, anew or for the first time. */
  get hasToSend(): boolean {
    return !this.isOver && this.stream.hasToSend;
  }

  /** When `next` has something though nothing has happened. */
  get dueMs(): number {
    return this.stream.dueMs;
  }

  /** Who gets what comes from now on. */
  attach(handler: LinkHandler): void {
    this.handler = handler;
  }

  send(bytes: Uint8Array): void {
    if (this.hasEnded) return;
    this.stream.write(bytes);
    this.hasQueued = true;
    this.options.onReady();
  }

  pause(): void {
    this.stream.pause();
  }

  resume(): void {
    if (this.isOver) return;
    this.stream.resume(this.options.timing.nowMs());
    this.look();
  }

  end(): void {
    if (this.hasEnded) return;
    this.hasEnded = true;
    this.handler = null;
    this.stream.finish();
    this.cancelClosing = this.options.timing.after(CLOSING_MS, () => this.leave());
    this.resume();
  }

  /** A datagram came for it. */
  receive(message: Uint8Array): void {
    if (this.isOver) return;
    // The answer that began it came twice, or the other side has thought better of it.
    if (isAnswer(message)) {
      const answer = decodeAnswer(message);
      return answer !== null && "refused" in answer ? this.leave() : undefined;
    }
    if (!this.stream.receive(message, this.options.timing.nowMs())) this.options.onRefused();
    this.look();
  }

  /** What is to be sent now; null when there is nothing. With `isReceipt` as in DatagramStream. */
  next(nowMs: number, isReceipt: boolean): Uint8Array | null {
    return this.isOver ? null : this.stream.next(nowMs, isReceipt);
  }

  /** Tells whoever sends here that all of it has left, if that is new. */
  noteSent(): void {
    if (!this.hasQueued || this.queuedBytes > 0) return;
    this.hasQueued = false;
    this.handler?.drained();
  }

  /** The broker was away: what was under way is sent anew. */
  interrupt(): void {
    this.stream.interrupt();
  }

  /** Ends it without a word. */
  leave(): void {
    if (this.isOver) return;
    this.hasEnded = true;
    this.cancelClosing();
    const { handler } = this;
    this.handler = null;
    this.options.onOver();
    this.isOver = true;
    handler?.closed();
  }

  private look(): void {
    if (this.isOver) return;
    const { isFinished, isPeerFinished } = this.stream;
    this.options.onReady();
    if (isPeerFinished || (this.hasEnded && isFinished)) this.leave();
  }
}

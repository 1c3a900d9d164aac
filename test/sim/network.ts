/**
 * Who reaches whom, and connections between nodes that carry bytes: late, in pieces of any
 * size, and cut at any byte. Directions are apart: A may reach B while B does not reach A.
 */
import type { Chance } from "./chance.ts";
import type { Timeline } from "./timeline.ts";

/** A byte stream without news for so long is given up by its ends, in ms. */
const SILENCE_MS = 10_000;

/** The lines between the nodes, and between each node and the broker, by their numbers. */
export class Network {
  private readonly blocked = new Set<number>();

  /** Whether what `from` sends arrives at `to`. */
  reaches(from: number, to: number): boolean {
    return !this.blocked.has(from * 64 + to);
  }

  /** Whether both hear each other, as a connection needs. */
  connects(a: number, b: number): boolean {
    return this.reaches(a, b) && this.reaches(b, a);
  }

  /** Cuts or mends one direction. */
  set(from: number, to: number, isBlocked: boolean): void {
    if (isBlocked) this.blocked.add(from * 64 + to);
    else this.blocked.delete(from * 64 + to);
  }

  /** Mends everything. */
  heal(): void {
    this.blocked.clear();
  }
}

/** What one end of a connection does with what comes. */
export interface StreamEnd {
  /** The number of the node it is on. */
  readonly place: number;
  receive(bytes: Uint8Array): void;
  /** So many bytes of what this end sent are still under way. */
  queued(bytes: number): void;
  closed(reason: string): void;
}

/** A connection of two ends. */
export class Stream {
  private readonly sides: [Side, Side];
  private cutAfter: number;
  private lastNewsMs: number;
  private isOver = false;

  /** With `cutAfter`, it breaks after that many bytes, both ways together. */
  constructor(
    private readonly network: Network,
    private readonly timeline: Timeline,
    /** What happens to what each side sends. */
    private readonly chances: readonly [Chance, Chance],
    private readonly maxLatencyMs: number,
    first: StreamEnd,
    second: StreamEnd,
    cutAfter: number,
  ) {
    this.sides = [new Side(first), new Side(second)];
    this.cutAfter = cutAfter;
    this.lastNewsMs = timeline.nowMs;
    this.watch();
  }

  /** Sends from an end, 0 or 1. The bytes are copied. */
  send(from: 0 | 1, bytes: Uint8Array): void {
    if (this.isOver) return;
    const kept = Math.min(bytes.length, this.cutAfter);
    this.cutAfter -= kept;
    for (let at = 0; at < kept;) {
      const chance = this.chances[from];
      const length = chance.happens(0.3) ? chance.between(1, kept - at) : kept - at;
      this.carry(from, bytes.slice(at, at + length));
      at += length;
    }
    if (kept < bytes.length) {
      this.isOver = true;
      this.closeLater(0, "the connection broke");
      this.closeLater(1, "the connection broke");
    }
  }

  /** An end lets go: the other hears of it after what is under way. */
  close(from: 0 | 1): void {
    if (this.isOver) return;
    this.isOver = true;
    this.sides[from].isClosed = true;
    this.closeLater(from === 0 ? 1 : 0, "the peer closed the connection");
  }

  private carry(from: 0 | 1, bytes: Uint8Array): void {
    const sender = this.sides[from];
    const receiver = this.sides[from === 0 ? 1 : 0];
    sender.queuedBytes += bytes.length;
    sender.end.queued(sender.queuedBytes);
    this.timeline.after(this.arrivalMs(from) - this.timeline.nowMs, () => {
      if (receiver.isClosed) return;
      if (!this.network.reaches(sender.end.place, receiver.end.place)) {
        // Nothing comes through any more, and after a silence both ends give up.
        this.isOver = true;
        return;
      }
      this.lastNewsMs = this.timeline.nowMs;
      sender.queuedBytes -= bytes.length;
      receiver.end.receive(bytes);
      if (!sender.isClosed) sender.end.queued(sender.queuedBytes);
    });
  }

  /** When what a side sends now gets there: after everything sent before. */
  private arrivalMs(from: 0 | 1): number {
    const receiver = this.sides[from === 0 ? 1 : 0];
    const latencyMs = this.chances[from].next() * this.maxLatencyMs;
    receiver.lastArrivalMs = Math.max(receiver.lastArrivalMs, this.timeline.nowMs + latencyMs);
    return receiver.lastArrivalMs;
  }

  private closeLater(side: 0 | 1, reason: string): void {
    const target = this.sides[side];
    this.timeline.after(this.arrivalMs(side === 0 ? 1 : 0) - this.timeline.nowMs, () =>
      target.closeNow(reason),
    );
  }

  private watch(): void {
    const waitMs = this.lastNewsMs + SILENCE_MS - this.timeline.nowMs;
    this.timeline.after(Math.max(waitMs, 1), () => {
      if (this.sides[0].isClosed && this.sides[1].isClosed) return;
      if (this.timeline.nowMs < this.lastNewsMs + SILENCE_MS) return this.watch();
      this.isOver = true;
      for (const side of this.sides) side.closeNow("nothing was heard for too long");
    });
  }
}

class Side {
  isClosed = false;
  queuedBytes = 0;
  lastArrivalMs = 0;

  constructor(readonly end: StreamEnd) {}

  closeNow(reason: string): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.end.closed(reason);
  }
}

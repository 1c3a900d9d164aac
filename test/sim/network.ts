/**
 * Who reaches whom, and connections between nodes that carry bytes: late, in pieces of any
 * size, held back by who does not read, and cut at any byte. Directions are apart: A may reach B while B does not reach A.
 */
import type { Chance } from "./chance.ts";
import type { Timeline } from "./timeline.ts";

/** What goes over a thin line: 32 kbit/s. */
const THIN_BYTES_A_MS = 4;
/** How long anything takes over it, in ms. */
const THIN_DELAY_MS = 2_000;
/** How often something is lost there, and has to be sent once more. */
const THIN_LOSS = 0.05;

/** The lines between the nodes, and between each node and the broker, by their numbers. */
export class Network {
  /** Who is at the end of a thin line, to everybody else; nobody by default. */
  thinPlace = -1;
  private readonly blocked = new Set<number>();
  /** Until when the thin line is full, towards its end and away from it. */
  private readonly fullUntilMs = [0, 0];

  /** What so many bytes take longer than by the usual line, in ms; they take up the line meanwhile. */
  delayMs(from: number, to: number, bytes: number, nowMs: number, chance: Chance): number {
    if (this.thinPlace < 0 || (from !== this.thinPlace && to !== this.thinPlace)) return 0;
    const direction = to === this.thinPlace ? 0 : 1;
    const beginMs = Math.max(nowMs, this.fullUntilMs[direction]);
    const times = chance.happens(THIN_LOSS) ? 2 : 1;
    this.fullUntilMs[direction] = beginMs + (times * bytes) / THIN_BYTES_A_MS;
    return this.fullUntilMs[direction] + times * THIN_DELAY_MS - nowMs;
  }

  /** Whether what `from` sends arrives at `to`. */
  reaches(from: number, to: number): boolean {
    return !this.blocked.has(lineOf(from, to));
  }

  /** Whether both hear each other, as a connection needs. */
  connects(a: number, b: number): boolean {
    return this.reaches(a, b) && this.reaches(b, a);
  }

  /** Cuts or mends one direction. */
  set(from: number, to: number, isBlocked: boolean): void {
    if (isBlocked) this.blocked.add(lineOf(from, to));
    else this.blocked.delete(lineOf(from, to));
  }

  /** Mends everything. */
  heal(): void {
    this.blocked.clear();
  }
}

function lineOf(from: number, to: number): number {
  return from * 65_536 + to;
}

/** What one end of a connection does with what comes. */
export interface StreamEnd {
  /** The number of the node it is on. */
  readonly place: number;
  receive(bytes: Uint8Array): void;
  /** So many bytes of what this end sent are still under way. */
  queued(bytes: number): void;
  closed(): void;
}

/**
 * A connection of two ends. One that breaks tells its ends nothing: what is sent is lost from then
 * on, in both directions, and it is theirs to find out.
 */
export class Stream {
  private readonly sides: [Side, Side];
  private cutAfter: number;
  private isBroken = false;

  /** With `cutAfter`, it is reset after that many bytes, both ways together. */
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
  }

  /** Sends from an end, 0 or 1. The bytes are copied. */
  send(from: 0 | 1, bytes: Uint8Array): void {
    if (this.cutAfter < 0) return;
    const kept = Math.min(bytes.length, this.cutAfter);
    this.cutAfter -= kept;
    for (let at = 0; at < kept;) {
      const chance = this.chances[from];
      const length = chance.happens(0.3) ? chance.between(1, kept - at) : kept - at;
      this.carry(from, bytes.slice(at, at + length));
      at += length;
    }
    if (kept === bytes.length) return;
    this.cutAfter = -1;
    this.closeLater(0);
    this.closeLater(1);
  }

  /** An end reads no more for now. */
  pause(side: 0 | 1): void {
    this.sides[side].isPaused = true;
  }

  /** An end reads again, what has come meanwhile first. */
  resume(side: 0 | 1): void {
    const { isPaused } = this.sides[side];
    this.sides[side].isPaused = false;
    if (isPaused) this.timeline.after(0, () => this.sides[side].read());
  }

  /** An end lets go: the other hears of it after what is under way. */
  close(from: 0 | 1): void {
    if (this.sides[from].isClosed) return;
    this.sides[from].isClosed = true;
    this.closeLater(from === 0 ? 1 : 0);
  }

  /** The machine of an end is gone without a word. */
  abandon(from: 0 | 1): void {
    this.sides[from].isClosed = true;
    this.isBroken = true;
  }

  private carry(from: 0 | 1, bytes: Uint8Array): void {
    const sender = this.sides[from];
    const receiver = this.sides[from === 0 ? 1 : 0];
    sender.queuedBytes += bytes.length;
    sender.end.queued(sender.queuedBytes);
    this.arrive(from, bytes.length, () => {
      receiver.take(() => {
        sender.queuedBytes -= bytes.length;
        receiver.end.receive(bytes);
        if (!sender.isClosed) sender.end.queued(sender.queuedBytes);
      });
    });
  }

  private closeLater(side: 0 | 1): void {
    const target = this.sides[side];
    this.arrive(side === 0 ? 1 : 0, 0, () => {
      target.take(() => {
        target.isClosed = true;
        target.end.closed();
      });
    });
  }

  /** Does something where what this side sends arrives, after everything sent before. */
  private arrive(from: 0 | 1, bytes: number, act: () => void): void {
    const [sender, receiver] = from === 0 ? this.sides : [this.sides[1], this.sides[0]];
    const [chance, { nowMs }] = [this.chances[from], this.timeline];
    const places = [sender.end.place, receiver.end.place] as const;
    const thinMs = this.network.delayMs(...places, bytes, nowMs, chance);
    const latencyMs = chance.next() * this.maxLatencyMs + thinMs;
    receiver.lastArrivalMs = Math.max(receiver.lastArrivalMs, this.timeline.nowMs + latencyMs);
    this.timeline.after(receiver.lastArrivalMs - this.timeline.nowMs, () => {
      this.isBroken ||= !this.network.reaches(sender.end.place, receiver.end.place);
      if (!this.isBroken) act();
    });
  }
}

class Side {
  isClosed = false;
  isPaused = false;
  queuedBytes = 0;
  lastArrivalMs = 0;
  /** What has come and is not read. */
  private readonly unread: (() => void)[] = [];

  constructor(readonly end: StreamEnd) {}

  /** Something has come. */
  take(reading: () => void): void {
    this.unread.push(reading);
    this.read();
  }

  read(): void {
    while (!this.isPaused && !this.isClosed && this.unread.length > 0) this.unread.shift()!();
  }
}

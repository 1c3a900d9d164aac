/**
 * The outgoing half of a `DatagramStream`: cuts what is to be sent into segments, sends no more
 * than the other side has room for and the way there takes without a queue, and sends anew what
 * was lost.
 *
 * The way is shared with messages that matter more, and its queue is first come, first served.
 * So the window of what is under way follows the delay (as in LEDBAT, RFC 6817): while round trips
 * take little longer than the shortest one, it grows; when a queue builds up, it shrinks. A segment
 * is lost when one that was sent clearly later has arrived (as in RACK, RFC 8985), or when nothing
 * comes back for the time that RFC 6298 computes from the round trips. What is lost twice, and is
 * longer than anything that has arrived, may be too long for the way, and is halved.
 */
import { clockWord, type Range, type Receipt } from "./datagram.ts";

/** How much longer than the shortest a round trip may take because of a queue: in ms, or a part. */
const QUEUE_MS = 200;
const QUEUE_PART = 1 / 4;
/**
 * After how long silence means loss: until a round trip was measured, at least, and when it is
 * doubled for each silence in a row, at most; in ms.
 */
const FIRST_TIMEOUT_MS = 3_000;
const MIN_TIMEOUT_MS = 300;
const MAX_DOUBLED_MS = 5_000;
/** Segments may overtake each other by so much, in ms, or a quarter of a round trip. */
const MIN_REORDERING_MS = 30;
/** What the window begins with, in segments. */
const FIRST_SEGMENTS = 2;
/** What was sent so often without arriving is halved, down to this length in bytes. */
const SENDS_BEFORE_HALVING = 2;
const MIN_SEGMENT_BYTES = 512;
/** Whatever is said to have taken longer to come back was made up, in ms. */
const MAX_ROUND_TRIP_MS = 60_000;

/** A run of bytes that was sent. */
export interface Segment {
  start: number;
  bytes: Uint8Array;
  /** The end of the stream, which counts as one byte. */
  readonly isFinal: boolean;
  sentMs: number;
  sends: number;
  /** How often at this length. */
  sendsAtLength: number;
  isLost: boolean;
}

/** See the file header. Times are monotonic, in ms. */
export class StreamSender {
  /** Written and not sent once. */
  unsentBytes = 0;
  /** How often something was sent anew. */
  resends = 0;
  private readonly unsent: Uint8Array[] = [];
  /** Sent and not known to have arrived, in the order of the stream. */
  private flight: Segment[] = [];
  /** Where what is sent next begins. */
  private nextOffset = 0;
  /** Up to where the other side has room. */
  private limit: number;
  private isFinishing = false;
  private isFinalSent = false;
  private windowBytes: number;
  private maxSegmentBytes: number;
  /** The longest segment that has arrived. */
  private provenBytes = 0;
  private shortestMs = Infinity;
  /** Smoothed round trip and how far trips are from it; 0 before the first. */
  private smoothMs = 0;
  private deviationMs = 0;
  /** Timeouts in a row. */
  private timeouts = 0;
  private narrowedMs = -Infinity;
  private lastSentMs = -Infinity;

  /**
   * `segmentBytes` tells how long a segment may be now. No more than `maxWindowBytes` are under
   * way, whatever the other side has room for, which is `firstCredit` until it says so.
   */
  constructor(
    private readonly segmentBytes: () => number,
    private readonly maxWindowBytes: number,
    firstCredit: number,
  ) {
    this.limit = firstCredit;
    this.maxSegmentBytes = segmentBytes();
    this.windowBytes = Math.min(maxWindowBytes, FIRST_SEGMENTS * this.maxSegmentBytes);
  }

  /** Where what is sent next begins. */
  get offset(): number {
    return this.nextOffset;
  }

  /** Whether the other side has everything, the end included. */
  get isFinished(): boolean {
    return this.isFinalSent && this.flight.length === 0;
  }

  /** Whether something waits to be sent, anew or for the first time. */
  get hasToSend(): boolean {
    const isEndDue = this.isFinishing && !this.isFinalSent;
    return this.unsentBytes > 0 || isEndDue || this.flight.some(({ isLost }) => isLost);
  }

  /** Adds to what is to be sent. The bytes are copied. */
  write(bytes: Uint8Array): void {
    if (bytes.length === 0 || this.isFinishing) return;
    this.unsent.push(bytes.slice());
    this.unsentBytes += bytes.length;
  }

  /** Nothing more will be written. */
  finish(): void {
    this.isFinishing = true;
  }

  /** Hears what has arrived. False when that cannot be: nothing of it was sent. */
  hear({ receivedUpTo, ranges, credit, echoMs }: Receipt, nowMs: number): boolean {
    const sentUpTo = this.nextOffset + (this.isFinalSent ? 1 : 0);
    if (receivedUpTo > sentUpTo || ranges.some(({ end }) => end > sentUpTo)) return false;
    this.limit = Math.max(this.limit, receivedUpTo + Math.min(credit, this.maxWindowBytes));
    const before = this.flightBytes();
    const hasArrived = this.removeArrived(receivedUpTo, ranges);
    if (hasArrived) this.timeouts = 0;
    const roundTripMs = (clockWord(nowMs) - echoMs) >>> 0;
    if (echoMs === 0 || roundTripMs > MAX_ROUND_TRIP_MS) return true;
    this.noteRoundTrip(roundTripMs);
    this.findLost(roundTripMs, nowMs);
    if (hasArrived) this.fitWindow(before, roundTripMs, nowMs);
    return true;
  }

  /** What is to be sent now; null when nothing may be. */
  take(nowMs: number): Segment | null {
    if (nowMs >= this.timeoutAtMs()) this.noteTimeout();
    const segment = this.takeLost() ?? this.cut();
    if (segment === null) return null;
    segment.sentMs = this.lastSentMs = nowMs;
    segment.sends++;
    segment.sendsAtLength++;
    segment.isLost = false;
    if (segment.sends > 1) this.resends++;
    return segment;
  }

  /** Whether the other side is to be asked for room, which it may have told of in vain. */
  takeProbe(nowMs: number): boolean {
    if (!this.isStarved() || nowMs < this.probeAtMs()) return false;
    this.lastSentMs = nowMs;
    this.timeouts++;
    return true;
  }

  /** When there will be something to be sent though nothing is heard; Infinity for never. */
  get dueMs(): number {
    return Math.min(this.timeoutAtMs(), this.isStarved() ? this.probeAtMs() : Infinity);
  }

  /** Whatever is under way is taken for lost: the way was interrupted. */
  loseAll(): void {
    for (const segment of this.flight) segment.isLost = true;
  }

  /** Whether anything has arrived that was not known to have. */
  private removeArrived(receivedUpTo: number, ranges: readonly Range[]): boolean {
    const before = this.flight.length;
    const missing: Segment[] = [];
    for (const segment of this.flight) {
      const { start } = segment;
      const end = start + lengthOf(segment);
      const isThere =
        end <= receivedUpTo || ranges.some((it) => it.start <= start && end <= it.end);
      if (isThere) this.provenBytes = Math.max(this.provenBytes, segment.bytes.length);
      else {
        const cut = Math.max(0, Math.min(segment.bytes.length, receivedUpTo - start));
        segment.start += cut;
        segment.bytes = segment.bytes.subarray(cut);
        missing.push(segment);
      }
    }
    this.flight = missing;
    return missing.length < before;
  }

  private noteRoundTrip(ms: number): void {
    this.shortestMs = Math.min(this.shortestMs, ms);
    if (this.smoothMs === 0) {
      this.smoothMs = ms;
      this.deviationMs = ms / 2;
    } else {
      this.deviationMs += (Math.abs(ms - this.smoothMs) - this.deviationMs) / 4;
      this.smoothMs += (ms - this.smoothMs) / 8;
    }
  }

  /** What was sent clearly before what has arrived now, that long after it was sent. */
  private findLost(roundTripMs: number, nowMs: number): void {
    const arrivedMs = nowMs - roundTripMs;
    const reorderingMs = Math.max(MIN_REORDERING_MS, this.smoothMs / 4);
    let isAnyLost = false;
    for (const segment of this.flight) {
      if (segment.isLost || segment.sentMs + reorderingMs >= arrivedMs) continue;
      segment.isLost = isAnyLost = true;
    }
    if (isAnyLost) this.narrow(1 / 2, nowMs);
  }

  private fitWindow(flightBytes: number, roundTripMs: number, nowMs: number): void {
    const queueMs = Math.max(QUEUE_MS, this.shortestMs * QUEUE_PART);
    if (roundTripMs - this.shortestMs > queueMs) return this.narrow(3 / 4, nowMs);
    // Whoever has little to send does not show how much the way takes.
    if (flightBytes < this.windowBytes / 2) return;
    const arrivedBytes = Math.max(0, flightBytes - this.flightBytes());
    // Twice as much each round trip until a limit was met, then a segment more.
    const isSearching = this.narrowedMs === -Infinity;
    const share = isSearching ? 1 : this.maxSegmentBytes / this.windowBytes;
    this.windowBytes = Math.min(this.maxWindowBytes, this.windowBytes + share * arrivedBytes);
  }

  /** Once a round trip at most: what happens within one has one cause. */
  private narrow(factor: number, nowMs: number): void {
    if (nowMs - this.narrowedMs < this.smoothMs) return;
    this.narrowedMs = nowMs;
    this.windowBytes = Math.max(this.maxSegmentBytes, this.windowBytes * factor);
  }

  private noteTimeout(): void {
    this.timeouts++;
    this.loseAll();
    this.windowBytes = this.maxSegmentBytes;
  }

  private takeLost(): Segment | null {
    const at = this.flight.findIndex(({ isLost }) => isLost);
    if (at < 0) return null;
    const segment = this.flight[at];
    if (!this.fits(lengthOf(segment))) return null;
    const half = Math.ceil(segment.bytes.length / 2);
    const isProven = segment.bytes.length <= this.provenBytes || half < MIN_SEGMENT_BYTES;
    if (isProven || segment.sendsAtLength < SENDS_BEFORE_HALVING) return segment;
    this.maxSegmentBytes = Math.min(this.maxSegmentBytes, half);
    segment.sendsAtLength = 0;
    const rest = { ...segment, start: segment.start + half, bytes: segment.bytes.subarray(half) };
    segment.bytes = segment.bytes.subarray(0, half);
    this.flight.splice(at + 1, 0, rest);
    return segment;
  }

  /** Makes a segment of what was not sent yet; null when none may be sent. */
  private cut(): Segment | null {
    if (this.isFinalSent || this.flight.some(({ isLost }) => isLost)) return null;
    const wanted = Math.min(this.maxSegmentBytes, this.segmentBytes(), this.unsentBytes);
    if (wanted === 0) return this.isFinishing ? this.cutFinal() : null;
    const length = Math.min(wanted, this.limit - this.nextOffset);
    // A little at a time is no way to use what room there is.
    const isTooLittle = length < wanted && this.flight.length > 0;
    if (length <= 0 || isTooLittle || !this.fits(length)) return null;
    const segment = this.add(this.removeUnsent(length), false);
    this.nextOffset += length;
    return segment;
  }

  private cutFinal(): Segment {
    this.isFinalSent = true;
    return this.add(new Uint8Array(0), true);
  }

  private add(bytes: Uint8Array, isFinal: boolean): Segment {
    const start = this.nextOffset;
    const sends = { sends: 0, sendsAtLength: 0, sentMs: 0, isLost: true };
    const segment = { start, bytes, isFinal, ...sends };
    this.flight.push(segment);
    return segment;
  }

  private removeUnsent(length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    for (let at = 0; at < length;) {
      const piece = this.unsent[0].subarray(0, length - at);
      bytes.set(piece, at);
      at += piece.length;
      if (piece.length === this.unsent[0].length) this.unsent.shift();
      else this.unsent[0] = this.unsent[0].subarray(piece.length);
    }
    this.unsentBytes -= length;
    return bytes;
  }

  private fits(length: number): boolean {
    const flightBytes = this.flightBytes();
    return flightBytes === 0 || flightBytes + length <= this.windowBytes;
  }

  /** Bytes under way. */
  private flightBytes(): number {
    let bytes = 0;
    for (const segment of this.flight) if (!segment.isLost) bytes += lengthOf(segment);
    return bytes;
  }

  /** Whether nothing is under way because the other side has no room. */
  private isStarved(): boolean {
    return this.unsentBytes > 0 && this.flight.length === 0 && this.limit <= this.nextOffset;
  }

  private probeAtMs(): number {
    return this.lastSentMs + this.timeoutMs();
  }

  private timeoutAtMs(): number {
    let firstMs = Infinity;
    for (const { isLost, sentMs } of this.flight) if (!isLost) firstMs = Math.min(firstMs, sentMs);
    return firstMs + this.timeoutMs();
  }

  private timeoutMs(): number {
    const { smoothMs, deviationMs } = this;
    const computedMs = smoothMs === 0 ? FIRST_TIMEOUT_MS : smoothMs + 4 * deviationMs;
    const onceMs = Math.max(MIN_TIMEOUT_MS, computedMs);
    return Math.max(onceMs, Math.min(MAX_DOUBLED_MS, onceMs * 2 ** this.timeouts));
  }
}

function lengthOf({ bytes, isFinal }: Segment): number {
  return bytes.length + (isFinal ? 1 : 0);
}

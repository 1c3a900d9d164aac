/**
 * The incoming half of a `DatagramStream`: puts what comes in whatever order, once or several
 * times, into its order, and says what came and for how much more there is room. Whatever the
 * other side sends, no more is kept than the window allows.
 */
import { MAX_RANGES, type Datagram, type Range, type Receipt } from "./datagram.ts";

/** Most pieces kept out of order: many short ones would take more memory than their bytes. */
const MAX_EARLY_PIECES = 256;
/** What came is told of after so many datagrams, or after so many ms. */
const DATAGRAMS_A_RECEIPT = 2;
const RECEIPT_MS = 20;

interface Piece {
  readonly start: number;
  readonly bytes: Uint8Array;
}

const endOf = ({ start, bytes }: Piece): number => start + bytes.length;

/** See the file header. Times are monotonic, in ms. */
export class StreamReceiver {
  /** Everything before it was received. */
  receivedUpTo = 0;
  /** When a receipt is due; Infinity when there is nothing to tell. */
  receiptDueMs = Infinity;
  /** All there is was received; the end itself counts as one byte. */
  isFinished = false;
  /** Received in order and not passed on: somebody reads no more. */
  private readonly held: Uint8Array[] = [];
  private heldBytes = 0;
  private isPaused = false;
  /** Received out of order, by where they begin; they do not overlap. */
  private early: Piece[] = [];
  /** Where the other side's bytes end; Infinity while unknown. */
  private finalOffset = Infinity;
  private datagramsSinceReceipt = 0;
  /** `sentMs` of the latest datagram with a payload; 0 once it was told. */
  private echoMs = 0;
  /** The credit told last, as the offset up to which it goes. */
  private toldLimit = 0;

  /** `windowBytes`: how much is kept at most. `onBytes` gets bytes that are its to keep. */
  constructor(
    private readonly windowBytes: number,
    private readonly onBytes: (bytes: Uint8Array) => void,
  ) {}

  /** Takes a datagram's payload. False when nothing of the kind can have been sent. */
  take({ offset, payload, isFinal, isProbe, sentMs }: Datagram, nowMs: number): boolean {
    const end = offset + payload.length;
    if (end > this.finalOffset || end > this.limit) return false;
    if (isFinal && !this.noteFinal(end)) return false;
    if (isProbe) this.receiptDueMs = nowMs;
    if (payload.length === 0 && !isFinal) return true;
    // What is out of order or came twice is told of at once: something was lost.
    const isInOrder = offset === this.receivedUpTo && this.early.length === 0;
    if (end > this.receivedUpTo) this.keep({ start: offset, bytes: payload });
    this.datagramsSinceReceipt++;
    this.echoMs = sentMs;
    const isSoon = !isInOrder || this.datagramsSinceReceipt >= DATAGRAMS_A_RECEIPT;
    this.receiptDueMs = Math.min(this.receiptDueMs, isSoon ? nowMs : nowMs + RECEIPT_MS);
    this.finish(nowMs);
    return true;
  }

  /** Passes nothing on until `resume`. */
  pause(): void {
    this.isPaused = true;
  }

  /** Passes on again, what was held first. */
  resume(nowMs: number): void {
    this.isPaused = false;
    while (!this.isPaused && this.held.length > 0) {
      const bytes = this.held.shift()!;
      this.heldBytes -= bytes.length;
      this.onBytes(bytes);
    }
    // Whoever ran out of credit is told that there is some again.
    if (this.limit - this.toldLimit >= this.windowBytes / 2) this.receiptDueMs = nowMs;
    this.finish(nowMs);
  }

  /** What to tell the other side, which counts as told. */
  receipt(): Receipt {
    this.receiptDueMs = Infinity;
    this.datagramsSinceReceipt = 0;
    this.toldLimit = this.limit;
    const { receivedUpTo, limit, isFinished, echoMs } = this;
    this.echoMs = 0;
    return {
      echoMs,
      receivedUpTo: receivedUpTo + (isFinished ? 1 : 0),
      credit: isFinished ? 0 : limit - receivedUpTo,
      ranges: isFinished ? [] : this.earlyRanges(),
    };
  }

  /** Up to where there is room. It never decreases. */
  private get limit(): number {
    return this.receivedUpTo + this.windowBytes - this.heldBytes;
  }

  private noteFinal(end: number): boolean {
    const last = this.early.at(-1);
    const known = last === undefined ? this.receivedUpTo : endOf(last);
    if (end < known || (this.finalOffset !== Infinity && this.finalOffset !== end)) return false;
    this.finalOffset = end;
    return true;
  }

  private finish(nowMs: number): void {
    if (this.isFinished || this.receivedUpTo !== this.finalOffset || this.held.length > 0) return;
    this.isFinished = true;
    this.receiptDueMs = nowMs;
  }

  private keep(piece: Piece): void {
    if (piece.start > this.receivedUpTo) return this.keepEarly(piece);
    this.passOn(piece);
    while (this.early.length > 0 && this.early[0].start <= this.receivedUpTo) {
      this.passOn(this.early.shift()!);
    }
  }

  /** Passes on what of a piece is new; it begins where all before was received, or before. */
  private passOn({ start, bytes }: Piece): void {
    const fresh = bytes.slice(Math.min(bytes.length, this.receivedUpTo - start));
    if (fresh.length === 0) return;
    this.receivedUpTo += fresh.length;
    if (!this.isPaused) return this.onBytes(fresh);
    this.held.push(fresh);
    this.heldBytes += fresh.length;
  }

  /** Keeps what of a piece is new, where it belongs. */
  private keepEarly(piece: Piece): void {
    let { start } = piece;
    const end = endOf(piece);
    const kept: Piece[] = [];
    const addUpTo = (stop: number): void => {
      const bytes = piece.bytes.slice(start - piece.start, stop - piece.start);
      if (bytes.length > 0) kept.push({ start, bytes });
    };
    for (const other of this.early) {
      if (start < other.start) addUpTo(Math.min(end, other.start));
      start = Math.min(end, Math.max(start, endOf(other)));
      kept.push(other);
    }
    addUpTo(end);
    if (kept.length <= MAX_EARLY_PIECES) this.early = kept;
  }

  /** Pieces that touch are one range. */
  private earlyRanges(): Range[] {
    const ranges: { start: number; end: number }[] = [];
    for (const piece of this.early) {
      const last = ranges.at(-1);
      if (last !== undefined && last.end === piece.start) last.end = endOf(piece);
      else if (ranges.length === MAX_RANGES) break;
      else ranges.push({ start: piece.start, end: endOf(piece) });
    }
    return ranges;
  }
}

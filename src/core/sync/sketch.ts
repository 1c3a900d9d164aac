/**
 * How the initiator finds the buckets that differ where those are few, in place of the walk:
 *
 *   initiator                                 responder
 *                                        ←    the first SYMBOLS, and a coarse ESTIMATE
 *   [a finer ESTIMATE] MORE              →
 *                                        ←    further SYMBOLS
 *
 * and so on, until the symbols tell which buckets differ (`peeling.ts`). One that differs alone is
 * found by the first symbols, which takes 50 bytes and no further round trip. Of many the two sides
 * first find out how many there are, so that the next symbols are enough, with a few to spare.
 *
 * The walk is there for all else: when it costs no more, because most buckets differ or one side
 * has nothing; when too many sessions hold a copy of the digests already; when the symbols turn out
 * not to be enough again and again. Either side begins with it in place of an answer.
 */
import { BucketCopy } from "./bucket-copy.ts";
import { CodedSymbols, SYMBOL_BYTES } from "./coded-symbols.ts";
import { COLUMNS, columnsOf, ESTIMATE_ERROR, readEstimate } from "./difference-estimate.ts";
import type { FrameReader, FrameWriter } from "./frames.ts";
import type { SharedBySides } from "./shared.ts";
import { MORE, SYMBOLS } from "./items.ts";
import { Peeling } from "./peeling.ts";

/** So many go with the first answer: one bucket is found by them, and often two. */
const FIRST_SYMBOLS = 3;
/** When more buckets than this differ, it is by a walk that they are found. */
const MAX_DIFFERING = 40_000;
/** No more symbols are made of one copy, whatever a peer asks for. */
const MAX_SYMBOLS = 60_000;
const SYMBOLS_AN_ITEM = 512;
/** No fewer are asked for, since a round trip costs more. */
const SPARE_SYMBOLS = 20;
/** So often the initiator tries to make do with the symbols it has. */
const MAX_ATTEMPTS = 4;
/** How many of its standard deviations an estimate may be too low without harm. */
const DEVIATIONS = 2;
/** From so many differing buckets on a finer estimate costs less than what it saves. */
const WORTH_SOME_COLUMNS = 30;
const WORTH_MANY_COLUMNS = 1_000;

/** How many symbols find so many buckets, 49 times out of 50. */
function symbolsFor(differing: number): number {
  return Math.ceil(1.36 * differing + 3.5 * Math.sqrt(differing) + 1);
}

/** The same for an estimate of so many, made with so many columns. */
function symbolsForEstimate(differing: number, columns: number): number {
  const error = (DEVIATIONS * ESTIMATE_ERROR) / Math.sqrt(columns);
  return Math.min(MAX_SYMBOLS, symbolsFor(differing * (1 + error)));
}

/** The responder's side: makes symbols of its own buckets. */
export class SketchTeller {
  private readonly symbols: CodedSymbols;
  private told = 0;
  private hasEstimated = false;
  /** Whether the peer waits for symbols; it asks once in a turn. */
  isAsked = true;
  /** The peer's estimate, that came in this turn. */
  private theirs: Uint8Array | null = null;
  /** By the peer's estimate so much differs that the walk is to begin. */
  hasTooMany = false;

  private constructor(
    private readonly copy: BucketCopy,
    { shortener }: SharedBySides,
  ) {
    this.symbols = new CodedSymbols(shortener.key);
    this.symbols.grow(FIRST_SYMBOLS);
  }

  /** Begins; null when there is no room for it. */
  static begin(parts: SharedBySides): SketchTeller | null {
    const copy = BucketCopy.take(parts.tree.levels, parts.shortener);
    return copy && new SketchTeller(copy, parts);
  }

  /** Gives back what it holds. */
  release(): void {
    this.copy.release();
  }

  /** Does or says the next piece; false when the peer has the word next. */
  speak(writer: FrameWriter): boolean {
    const { symbols, copy } = this;
    if (copy.work(symbols)) return true;
    if (this.told < symbols.count) {
      this.told = writeSymbols(writer, symbols, this.told);
      return true;
    }
    if (!this.hasEstimated) copy.estimate.write(writer, COLUMNS.few);
    this.hasEstimated = true;
    this.isAsked = false;
    return false;
  }

  /** Handles an ESTIMATE behind its tag. False when it is malformed or out of place. */
  handleEstimate(reader: FrameReader): boolean {
    if (this.isAsked || this.theirs !== null) return false;
    this.theirs = readEstimate(reader);
    return this.theirs !== null;
  }

  /** Handles a MORE behind its tag. False when it is malformed or out of place. */
  handleMore(reader: FrameReader): boolean {
    let count = reader.varint();
    if (reader.overrun || this.isAsked || count > MAX_SYMBOLS) return false;
    this.isAsked = true;
    if (this.theirs !== null) {
      const differing = this.copy.estimate.differing(this.theirs);
      this.hasTooMany = differing > MAX_DIFFERING;
      count = symbolsForEstimate(differing, columnsOf(this.theirs));
      this.theirs = null;
    }
    if (count > this.symbols.count) this.symbols.grow(count);
    return true;
  }
}

/** What follows when the initiator has done or said a piece. */
export type SketchStep = "more" | "turn" | "walk" | "found";

/** The initiator's side: finds out what differs. */
export class SketchFinder {
  /** What both sides' symbols differ by; of those that have just come, the peer's. */
  private readonly symbols: CodedSymbols;
  private readonly peeling: Peeling;
  private attempts = 0;
  /** The peer's estimate. */
  private theirs: Uint8Array | null = null;
  private copy: BucketCopy | null = null;

  constructor(private readonly parts: Pick<SharedBySides, "tree" | "shortener">) {
    this.symbols = new CodedSymbols(parts.shortener.key);
    this.peeling = new Peeling(this.symbols);
  }

  /** Gives back what it holds. */
  release(): void {
    this.copy?.release();
    this.copy = null;
  }

  /** Handles SYMBOLS behind its tag. False when it is malformed. */
  handleSymbols(reader: FrameReader): boolean {
    return readSymbols(reader, this.symbols);
  }

  /** Handles an ESTIMATE behind its tag. False when it is malformed or out of place. */
  handleEstimate(reader: FrameReader): boolean {
    if (this.theirs !== null) return false;
    this.theirs = readEstimate(reader);
    return this.theirs !== null;
  }

  /** Whether the peer's turn may be over: there is something to go on with. */
  get mayEndHearing(): boolean {
    return this.symbols.count >= FIRST_SYMBOLS && this.theirs !== null;
  }

  /** Does or says the next piece. */
  speak(writer: FrameWriter): SketchStep {
    const { symbols, peeling } = this;
    const { tree, shortener } = this.parts;
    const copy = (this.copy ??= BucketCopy.take(tree.levels, shortener));
    if (copy === null) return "walk";
    if (copy.work(symbols) || peeling.work()) return "more";
    if (peeling.isComplete) return "found";
    return this.attempts++ < MAX_ATTEMPTS && this.askForMore(copy, writer) ? "turn" : "walk";
  }

  /** The buckets that differ, in ascending order. */
  differing(): number[] {
    return this.peeling.differing();
  }

  /** Whether a bucket is empty at the peer. */
  isAbsent(bucket: number): boolean {
    const [low, high] = this.peeling.differenceOf(bucket);
    return this.copy?.has(bucket, low, high) ?? false;
  }

  /** False when that would cost more than a walk. */
  private askForMore(copy: BucketCopy, writer: FrameWriter): boolean {
    const { symbols } = this;
    let count = SPARE_SYMBOLS + Math.ceil(1.25 * symbols.count);
    if (this.attempts === 1) {
      const differing = copy.estimate.differing(this.theirs!);
      count = Math.max(symbolsForEstimate(differing, COLUMNS.few), SPARE_SYMBOLS);
      if (differing > WORTH_MANY_COLUMNS) copy.estimate.write(writer, COLUMNS.many);
      else if (differing > WORTH_SOME_COLUMNS) copy.estimate.write(writer, COLUMNS.some);
    }
    if (count > MAX_SYMBOLS) return false;
    writer.reserve(6);
    writer.u8(MORE);
    writer.varint(count);
    return true;
  }
}

/** Writes an item of symbols from `from` on. Returns which are next. */
function writeSymbols(writer: FrameWriter, symbols: CodedSymbols, from: number): number {
  const end = Math.min(from + SYMBOLS_AN_ITEM, symbols.count);
  writer.reserve(6 + (end - from) * SYMBOL_BYTES);
  writer.u8(SYMBOLS);
  writer.varint(end - from);
  for (let at = from; at < end; at++) {
    writer.u16(symbols.high[at]);
    writer.u32(symbols.low[at]);
    writer.u16(symbols.highProducts[at]);
    writer.u32(symbols.lowProducts[at]);
  }
  return end;
}

/** Appends symbols, which are read behind their tag. False when they are malformed or too many. */
function readSymbols(reader: FrameReader, into: CodedSymbols): boolean {
  const count = reader.varint();
  const first = into.count;
  if (count === 0 || count > SYMBOLS_AN_ITEM || first + count > MAX_SYMBOLS) return false;
  into.grow(first + count);
  for (let at = first; at < first + count; at++) {
    into.high[at] = reader.u16();
    into.low[at] = reader.u32();
    into.highProducts[at] = reader.u16();
    into.lowProducts[at] = reader.u32();
  }
  return !reader.overrun;
}

/**
 * Which batches of each source came, and whether some were lost. Batches of a source are numbered,
 * and a number that is missing means lost events: the broker or the source dropped some. Numbers
 * at or below the last one are repetitions.
 *
 * Each start of a source is followed by itself. So who forges a batch of a start yet to come, or
 * one far ahead in number, does not keep the gaps of the real one from being seen.
 */
import type { Timing } from "../timing.ts";

/** Sources whose numbers are followed; beyond it the one unheard for longest is forgotten. */
const MAX_SOURCES = 10_000;
/** Starts of one source that are followed; beyond it the one unheard for longest is forgotten. */
const MAX_STARTS = 4;
/** How long batches may take that their source says it has published, in ms. */
const ARRIVAL_MS = 2_000;
/** How far back in number a batch is that a broker sends once more, at most. */
const MAX_REPEATED = 1_000;

/** A start of a source, and the number of the last batch of it. */
interface Start {
  readonly epoch: number;
  sequence: number;
  /** What the source said last that it had published, and whether that is being waited for. */
  announced: number;
  isAwaited: boolean;
}

/** See the file header. */
export class BatchSequences {
  /** How often the number of a batch showed that some were lost. */
  gaps = 0;
  private readonly sources = new Map<string, Start[]>();

  /** `onGap` is told when batches of that source were lost. */
  constructor(
    private readonly timing: Timing,
    private readonly onGap: (source: string) => void,
  ) {}

  /** A batch of that source came, of that start of it and with that number. */
  note(source: string, epoch: number, sequence: number): void {
    const starts = this.sources.get(source) ?? [];
    this.remember(source, starts);
    const at = starts.findIndex((start) => start.epoch === epoch);
    const isLatest = starts.every((start) => start.epoch < epoch);
    add(starts, at < 0 ? newStart(epoch, 0) : starts.splice(at, 1)[0]);
    const start = starts.at(-1)!;
    const missed = sequence - start.sequence - 1;
    // No broker repeats what is so long ago: a number in between was forged.
    const isForged = missed < -MAX_REPEATED;
    if (missed < 0 && !isForged) return;
    start.sequence = sequence;
    // What it sent earlier may have been lost since this node synced at its start. Of a start
    // before the latest known a batch comes late.
    if (missed !== 0 && (at >= 0 || isLatest)) this.reportGap(source);
  }

  /**
   * A source says that it has published so many batches. Those under way have a moment to come;
   * what is missing then was lost, and with nothing after it, it would not be missed otherwise.
   */
  noteAnnounced(source: string, epoch: number, sequence: number): void {
    const starts = this.sources.get(source) ?? [];
    const start = starts.find((it) => it.epoch === epoch);
    if (start === undefined) {
      // From here on. What came before is for the comparison that follows when nodes meet.
      if (starts.some((it) => it.epoch >= epoch)) return;
      this.remember(source, starts);
      return add(starts, newStart(epoch, sequence));
    }
    // The same once more is no news, however it went with the comparison.
    if (sequence <= start.sequence || sequence === start.announced) return;
    start.announced = sequence;
    if (start.isAwaited) return;
    start.isAwaited = true;
    this.timing.after(ARRIVAL_MS, () => {
      start.isAwaited = false;
      if (start.sequence < start.announced) this.reportGap(source);
    });
  }

  private reportGap(source: string): void {
    this.gaps++;
    this.onGap(source);
  }

  /** Moves it to the end: the first in the map is the one unheard for longest. */
  private remember(source: string, starts: Start[]): void {
    this.sources.delete(source);
    if (this.sources.size >= MAX_SOURCES) {
      const [oldest] = this.sources.keys();
      this.sources.delete(oldest);
    }
    this.sources.set(source, starts);
  }
}

function newStart(epoch: number, sequence: number): Start {
  return { epoch, sequence, announced: sequence, isAwaited: false };
}

/** The one heard of last is at the end. */
function add(starts: Start[], start: Start): void {
  starts.push(start);
  if (starts.length > MAX_STARTS) starts.shift();
}

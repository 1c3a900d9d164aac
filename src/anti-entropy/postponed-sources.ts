/**
 * From whom something is to be had that this node does not take yet, because it is dated too far
 * ahead of its clock, and from when on it does. Only the time of the earliest is kept: the sync
 * that brings that one tells of the next. Times of entries are Unix ms; `nowMs` is the scheduler's.
 */

/** Most sources remembered. What others have is left to the rounds. */
const MAX_SOURCES = 1_000;
/** Peers round the times they tell to seconds, so a little later is soon enough. */
const MARGIN_MS = 1_000;
/** A source that goes on writing into the future is asked no more often than this, in ms. */
const PAUSE_MS = 5_000;

interface Source {
  /** Infinity when nothing more is known to wait. */
  entryMs: number;
  notBeforeMs: number;
}

/** See the file header. */
export class PostponedSources {
  private readonly sources = new Map<string, Source>();

  /** That source has an entry of that time, which was not taken. */
  note(source: string, entryMs: number): void {
    const known = this.sources.get(source);
    if (known !== undefined) known.entryMs = Math.min(known.entryMs, entryMs);
    else if (this.makeRoom()) this.sources.set(source, { entryMs, notBeforeMs: 0 });
  }

  /** Visits the sources whose time has come, now that what is up to `acceptsUpToMs` is taken. */
  takeDue(acceptsUpToMs: number, nowMs: number, visit: (source: string) => void): void {
    for (const [name, source] of this.sources) {
      if (source.entryMs + MARGIN_MS > acceptsUpToMs || nowMs < source.notBeforeMs) continue;
      source.entryMs = Infinity;
      source.notBeforeMs = nowMs + PAUSE_MS;
      visit(name);
    }
  }

  /** Forgets those of whom nothing waits, if there are too many. Whether there is room then. */
  private makeRoom(): boolean {
    if (this.sources.size < MAX_SOURCES) return true;
    for (const [name, { entryMs }] of this.sources) {
      if (entryMs === Infinity) this.sources.delete(name);
    }
    return this.sources.size < MAX_SOURCES;
  }
}

/**
 * Where this node's tree differs from those of its peers, as sessions find it: a map of the 4,096
 * nodes of the tree above its buckets, for people who watch a heal. It takes as much memory however
 * much differs, and nothing is noted while nobody looks.
 */
import type { DifferenceWatch } from "../core/sync/options.ts";
import { BUCKETS, FANOUT } from "../core/tree/digest-tree.ts";
import type { Timing } from "../timing.ts";

const CELLS = BUCKETS / FANOUT;
/** Whoever looked at the map within this time is taken to be watching it still, in ms. */
const WATCHED_MS = 10_000;
/** For so long it shows that a cell was healed, in ms. */
const HEALED_MS = 5_000;
/** A difference that no session has healed is shown for so long, in ms: it may be no more. */
const DIFFERS_MS = 60_000;

/** What is known of a cell: the numbers in `states`. */
const NOTHING = 0;
const DIFFERS = 1;
const HEALED = 2;

/** What one session finds. */
export interface SessionDifferences extends DifferenceWatch {
  /** The session is over; `isHealed`: what it had found differs no more. */
  end(isHealed: boolean): void;
}

/** See the file header. */
export class DifferenceMap {
  private readonly kinds = new Uint8Array(CELLS);
  private readonly notedMs = new Float64Array(CELLS);
  private watchedUntilMs = -Infinity;

  constructor(private readonly timing: Pick<Timing, "nowMs">) {}

  /** For a session that begins. */
  begin(): SessionDifferences {
    let found: Uint8Array | null = null;
    const isWatched = (): boolean => this.timing.nowMs() <= this.watchedUntilMs;
    return {
      get isWatched() {
        return isWatched();
      },
      note: (cell) => {
        if (!isWatched()) return;
        found ??= new Uint8Array(CELLS);
        found[cell] = 1;
        this.set(cell, DIFFERS);
      },
      end: (isHealed) => {
        if (!isHealed) return;
        found?.forEach((isFound, cell) => isFound === 1 && this.set(cell, HEALED));
      },
    };
  }

  /**
   * A byte for each cell: 0, or 1 if a session has found that it differs, or 2 if one has healed it
   * in the last seconds. From now on somebody watches.
   */
  states(): Uint8Array {
    const nowMs = this.timing.nowMs();
    this.watchedUntilMs = nowMs + WATCHED_MS;
    for (let cell = 0; cell < CELLS; cell++) {
      const shownMs = this.kinds[cell] === HEALED ? HEALED_MS : DIFFERS_MS;
      if (nowMs - this.notedMs[cell] > shownMs) this.kinds[cell] = NOTHING;
    }
    return this.kinds.slice();
  }

  private set(cell: number, kind: number): void {
    this.kinds[cell] = kind;
    this.notedMs[cell] = this.timing.nowMs();
  }
}

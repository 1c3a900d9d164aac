/**
 * Work in the background, a slice of rows at a time: marks what has expired as over, and what is
 * marked and lives after all as not; purges what is dead past the grace; removes what a flush left.
 */
import { Entry, KIND_TOMBSTONE } from "../data/entry.ts";
import type { Deletions } from "./deletions.ts";
import type { FlushFloor } from "./flush-floor.ts";
import type { KeyedEntries } from "./keyed-entries.ts";

/** How often `sweep` asks whether its time is over when there is nothing to do. */
const ROWS_A_LOOK = 64;

/** Goes round and round over a store's rows. */
export class Sweeper {
  /** Keys whose time was found to be over, since the start. */
  expired = 0;
  private row = 0;
  private readonly present = new Entry();

  constructor(
    private readonly entries: KeyedEntries,
    private readonly floor: FlushFloor,
    private readonly deletions: Deletions,
  ) {}

  /** Begins a pass from the first row: only such a one says that a flush is carried out. */
  restart(): void {
    this.row = 0;
  }

  /** A slice (see `Store.sweep`). */
  sweep(rows: number, expiredMs: number, isOver: () => boolean): void {
    const { entries, floor } = this;
    if (entries.expiring === 0 && entries.tombstones === 0 && floor.isCarriedOut) return;
    const end = Math.min(this.row + rows, entries.idLimit);
    if (this.row === 0) this.deletions.beginPass();
    let id = this.row;
    while (id < end) {
      const isChanged = entries.isUsed(id) && this.sweepEntry(id, expiredMs);
      id++;
      if ((isChanged || id % ROWS_A_LOOK === 0) && isOver()) break;
    }
    this.row = id;
    if (id < entries.idLimit) return;
    this.row = 0;
    floor.isCarriedOut = true;
  }

  /** Whether the entry had to be changed. */
  private sweepEntry(id: number, expiredMs: number): boolean {
    const { entries, floor, present } = this;
    if (!floor.isCarriedOut) {
      entries.read(id, present);
      if (floor.covers(present)) {
        entries.drop(id, true);
        return true;
      }
    }
    if (entries.kindOf(id) !== KIND_TOMBSTONE) {
      const isOver = entries.hasExpired(id, expiredMs);
      if (isOver !== entries.isOver(id)) {
        entries.setOver(id, isOver);
        if (isOver) this.expired++;
        return true;
      }
      if (!isOver) return false;
    }
    entries.read(id, present);
    if (!this.deletions.purge(present)) return false;
    entries.drop(id, false);
    return true;
  }
}

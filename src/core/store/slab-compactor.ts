/**
 * Moves entries out of slabs that are under half full, so that the memory of those goes back. A
 * slot does not say whose it is, so this goes over the rows.
 */
import { OUT_OF_MEMORY, offsetOf, slabOf, type Arena } from "./arena.ts";
import { FACTS, FREE, ROW_WORDS, referenceAt, setReference, slotBytes } from "./entry-layout.ts";
import { CHUNK_BITS, CHUNK_MASK, type EntryRows } from "./entry-rows.ts";
import { copyBytes } from "../data/entry.ts";

/** How many slabs a call looks at, and the least share of all that is worth a pass. */
const SLABS_A_LOOK = 1024;
const WORTH_SHARE = 1 / 64;
const ROWS_A_LOOK = 64;
const NO_ROW = -1;
const never = (): boolean => false;

/** Goes round and round over the slabs of an arena, and now and then over the rows. */
export class SlabCompactor {
  /** The row at which the pass goes on that empties slabs; NO_ROW when there is none. */
  private nextRow = NO_ROW;

  private readonly chunks: readonly Uint32Array[];

  constructor(
    private readonly rows: EntryRows,
    private readonly arena: Arena,
  ) {
    this.chunks = rows.chunks;
  }

  /** Begins anew: all entries are gone. */
  restart(): void {
    this.nextRow = NO_ROW;
  }

  /**
   * A slice of emptying slabs that are under half full, so that their memory goes back: looks for
   * such slabs, and when there are enough of them, goes over so many rows and moves their entries
   * out. True while there is more to do. `isOver` says that time is up; it is asked now and then.
   */
  compact(rows: number, limitBytes: number, isOver: () => boolean = never): boolean {
    const { arena } = this;
    if (this.nextRow === NO_ROW) {
      if (!arena.markSparse(SLABS_A_LOOK)) return false;
      if (arena.emptyingCount === 0) return false;
      if (arena.emptyingCount >= arena.bytes.length * WORTH_SHARE) this.nextRow = 0;
      else arena.keepMarked();
      return this.nextRow === 0;
    }
    const end = Math.min(this.nextRow + rows, this.rows.idLimit);
    let id = this.nextRow;
    while (id < end && arena.emptyingCount > 0) {
      this.moveOut(id, limitBytes);
      if (++id % ROWS_A_LOOK === 0 && isOver()) break;
    }
    this.nextRow = id;
    if (id < this.rows.idLimit && arena.emptyingCount > 0) return true;
    this.nextRow = NO_ROW;
    arena.keepMarked();
    return true;
  }

  /** Moves the entry of a row out of a slab that is being emptied, if it is in one. */
  private moveOut(id: number, limitBytes: number): void {
    const row = this.chunks[id >>> CHUNK_BITS];
    const at = (id & CHUNK_MASK) * ROW_WORDS;
    const facts = row[at + FACTS];
    if ((facts & FREE) === FREE) return;
    const reference = referenceAt(row, at);
    if (!this.arena.isLeaving(reference)) return;
    const length = slotBytes(row, at, this.arena);
    const moved = this.arena.allocate(length, limitBytes - this.rows.bytes());
    if (moved === OUT_OF_MEMORY) return;
    const offset = offsetOf(reference);
    const bytes = this.arena.bytes[slabOf(reference)];
    copyBytes(bytes, offset, length, this.arena.bytes[slabOf(moved)], offsetOf(moved));
    setReference(row, at, moved, facts);
    this.arena.free(reference);
  }
}

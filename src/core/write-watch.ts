/** Notices whether a store was changed by others than the one who asks. */
import { unixMsOf } from "./clock.ts";
import { Entry, KIND_TOMBSTONE } from "./entry.ts";
import { baseVersionOf, type VersionWords } from "./merge.ts";
import type { ChangeObserver, Store } from "./store.ts";

/** Watches from its making until `stop`. */
export class WriteWatch implements ChangeObserver {
  /** Whether anyone else wrote, deleted, purged or flushed. */
  othersWrote = false;
  /** The time of the oldest base of a value that others put in, in Unix ms; Infinity for none. */
  oldestMs = Infinity;

  private readonly entry = new Entry();
  private readonly base: VersionWords = { timeHigh: 0, timeLow: 0, originHigh: 0, originLow: 0 };

  /** `isOwn` tells whether a change comes from the one who asks. */
  constructor(
    private readonly store: Store,
    private readonly isOwn: () => boolean,
  ) {
    store.observers.push(this);
  }

  changed(id: number, local: boolean): void {
    if (this.isOwn()) return;
    this.othersWrote = true;
    if (local) return;
    this.store.read(id, this.entry);
    if (this.entry.kind === KIND_TOMBSTONE) return;
    baseVersionOf(this.entry, this.base);
    this.oldestMs = Math.min(this.oldestMs, unixMsOf(this.base.timeHigh, this.base.timeLow));
  }

  removed(): void {
    if (!this.isOwn()) this.othersWrote = true;
  }

  flushed(): void {
    this.removed();
  }

  /** Watches no longer. */
  stop(): void {
    const at = this.store.observers.indexOf(this);
    if (at >= 0) this.store.observers.splice(at, 1);
  }
}

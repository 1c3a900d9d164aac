/**
 * Notices whether a store is changed by anybody else while a session goes on.
 */
import { Entry } from "../data/entry.ts";
import { hasValue, writtenMs } from "../data/merge.ts";
import { CHANGED_VALUE, type Change, type ChangeObserver } from "../store/outcome.ts";
import type { Store } from "../store/store.ts";

/** Watches from `start` until `stop`. */
export class WriteWatch implements ChangeObserver {
  /** Whether anyone else wrote, deleted, purged or flushed. */
  othersWrote = false;
  /**
   * When the oldest value that others put in was written (`writtenMs`); Infinity for none.
   * Increments of a counter that was here before put in nothing: it is compared as it was. Nor does
   * another expiry.
   */
  oldestMs = Infinity;

  private readonly entry = new Entry();

  /** `isOwn` tells whether a change comes from the one who asks. */
  constructor(
    private readonly store: Store,
    private readonly isOwn: () => boolean,
  ) {}

  /** Watches from now on. */
  start(): void {
    this.store.observers.push(this);
  }

  changed(id: number, local: boolean, change: Change): void {
    if (this.isOwn()) return;
    this.othersWrote = true;
    if (local || change !== CHANGED_VALUE) return;
    this.store.read(id, this.entry);
    if (!hasValue(this.entry.kind)) return;
    this.oldestMs = Math.min(this.oldestMs, writtenMs(this.entry));
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

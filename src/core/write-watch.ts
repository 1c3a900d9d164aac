/** Notices whether a store was changed by others than the one who asks. */
import type { ChangeObserver, Store } from "./store.ts";

/** Watches from its making until `stop`. */
export class WriteWatch implements ChangeObserver {
  /** Whether anyone else wrote, deleted, purged or flushed. */
  othersWrote = false;

  /** `isOwn` tells whether a change comes from the one who asks. */
  constructor(
    private readonly store: Store,
    private readonly isOwn: () => boolean,
  ) {
    store.observers.push(this);
  }

  changed(): void {
    if (!this.isOwn()) this.othersWrote = true;
  }

  removed(): void {
    this.changed();
  }

  flushed(): void {
    this.changed();
  }

  /** Watches no longer. */
  stop(): void {
    const at = this.store.observers.indexOf(this);
    if (at >= 0) this.store.observers.splice(at, 1);
  }
}

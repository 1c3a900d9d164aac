/**
 * What the log is told: each change of the store, and metadata, as records in the frame that is
 * being gathered. It knows nothing of files.
 */
import { Entry } from "../core/data/entry.ts";
import { hasValue } from "../core/data/merge.ts";
import type { ChangeObserver } from "../core/store/outcome.ts";
import type { Store } from "../core/store/store.ts";
import { addChange } from "./change.ts";
import type { FrameQueue } from "./frame-queue.ts";
import type { Metadata } from "./metadata.ts";
import type { SnapshotSource } from "./snapshot.ts";
import {
  CLOCK_METADATA,
  PURGED_METADATA,
  clockMetadata,
  purgedMetadata,
} from "./store-metadata.ts";

/** Writes records into frames. */
export class LogRecords {
  /** Notes every change; belongs into `store.observers`. */
  readonly observer: ChangeObserver;
  /** Up to when the log says that deletions were purged, in Unix ms. */
  private purgedUpToMs = 0;

  /**
   * `remembered` is what recovery found, and kept up to date from here on. `onAdded` is called
   * after each record.
   */
  constructor(
    private readonly store: SnapshotSource & Pick<Store, "deletions">,
    private readonly frames: FrameQueue,
    private readonly remembered: Metadata,
    private readonly onAdded: () => void,
  ) {
    remembered.follow(CLOCK_METADATA, () => clockMetadata(store.clock));
    remembered.follow(PURGED_METADATA, () => purgedMetadata(store));
    this.observer = this.createObserver();
  }

  /** See `Journal`. */
  metadata(name: string): Uint8Array | undefined {
    return this.remembered.get(name);
  }

  /** See `Journal`. */
  setMetadata(name: string, value: Uint8Array): void {
    this.remembered.set(name, value);
    this.frames.begin().addMetadata(name, value);
    this.added();
  }

  /** See `Journal`. */
  followMetadata(name: string, read: () => Uint8Array): void {
    this.remembered.follow(name, read);
  }

  /** See `Journal`. */
  allMetadata(): ReadonlyMap<string, Uint8Array> {
    return this.remembered.all();
  }

  /** Notes metadata that has changed. The clock alone is no reason to write. */
  noteMetadata(): void {
    this.remembered.refresh((name, value) => {
      if (name !== CLOCK_METADATA) this.setMetadata(name, value);
    });
  }

  /** Notes what time the store's clock is at, so many ms ahead of it. */
  noteClock(aheadMs = 0): void {
    this.setMetadata(CLOCK_METADATA, clockMetadata(this.store.clock, aheadMs));
  }

  private createObserver(): ChangeObserver {
    const { store } = this;
    const entry = new Entry();
    return {
      changed: (id, _local, change) => {
        addChange(this.frames.begin(), store, id, change);
        this.added();
      },
      removed: (id, flushed) => {
        if (flushed) return;
        store.read(id, entry);
        // With what was discarded goes the origin that was counted under: before, not after.
        if (hasValue(entry.kind)) this.noteMetadata();
        else this.notePurge();
        this.frames.begin().addDrop(entry);
        this.added();
      },
      flushed: () => {
        this.frames.begin().addFloor(store.floor);
        this.added();
      },
    };
  }

  /**
   * Notes up to when deletions were purged, if that is later than it was. Before the drop of what
   * was purged: a power cut never leaves the drop alone, and so the knowledge is not lost that
   * something is.
   */
  private notePurge(): void {
    const { purgedUpToMs } = this.store.deletions;
    if (purgedUpToMs <= this.purgedUpToMs) return;
    this.purgedUpToMs = purgedUpToMs;
    this.setMetadata(PURGED_METADATA, purgedMetadata(this.store));
  }

  private added(): void {
    this.frames.end();
    this.onAdded();
  }
}

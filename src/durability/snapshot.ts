/**
 * Writes the whole store to one file, in slices beside live traffic. Serves the log, which then
 * drops its older segments, and backups.
 *
 * The entries come in the order of their ids, which is mostly that of memory: in key order, each
 * would cost two trips past the processor's cache, several times the rest. The walk sees each
 * entry at some moment of its own. For the log that is good enough: it goes on from before the
 * walk, and merging what it holds again changes nothing; an id that is given to another key
 * behind the walk is in the log too. A backup has no log behind it, so it *follows*: changes made
 * during the walk are written too, in their order with what the walk sees, and the file holds the
 * state of the moment it was finished.
 *
 * A power cut may leave the snapshot without the log behind it. So the facts in it are those of
 * the moment before the walk, for some of them vouch for entries: the contacts do. Clock, purge
 * watermark and flush floor, which must never be behind, are those of the end.
 *
 * The file gets its name only when it is whole and durable.
 */
import { Entry } from "../core/entry.ts";
import type { ChangeObserver, Store } from "../core/store.ts";
import { OperationalError } from "../operational-error.ts";
import { writeWholeFile, type FileWriter, type Identity } from "./file-writer.ts";
import { orExplain, type FileSystem } from "./file-system.ts";
import { FrameBuffer } from "./record.ts";
import { CLOCK_FACT, PURGED_FACT, clockFact, purgedFact } from "./store-facts.ts";
import type { Timers } from "./timers.ts";

/** How long one slice may hold up the event loop, in ms, and how often it looks at the time. */
const SLICE_MS = 0.5;
const IDS_A_LOOK = 64;
/** A frame is closed at this size by default. */
const FRAME_BYTES = 256 * 1024;

/** The parts of a store that a snapshot looks at. */
export type SnapshotSource = Pick<
  Store,
  "clock" | "floor" | "idLimit" | "isUsed" | "observers" | "purgedUpToMs" | "read"
>;

/** What a snapshot is made with. */
export interface SnapshotOptions extends Identity {
  readonly files: FileSystem;
  /** Where the finished file goes; nothing is left there, or beside it, on failure. */
  readonly path: string;
  readonly store: SnapshotSource;
  /** What else to remember as of the beginning, by name. */
  readonly facts: () => ReadonlyMap<string, Uint8Array>;
  /** The clock is noted so far ahead of what it shows, in ms; 0 by default. */
  readonly clockAheadMs?: number;
  /** A frame is closed at this size; 256 KiB by default. */
  readonly frameBytes?: number;
  /** Whether changes made meanwhile belong into it. */
  readonly follows: boolean;
  readonly timers: Timers;
  /** Asked between slices; true gives up. */
  readonly isCancelled: () => boolean;
}

/** What came of a snapshot. */
export interface SnapshotResult {
  readonly bytes: number;
  readonly entries: number;
}

/** Writes a snapshot. Rejects with an OperationalError when it cannot, or was cancelled. */
export async function writeSnapshot(options: SnapshotOptions): Promise<SnapshotResult> {
  const { files, path } = options;
  const writing = writeWholeFile(files, path, options, (file) =>
    new SnapshotWriter(options, file).write(),
  );
  return orExplain(`write ${path}`, writing);
}

class SnapshotWriter {
  private entries = 0;
  /** What the walk sees and, when following, what changes, in order; the other one is being written. */
  private buffer = new FrameBuffer();
  private otherBuffer = new FrameBuffer();
  private readonly entry = new Entry();
  private nextId = 0;
  private readonly frameBytes: number;

  constructor(
    private readonly options: SnapshotOptions,
    private readonly file: FileWriter,
  ) {
    this.frameBytes = options.frameBytes ?? FRAME_BYTES;
  }

  async write(): Promise<SnapshotResult> {
    const { store, follows, clockAheadMs } = this.options;
    const facts = new Map(this.options.facts());
    const follower = this.follower();
    if (follows) store.observers.push(follower);
    try {
      const { floor } = store;
      const { timeHigh, timeLow } = floor;
      // In front of all, it costs nothing to carry out.
      if (timeHigh !== 0 || timeLow !== 0) this.buffer.addFloor(floor);
      while (this.walkSlice()) {
        if (this.isFull) await this.writeOut();
        await this.options.timers.nextTurn();
        if (this.options.isCancelled()) throw new OperationalError("the node is stopping");
      }
      if (floor.timeHigh !== timeHigh || floor.timeLow !== timeLow) this.buffer.addFloor(floor);
    } finally {
      // The state of this moment is what the file holds; what is left of it is in the buffers.
      const at = store.observers.indexOf(follower);
      if (at >= 0) store.observers.splice(at, 1);
    }
    facts.set(CLOCK_FACT, clockFact(store.clock, clockAheadMs));
    facts.set(PURGED_FACT, purgedFact(store));
    await this.writeOut();
    for (const [name, value] of facts) this.buffer.addFact(name, value);
    await this.file.end(this.buffer);
    return { bytes: this.file.bytes, entries: this.entries };
  }

  /** Adds entries for one slice; false when all are in. */
  private walkSlice(): boolean {
    const { store, timers } = this.options;
    const deadline = timers.nowMs() + SLICE_MS;
    for (let count = 1; this.nextId < store.idLimit; count++) {
      const id = this.nextId++;
      if (store.isUsed(id)) {
        store.read(id, this.entry);
        this.buffer.addEntry(this.entry);
        this.entries++;
      }
      if (this.isFull) return true;
      if (count % IDS_A_LOOK === 0 && timers.nowMs() > deadline) return true;
    }
    return false;
  }

  private follower(): ChangeObserver {
    const { store } = this.options;
    const changed = new Entry();
    return {
      changed: (id) => {
        store.read(id, changed);
        this.buffer.addEntry(changed);
      },
      removed: (id, flushed) => {
        if (flushed) return;
        store.read(id, changed);
        this.buffer.addDrop(changed);
      },
      flushed: () => this.buffer.addFloor(store.floor),
    };
  }

  private get isFull(): boolean {
    return this.buffer.length >= this.frameBytes;
  }

  private async writeOut(): Promise<void> {
    const full = this.buffer;
    this.buffer = this.otherBuffer;
    this.otherBuffer = full;
    await this.file.append(full);
  }
}

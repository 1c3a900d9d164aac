/**
 * Writes the whole store to one file, in slices beside live traffic: short ones, unless more is
 * written meanwhile than it keeps up with. Serves the log, which then drops its older segments,
 * and backups.
 *
 * The entries come in the order of their ids, which is mostly that of memory: in key order, each
 * would cost two trips past the processor's cache, several times the rest. The walk sees each
 * entry at some moment of its own. For the log that is good enough: it goes on from before the
 * walk, and merging what it holds again changes nothing; an id that is given to another key
 * behind the walk is in the log too. A backup has no log behind it, so it *follows*: changes made
 * during the walk are written too, in their order with what the walk sees, and the file holds the
 * state of the moment it was finished.
 *
 * A power cut may leave the snapshot without the log behind it. So the metadata in it are those of
 * the moment before the walk, for some of them vouch for entries: the contacts do. Clock, purge
 * time and flush floor, which must never be behind, are those of the end.
 *
 * The file gets its name only when it is whole and durable.
 */
import { Entry } from "../core/data/entry.ts";
import type { ChangeObserver } from "../core/store/outcome.ts";
import type { Store } from "../core/store/store.ts";
import { OperationalError } from "../operational-error.ts";
import { addChange } from "./change.ts";
import { writeWholeFile, type FileWriter, type Identity } from "./file-writer.ts";
import { withExplanation, type FileSystem } from "./file-system.ts";
import type { DirectorySeals } from "./sealing.ts";
import {
  CLOCK_METADATA,
  ENTRIES_METADATA,
  PURGED_METADATA,
  clockMetadata,
  entriesMetadata,
  purgedMetadata,
} from "./store-metadata.ts";
import { nextTurn, type Timing } from "../timing.ts";

/**
 * How long one slice may hold up the event loop, in ms, and how many times the usual size a frame
 * gets. Who is late goes on while the disk is at work.
 */
const GENTLE = { sliceMs: 0.5, frames: 1 };
const LATE = { sliceMs: 2, frames: 4 };
/** How often a slice looks at the time. */
const IDS_A_LOOK = 64;
/**
 * A frame is closed at this size by default: a little less than a power of two, because that is
 * what buffers grow to.
 */
const FRAME_BYTES = 250 * 1024;

/** The parts of a store that a snapshot looks at. */
export type SnapshotSource = Pick<
  Store,
  | "clock"
  | "floor"
  | "idLimit"
  | "isUsed"
  | "observers"
  | "deletions"
  | "read"
  | "readChange"
  | "readPatch"
  | "size"
  | "tombstoneCount"
>;

/** The reason to give up when the node stops. */
export const STOPPING = "the node is stopping";

/** What a snapshot is made with. */
export interface SnapshotOptions extends Identity {
  readonly files: FileSystem;
  readonly seals: DirectorySeals;
  /** Where the finished file goes; nothing is left there, or beside it, on failure. */
  readonly path: string;
  readonly store: SnapshotSource;
  /** What else to remember as of the beginning, by name. */
  readonly metadata: () => ReadonlyMap<string, Uint8Array>;
  /** The clock is noted so far ahead of what it shows, in ms; 0 by default. */
  readonly clockAheadMs?: number;
  /** A frame is closed at this size; 256 KiB by default. */
  readonly frameBytes?: number;
  /** Whether changes made meanwhile belong into it. */
  readonly follows: boolean;
  readonly timing: Timing;
  /** Asked between slices with the bytes gathered so far; true makes the next one longer. */
  readonly isLate: (bytes: number) => boolean;
  /** Asked between slices; gives up with this reason when it is not empty. */
  readonly cancelledBecause: () => string;
}

/** What came of a snapshot. */
export interface SnapshotResult {
  readonly bytes: number;
  readonly entries: number;
}

/** Writes a snapshot. Rejects with an OperationalError when it cannot, or was cancelled. */
export async function writeSnapshot(options: SnapshotOptions): Promise<SnapshotResult> {
  const { files, path, seals } = options;
  const writing = writeWholeFile(files, path, options, seals, (file) =>
    new SnapshotWriter(options, file).write(),
  );
  return withExplanation(`write ${path}`, writing);
}

class SnapshotWriter {
  private entries = 0;
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
    const { options, file } = this;
    const { store, follows, clockAheadMs } = options;
    const metadata = new Map(options.metadata());
    const follower = this.follower();
    if (follows) store.observers.push(follower);
    try {
      const { floor } = store;
      const { timeHigh, timeLow } = floor;
      // Whoever reads it can make room for them.
      file.buffer.addMetadata(ENTRIES_METADATA, entriesMetadata(store));
      // In front of all, it costs nothing to carry out.
      if (timeHigh !== 0 || timeLow !== 0) file.buffer.addFloor(floor);
      for (let pace = GENTLE; this.walkSlice(pace);) {
        if (this.isFull(pace)) {
          await file.append();
          if (pace === GENTLE) await file.settled();
        }
        await nextTurn(options.timing);
        const because = options.cancelledBecause();
        if (because !== "") throw new OperationalError(because);
        pace = options.isLate(file.bytes + file.buffer.length) ? LATE : GENTLE;
      }
      if (floor.timeHigh !== timeHigh || floor.timeLow !== timeLow) file.buffer.addFloor(floor);
    } finally {
      // The state of this moment is what the file holds; what is left of it is in the buffer.
      const at = store.observers.indexOf(follower);
      if (at >= 0) store.observers.splice(at, 1);
    }
    metadata.set(CLOCK_METADATA, clockMetadata(store.clock, clockAheadMs));
    metadata.set(PURGED_METADATA, purgedMetadata(store));
    await file.append();
    for (const [name, value] of metadata) file.buffer.addMetadata(name, value);
    await file.end();
    return { bytes: file.bytes, entries: this.entries };
  }

  /** Adds entries for one slice; false when all are in. */
  private walkSlice(pace: typeof GENTLE): boolean {
    const { store, timing } = this.options;
    const { buffer } = this.file;
    const deadline = timing.nowMs() + pace.sliceMs;
    for (let count = 1; this.nextId < store.idLimit; count++) {
      const id = this.nextId++;
      if (store.isUsed(id)) {
        store.read(id, this.entry);
        buffer.addEntry(this.entry);
        this.entries++;
      }
      if (this.isFull(pace)) return true;
      if (count % IDS_A_LOOK === 0 && timing.nowMs() > deadline) return true;
    }
    return false;
  }

  private follower(): ChangeObserver {
    const { file } = this;
    const { store } = this.options;
    const dropped = new Entry();
    return {
      changed: (id, _local, change) => addChange(file.buffer, store, id, change),
      removed: (id, flushed) => {
        if (flushed) return;
        store.read(id, dropped);
        file.buffer.addDrop(dropped);
      },
      flushed: () => file.buffer.addFloor(store.floor),
    };
  }

  private isFull({ frames }: typeof GENTLE): boolean {
    return this.file.buffer.length >= frames * this.frameBytes;
  }
}

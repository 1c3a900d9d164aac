/**
 * Writes the whole store to one file, in slices beside live traffic. Serves the log, which then
 * drops its older segments, and backups.
 *
 * The entries come in the order of their ids, which is mostly that of memory: in key order, each
 * would cost two trips past the processor's cache, several times the rest. The walk sees each
 * entry at some moment of its own. For the log that is good enough: it goes on from before the
 * walk, and merging what it holds again changes nothing; an id that is given to another key
 * behind the walk is in the log too. A backup has no log behind it, so it *follows*: changes made
 * during the walk are written too, and the file holds the state of the moment it was finished.
 *
 * The file gets its name only when it is whole and durable.
 */
import { Entry } from "../core/entry.ts";
import type { ChangeObserver, Store } from "../core/store.ts";
import { OperationalError } from "../operational-error.ts";
import { writeWholeFile, type FileWriter, type Identity } from "./file-writer.ts";
import { orExplain, type FileSystem } from "./file-system.ts";
import { FrameBuffer } from "./record.ts";
import type { Timers } from "./timers.ts";

/** How long one slice may hold up the event loop, in ms, and how often it looks at the time. */
const SLICE_MS = 0.5;
const IDS_A_LOOK = 64;
/** A frame is closed at this size. */
const FRAME_BYTES = 256 * 1024;

/** The parts of a store that a snapshot looks at. */
export type SnapshotSource = Pick<
  Store,
  "clock" | "floor" | "idLimit" | "isUsed" | "observers" | "read"
>;

/** What a snapshot is made with. */
export interface SnapshotOptions extends Identity {
  readonly files: FileSystem;
  /** Where the finished file goes; nothing is left there, or beside it, on failure. */
  readonly path: string;
  readonly store: SnapshotSource;
  /** What else to remember as of now, by name. */
  readonly facts: () => ReadonlyMap<string, Uint8Array>;
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
  private readonly buffer = new FrameBuffer();
  /** What changed meanwhile, when following: one gathers while the other is written. */
  private news = new FrameBuffer();
  private oldNews = new FrameBuffer();
  private readonly entry = new Entry();
  private nextId = 0;

  constructor(
    private readonly options: SnapshotOptions,
    private readonly file: FileWriter,
  ) {}

  async write(): Promise<SnapshotResult> {
    const { store, follows } = this.options;
    const follower = this.follower();
    if (follows) store.observers.push(follower);
    try {
      const { floor } = store;
      if (floor.timeHigh !== 0 || floor.timeLow !== 0) this.buffer.addFloor(floor);
      while (this.walkSlice()) {
        if (this.buffer.length >= FRAME_BYTES) await this.file.append(this.buffer);
        await this.writeNews();
        await this.options.timers.nextTurn();
        if (this.options.isCancelled()) throw new OperationalError("the node is stopping");
      }
    } finally {
      // The state of this moment is what the file holds; what is left of it is in the buffers.
      const at = store.observers.indexOf(follower);
      if (at >= 0) store.observers.splice(at, 1);
    }
    await this.file.append(this.buffer);
    await this.file.append(this.news);
    for (const [name, value] of this.options.facts()) this.buffer.addFact(name, value);
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
      if (this.buffer.length >= FRAME_BYTES) return true;
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
        this.news.addEntry(changed);
      },
      removed() {},
      flushed: () => this.news.addFloor(store.floor),
    };
  }

  private async writeNews(): Promise<void> {
    if (this.news.isEmpty) return;
    const full = this.news;
    this.news = this.oldNews;
    this.oldNews = full;
    await this.file.append(full);
  }
}

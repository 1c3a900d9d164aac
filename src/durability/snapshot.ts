/**
 * Writes the whole store to one file, in slices beside live traffic. Serves the log, which then
 * drops its older segments, and backups.
 *
 * The entries come in key order, which lets recovery build the order without sorting; then the
 * tombstones, which have no order. The walk sees each key at some moment of its own. For the
 * log that is good enough: it goes on from before the walk, and merging what it holds again
 * changes nothing. A backup has no log behind it, so it *follows*: changes made during the walk
 * are written too, and the file holds the state of the moment it was finished.
 *
 * The file gets its name only when it is whole and durable.
 */
import { Entry, KIND_TOMBSTONE, MAX_KEY_BYTES } from "../core/entry.ts";
import type { ChangeObserver, Store } from "../core/store.ts";
import { OperationalError } from "../operational-error.ts";
import { writeWholeFile, type FileWriter, type Identity } from "./file-writer.ts";
import { orExplain, type FileSystem } from "./file-system.ts";
import { FrameBuffer } from "./record.ts";
import type { Timers } from "./timers.ts";

/** How long one slice may hold up the event loop, in ms, and how often it looks at the time. */
const SLICE_MS = 0.5;
const ENTRIES_A_LOOK = 32;
/** A frame is closed at this size. */
const FRAME_BYTES = 256 * 1024;

/** The parts of a store that a snapshot looks at. */
export type SnapshotSource = Pick<
  Store,
  "clock" | "floor" | "idLimit" | "isUsed" | "observers" | "order" | "read"
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
  private readonly lastKey = new Uint8Array(MAX_KEY_BYTES);
  private lastKeyLength = 0;
  private nextId = -1;

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
    const deadline = this.options.timers.nowMs() + SLICE_MS;
    if (this.nextId < 0 && this.walkKeys(deadline)) this.nextId = 0;
    return this.nextId < 0 || !this.walkTombstones(deadline);
  }

  /** The keys after the last one; true when there are no more. */
  private walkKeys(deadline: number): boolean {
    const { lastKey, buffer, entry } = this;
    const { order } = this.options.store;
    let position =
      this.lastKeyLength === 0
        ? order.seek(lastKey, 0, 0)
        : order.seekAfter(lastKey, 0, this.lastKeyLength);
    for (let count = 1; position >= 0; count++, position = order.next(position)) {
      this.add(order.at(position));
      const isFull = buffer.length >= FRAME_BYTES;
      if (isFull || (count % ENTRIES_A_LOOK === 0 && this.options.timers.nowMs() > deadline)) {
        const { key, keyOffset, keyLength } = entry;
        lastKey.set(key.subarray(keyOffset, keyOffset + keyLength));
        this.lastKeyLength = keyLength;
        return false;
      }
    }
    return true;
  }

  /** The tombstones from the next id on; true when there are no more. */
  private walkTombstones(deadline: number): boolean {
    const { store, timers } = this.options;
    for (let count = 1; this.nextId < store.idLimit; count++) {
      const id = this.nextId++;
      if (store.isUsed(id)) {
        store.read(id, this.entry);
        if (this.entry.kind === KIND_TOMBSTONE) this.add(id);
      }
      if (this.buffer.length >= FRAME_BYTES) return false;
      if (count % (8 * ENTRIES_A_LOOK) === 0 && timers.nowMs() > deadline) return false;
    }
    return true;
  }

  private add(id: number): void {
    this.options.store.read(id, this.entry);
    this.buffer.addEntry(this.entry);
    this.entries++;
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

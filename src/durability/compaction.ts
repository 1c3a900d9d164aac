/**
 * When and how the log gives way to a snapshot.
 *
 * A snapshot is due when snapshot and log together exceed 1.25 times the live data and half a
 * segment. While the next one is written it is on disk too, and so is what is logged
 * meanwhile: together within 2.5 times the live data and a segment, as long as a quarter of the
 * live data is more than what is logged during a snapshot. Nothing enforces that: see
 * `test/proof/disk-use.ts`.
 */
import type { Store } from "../core/store.ts";
import { listDataFiles, segmentPath, snapshotPath } from "./data-directory.ts";
import { orExplain, type FileSystem } from "./file-system.ts";
import { FILE_SNAPSHOT } from "./record.ts";
import { writeSnapshot, type SnapshotSource } from "./snapshot.ts";
import type { Timers } from "./timers.ts";

const DUE_AT_LIVE = 1.25;
/** A frame of a snapshot is closed at this size, or earlier where segments are small. */
const FRAME_BYTES = 256 * 1024;
/** After one that failed, the next waits this long. */
const RETRY_AFTER_MS = 30_000;
/** Bytes of a snapshot for each byte of the store's memory, until the first one tells. */
const GUESSED_RATIO = 0.6;

/** What compaction works with. */
export interface CompactionOptions {
  readonly files: FileSystem;
  readonly directory: string;
  readonly nodeId: string;
  readonly store: SnapshotSource & Pick<Store, "bytes">;
  readonly timers: Timers;
  readonly segmentBytes: number;
  /** What else to remember as of now, by name. */
  readonly facts: () => ReadonlyMap<string, Uint8Array>;
  /** As in SnapshotOptions. */
  readonly clockAheadMs: number;
}

/** Writes snapshots of a log. */
export class Compaction {
  /** When the last one was finished in Unix ms, 0 when there was none since the start. */
  lastUnixMs = 0;
  private notBeforeMs = 0;
  private liveRatio = GUESSED_RATIO;

  constructor(
    private readonly options: CompactionOptions,
    /** Length of the newest snapshot, 0 when there is none. */
    public snapshotBytes: number,
  ) {
    if (snapshotBytes > 0) this.learnRatio();
  }

  /** Whether the log has grown enough for a snapshot. */
  isDue(logBytes: number): boolean {
    const { store, segmentBytes, timers } = this.options;
    const grownBytes = logBytes - segmentBytes / 2;
    if (grownBytes <= 0 || timers.nowMs() < this.notBeforeMs) return false;
    const liveBytes = store.bytes() * this.liveRatio;
    return this.snapshotBytes + grownBytes > DUE_AT_LIVE * liveBytes;
  }

  /**
   * Writes a snapshot that stands for all segments below `number`, then removes them and older
   * snapshots. Rejects with an OperationalError.
   */
  async run(number: number, isCancelled: () => boolean): Promise<void> {
    const { files, directory, nodeId, store, timers, facts, clockAheadMs } = this.options;
    try {
      const { bytes } = await writeSnapshot({
        files,
        path: snapshotPath(directory, number),
        fileKind: FILE_SNAPSHOT,
        number,
        nodeId,
        store,
        facts,
        clockAheadMs,
        frameBytes: Math.min(FRAME_BYTES, this.options.segmentBytes / 8),
        follows: false,
        timers,
        isCancelled,
      });
      this.snapshotBytes = bytes;
      this.lastUnixMs = store.clock.nowMs();
      this.learnRatio();
      await orExplain(
        `remove files that ${snapshotPath(directory, number)} replaces`,
        this.removeOlder(number),
      );
    } catch (error) {
      this.notBeforeMs = timers.nowMs() + RETRY_AFTER_MS;
      throw error;
    }
  }

  private async removeOlder(number: number): Promise<void> {
    const { files, directory } = this.options;
    const present = await listDataFiles(files, directory);
    for (const each of present.snapshots) {
      if (each < number) await files.remove(snapshotPath(directory, each));
    }
    for (const each of present.segments) {
      if (each < number) await files.remove(segmentPath(directory, each));
    }
  }

  private learnRatio(): void {
    this.liveRatio = this.snapshotBytes / Math.max(1, this.options.store.bytes());
  }
}

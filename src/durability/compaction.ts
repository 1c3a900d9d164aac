/**
 * When and how the log gives way to a snapshot.
 *
 * One is due at once when something on disk is not sealed with the current key: so an unsealed
 * directory is sealed, and after a change of the key nothing needs the old one any more.
 *
 * A snapshot is due when snapshot and log together exceed 1.25 times the live data and half a
 * segment. While the next one is written it is on disk too, and so is what is logged
 * meanwhile: together within 2.5 times the live data and a segment, when what is logged stays
 * within a quarter of the live data and half a segment. To that end the snapshot works longer at
 * a time once a quarter of what it has written was logged beside it, and commits wait for it
 * once that and a quarter of a segment was; the other quarter is for the frames under way.
 * `test/proof/disk-use.ts` measures it.
 */
import type { Store } from "../core/store/store.ts";
import { listDataFiles, segmentPath, snapshotPath } from "./data-directory.ts";
import { withExplanation, type FileSystem } from "./file-system.ts";
import { FILE_SNAPSHOT } from "./record.ts";
import type { DirectorySeals } from "./sealing.ts";
import { STOPPING, writeSnapshot, type SnapshotSource } from "./snapshot.ts";
import type { Timing } from "../timing.ts";

const DUE_AT_LIVE = 1.25;
/** A frame of a snapshot is closed at this size, or earlier where segments are small. */
const FRAME_BYTES = 250 * 1024;
/** What may be logged for each byte of a snapshot before it hurries. */
const LOG_SHARE = 0.25;
/** What may be logged beyond that before commits wait, in segments. */
const OUTGROWN_SEGMENTS = 0.25;
/** After one that failed, the next waits this long. */
const RETRY_AFTER_MS = 30_000;
/** Bytes of a snapshot for each byte of the store's memory, until the first one tells. */
const GUESSED_RATIO = 0.6;
const NOTHING = (): number => 0;

/** What compaction works with. */
export interface CompactionOptions {
  readonly files: FileSystem;
  readonly directory: string;
  readonly seals: DirectorySeals;
  readonly nodeId: string;
  readonly store: SnapshotSource & Pick<Store, "bytes">;
  readonly timing: Timing;
  readonly segmentBytes: number;
  /** What else to remember as of now, by name. */
  readonly metadata: () => ReadonlyMap<string, Uint8Array>;
  /** As in SnapshotOptions. */
  readonly clockAheadMs: number;
}

/** Writes snapshots of a log. */
export class Compaction {
  /** When the last one was finished in Unix ms, 0 when there was none since the start. */
  lastUnixMs = 0;
  private notBeforeMs = 0;
  private liveRatio = GUESSED_RATIO;
  /** Bytes written of a snapshot under way, and logged since it was begun. */
  private writtenBytes = 0;
  private loggedBytes = NOTHING;

  constructor(
    private readonly options: CompactionOptions,
    /** Length of the newest snapshot, 0 when there is none. */
    public snapshotBytes: number,
  ) {
    if (snapshotBytes > 0) this.learnRatio();
  }

  /** Whether the log has grown enough for a snapshot. */
  isDue(logBytes: number): boolean {
    const { store, segmentBytes, timing, seals } = this.options;
    if (timing.nowMs() < this.notBeforeMs) return false;
    // What is sealed with another key, or not at all, is not to lie there until it is outgrown.
    if (seals.otherKeys.size > 0) return true;
    const grownBytes = logBytes - segmentBytes / 2;
    if (grownBytes <= 0) return false;
    const liveBytes = store.bytes() * this.liveRatio;
    return this.snapshotBytes + grownBytes > DUE_AT_LIVE * liveBytes;
  }

  /** Whether so much was logged beside a snapshot that commits should wait for it. */
  isOutgrown(): boolean {
    return this.excessBytes() > OUTGROWN_SEGMENTS * this.options.segmentBytes;
  }

  /**
   * Writes a snapshot that stands for all segments below `number`, then removes them and older
   * snapshots. `loggedBytes` is what was logged since. Rejects with an OperationalError.
   */
  async run(number: number, loggedBytes: () => number, isCancelled: () => boolean): Promise<void> {
    const { files, directory, seals, nodeId, store, timing, metadata, clockAheadMs } = this.options;
    this.writtenBytes = 0;
    this.loggedBytes = loggedBytes;
    try {
      const { bytes } = await writeSnapshot({
        files,
        seals,
        path: snapshotPath(directory, number),
        fileKind: FILE_SNAPSHOT,
        number,
        nodeId,
        store,
        metadata,
        clockAheadMs,
        frameBytes: Math.min(FRAME_BYTES, this.options.segmentBytes / 8),
        follows: false,
        timing,
        isLate: (bytes) => {
          this.writtenBytes = bytes;
          return this.excessBytes() > 0;
        },
        cancelledBecause: () => (isCancelled() ? STOPPING : ""),
      });
      this.snapshotBytes = bytes;
      this.lastUnixMs = store.clock.nowMs();
      this.learnRatio();
      await withExplanation(
        `remove files that ${snapshotPath(directory, number)} replaces`,
        this.removeOlder(number),
      );
      seals.otherKeys.clear();
    } catch (error) {
      this.notBeforeMs = timing.nowMs() + RETRY_AFTER_MS;
      throw error;
    } finally {
      this.loggedBytes = NOTHING;
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

  /** What was logged beside a snapshot beyond its share. */
  private excessBytes(): number {
    return this.loggedBytes() - LOG_SHARE * this.writtenBytes;
  }

  private learnRatio(): void {
    this.liveRatio = this.snapshotBytes / Math.max(1, this.options.store.bytes());
  }
}

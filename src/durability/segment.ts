/**
 * The log segment that is being written: frames go to its end, one at a time.
 *
 * A frame that failed may be appended again, over what there is of it: same bytes, same place.
 * A failed sync is final. The system may have dropped what it could not write and call the
 * next sync a success (Rebello et al., "Can Applications Recover from fsync Failures?", 2020).
 */
import { dirname } from "node:path";
import { OperationalError } from "../operational-error.ts";
import { explainError, isNoSpace, type FileSystem, type OpenFile } from "./file-system.ts";
import { FrameBuffer } from "./frame-buffer.ts";
import { FILE_LOG } from "./record.ts";
import { Preallocation } from "./preallocation.ts";
import type { DirectorySeals, FileSeal, FrameSealer } from "./sealing.ts";

/** A segment as it was left. */
export interface SegmentEnd {
  readonly number: number;
  readonly bytes: number;
  readonly records: number;
  /** Bytes from its start that were durable when the last frame was written. */
  readonly syncedBytes: number;
  /** The version of the format that its head says it is in. */
  readonly formatVersion: number;
  /** With what its frames are sealed; null if they are not. */
  readonly seal: FileSeal | null;
}

/** Thrown when a segment is not under its name any more: what is written ends with the process. */
export class SegmentGone extends OperationalError {
  constructor(path: string) {
    super(
      `${path} was removed or replaced, perhaps with its directory; ` +
        "nothing is written until it is back, or the node is restarted on what is there now",
    );
  }
}

/** Thrown when a sync has failed: nobody knows what of the file is on disk. */
export class SyncFailed extends OperationalError {}

/** Written at once when a segment is gone on with. */
const PIECE_BYTES = 1024 * 1024;
/** How segments are made. */
export interface SegmentOptions {
  readonly files: FileSystem;
  readonly nodeId: string;
  /** Whether each append is durable when it returns. */
  readonly syncsAppends: boolean;
  /** About how long it gets, in bytes. */
  readonly segmentBytes: number;
  readonly seals: DirectorySeals;
}

/** An open segment; see the file header. */
export class Segment {
  /** Whether it was given its end. */
  isEnded = false;
  /** Bytes from its start that are known to be durable. */
  private syncedBytes: number;
  private syncing: Promise<void> | null = null;
  private isClosed = false;

  private constructor(
    private readonly file: OpenFile,
    readonly path: string,
    readonly number: number,
    /** Its length. */
    public bytes: number,
    private records: number,
    /** Not null when each append is durable when it returns. */
    private readonly preallocation: Preallocation | null,
    private readonly sealer: FrameSealer | null,
  ) {
    this.syncedBytes = bytes;
  }

  /** Begins a segment, replacing any that was begun under its name. It is durable on return. */
  static async create(options: SegmentOptions, path: string, number: number): Promise<Segment> {
    const { files, nodeId, seals } = options;
    const end = { number, bytes: 0, records: 0 };
    const segment = await Segment.open(options, path, "create", end, seals.newFile());
    try {
      const head = new FrameBuffer();
      head.addHead(FILE_LOG, number, nodeId);
      await segment.append(head);
      await segment.sync();
      await files.syncDirectory(dirname(path));
    } catch (error) {
      await segment.close().catch(() => {});
      throw error;
    }
    return segment;
  }

  /**
   * Goes on with a segment, all of which is durable on return. What the process before had not
   * synced is written again: it may be in the system's memory alone, where after a failed sync
   * it even counts as written.
   */
  static async reopen(options: SegmentOptions, path: string, end: SegmentEnd): Promise<Segment> {
    const sealer = options.seals.goOn(end.seal);
    const segment = await Segment.open(options, path, "change", end, sealer);
    const { file } = segment;
    try {
      const piece = new Uint8Array(Math.min(end.bytes - end.syncedBytes, PIECE_BYTES));
      for (let at = end.syncedBytes; at < end.bytes; at += piece.length) {
        const length = await file.read(piece.subarray(0, end.bytes - at), at);
        await file.write(piece.subarray(0, length), at);
      }
      await file.sync();
    } catch (error) {
      await segment.close().catch(() => {});
      throw error;
    }
    return segment;
  }

  private static async open(
    { files, syncsAppends, segmentBytes }: SegmentOptions,
    path: string,
    mode: "create" | "change",
    { number, bytes, records }: Pick<SegmentEnd, "number" | "bytes" | "records">,
    sealer: FrameSealer | null,
  ): Promise<Segment> {
    const file = await files.open(path, mode, syncsAppends);
    try {
      const preallocation = syncsAppends
        ? new Preallocation(await files.open(path, "change"), bytes, segmentBytes)
        : null;
      return new Segment(file, path, number, bytes, records, preallocation, sealer);
    } catch (error) {
      await file.close().catch(() => {});
      throw error;
    }
  }

  /** Writes what the buffer holds as one frame. Rejects with a system error or SyncFailed. */
  async append(buffer: FrameBuffer): Promise<void> {
    const frame = buffer.finish(this.bytes, this.syncedBytes, this.sealer);
    await this.preallocation?.prepare(this.bytes + frame.length);
    try {
      await this.file.write(frame, this.bytes);
    } catch (error) {
      if (this.preallocation !== null && !isNoSpace(error)) throw this.syncFailed(error);
      throw error;
    }
    this.bytes += frame.length;
    this.records += buffer.records;
    if (this.preallocation !== null) this.syncedBytes = this.bytes;
  }

  /** Makes everything appended so far durable. Rejects with SyncFailed. */
  async sync(): Promise<void> {
    // One at a time: what is appended during one is not in it.
    while (this.syncing !== null) await this.syncing;
    if (this.syncedBytes === this.bytes || this.isClosed) return;
    this.syncing = this.syncNow();
    await this.syncing;
  }

  /**
   * Marks the end and makes all of it durable; it may be appended to again after it is opened
   * anew. May be repeated after a failure. Rejects with a system error or SyncFailed.
   */
  async end(): Promise<void> {
    if (!this.isEnded) {
      const end = new FrameBuffer();
      end.addEnd(this.records);
      await this.append(end);
      this.isEnded = true;
    }
    await this.sync();
    await this.preallocation?.end(this.bytes).catch((error: unknown) => {
      throw this.syncFailed(error);
    });
  }

  /** Rejects with SegmentGone when the path does not lead to this segment any more. */
  async checkPlace(): Promise<void> {
    if (!(await this.file.isAt(this.path))) throw new SegmentGone(this.path);
  }

  async close(): Promise<void> {
    // First, so that nobody who waits for the sync under way begins another.
    this.isClosed = true;
    await this.syncing?.catch(() => {});
    await this.preallocation?.close();
    await this.file.close();
  }

  private async syncNow(): Promise<void> {
    const upTo = this.bytes;
    try {
      await this.file.sync();
      this.syncedBytes = upTo;
    } catch (error) {
      throw this.syncFailed(error);
    } finally {
      this.syncing = null;
    }
  }

  private syncFailed(error: unknown): SyncFailed {
    return new SyncFailed(`cannot sync ${this.path}: ${explainError(error)}`, { cause: error });
  }
}

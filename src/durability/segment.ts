/**
 * The log segment that is being written: frames go to its end, one at a time.
 *
 * A frame that failed may be appended again, over what there is of it: same bytes, same place.
 * A failed sync is final. The system may have dropped what it could not write and call the
 * next sync a success (Rebello et al., "Can Applications Recover from fsync Failures?", 2020).
 */
import { dirname } from "node:path";
import { OperationalError } from "../operational-error.ts";
import { codeOf, explain, type FileSystem, type OpenFile } from "./file-system.ts";
import { FILE_LOG, FrameBuffer } from "./record.ts";

/** A segment as it was left. */
export interface SegmentEnd {
  readonly number: number;
  readonly bytes: number;
  readonly records: number;
  /** Bytes from its start that were durable when the last frame was written. */
  readonly syncedBytes: number;
}

/** It is unknown what of the file is on disk. */
export class SyncFailed extends OperationalError {}

/** Written at once when a segment is gone on with. */
const PIECE_BYTES = 1024 * 1024;
/** Failures of a write that were decided before any of it was on its way to the disk. */
const NO_SPACE = new Set(["ENOSPC", "EDQUOT", "EFBIG"]);

/** Whether a system error means that there is no space. */
export function isNoSpace(error: unknown): boolean {
  return NO_SPACE.has(codeOf(error));
}

/** How segments are made. */
export interface SegmentOptions {
  readonly files: FileSystem;
  readonly nodeId: string;
  /** Whether each append is durable when it returns. */
  readonly syncsAppends: boolean;
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
    private readonly syncsAppends: boolean,
  ) {
    this.syncedBytes = bytes;
  }

  /** Begins a segment, replacing any that was begun under its name. It is durable on return. */
  static async create(options: SegmentOptions, path: string, number: number): Promise<Segment> {
    const { files, nodeId, syncsAppends } = options;
    const file = await files.open(path, "create", syncsAppends);
    const segment = new Segment(file, path, number, 0, 0, syncsAppends);
    try {
      const head = new FrameBuffer();
      head.addHead(FILE_LOG, number, nodeId);
      await segment.append(head);
      await segment.sync();
      await files.syncDirectory(dirname(path));
    } catch (error) {
      await file.close().catch(() => {});
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
    const { files, syncsAppends } = options;
    const file = await files.open(path, "change", syncsAppends);
    try {
      const piece = new Uint8Array(Math.min(end.bytes - end.syncedBytes, PIECE_BYTES));
      for (let at = end.syncedBytes; at < end.bytes; at += piece.length) {
        const length = await file.read(piece.subarray(0, end.bytes - at), at);
        await file.write(piece.subarray(0, length), at);
      }
      await file.sync();
    } catch (error) {
      await file.close().catch(() => {});
      throw error;
    }
    return new Segment(file, path, end.number, end.bytes, end.records, syncsAppends);
  }

  /** Writes what the buffer holds as one frame. Rejects with a system error or SyncFailed. */
  async append(buffer: FrameBuffer): Promise<void> {
    const frame = buffer.seal(this.bytes, this.syncedBytes);
    try {
      await this.file.write(frame, this.bytes);
    } catch (error) {
      if (this.syncsAppends && !isNoSpace(error)) throw this.syncFailed(error);
      throw error;
    }
    this.bytes += frame.length;
    this.records += buffer.records;
    if (this.syncsAppends) this.syncedBytes = this.bytes;
  }

  /** Makes everything appended so far durable. Rejects with SyncFailed. */
  async sync(): Promise<void> {
    // One at a time: what is appended during one is not in it.
    while (this.syncing !== null) await this.syncing;
    if (this.syncedBytes === this.bytes || this.isClosed) return;
    this.syncing = this.syncNow();
    await this.syncing;
  }

  /** Marks the end; it may be appended to again after it is opened anew. */
  async appendEnd(): Promise<void> {
    const end = new FrameBuffer();
    end.addEnd(this.records);
    await this.append(end);
    this.isEnded = true;
  }

  async close(): Promise<void> {
    await this.syncing?.catch(() => {});
    this.isClosed = true;
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
    return new SyncFailed(`cannot sync ${this.path}: ${explain(error)}`, { cause: error });
  }
}

/**
 * Writes files that are only put in place when they are whole: snapshots and backups. Until
 * then they have another name, and on failure nothing is left of them.
 */
import { UNFINISHED } from "./data-directory.ts";
import { placeFile, type FileSystem, type OpenFile } from "./file-system.ts";
import { FrameBuffer } from "./frame-buffer.ts";
import { type FileKind } from "./record.ts";
import type { DirectorySeals, FrameSealer } from "./sealing.ts";

/** Synced this often, so that the disk is never left with a mountain that others wait behind. */
const SYNC_EVERY_BYTES = 4 * 1024 * 1024;

/** What a file's head says of it. */
export interface Identity {
  readonly fileKind: FileKind;
  readonly number: number;
  readonly nodeId: string;
}

/**
 * A file that is being written. While one frame is on its way to the disk, the next is filled,
 * and a sync goes on beside both. What fails there is thrown by a later call.
 */
export class FileWriter {
  /** Its length so far, what is under way included. */
  bytes = 0;
  /** Takes the records of the next frame. Another one after each `append`. */
  buffer = new FrameBuffer();
  private spare = new FrameBuffer();
  private records = 0;
  private unsyncedBytes = 0;
  private writing: Promise<void> = Promise.resolve();
  private syncing: Promise<void> = Promise.resolve();

  /** Use `writeWholeFile`. */
  constructor(
    private readonly file: OpenFile,
    private readonly sealer: FrameSealer | null,
  ) {}

  /** Starts to write what the buffer holds, as a frame, once the one before is written. */
  async append(): Promise<void> {
    await this.writing;
    if (this.unsyncedBytes >= SYNC_EVERY_BYTES) {
      await this.syncing;
      this.unsyncedBytes = 0;
      this.syncing = watched(this.file.sync());
    }
    const full = this.buffer;
    if (full.isEmpty) return;
    this.buffer = this.spare;
    this.spare = full;
    const frame = full.finish(this.bytes, this.bytes, this.sealer);
    this.writing = watched(this.file.write(frame, this.bytes).then(() => full.reset()));
    this.bytes += frame.length;
    this.unsyncedBytes += frame.length;
    this.records += full.records;
  }

  /** Writes the last frame, with the end of the file in it, and makes all of it durable. */
  async end(): Promise<void> {
    this.buffer.addEnd(this.records + this.buffer.records);
    await this.append();
    await this.writing;
    await this.syncing;
    await this.file.sync();
  }

  /** Resolves when nothing is under way any more, whatever came of it. */
  async settled(): Promise<void> {
    await Promise.allSettled([this.writing, this.syncing]);
  }
}

/** The same promise, which may fail before anybody awaits it. */
function watched(work: Promise<void>): Promise<void> {
  work.catch(() => {});
  return work;
}

/**
 * Makes a file with a head, lets `fill` write the rest up to `end`, and puts it in place,
 * durably. Rejects with whatever failed.
 */
export async function writeWholeFile<T>(
  files: FileSystem,
  path: string,
  identity: Identity,
  seals: DirectorySeals,
  fill: (writer: FileWriter) => Promise<T>,
): Promise<T> {
  const unfinished = path + UNFINISHED;
  const file = await files.open(unfinished, "create");
  const writer = new FileWriter(file, seals.newFile());
  try {
    writer.buffer.addHead(identity.fileKind, identity.number, identity.nodeId);
    await writer.append();
    const result = await fill(writer);
    await file.close();
    await placeFile(files, unfinished, path);
    return result;
  } catch (error) {
    await writer.settled();
    await file.close().catch(() => {});
    await files.remove(unfinished).catch(() => {});
    throw error;
  }
}

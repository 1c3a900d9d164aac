/**
 * Writes files that are only put in place when they are whole: snapshots and backups. Until
 * then they have another name, and on failure nothing is left of them.
 */
import { UNFINISHED } from "./data-directory.ts";
import { placeFile, type FileSystem, type OpenFile } from "./file-system.ts";
import { FrameBuffer, type FileKind } from "./record.ts";

/** Synced this often, so that the disk is never left with a mountain that others wait behind. */
const SYNC_EVERY_BYTES = 4 * 1024 * 1024;

/** What a file's head says of it. */
export interface Identity {
  readonly fileKind: FileKind;
  readonly number: number;
  readonly nodeId: string;
}

/** A file that is being written. */
export class FileWriter {
  /** Its length so far. */
  bytes = 0;
  private records = 0;
  private unsyncedBytes = 0;

  /** Use `writeWholeFile`. */
  constructor(private readonly file: OpenFile) {}

  /** Writes what the buffer holds as a frame, and empties it. */
  async append(buffer: FrameBuffer): Promise<void> {
    if (buffer.isEmpty) return;
    const frame = buffer.seal(this.bytes);
    await this.file.write(frame, this.bytes);
    this.bytes += frame.length;
    this.records += buffer.records;
    this.unsyncedBytes += frame.length;
    buffer.reset();
    if (this.unsyncedBytes >= SYNC_EVERY_BYTES) await this.sync();
  }

  /** Writes the last frame, with the end of the file in it. */
  async end(buffer: FrameBuffer): Promise<void> {
    buffer.addEnd(this.records + buffer.records);
    await this.append(buffer);
    await this.sync();
  }

  private async sync(): Promise<void> {
    this.unsyncedBytes = 0;
    await this.file.sync();
  }
}

/**
 * Makes a file with a head, lets `fill` write the rest up to `end`, and puts it in place,
 * durably. Rejects with whatever failed.
 */
export async function writeWholeFile<T>(
  files: FileSystem,
  path: string,
  identity: Identity,
  fill: (writer: FileWriter) => Promise<T>,
): Promise<T> {
  const unfinished = path + UNFINISHED;
  const file = await files.open(unfinished, "create");
  try {
    const writer = new FileWriter(file);
    const head = new FrameBuffer();
    head.addHead(identity.fileKind, identity.number, identity.nodeId);
    await writer.append(head);
    const result = await fill(writer);
    await file.close();
    await placeFile(files, unfinished, path);
    return result;
  } catch (error) {
    await file.close().catch(() => {});
    await files.remove(unfinished).catch(() => {});
    throw error;
  }
}

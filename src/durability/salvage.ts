/**
 * Makes data files out of the good frames of others: of a damaged directory's own files, or of
 * a backup. The result is always one snapshot, the newest in its directory.
 *
 * A frame that was not sealed where and as it should have been is not a good one.
 *
 * An entry that no store accepts is left out; the files it is in stay as they are, or are put
 * aside.
 *
 * Entries can be copied in any order and more than once, because merging takes care of both; but
 * what was dropped must stand before its drop, and what was patched before its patch, so all
 * records keep their order.
 */
import { basename, join } from "node:path";
import { flawOf } from "../core/data/entry-check.ts";
import {
  ALONE_METADATA,
  laterRecordError,
  listDataFiles,
  segmentPath,
  snapshotPath,
} from "./data-directory.ts";
import type { FileSystem } from "./file-system.ts";
import { writeWholeFile, type FileWriter, type Identity } from "./file-writer.ts";
import { allFrames } from "./frame-reader.ts";
import { Metadata } from "./metadata.ts";
import { readRecords, UNKNOWN_RECORD, type RecordSink } from "./record-reader.ts";
import { FILE_SNAPSHOT } from "./record.ts";
import { DirectorySeals, type DiskKeys, type FrameOpener } from "./sealing.ts";
import { INCARNATION_METADATA } from "./store-metadata.ts";

/** A frame is closed at this size. */
const FRAME_BYTES = 256 * 1024;
const ALONE = new Uint8Array([1]);

/** What was copied. */
export interface Salvaged {
  /** Path of the new snapshot. */
  readonly path: string;
  readonly frames: number;
  readonly entries: number;
  /** Entries left out because no store accepts them. */
  readonly refused: number;
}

/**
 * Writes a snapshot into `directory`, newer than all there is, with every good frame of the
 * `sources`. Rejects with a system error.
 */
export async function writeFromFrames(
  files: FileSystem,
  directory: string,
  nodeId: string,
  sources: readonly string[],
  keys: DiskKeys,
): Promise<Salvaged> {
  const present = await listDataFiles(files, directory);
  const number = Math.max(0, ...present.segments, ...present.snapshots) + 1;
  const path = snapshotPath(directory, number);
  const identity: Identity = { fileKind: FILE_SNAPSHOT, number, nodeId };
  const from = new DirectorySeals(keys);
  return writeWholeFile(files, path, identity, new DirectorySeals(keys), async (writer) => {
    const copier = new RecordCopier(writer);
    let frames = 0;
    for (const source of sources) {
      frames += await copyFrames(files, source, from.opener(source), copier);
    }
    await copier.finish();
    return { path, frames, entries: copier.entries, refused: copier.refused };
  });
}

/**
 * Moves all data files of `directory` but the newest snapshot into a directory beside them.
 * Returns its path, null when there was nothing to move.
 */
export async function moveAside(
  files: FileSystem,
  directory: string,
  now: Date,
): Promise<string | null> {
  const { segments, snapshots } = await listDataFiles(files, directory);
  const paths = [
    ...segments.map((number) => segmentPath(directory, number)),
    ...snapshots.slice(0, -1).map((number) => snapshotPath(directory, number)),
  ];
  if (paths.length === 0) return null;
  const aside = join(directory, `aside-${now.toISOString().replace(/[-:]|\.\d+/g, "")}`);
  await files.makeDirectory(aside);
  for (const path of paths) await files.rename(path, join(aside, basename(path)));
  await files.syncDirectory(aside);
  await files.syncDirectory(directory);
  return aside;
}

async function copyFrames(
  files: FileSystem,
  source: string,
  opener: FrameOpener,
  copier: RecordCopier,
): Promise<number> {
  const file = await files.open(source, "read");
  try {
    let frames = 0;
    for await (const { payload, position, syncedBytes } of allFrames(file)) {
      const records = opener.open(payload, position, syncedBytes);
      if (typeof records === "string") continue;
      const count = readRecords(records, 0, records.length, copier);
      if (count === UNKNOWN_RECORD) throw laterRecordError(source, position);
      if (count >= 0) frames++;
      await copier.writeIfLarge();
    }
    return frames;
  } finally {
    await file.close();
  }
}

/** Copies what is data, and leaves out heads and ends. */
class RecordCopier implements RecordSink {
  entries = 0;
  refused = 0;
  private readonly remembered = new Metadata();

  constructor(private readonly writer: FileWriter) {}

  head(): void {}

  end(): void {}

  entry(entry: Parameters<RecordSink["entry"]>[0]): void {
    if (flawOf(entry) !== null) {
      this.refused++;
      return;
    }
    this.writer.buffer.addEntry(entry);
    this.entries++;
  }

  floor(version: Parameters<RecordSink["floor"]>[0]): void {
    this.writer.buffer.addFloor(version);
  }

  drop(entry: Parameters<RecordSink["drop"]>[0]): void {
    this.writer.buffer.addDrop(entry);
  }

  patch(patch: Parameters<RecordSink["patch"]>[0]): void {
    if (flawOf(patch.entry) === null) this.writer.buffer.addPatch(patch);
    else this.refused++;
  }

  expiry(entry: Parameters<RecordSink["expiry"]>[0]): void {
    this.writer.buffer.addExpiry(entry, entry);
  }

  metadata(name: string, value: Uint8Array): void {
    this.remembered.set(name, value);
  }

  async writeIfLarge(): Promise<void> {
    if (this.writer.buffer.length >= FRAME_BYTES) await this.writer.append();
  }

  async finish(): Promise<void> {
    this.remembered.set(ALONE_METADATA, ALONE);
    // Whoever goes on from the copy may have counted more since, and must do so as somebody else.
    this.remembered.set(INCARNATION_METADATA, new Uint8Array(0));
    for (const [name, value] of this.remembered.all()) this.writer.buffer.addMetadata(name, value);
    await this.writer.end();
  }
}

/**
 * Turns a backup into a data directory, and a damaged directory into one that is good.
 *
 * Either way the result is one new snapshot without a log. A node that starts from that knows
 * that it may have forgotten what it once told its peers (see `incarnation.ts`), and heals
 * forward from them.
 */
import { flawOf } from "../core/data/entry-check.ts";
import { OperationalError } from "../operational-error.ts";
import { checkDirectory, type DirectoryReport } from "./check.ts";
import { readDataFile, type DataSink } from "./data-file.ts";
import { listDataFiles, planOf, segmentPath, snapshotPath } from "./data-directory.ts";
import { withExplanation, type FileSystem } from "./file-system.ts";
import { allFrames } from "./frame-reader.ts";
import { FILE_BACKUP } from "./record.ts";
import { DirectorySeals, noKeys, type DiskKeys } from "./sealing.ts";
import { moveAside, writeFromFrames } from "./salvage.ts";

/** What a restore or a repair came to. */
export interface Restored {
  /** Whose data it is. */
  readonly nodeId: string;
  readonly entries: number;
  /** Entries left out because no store accepts them; they stay in the file that they come from. */
  readonly refused: number;
  /** Where the files went that were there before, null when there were none. */
  readonly aside: string | null;
}

/** A backup that was read through. */
export interface VerifiedBackup {
  readonly nodeId: string;
  readonly bytes: number;
  readonly entries: number;
  /** Entries among them that no store accepts. */
  readonly refused: number;
}

/** Reads a backup through. Throws an OperationalError when it is not a whole one. */
export async function verifyBackup(
  files: FileSystem,
  path: string,
  keys: DiskKeys = noKeys,
): Promise<VerifiedBackup> {
  const expected = { fileKind: FILE_BACKUP, number: null, nodeId: null } as const;
  let refused = 0;
  const sink: DataSink = {
    entry(entry) {
      if (flawOf(entry) !== null) refused++;
    },
    floor() {},
    metadata() {},
    drop() {},
    patch({ entry }) {
      if (flawOf(entry) !== null) refused++;
    },
    expiry() {},
  };
  const { head, flaw, goodBytes, fileBytes, entries } = await readDataFile(
    files,
    path,
    new DirectorySeals(keys),
    expected,
    sink,
  );
  if (head === null) throw new OperationalError(`${path} is not a backup`);
  if (flaw !== null) {
    throw new OperationalError(`${path} is not whole: at byte ${goodBytes} of it, ${flaw}`);
  }
  return { nodeId: head.nodeId, bytes: fileBytes, entries, refused };
}

/**
 * Checks that a file of so many bytes consists of whole frames, whatever is in them. Throws an
 * OperationalError if not.
 */
export async function verifyFrames(files: FileSystem, path: string, bytes: number): Promise<void> {
  const file = await withExplanation(`read ${path}`, files.open(path, "read"));
  try {
    let end = 0;
    for await (const frame of allFrames(file)) {
      if (frame.position === end) ({ end } = frame);
    }
    if (end !== bytes) throw new OperationalError(`${path} is not whole: only ${end} bytes of it`);
  } finally {
    await file.close();
  }
}

/**
 * Restores a backup into a directory that is there and locked. What it holds is replaced only
 * with `force`, and then put aside. `nodeId` names another node than the one that made the
 * backup. Throws an OperationalError; until then nothing was written.
 */
export async function restoreBackup(
  files: FileSystem,
  from: string,
  directory: string,
  options: { readonly force: boolean; readonly nodeId?: string; readonly now: Date },
  keys: DiskKeys = noKeys,
): Promise<Restored> {
  const backup = await verifyBackup(files, from, keys);
  const present = await listDataFiles(files, directory);
  if (present.segments.length + present.snapshots.length > 0 && !options.force) {
    throw new OperationalError(`${directory} holds data already; --force puts that aside`);
  }
  const nodeId = options.nodeId ?? backup.nodeId;
  const write = async (): Promise<Restored> => {
    const { entries, refused } = await writeFromFrames(files, directory, nodeId, [from], keys);
    return { nodeId, entries, refused, aside: await moveAside(files, directory, options.now) };
  };
  return withExplanation(`write to ${directory}`, write());
}

/**
 * Repairs a directory that is there and locked: keeps every good frame and puts the files as
 * they were aside. Throws an OperationalError when there is nothing to go by.
 */
export async function repairDirectory(
  files: FileSystem,
  report: DirectoryReport,
  now: Date,
  keys: DiskKeys = noKeys,
): Promise<Restored> {
  const { directory, nodeId } = report;
  if (nodeId === null) {
    throw new OperationalError(
      `no file in ${directory} tells whose it is; restore a backup, or start the node on an ` +
        "empty directory and let its peers fill it",
    );
  }
  const { snapshot, segments } = planOf(await listDataFiles(files, directory));
  const sources = segments.map((number) => segmentPath(directory, number));
  if (snapshot > 0) sources.unshift(snapshotPath(directory, snapshot));
  const repair = async (): Promise<Restored> => {
    const { entries, refused } = await writeFromFrames(files, directory, nodeId, sources, keys);
    const aside = await moveAside(files, directory, now);
    return { nodeId, entries, refused, aside };
  };
  const repaired = await withExplanation(`repair ${directory}`, repair());
  const { isGood } = await checkDirectory(files, directory, keys);
  if (!isGood) throw new Error(`${directory} is not good after it was repaired`);
  return repaired;
}

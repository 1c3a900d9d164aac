/**
 * What lies in a data directory, by name:
 *
 *   lock                 see `lock.ts`
 *   0000000007.log       segment 7 of the log; the one with the highest number is written to
 *   0000000006.snap      a snapshot that stands for all segments below 6
 *   0000000008.snap.tmp  being written; left over when the process died, and worth nothing
 *   refused-*.mkv        entries that no node accepts, see `refused-entries.ts`
 *   aside-*              damaged or replaced files, put away by `merklekv check --fix` or `restore`
 *
 * The data is the newest snapshot, if there is one, and every segment from its number on. A
 * snapshot that a running log made always has a segment of its own number. One that `restore` or
 * `check --fix` made *stands alone*, and says so: what is older beside it is what it replaced,
 * still to be put aside.
 */
import { join } from "node:path";
import { OperationalError } from "../operational-error.ts";
import { withExplanation, type FileSystem } from "./file-system.ts";
import { FORMAT_VERSION, OLDEST_FORMAT_VERSION } from "./frame.ts";
import { FILE_BACKUP, FILE_LOG, FILE_SNAPSHOT, type FileHead, type FileKind } from "./record.ts";

/** Ends the name of a file that is not finished. */
export const UNFINISHED = ".tmp";

const NUMBER_DIGITS = 10;
const NAME = /^(\d{10})\.(log|snap)$/;
const UNFINISHED_NAME = /^\d{10}\.snap\.tmp$/;
/** The metadata by which a snapshot says that it stands alone. */
export const ALONE_METADATA = "alone";
const KIND_NAMES: Record<FileKind, string> = {
  [FILE_LOG]: "a log segment",
  [FILE_SNAPSHOT]: "a snapshot",
  [FILE_BACKUP]: "a backup",
};

/** The files of a data directory, by number, lowest first. */
export interface DataFiles {
  readonly segments: readonly number[];
  readonly snapshots: readonly number[];
  /** Names of files that were never finished. */
  readonly unfinished: readonly string[];
}

/** The path of a log segment. */
export function segmentPath(directory: string, number: number): string {
  return join(directory, `${String(number).padStart(NUMBER_DIGITS, "0")}.log`);
}

/** The path of a snapshot. */
export function snapshotPath(directory: string, number: number): string {
  return join(directory, `${String(number).padStart(NUMBER_DIGITS, "0")}.snap`);
}

/** Lists a data directory. Throws an OperationalError when it cannot be read. */
export async function listDataFiles(files: FileSystem, directory: string): Promise<DataFiles> {
  const names = await withExplanation(`read ${directory}`, files.list(directory));
  const segments: number[] = [];
  const snapshots: number[] = [];
  for (const name of names) {
    const match = NAME.exec(name);
    if (match) (match[2] === "log" ? segments : snapshots).push(Number(match[1]));
  }
  const ascending = (a: number, b: number): number => a - b;
  return {
    segments: segments.sort(ascending),
    snapshots: snapshots.sort(ascending),
    unfinished: names.filter((name) => UNFINISHED_NAME.test(name)),
  };
}

/**
 * The files that hold the data: number of the snapshot, 0 for none, and of the segments after it.
 */
export interface DataPlan {
  readonly snapshot: number;
  readonly segments: readonly number[];
  /**
   * The number that should be among the segments and is not, 0 when none is missing. Without any
   * segment that of the snapshot, unless it stands alone.
   */
  missingSegment(metadata: { has(name: string): boolean }): number;
}

/** Chooses the files that count. */
export function planOf(present: DataFiles): DataPlan {
  const snapshot = present.snapshots.at(-1) ?? 0;
  const first = Math.max(snapshot, 1);
  const segments = present.segments.filter((number) => number >= first);
  const gap = segments.findIndex((number, i) => number !== first + i);
  return {
    snapshot,
    segments,
    missingSegment(metadata) {
      if (gap >= 0) return first + gap;
      return segments.length === 0 && snapshot > 0 && !metadata.has(ALONE_METADATA) ? snapshot : 0;
    },
  };
}

/** What a file's head must say. `nodeId` null accepts any. */
export interface ExpectedHead {
  readonly fileKind: FileKind;
  readonly number: number | null;
  readonly nodeId: string | null;
}

/**
 * What to say of a file that holds a record of a type that only a later version knows: what that
 * changes nobody here can tell, so the file is neither read on nor repaired.
 */
export function laterRecordError(path: string, offset: number): OperationalError {
  return new OperationalError(
    `${path} holds records of a type that this merklekv does not know, from byte ${offset} on: ` +
      "a later version wrote it; use that version, or start with an empty directory and let peers " +
      "fill it",
  );
}

/** Throws an OperationalError when a file's head is not the expected one. */
export function checkHead(path: string, head: FileHead, expected: ExpectedHead): void {
  if (head.formatVersion < OLDEST_FORMAT_VERSION || head.formatVersion > FORMAT_VERSION) {
    throw new OperationalError(
      `${path} is in format ${head.formatVersion} and this merklekv reads formats ` +
        `${OLDEST_FORMAT_VERSION} to ${FORMAT_VERSION}; use the version that wrote it`,
    );
  }
  if (head.fileKind !== expected.fileKind) {
    throw new OperationalError(
      `${path} is ${KIND_NAMES[head.fileKind]}, not ${KIND_NAMES[expected.fileKind]}`,
    );
  }
  if (expected.nodeId !== null && head.nodeId !== expected.nodeId) {
    throw new OperationalError(
      `${path} belongs to node "${head.nodeId}", not to "${expected.nodeId}"; ` +
        "set that node_id or another storage.path",
    );
  }
  if (expected.number !== null && head.number !== expected.number) {
    throw new OperationalError(`${path} was renamed: it is number ${head.number}`);
  }
}

/**
 * Bytes on disk were changed, cut or taken away. The message says where, and what to do.
 */
export class DamageError extends OperationalError {
  override name = "DamageError";

  constructor(
    /** The damaged file. */
    readonly path: string,
    /** The first byte that is not good. */
    readonly offset: number,
    /** What is wrong there. */
    readonly flaw: string,
    directory: string,
  ) {
    super(
      `${path} is damaged at byte ${offset}: ${flaw}; "merklekv check ${directory}" tells more, ` +
        "and with --fix keeps every good frame",
    );
  }
}

/**
 * Looks over a data directory that no node is using: every frame of every file that counts, as
 * recovery would, but without stopping at the first flaw.
 */
import { basename } from "node:path";
import { flawOf } from "../core/data/entry-check.ts";
import { readDataFile, isTornEnd, type DataSink } from "./data-file.ts";
import { listDataFiles, planOf, segmentPath, snapshotPath } from "./data-directory.ts";
import type { FileSystem } from "./file-system.ts";
import { FILE_LOG, FILE_SNAPSHOT, type FileKind } from "./record.ts";
import { DirectorySeals, NO_KEY, noKeys, type DiskKeys } from "./sealing.ts";

/** What is wrong with a file. */
export interface Problem {
  readonly offset: number;
  readonly flaw: string;
}

/** One file that counts. */
export interface FileReport {
  readonly name: string;
  readonly bytes: number;
  readonly frames: number;
  readonly entries: number;
  /** Entries among them that no node accepts: a start, or a repair, sets them aside. */
  readonly refused: number;
  readonly problem: Problem | null;
  /** Id of the key that its frames are sealed with; NO_KEY if they are not. */
  readonly key: string;
  /** Bytes at the end that a crash left unfinished; no problem, they are cut off at the start. */
  readonly tornBytes: number;
}

/** A whole directory. */
export interface DirectoryReport {
  readonly directory: string;
  /** Null when no file tells. */
  readonly nodeId: string | null;
  readonly files: readonly FileReport[];
  readonly entries: number;
  /** Whether a node would start on it, with every entry in it. */
  readonly isGood: boolean;
}

/**
 * Checks a directory. Throws an OperationalError when it cannot be read, holds files of another
 * version, or a key is missing.
 */
export async function checkDirectory(
  files: FileSystem,
  directory: string,
  keys: DiskKeys = noKeys,
): Promise<DirectoryReport> {
  const seals = new DirectorySeals(keys);
  const plan = planOf(await listDataFiles(files, directory));
  const { snapshot, segments } = plan;
  const metadata = new Set<string>();
  let refused = 0;
  const sink: DataSink = {
    entry(entry) {
      if (flawOf(entry) !== null) refused++;
    },
    floor() {},
    metadata: (name) => void metadata.add(name),
    drop() {},
    patch({ entry }) {
      if (flawOf(entry) !== null) refused++;
    },
    expiry() {},
  };
  const reports: FileReport[] = [];
  let nodeId: string | null = null;
  if (snapshot > 0) await check(snapshotPath(directory, snapshot), FILE_SNAPSHOT, snapshot);
  for (const number of segments) await check(segmentPath(directory, number), FILE_LOG, number);
  const missingSegment = plan.missingSegment(metadata);
  if (missingSegment > 0) {
    const name = basename(segmentPath(directory, missingSegment));
    const problem = { offset: 0, flaw: "it is missing" };
    const nothing = { bytes: 0, frames: 0, entries: 0, refused: 0, tornBytes: 0, key: NO_KEY };
    reports.push({ name, problem, ...nothing });
  }
  return {
    directory,
    nodeId,
    files: reports,
    entries: reports.reduce((sum, { entries }) => sum + entries, 0),
    isGood: reports.every(({ problem, refused }) => problem === null && refused === 0),
  };

  async function check(path: string, fileKind: FileKind, number: number): Promise<void> {
    refused = 0;
    const reading = await readDataFile(files, path, seals, { fileKind, number, nodeId }, sink);
    nodeId ??= reading.head?.nodeId ?? null;
    const { fileBytes: bytes, goodBytes: offset, frames, entries } = reading;
    const isLast = fileKind === FILE_LOG && number === segments.at(-1);
    let { flaw } = reading;
    let tornBytes = 0;
    if (isLast && flaw !== null && (await isTornEnd(files, path, reading))) {
      flaw = null;
      tornBytes = bytes - offset;
    } else if (flaw === null && fileKind === FILE_LOG && !isLast && !reading.isEnded) {
      flaw = "it has no end, yet another segment follows";
    }
    const problem = flaw === null ? null : { offset, flaw };
    const key = reading.seal?.keyId ?? NO_KEY;
    const counts = { bytes, frames, entries, refused, tornBytes };
    reports.push({ name: basename(path), problem, key, ...counts });
  }
}

/**
 * Opens a data directory: makes it, locks it, brings back what it holds and goes on from there.
 */
import type { Store } from "../core/store/store.ts";
import type { Logger } from "../observability/log.ts";
import { withExplanation, type FileSystem } from "./file-system.ts";
import type { DirectoryLock } from "./lock.ts";
import { LogJournal, type FsyncMode } from "./log.ts";
import { recover, type Recovered, type RecoveryProgress } from "./recovery.ts";
import { DirectorySeals, noKeys, type DiskKeys } from "./sealing.ts";
import type { Timing } from "../timing.ts";

/** Recovery that takes longer than this says how far it is, as often. */
const PROGRESS_EVERY_MS = 1_000;

/** What is opened, and with what. */
export interface OpenLogOptions {
  readonly directory: string;
  readonly nodeId: string;
  readonly fsync: FsyncMode;
  /** Still without observers. */
  readonly store: Store;
  readonly logger: Logger;
  /** Where the directory is. */
  readonly files: FileSystem;
  readonly timing: Timing;
  /** For what is written there; none unless given. */
  readonly keys?: DiskKeys;
  readonly lock: (directory: string) => Promise<DirectoryLock>;
  readonly segmentBytes?: number;
  /** Told how far recovery is, now and then. */
  readonly onRecovery?: (progress: RecoveryProgress) => void;
}

/** An open log, and what it began with. */
export interface OpenedLog {
  readonly journal: LogJournal;
  readonly recovered: Recovered;
}

/**
 * Opens a data directory. Throws a DamageError, or another OperationalError of one line: it is
 * in use, belongs to another node, is of another version, cannot be read or written.
 */
export async function openLog(options: OpenLogOptions): Promise<OpenedLog> {
  const { directory, logger, files, timing } = options;
  await withExplanation(`make the data directory ${directory}`, files.makeDirectory(directory));
  const lock = await options.lock(directory);
  const seals = new DirectorySeals(options.keys ?? noKeys);
  try {
    const startMs = timing.nowMs();
    const recovered = await recover({
      ...options,
      seals,
      target: options.store,
      onProgress: progressLog(logger, timing, options.onRecovery),
    });
    report(logger, directory, recovered, timing.nowMs() - startMs);
    const journal = await withExplanation(
      `write to ${directory}`,
      LogJournal.open({ ...options, seals, onClosed: () => lock.release() }, recovered),
    );
    return { journal, recovered };
  } catch (error) {
    lock.release();
    throw error;
  }
}

function progressLog(
  logger: Logger,
  timing: Timing,
  tell: (progress: RecoveryProgress) => void = () => {},
): (progress: RecoveryProgress) => void {
  let nextMs = timing.nowMs() + PROGRESS_EVERY_MS;
  return (progress) => {
    tell(progress);
    const { bytesRead, bytesTotal, entries } = progress;
    if (timing.nowMs() < nextMs) return;
    nextMs = timing.nowMs() + PROGRESS_EVERY_MS;
    const percent = Math.floor((100 * bytesRead) / Math.max(1, bytesTotal));
    logger.info("Recovering", { percent, entries });
  };
}

function report(logger: Logger, directory: string, recovered: Recovered, tookMs: number): void {
  const { entries, tornBytes, refused, wasStoppedCleanly } = recovered;
  if (refused !== null) {
    logger.warn("Set aside entries that no node takes; their bytes are kept", { ...refused });
  }
  if (tornBytes > 0) {
    logger.warn("Cut off the end of the log, which a crash had left unfinished", { tornBytes });
  }
  logger.info("Recovered from disk", {
    directory,
    entries,
    milliseconds: Math.round(tookMs),
    stopped: wasStoppedCleanly ? "cleanly" : "by a crash",
  });
}

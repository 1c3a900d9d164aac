/** Why the log takes no writes, by the error of the write that failed. */
import { codeOf, explainError, isNoSpace } from "./file-system.ts";
import type { JournalFailure } from "./journal.ts";
import { SegmentGone, SyncFailed } from "./segment.ts";

/**
 * What an error of writing to that path means for who wants to write. An error that is no state of
 * the disk, but a mistake in this program, is thrown again.
 */
export function failureOf(error: unknown, path: string): JournalFailure {
  if (error instanceof SyncFailed) {
    const message = `${error.message}; nothing is written until the node is restarted`;
    return { kind: "sync", message, isPassing: false };
  }
  if (error instanceof SegmentGone)
    return { kind: "gone", message: error.message, isPassing: true };
  // A mistake in this program is no state of the disk.
  if (codeOf(error) === "") throw error;
  const message = `cannot write ${path}: ${explainError(error)}; tried again until it succeeds`;
  return { kind: isNoSpace(error) ? "full" : "write", message, isPassing: true };
}

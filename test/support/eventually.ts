/** Waiting in tests: for a condition, with a deadline. The one place that may pause. */

/** Ends what hangs; nothing that a test waits for takes as long, even on a very busy machine. */
export const DEADLINE_MS = 90_000;

/** Between two looks: a twentieth of the time waited so far, within these. */
const LEAST_PAUSE_MS = 5;
const MOST_PAUSE_MS = 25;

/**
 * Resolves with what `check` returns as soon as that is truthy. Rejects after `deadlineMs`,
 * naming what was waited for and the last thing that was thrown, if anything.
 */
export async function eventually<T>(
  what: string,
  check: () => T | Promise<T>,
  deadlineMs = DEADLINE_MS,
): Promise<NonNullable<T>> {
  const startedMs = performance.now();
  for (let problem: unknown; ;) {
    try {
      const result = await check();
      if (result) return result;
      problem = undefined;
    } catch (error) {
      problem = error;
    }
    const waitedMs = performance.now() - startedMs;
    if (waitedMs > deadlineMs) {
      const reason = problem instanceof Error ? `: ${problem.message}` : "";
      throw new Error(`waited ${deadlineMs} ms in vain: ${what}${reason}`);
    }
    await Bun.sleep(Math.min(MOST_PAUSE_MS, Math.max(LEAST_PAUSE_MS, waitedMs / 20)));
  }
}

/** Waiting in tests: for a condition, with a deadline. The one place that may pause. */

const POLL_MS = 5;

/**
 * Resolves with what `check` returns as soon as that is truthy. Rejects after `deadlineMs`,
 * naming what was waited for and the last thing that was thrown, if anything.
 */
export async function eventually<T>(
  what: string,
  check: () => T | Promise<T>,
  deadlineMs = 15_000,
): Promise<NonNullable<T>> {
  const end = performance.now() + deadlineMs;
  for (let problem: unknown; ;) {
    try {
      const result = await check();
      if (result) return result;
      problem = undefined;
    } catch (error) {
      problem = error;
    }
    if (performance.now() > end) {
      const reason = problem instanceof Error ? `: ${problem.message}` : "";
      throw new Error(`waited ${deadlineMs} ms in vain: ${what}${reason}`);
    }
    await Bun.sleep(POLL_MS);
  }
}

/** Waiting in tests: for a condition, with a deadline. The one place that may pause. */

/** Ends what hangs; nothing that a test waits for takes as long, even on a very busy machine. */
export const DEADLINE_MS = 60_000;

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
    const leftMs = Math.max(1, deadlineMs - (performance.now() - startedMs));
    try {
      const result = await within(leftMs, check(), "a look at it does not come back");
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

/** What comes of it in so many ms. Rejects with an Error of that message when nothing does. */
export async function within<T>(
  deadlineMs: number,
  outcome: T | Promise<T>,
  message: string,
): Promise<T> {
  if (!(outcome instanceof Promise)) return outcome;
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(message)), deadlineMs);
  try {
    return await Promise.race([outcome, late]);
  } finally {
    clearTimeout(timer);
  }
}

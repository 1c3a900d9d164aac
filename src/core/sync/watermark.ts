/** As of when two nodes compare; `merkle.ts` says why it is not now. */

/**
 * Watermarks are whole seconds. Every node brings its tree to the latest one at each whole second,
 * so that the trees of all nodes show the same versions.
 */
export const WATERMARK_STEP_MS = 1_000;

/** The latest watermark that lies `lagMs` behind a clock, in Unix ms like the clock. */
export function watermarkBehind(clockMs: number, lagMs: number): number {
  return Math.max(0, Math.floor((clockMs - lagMs) / WATERMARK_STEP_MS) * WATERMARK_STEP_MS);
}

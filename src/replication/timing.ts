/**
 * How replication tells time and waits: by the event loop, or by whatever a simulation
 * puts in its place.
 */

/** Calls off what was to be run; does nothing once that has run. */
export type Cancel = () => void;

/** A clock and what can be put off. */
export interface Timing {
  /** Milliseconds since some fixed moment; never goes back. */
  now(): number;
  /** Runs the task when so many milliseconds have passed. */
  after(delayMs: number, task: () => void): Cancel;
  /** Runs the task as soon as everything that waits already had its turn. */
  soon(task: () => void): Cancel;
}

/** The time and the turns of this process's event loop. */
export const eventLoop: Timing = {
  now: () => performance.now(),
  after(delayMs, task) {
    const timer = setTimeout(task, delayMs);
    return () => clearTimeout(timer);
  },
  soon(task) {
    const immediate = setImmediate(task);
    return () => clearImmediate(immediate);
  },
};

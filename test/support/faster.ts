/** The time of the event loop, in a hurry: for what waits long in good order. */
import type { Timing } from "../../src/timing.ts";

/** A timing by which everything takes so small a part of the time. */
export function fasterBy(factor: number): Timing {
  return {
    nowMs: () => performance.now() * factor,
    after(delayMs, task) {
      const timer = setTimeout(task, delayMs / factor);
      return () => clearTimeout(timer);
    },
    soon(task) {
      const immediate = setImmediate(task);
      return () => clearImmediate(immediate);
    },
  };
}

/** Time as durability uses it, as an interface, so that the simulation can run it by its own clock. */
import { setImmediate as turn } from "node:timers/promises";

/** A source of time. */
export interface Timers {
  /** Milliseconds since some moment; never goes back. */
  nowMs(): number;
  /** Calls back once what is ready now has been handled. */
  soon(callback: () => void): void;
  /** Calls back after `ms`; returns what cancels that. Keeps no process alive. */
  after(ms: number, callback: () => void): () => void;
  /** Resolves once what is ready now has been handled. */
  nextTurn(): Promise<void>;
}

/** The time of this machine. */
export const realTimers: Timers = {
  nowMs: () => performance.now(),
  soon: (callback) => void setImmediate(callback),
  after(ms, callback) {
    const timer = setTimeout(callback, ms);
    timer.unref();
    return () => clearTimeout(timer);
  },
  nextTurn: () => turn(),
};

/**
 * How long the event loop lets wait what is due: a timer that looks, every PERIOD_MS, how late it
 * is. A request that comes in between waits no less, so this is what clients notice of long work.
 */
import type { Series } from "../fact.ts";
import { Histogram, WAIT_BOUNDS_MS } from "../histogram.ts";
import { every, type Cancel, type Timing } from "../timing.ts";

const PERIOD_MS = 100;

/** Counts of delays, by length. */
export class LoopDelay {
  readonly delays = new Histogram(WAIT_BOUNDS_MS);
  private dueMs: number;
  private readonly cancel: Cancel;

  /** For metrics. */
  static readonly series: readonly Series<LoopDelay>[] = [
    {
      name: "event_loop_delay_ms",
      kind: "histogram",
      unit: "ms",
      help: "How late the event loop came to what was due, looked at ten times a second.",
      labels: [],
      read: (it) => [[[], it.delays]],
    },
  ];

  /** Begins to look. */
  constructor(timing: Timing) {
    this.dueMs = timing.nowMs() + PERIOD_MS;
    this.cancel = every(timing, PERIOD_MS, () => {
      const nowMs = timing.nowMs();
      this.delays.note(Math.max(0, nowMs - this.dueMs));
      this.dueMs = nowMs + PERIOD_MS;
    });
  }

  /** Looks no more. */
  stop(): void {
    this.cancel();
  }
}

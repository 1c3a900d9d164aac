/**
 * Watches requests while they are run: how long they take, which of them took too long, and who
 * wants to see each of them.
 *
 * A look at the clock costs as much as a tenth of a short command, so of those that come in great
 * numbers only one in SAMPLED is timed; of long requests, and of those answered later, every one.
 * While somebody monitors, or asks for what takes less than a millisecond, all are watched.
 */
import type { Series } from "../fact.ts";
import { Histogram, SHORT_BOUNDS_MS } from "../histogram.ts";
import type { Request } from "../protocol/request.ts";
import type { HybridClock } from "../core/data/clock.ts";
import type { RunQueue } from "../timing.ts";
import type { AskedRow } from "./asked-row.ts";
import type { ClientSession } from "./client-session.ts";
import { Monitors } from "./monitors.ts";
import { SlowLog, SLOW_LIMITS, type SlowLogSettings } from "./slow-log.ts";
import { shownParts } from "./shown-request.ts";
import { FAMILY_NAMES } from "./statistics.ts";

/** A prime, so that no pattern of requests repeats itself in step with it. */
const SAMPLED = 17;
/** What takes less needs every request to be timed, in microseconds. */
const NOTICED_US = 1_000;
/** Requests of more parts, or of more bytes, are timed in any case. */
const SHORT_PARTS = 32;
const SHORT_BYTES = 16_384;

/** A request that was begun and will be answered later. */
export interface LateRequest {
  readonly family: number;
  readonly beganMs: number;
  readonly parts: readonly Uint8Array[];
  readonly session: ClientSession;
}

/** Where a request is run. */
interface Surroundings {
  readonly session: ClientSession;
  readonly store: { readonly clock: HybridClock };
  readonly runQueue: RunQueue;
}

/** See the file header. */
export class CommandWatch {
  readonly slowLog: SlowLog;
  readonly monitors = new Monitors(() => this.arrange());
  private readonly durations = FAMILY_NAMES.map(() => new Histogram(SHORT_BOUNDS_MS));
  /** Every so many-th request is watched; the next one when so many more have come. */
  private every = SAMPLED;
  private left = 1;

  /** For metrics. */
  static readonly series: readonly Series<CommandWatch>[] = [
    {
      name: "command_duration_ms",
      kind: "histogram",
      unit: "ms",
      help: `How long commands took, by family, of one in ${SAMPLED} and of all long ones; without waiting for the disk.`,
      labels: ["family"],
      *read({ durations }) {
        for (const [i, histogram] of durations.entries()) {
          if (histogram.counts.some((it) => it > 0)) yield [[FAMILY_NAMES[i]], histogram];
        }
      },
    },
  ];

  constructor(settings: SlowLogSettings) {
    this.slowLog = new SlowLog(settings);
    this.arrange();
  }

  /** Takes other settings of the slow log. */
  configure(settings: SlowLogSettings): void {
    this.slowLog.configure(settings);
    this.arrange();
  }

  /** Whether the request that is about to be run is watched: then `begin` and `end` follow. */
  isDue(request: Request): boolean {
    if (--this.left > 0 && request.parts <= SHORT_PARTS && request.readBytes <= SHORT_BYTES) {
      return false;
    }
    this.left = this.every;
    return true;
  }

  /** A watched request is about to be run. Returns the time, by the monotonic clock. */
  begin(row: AskedRow, request: Request, { session, store, runQueue }: Surroundings): number {
    const { monitors } = this;
    if (monitors.count > 0) {
      monitors.feed(row, request, session, store.clock.nowMs(), runQueue.timing);
    }
    return runQueue.timing.nowMs();
  }

  /** It was run. */
  end(row: AskedRow, request: Request, context: Surroundings, beganMs: number): void {
    const tookMs = context.runQueue.timing.nowMs() - beganMs;
    this.durations[row.family].note(tookMs);
    if (tookMs * 1000 < this.slowLog.thresholdUs) return;
    this.log(shownParts(row, request, SLOW_LIMITS), context.session, tookMs, context);
  }

  /** It will be answered later; `beganMs` is below 0 when it was not watched until now. */
  goOn(row: AskedRow, request: Request, context: Surroundings, beganMs: number): LateRequest {
    return {
      family: row.family,
      beganMs: beganMs < 0 ? context.runQueue.timing.nowMs() : beganMs,
      parts: shownParts(row, request, SLOW_LIMITS),
      session: context.session,
    };
  }

  /** That one can be answered now. */
  endLate({ family, beganMs, parts, session }: LateRequest, context: Surroundings): void {
    const tookMs = context.runQueue.timing.nowMs() - beganMs;
    this.durations[family].note(tookMs);
    if (tookMs * 1000 >= this.slowLog.thresholdUs) this.log(parts, session, tookMs, context);
  }

  private log(
    parts: readonly Uint8Array[],
    { address, name }: ClientSession,
    tookMs: number,
    { store }: Surroundings,
  ): void {
    this.slowLog.add({
      atSeconds: Math.floor(store.clock.nowMs() / 1000),
      microseconds: Math.floor(tookMs * 1000),
      parts,
      address,
      clientName: name,
    });
  }

  /** Sets how many requests are watched. */
  private arrange(): void {
    const watchesAll = this.monitors.count > 0 || this.slowLog.thresholdUs < NOTICED_US;
    this.every = watchesAll ? 1 : SAMPLED;
    this.left = Math.min(this.left, this.every);
  }
}

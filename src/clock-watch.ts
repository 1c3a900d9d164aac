/**
 * Watches this node's clocks (`core/data/trusted-clock.ts`): says in the log when they disagree and
 * what follows, shows how they stand, and has peers asked what time it is when nobody knows here.
 */
import { unixMsOf, type HybridClock } from "./core/data/clock.ts";
import { TrustedClock, type ClockChange, type ClockState } from "./core/data/trusted-clock.ts";
import { byPeer, counter, flag, gauge, text, type Fact, type Series } from "./fact.ts";
import type { Logger } from "./observability/log.ts";
import type { TimeControl } from "./ports.ts";
import { every, isoTimeOf, type Cancel, type Timing } from "./timing.ts";

/** How often the clocks are compared when nobody asks for the time. */
const LOOK_EVERY_MS = 250;
/** Peers are not asked for the time more often than this, and more and more seldom in vain. */
const ASK_EVERY_MS = 5_000;
const ASK_AT_LEAST_MS = 60_000;
/** How often it is said that this node and its peers disagree, as long as they do. */
const SAY_EVERY_MS = 600_000;

/** Nothing is let go of before a peer has said what time it is, or so many ms after the start. */
const PATIENCE_MS = 60_000;

/** What a watch is made with. */
export interface ClockWatchOptions {
  /** Unix time by the wall clock. */
  readonly wallMs: () => number;
  /** How long the machine has slept since some moment, in ms. */
  readonly sleptMs: () => number;
  readonly timing: Timing;
  /** How far clocks may be apart. */
  readonly maxSkewMs: number;
  /** How long deletions are kept. */
  readonly graceMs: number;
  /** Whether any other node is known, by what was heard of it or by the configuration. */
  readonly hasPeers: () => boolean;
  /** Whether there may be one that is not known yet. */
  readonly mayHavePeers: boolean;
  readonly logger: Logger;
}

/** See the file header. */
export class ClockWatch implements TimeControl {
  /** Called when the time changes or is in doubt: what depends on it is to be looked at anew. */
  onChange: () => void = () => {};
  readonly clock: TrustedClock;
  private hybrid: HybridClock | null = null;
  private cancelLooks: Cancel = () => {};
  private isToAsk = false;
  private askedMs = -Infinity;
  private askEveryMs = ASK_EVERY_MS;
  private saidMs = -Infinity;
  private isStarted = false;
  private startedMs = Infinity;
  /** How far this node's clock was ahead of its peers' when that was known last; null if never. */
  private aheadMs: number | null = null;

  /** For INFO. */
  static readonly facts: readonly Fact<ClockWatch>[] = [
    text(
      "clock_state",
      "What is thought of the wall clock: `trusted`, `doubtful`, `held`, or `implausible`.",
      (it) => it.clock.state,
      { states: ["trusted", "doubtful", "held", "implausible"] },
    ),
    counter(
      "clock_steps",
      "",
      "How often the wall clock has jumped against the monotonic clock, by a second or more.",
      (it) => it.clock.steps,
    ),
    gauge("clock_last_step_ms", "ms", "By how much it jumped last, negative for back.", (it) =>
      Math.round(it.clock.lastStepMs),
    ),
    gauge(
      "clock_peers",
      "nodes",
      "Peers that have said of late what time it is.",
      (it) => it.clock.peers,
    ),
    gauge(
      "clock_ahead_of_peers_ms",
      "ms",
      "How far this node's clock is ahead of most peers', negative for behind, 0 without any.",
      (it) => it.clock.aheadOfPeersMs ?? 0,
    ),
    flag(
      "clock_off",
      "Whether that is more than `storage.max_clock_skew_ms`.",
      (it) => it.clock.isOff,
    ),
  ];

  /** For metrics. */
  static readonly series: readonly Series<ClockWatch>[] = [
    {
      name: "clock_ahead_of_peer_ms",
      kind: "gauge",
      unit: "ms",
      help: "How far this node's clock is ahead of a peer's, to a second or so, negative for behind.",
      labels: ["peer"],
      // A node reached at two addresses has a namesake when it does not agree with itself.
      read: (it) => byPeer(new Map(it.clock.aheadOfEach()), furthest),
    },
  ];

  constructor(private readonly options: ClockWatchOptions) {
    const { wallMs, sleptMs, timing, maxSkewMs, graceMs, hasPeers, mayHavePeers } = options;
    this.clock = new TrustedClock({
      wallMs,
      sleptMs,
      hasPeers,
      mayHavePeers,
      monotonicMs: timing.nowMs,
      maxAheadMs: maxSkewMs,
      graceMs,
      onChange: (change) => this.note(change),
    });
  }

  get state(): ClockState {
    return this.clock.state;
  }

  hasPeers(): boolean {
    return this.options.hasPeers();
  }

  get writeRefusal(): string | null {
    if (this.clock.state !== "implausible") return null;
    const time = isoTimeOf(this.options.wallMs());
    return `this machine's clock says ${time}; set it, or wait for a peer to confirm the time`;
  }

  get knowsExpiries(): boolean {
    return !this.clock.mayBeBehind;
  }

  /**
   * What has expired by then, in Unix ms, may be let go of: it has by this node's clock and, as far
   * as they are known, by its peers', which else would go on showing it. Peers that are wrong
   * themselves delay that by the grace at the most, and by the allowed skew where one agrees with
   * this node.
   */
  get expiredForAllMs(): number {
    const { timing, hasPeers, graceMs, maxSkewMs } = this.options;
    const isEarly = !(timing.nowMs() - this.startedMs >= PATIENCE_MS);
    if (this.aheadMs === null && isEarly && hasPeers()) return 0;
    const atMostMs = this.clock.isConfirmedByPeer ? maxSkewMs : graceMs;
    return this.clock.nowMs() - Math.min(Math.max(0, this.aheadMs ?? 0), atMostMs);
  }

  /** The data is back, and this is the clock that it is dated by. */
  begin(hybrid: HybridClock): void {
    this.hybrid = hybrid;
    this.clock.begin(unixMsOf(hybrid.seenHigh, hybrid.seenLow));
    hybrid.settle();
  }

  /** Begins to watch. */
  start(): void {
    this.isStarted = true;
    this.startedMs = this.options.timing.nowMs();
    const { state } = this.clock;
    if (state === "implausible") this.sayNotSet();
    if (state !== "trusted") this.isToAsk = true;
    this.cancelLooks = every(this.options.timing, LOOK_EVERY_MS, () => this.look());
  }

  /** Ends. */
  stop(): void {
    this.cancelLooks();
  }

  private look(): void {
    const { clock } = this;
    const nowMs = this.options.timing.nowMs();
    clock.look();
    this.aheadMs = clock.aheadOfPeersMs ?? this.aheadMs;
    this.hybrid?.settle();
    if ((this.isToAsk || clock.needsPeer) && nowMs - this.askedMs >= this.askEveryMs) {
      this.isToAsk = false;
      this.askedMs = nowMs;
      this.askEveryMs = Math.min(2 * this.askEveryMs, ASK_AT_LEAST_MS);
      this.onChange();
    }
    if (!clock.isOff) this.saidMs = -Infinity;
    else if (nowMs - this.saidMs >= SAY_EVERY_MS) {
      this.saidMs = nowMs;
      this.sayOff();
    }
  }

  private note({ from, to, stepMs, gapMs }: ClockChange): void {
    this.isToAsk = true;
    this.askEveryMs = ASK_EVERY_MS;
    const { info, warn } = this.options.logger;
    const follows = FOLLOWS[to];
    if (stepMs !== 0) {
      const say = to === "trusted" ? info : warn;
      return say("The wall clock has jumped", { by_seconds: Math.round(stepMs) / 1_000, follows });
    }
    const fields = { ahead_by_seconds: gapMs / 1_000, follows };
    if (to === "implausible" && this.isStarted) this.sayNotSet();
    else if (to === "trusted") info("The wall clock is trusted again", { follows });
    else if (to === "held") warn("Peers say that the wall clock is wrong", fields);
    else if (to === "doubtful" && from !== to) warn("The wall clock may be wrong", fields);
  }

  private sayNotSet(): void {
    const time = isoTimeOf(this.options.wallMs());
    this.options.logger.warn("The time is not known", {
      clock: time,
      follows: FOLLOWS.implausible,
    });
  }

  private sayOff(): void {
    const { aheadOfPeersMs, peers } = this.clock;
    this.options.logger.warn("This node's clock differs from its peers'", {
      ahead_by_seconds: (aheadOfPeersMs ?? 0) / 1_000,
      peers,
      follows: "what the one ahead writes is not taken by the others; set the clock that is wrong",
    });
  }
}

const FOLLOWS: Readonly<Record<ClockState, string>> = {
  trusted: "it counts",
  doubtful: "until a peer or ten seconds confirm it the earlier time counts, and no lease is given",
  held: "the time from before counts; set the clock",
  implausible: "writes are refused until the clock is set, or a peer confirms the time",
};

function furthest(one: number, other: number): number {
  return Math.abs(one) > Math.abs(other) ? one : other;
}

/**
 * What time it is, as far as this machine's clocks can be trusted. PURE.
 *
 * The wall clock is compared with the monotonic one all the time (`machine-clocks.ts`). As long as
 * they agree, it is right. When it *steps* against the other, there are two times it may be: what
 * the wall clock says, and what it would say without the step, which is *held*. Which of them it is
 * decides, in this order:
 *
 * 1. The machine slept for as long as it stepped forward: the wall clock.
 * 2. A step of less than peers allow for: the wall clock. Both times would do.
 * 3. Peers. Each one's clock is a vote for the time it is nearer to. A peer's clock was compared
 *    with the monotonic clock, so what it said before a step back counts too; not so what it said
 *    before a step forward, as the monotonic clock may have stood still. A peer that is in doubt
 *    itself does not vote, or all those that slept would hold each other back; nor does one that
 *    has just started and knows of nothing that its clock could be measured by (`isSure`).
 * 4. DOUBT_MS without a vote: the wall clock. A glitch is over by then. A peer that says later that
 *    the other time was right is believed all the same. When all that have said so take it back, as
 *    they are in doubt themselves, the doubt begins again.
 *
 * And without any step, where peers agree on the time, this node alone is far ahead, and nobody has
 * ever agreed with it, theirs counts (`yield`): when there are two of them at least; or one, if
 * this node has just started, later than the peer, and nothing that it has seen before is later
 * than what the peer says. Otherwise, of two nodes that differ, nobody knows which is right. A node
 * that is behind stays so, says so, and promises no expiry: what it writes is taken anyway, while
 * peers that lie could make it write what nobody takes. Only one that does not know the time at all
 * has it from two peers.
 *
 * While it is in doubt the earlier of the two counts. So nothing expires that may be alive, and
 * what is written peers take whichever time is right (`clock.ts` sees to it that it wins over what
 * is here). It may lose to what was written elsewhere between the two times and has not arrived
 * here, as that of any node whose clock is behind. What expires relative to now is refused
 * meanwhile: it would be dead on arrival if the later time is right.
 *
 * The time is not known at all, and clients' writes are refused, when the wall clock is
 * *implausible*: it says what was before this program was written, and no peer confirms the time
 * held; or it differs from the time held by more than half the grace, and no peer has said which is
 * right. What was dated so wrong would be taken for what others have forgotten the deletion of.
 * Without any peers known, that cannot be, and rule 4 decides. Peers may wait for this node in the
 * same way, as after an outage of all: when those that answer have said for UNTOLD_MS that they do
 * not know the time either, and none that it does, the wall clock counts if it is plausible.
 *
 * At the start the time held is the latest that the node had seen before (`begin`). If that is
 * ahead, either the clock was ahead then, or it is behind now. If it is days back, the node was off
 * for so long, or its clock is ahead now: it waits for a peer to say which, for DOUBT_MS, or
 * without end when it is more than a year.
 *
 * A node that has peers, or may have some that it has not met since it started, forgets deletions
 * only by a time that is confirmed (`mayForget`): what a clock that is days ahead forgets, others
 * have yet to learn.
 *
 * What peers that lie can do with that: when most of those that were asked lie, which are two at
 * least, they hold a node back, and say what time it is where it is not known. One that is alone
 * with a node can confirm or refute a step of its clock, and hold it back to the latest that it had
 * seen.
 */
import { ClockWitnesses, type TwoTimes } from "./clock-witnesses.ts";
import { MachineClocks, type MachineClocksOptions } from "./machine-clocks.ts";

/** From what time on a wall clock may have been set: the start of 2023, in Unix ms. */
export const PLAUSIBLE_FROM_MS = 1_672_531_200_000;
/** Nobody is off for longer, and away from all peers when it comes back, in ms. */
const LONGEST_OFF_MS = 365 * 86_400_000;
/** For how long a step is in doubt when no peer says anything, in ms. */
export const DOUBT_MS = 10_000;
/**
 * A node that has just started has had time to ask its peers after so long, in ms. Before, it says
 * nothing of the time itself; so who tells it the time by then has been there for longer.
 */
const START_MS = 5_000;
/** And one that believed its clock because nobody said anything, after so long, in ms. */
const LATER_MS = 60_000;
/**
 * Who meets only peers that do not know the time either decides alone after so long, in ms: all
 * that will be sure by themselves are by then.
 */
export const UNTOLD_MS = 120_000;
/** Two times that differ by more than this part of the grace are far apart. */
const FAR_OF_GRACE = 1 / 2;
/**
 * A node that has peers and hears nobody for a whole grace is away in any case: then it forgets by
 * a clock that has not stepped meanwhile. One that never had a peer does so after this part of it,
 * or it would keep all deletions for as long again after each start.
 */
const ALONE_OF_GRACE = 1 / 8;
/** So far behind its peers a node that knows its clock to be wrong promises no expiry, in ms. */
const BEHIND_MS = 5_000;

/**
 * - "trusted": the wall clock counts.
 * - "doubtful": it has stepped, and nobody knows yet whether it is right.
 * - "held": it is wrong by what peers say, and the time from before its step counts.
 * - "implausible": the time is not known.
 */
export type ClockState = "trusted" | "doubtful" | "held" | "implausible";

/** What a trusted clock is made with. Times are in ms. */
export interface TrustedClockOptions extends MachineClocksOptions {
  /** How far clocks may be apart by the configuration. */
  readonly maxAheadMs: number;
  /**
   * How long deletions are kept. A step of more than half of it needs a peer to confirm it, if
   * there are any.
   */
  readonly graceMs: number;
  /** Whether any other node is known. */
  readonly hasPeers: () => boolean;
  /** Whether there may be one that is not known yet. */
  readonly mayHavePeers: boolean;
  /** Told of each change of state and of each step, once what follows from it is settled. */
  readonly onChange: (change: ClockChange) => void;
}

/** What happened to a clock. */
export interface ClockChange {
  readonly from: ClockState;
  readonly to: ClockState;
  /** By how much the wall clock stepped just now, in ms; 0 for not at all. */
  readonly stepMs: number;
  /** How far the wall clock was ahead of the time held, in ms. */
  readonly gapMs: number;
}

/** See the file header. */
export class TrustedClock {
  /** How often the wall clock has stepped. */
  steps = 0;
  /** By how much it did last, in ms; 0 if it has not. */
  lastStepMs = 0;
  private current: ClockState = "trusted";
  /** The time held, as far as it is ahead of the monotonic clock. */
  private heldOffsetMs: number;
  /** The latest time that was seen before the start, which was then. */
  private seenMs = 0;
  private readonly startedMs: number;
  /** Whether a peer has agreed with the wall clock, since the start and its last doubtful step. */
  private isConfirmed = false;
  /** The time held when the wall clock was believed only because nobody said anything. */
  private doubtedOffsetMs: number | null = null;
  /** Since when the two times differ, or the clocks agree, by the monotonic clock. */
  private sinceMs: number;
  /** Whether the wall clock is believed when nobody says anything. */
  private doesTimeTell = true;
  /** How many peers' clocks this one was compared with, and how far it is ahead of them. */
  private comparedPeers = 0;
  private comparedMs: number | null = null;
  /** Whether a peer has said since `sinceMs` that it does not know the time either. */
  private isOtherUnsure = false;
  private readonly machine: MachineClocks;
  private readonly witnesses: ClockWitnesses;

  constructor(private readonly options: TrustedClockOptions) {
    this.machine = new MachineClocks(options);
    this.witnesses = new ClockWitnesses(options.monotonicMs, options.maxAheadMs);
    this.heldOffsetMs = this.machine.offsetMs;
    this.startedMs = this.sinceMs = options.monotonicMs();
    if (!this.isWallPlausible) this.current = "implausible";
  }

  /** How the wall clock is looked upon now. */
  get state(): ClockState {
    return this.current;
  }

  /** Unix ms. In the hot path as long as all is well: then it is the wall clock's. */
  readonly nowMs = (): number => {
    const wallMs = this.options.wallMs();
    if (this.machine.isDue(wallMs)) this.look();
    else if (this.current === "trusted") return wallMs;
    return this.read();
  };

  /**
   * The data is back, and `seenMs` is the latest time, in Unix ms, that the node knew of before.
   */
  begin(seenMs: number): void {
    const { hasPeers, maxAheadMs, mayHavePeers, monotonicMs } = this.options;
    this.seenMs = seenMs;
    // What the clock said while the data was being read says less than the data.
    this.machine.read();
    const offMs = this.machine.lookedAtMs - seenMs;
    const isLong = seenMs > 0 && offMs > this.farMs && (mayHavePeers || hasPeers());
    if (offMs >= -maxAheadMs && !isLong) return this.beginAnew();
    this.heldOffsetMs = seenMs - monotonicMs();
    this.weigh(0, false);
  }

  private beginAnew(): void {
    this.believe();
    if (!this.isWallPlausible) this.current = "implausible";
  }

  /** Compares the clocks. To be called once in a while even if nobody asks for the time. */
  look(): void {
    const wasPlausible = this.isWallPlausible;
    const step = this.machine.look();
    if (step !== null) {
      if (step.hasSlept) this.wakeUp(step.stepMs);
      this.steps++;
      this.lastStepMs = step.stepMs;
      this.weigh(step.stepMs, !wasPlausible);
    } else if (this.current === "trusted") this.heldOffsetMs = this.machine.offsetMs;
    else this.settle(0, this.current);
    this.compare();
  }

  /**
   * That peer says that it is `theirMs` now, in Unix ms; null: it does not know, and takes back
   * what it has said before. `address` is where it answered, null for through the broker, where all
   * have only names. Who answers at one address under many names is one peer all the same, and
   * takes the word of nobody at another by using its name.
   */
  noteTime(nodeId: string, theirMs: number | null, address: string | null = null): void {
    if (theirMs === null) return this.noteUnsure(nodeId, address);
    this.witnesses.drop(nodeId, address);
    if (!isPlausible(theirMs)) return;
    this.witnesses.note(nodeId, theirMs, address);
    this.look();
  }

  private noteUnsure(nodeId: string, address: string | null): void {
    const isNobodyLeft = this.witnesses.takeBack(nodeId, address);
    if (isNobodyLeft && this.current === "held") this.weigh(0, false);
    this.isOtherUnsure = true;
  }

  /** Whether the wall clock counts, and a peer has agreed with it since its last doubtful step. */
  get isConfirmedByPeer(): boolean {
    return this.current === "trusted" && this.isConfirmed;
  }

  /** How many peers have said of late what time it is. */
  get peers(): number {
    return this.comparedPeers;
  }

  /**
   * How far this node's time is ahead of that of its peers, in ms, negative when behind: of the one
   * in the middle. Null when none has said of late what time it is.
   */
  get aheadOfPeersMs(): number | null {
    return this.comparedMs;
  }

  /** The same for each that has said of late what time it is. */
  *aheadOfEach(): Iterable<[nodeId: string, ms: number]> {
    const ownMs = this.read() - this.options.monotonicMs();
    for (const [nodeId, offsetMs] of this.witnesses.each()) yield [nodeId, ownMs - offsetMs];
  }

  /** Whether it differs from most of its peers' by more than is allowed for. */
  get isOff(): boolean {
    const ms = this.comparedMs;
    return ms !== null && Math.abs(ms) > this.witnesses.closeMs;
  }

  /**
   * Whether something that is to expire so many ms from now may be dead where it arrives, for this
   * node's time may be behind.
   */
  get mayBeBehind(): boolean {
    if (this.current === "doubtful" || this.current === "implausible") return true;
    const behindMs = -(this.comparedMs ?? 0);
    if (this.current === "held") return behindMs > BEHIND_MS;
    return behindMs > 0 && this.isOff && !this.isConfirmed;
  }

  /** Whether this node may say to others what time it is. */
  get isSure(): boolean {
    if (this.current !== "trusted" || this.isConfirmed) return this.current === "trusted";
    const sureAfterMs = this.doubtedOffsetMs === null ? START_MS : LATER_MS;
    return this.options.monotonicMs() - this.sinceMs >= sureAfterMs;
  }

  /** Whether a peer that knows the time would make a difference. */
  get needsPeer(): boolean {
    return this.options.hasPeers() && (this.current !== "trusted" || !this.isConfirmed);
  }

  /**
   * Whether deletions may be forgotten by this time: by what peers said last, it is not ahead of
   * theirs; or none has said anything for long, and the clocks have agreed for long; or nobody else
   * can be there to learn of them.
   */
  get mayForget(): boolean {
    const { graceMs, hasPeers, mayHavePeers, monotonicMs } = this.options;
    const { closeMs, lastAtMs, lastOffsetMs } = this.witnesses;
    if (!mayHavePeers && !hasPeers()) return true;
    if (this.current !== "trusted") return this.current === "held";
    const nowMs = monotonicMs();
    if (nowMs - lastAtMs < graceMs) return this.machine.offsetMs - lastOffsetMs <= closeMs;
    return nowMs - this.sinceMs >= (hasPeers() ? graceMs : ALONE_OF_GRACE * graceMs);
  }

  /** Compares this node's time with its peers'. */
  private compare(): void {
    this.comparedPeers = this.witnesses.look();
    this.comparedMs = null;
    if (this.comparedPeers === 0) return;
    const ownMs = this.read() - this.options.monotonicMs();
    this.comparedMs = Math.round(ownMs - this.witnesses.lastOffsetMs);
    if (this.current === "trusted" && this.witnesses.countCloseTo(ownMs) > 0) this.confirm();
    if (!this.isOff) return;
    if (this.current !== "trusted" && this.current !== "implausible") return;
    const insteadMs = this.whatPeersSay();
    if (insteadMs !== null) this.yield(insteadMs);
  }

  private confirm(): void {
    this.isConfirmed = true;
    this.doubtedOffsetMs = null;
  }

  /**
   * How far the time that peers agree on, against this node's, is ahead of the monotonic clock;
   * null when they do not, or it is one alone that cannot be told to be right.
   */
  private whatPeersSay(): number | null {
    const { closeMs, lastOffsetMs: offsetMs } = this.witnesses;
    const agreeing = this.witnesses.countCloseTo(offsetMs);
    if (agreeing * 2 <= this.comparedPeers) return null;
    if (agreeing > 1 && this.current !== "trusted") return offsetMs;
    if (this.isConfirmed) return null;
    // They do not move forward a clock that has never been in doubt.
    if (agreeing > 1 && this.comparedMs! > 0) return offsetMs;
    const { doubtedOffsetMs } = this;
    if (doubtedOffsetMs !== null) {
      const fromDoubtedMs = Math.abs(offsetMs - doubtedOffsetMs);
      return fromDoubtedMs < Math.abs(offsetMs - this.machine.offsetMs) ? doubtedOffsetMs : null;
    }
    const nowMs = this.options.monotonicMs();
    const hasJustStarted = nowMs - this.startedMs < START_MS;
    const isAhead = this.comparedMs! > 0 && nowMs + offsetMs >= this.seenMs - closeMs;
    return hasJustStarted && isAhead ? offsetMs : null;
  }

  private yield(offsetMs: number): void {
    const from = this.current;
    this.heldOffsetMs = offsetMs;
    this.sinceMs = this.options.monotonicMs();
    this.current = "held";
    this.comparedMs = 0;
    this.options.onChange({ from, to: "held", stepMs: 0, gapMs: this.gapMs });
  }

  private read(): number {
    const { wallMs, monotonicMs } = this.options;
    if (this.current === "trusted") return wallMs();
    const heldMs = Math.floor(monotonicMs() + this.heldOffsetMs);
    if (this.current === "doubtful") return Math.min(wallMs(), heldMs);
    return this.current === "held" || isPlausible(heldMs) ? heldMs : wallMs();
  }

  /** The machine slept: that time has passed, whatever the monotonic clock says. */
  private wakeUp(sleptMs: number): void {
    this.heldOffsetMs += sleptMs;
    this.witnesses.shift(sleptMs);
  }

  /**
   * The wall clock has stepped, or turns out to be behind what was held. With `isSet` it was not
   * set before: then what is held is only a time that it cannot be before.
   */
  private weigh(stepMs: number, isSet: boolean): void {
    const from = this.current;
    this.sinceMs = this.options.monotonicMs();
    this.isOtherUnsure = false;
    const { isFar } = this;
    this.doesTimeTell = !isFar || this.isJustAStart;
    this.doubtedOffsetMs = null;
    this.current = isFar || !this.isWallPlausible ? "implausible" : "doubtful";
    const isSetAtLast = isSet && from === "implausible" && this.isWallPlausible && this.gapMs > 0;
    this.settle(stepMs, from, isSetAtLast);
  }

  /**
   * Whether the time held is no more than where the clocks began: they were never confirmed. If it
   * is what the node had seen before, the wall clock must not be back, nor more than a year on.
   */
  private get isJustAStart(): boolean {
    if (this.isConfirmed) return false;
    return this.seenMs === 0 || (this.gapMs > 0 && this.gapMs < LONGEST_OFF_MS);
  }

  /** Decides between the two times, if that can be. */
  private settle(stepMs: number, from: ClockState, isSetAtLast = false): void {
    const { gapMs } = this;
    // The monotonic clock may have stood still before a step forward.
    const sinceMs = gapMs > 0 ? this.sinceMs : -Infinity;
    const { forWall, forHeld } = this.witnesses.votes(this.twoTimes, sinceMs);
    if (forWall > forHeld) this.confirm();
    if (isSetAtLast || this.areAlike || forWall > forHeld) this.believe();
    else if (forHeld > forWall) this.current = "held";
    // It takes most of them to hold it back.
    else if (from === "held" && forWall > 0 && !this.isFar) return this.weigh(0, false);
    else if (this.mayDecide) {
      this.isConfirmed = false;
      this.doubtedOffsetMs = this.heldOffsetMs;
      this.believe();
    }
    if (stepMs === 0 && from === this.current) return;
    this.options.onChange({ from, to: this.current, stepMs, gapMs });
  }

  /** Whether the wall clock is to be believed by now, as there is no vote. */
  private get mayDecide(): boolean {
    if (!this.isWallPlausible || this.current === "held") return false;
    const inDoubtMs = this.options.monotonicMs() - this.sinceMs;
    if (this.doesTimeTell) return inDoubtMs >= DOUBT_MS;
    const isUntold = this.isOtherUnsure && !this.witnesses.hasHeard(this.sinceMs);
    return isUntold && inDoubtMs >= UNTOLD_MS;
  }

  private believe(): void {
    this.current = "trusted";
    this.heldOffsetMs = this.machine.offsetMs;
  }

  private get twoTimes(): TwoTimes {
    const { heldOffsetMs, isWallPlausible } = this;
    return { wallOffsetMs: this.machine.offsetMs, heldOffsetMs, isWallPlausible };
  }

  private get gapMs(): number {
    return Math.round(this.machine.offsetMs - this.heldOffsetMs);
  }

  /** Whether the two times differ by so much that it takes a peer to tell which is right. */
  private get isFar(): boolean {
    return Math.abs(this.gapMs) > this.farMs && this.options.hasPeers();
  }

  private get farMs(): number {
    return FAR_OF_GRACE * this.options.graceMs;
  }

  private get isWallPlausible(): boolean {
    return isPlausible(this.machine.lookedAtMs);
  }

  /** Whether it makes no difference which of the two times it is, or only one can be. */
  private get areAlike(): boolean {
    if (!this.isWallPlausible) return false;
    const heldMs = this.options.monotonicMs() + this.heldOffsetMs;
    return Math.abs(this.gapMs) <= this.options.maxAheadMs || !isPlausible(heldMs);
  }
}

function isPlausible(unixMs: number): boolean {
  return unixMs >= PLAUSIBLE_FROM_MS;
}

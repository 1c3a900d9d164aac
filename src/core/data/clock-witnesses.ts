/**
 * What peers have said of late what time it is, each once, and what that comes to: which time most
 * of them agree on, and which of two they are for. Who answers at one address under many names is
 * one peer all the same, and takes the word of nobody at another by using its name. PURE.
 *
 * A time is given as an *offset*: how far it is ahead of this machine's monotonic clock, in ms. So
 * it stays the same while time passes.
 */

/** How long it counts what time a peer said it was, in ms. */
const WITNESS_MS = 600_000;
/** Most peers whose time is remembered. */
const MAX_WITNESSES = 64;
/** Peers tell their time in whole seconds, and a message takes a while, in ms. */
export const ROUNDING_MS = 2_000;

/** What time a peer said it was: so much more than the monotonic clock showed then. */
interface Witness {
  readonly nodeId: string;
  /** Where it answered; null for through the broker. */
  readonly address: string | null;
  readonly offsetMs: number;
  /** By the monotonic clock. */
  readonly atMs: number;
}

/** Two times that it may be: the wall clock's, and the one held against it. */
export interface TwoTimes {
  readonly wallOffsetMs: number;
  readonly heldOffsetMs: number;
  /** Whether the wall clock's is one that it can be. */
  readonly isWallPlausible: boolean;
}

/** How many peers are for each of two times. */
export interface Votes {
  readonly forWall: number;
  readonly forHeld: number;
}

/** See the file header. */
export class ClockWitnesses {
  /**
   * Two times that differ by so much or less may be the same, in ms: by what clocks may differ, and
   * as peers tell theirs.
   */
  readonly closeMs: number;
  /**
   * What the one in the middle said when there was one last, as of `look`, and when that was by the
   * monotonic clock; -Infinity for never.
   */
  lastOffsetMs = 0;
  lastAtMs = -Infinity;
  private readonly witnesses = new Map<string, Witness>();
  /** What `sortedOffsets` returned, and until when that is so; null when it has changed. */
  private known: { readonly offsets: readonly number[]; readonly untilMs: number } | null = null;

  /** `monotonicMs` never goes back; `maxSkewMs` is how far clocks may be apart. */
  constructor(
    private readonly monotonicMs: () => number,
    maxSkewMs: number,
  ) {
    this.closeMs = maxSkewMs + ROUNDING_MS;
  }

  /** That peer says that it is `theirMs` now, in Unix ms. */
  note(nodeId: string, theirMs: number, address: string | null): void {
    const { witnesses } = this;
    const atMs = this.monotonicMs();
    this.known = null;
    witnesses.set(`${address}/${nodeId}`, { nodeId, address, offsetMs: theirMs - atMs, atMs });
    if (witnesses.size > MAX_WITNESSES) witnesses.delete(witnesses.keys().next().value!);
  }

  /**
   * That peer does not know what time it is: what it has said before does not count any more.
   * Whether nobody's word is left by that.
   */
  takeBack(nodeId: string, address: string | null): boolean {
    const isLast = this.drop(nodeId, address) && !this.hasHeard();
    if (isLast) this.lastAtMs = -Infinity;
    return isLast;
  }

  /** Forgets what that peer has said before. Whether there was something. */
  drop(nodeId: string, address: string | null): boolean {
    const before = this.witnesses.size;
    this.known = null;
    for (const [name, { nodeId: of, address: at }] of this.witnesses) {
      const isNamesake = of === nodeId && (at === null || address === null);
      if (isNamesake || (address !== null && at === address)) this.witnesses.delete(name);
    }
    return this.witnesses.size < before;
  }

  /** So many ms have passed that the monotonic clock has not counted. */
  shift(ms: number): void {
    this.known = null;
    this.lastOffsetMs += ms;
    for (const [name, witness] of this.witnesses) {
      this.witnesses.set(name, { ...witness, offsetMs: witness.offsetMs + ms });
    }
  }

  /** How many have said it of late; `lastOffsetMs` is what they say, if there are any. */
  look(): number {
    const offsets = this.sortedOffsets();
    if (offsets.length === 0) return 0;
    this.lastOffsetMs = offsets[offsets.length >> 1];
    this.lastAtMs = this.monotonicMs();
    return offsets.length;
  }

  /** How many are close to that time. */
  countCloseTo(offsetMs: number): number {
    const offsets = this.sortedOffsets();
    return offsets.filter((it) => Math.abs(it - offsetMs) <= this.closeMs).length;
  }

  /** Whether anybody has said anything of late, later than that time of the monotonic clock. */
  hasHeard(sinceMs = -Infinity): boolean {
    return this.recent(sinceMs).length > 0;
  }

  /** How many are for which of two times, of those that `hasHeard` would count. */
  votes({ wallOffsetMs, heldOffsetMs, isWallPlausible }: TwoTimes, sinceMs: number): Votes {
    const gapMs = Math.round(Math.abs(wallOffsetMs - heldOffsetMs));
    let [forWall, forHeld] = [0, 0];
    for (const { offsetMs } of this.recent(sinceMs)) {
      const fromHeldMs = Math.abs(offsetMs - heldOffsetMs);
      const fromWallMs = Math.abs(offsetMs - wallOffsetMs);
      if (!isWallPlausible) forHeld += fromHeldMs <= this.closeMs ? 1 : 0;
      // A peer that is further from both times than they are from each other has a third one.
      else if (Math.min(fromHeldMs, fromWallMs) > gapMs) continue;
      else if (fromWallMs < fromHeldMs) forWall++;
      else forHeld++;
    }
    return { forWall, forHeld };
  }

  /** What each said of late; one that does not agree with itself comes twice. */
  *each(): Iterable<[nodeId: string, offsetMs: number]> {
    for (const { nodeId, offsetMs } of this.recent()) yield [nodeId, offsetMs];
  }

  /** What each said of late, the earliest time first. It is asked for all the time. */
  private sortedOffsets(): readonly number[] {
    const nowMs = this.monotonicMs();
    if (this.known !== null && nowMs < this.known.untilMs) return this.known.offsets;
    const offsets = this.recent()
      .map(({ offsetMs }) => offsetMs)
      .sort((a, b) => a - b);
    let untilMs = Infinity;
    for (const { atMs } of this.witnesses.values()) {
      const oldMs = atMs + WITNESS_MS;
      if (oldMs > nowMs) untilMs = Math.min(untilMs, oldMs);
    }
    this.known = { offsets, untilMs };
    return offsets;
  }

  /** What was said of late, and later than that time of the monotonic clock. */
  private recent(sinceMs = -Infinity): Witness[] {
    const fromMs = Math.max(this.monotonicMs() - WITNESS_MS, sinceMs);
    // A node that was asked at two addresses is one.
    const byNode = new Map<string, Witness[]>();
    const recent: Witness[] = [];
    for (const witness of this.witnesses.values()) {
      if (witness.atMs <= fromMs) continue;
      const namesakes = byNode.get(witness.nodeId) ?? [];
      if (!namesakes.some((it) => this.areOne(it, witness))) recent.push(witness);
      if (namesakes.push(witness) === 1) byNode.set(witness.nodeId, namesakes);
    }
    return recent;
  }

  /** Whether two that have the same name are the same node: or they would not agree. */
  private areOne(one: Witness, other: Witness): boolean {
    return one.nodeId === other.nodeId && Math.abs(one.offsetMs - other.offsetMs) <= this.closeMs;
  }
}

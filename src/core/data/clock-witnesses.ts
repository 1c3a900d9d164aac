/**
 * What peers have said of late what time it is, each once, for `trusted-clock.ts`. Who answers at
 * one address under many names is one peer all the same, and takes the word of nobody at another
 * by using its name. PURE.
 */

/** How long it counts what time a peer said it was, in ms. */
const WITNESS_MS = 600_000;
/** Most peers whose time is remembered. */
const MAX_WITNESSES = 64;
/** Peers tell their time in whole seconds, and a message takes a while, in ms. */
export const ROUNDING_MS = 2_000;

/** What time a peer said it was: so much more than the monotonic clock showed then. */
export interface Witness {
  readonly nodeId: string;
  /** Where it answered; null for through the broker. */
  readonly address: string | null;
  readonly offsetMs: number;
  /** By the monotonic clock. */
  readonly atMs: number;
}

/** See the file header. */
export class ClockWitnesses {
  private readonly witnesses = new Map<string, Witness>();
  /** What `sortedOffsets` returned, and until when that is so; null when it has changed. */
  private known: { readonly offsets: readonly number[]; readonly untilMs: number } | null = null;

  /**
   * `monotonicMs` never goes back; two times that differ by `closeMs` or less may be the same.
   */
  constructor(
    private readonly monotonicMs: () => number,
    private readonly closeMs: number,
  ) {}

  /** That peer says that it is `theirMs` now, in Unix ms. */
  note(nodeId: string, theirMs: number, address: string | null): void {
    const { witnesses } = this;
    const atMs = this.monotonicMs();
    this.known = null;
    witnesses.set(`${address}/${nodeId}`, { nodeId, address, offsetMs: theirMs - atMs, atMs });
    if (witnesses.size > MAX_WITNESSES) witnesses.delete(witnesses.keys().next().value!);
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
    for (const [name, witness] of this.witnesses) {
      this.witnesses.set(name, { ...witness, offsetMs: witness.offsetMs + ms });
    }
  }

  /**
   * How far what each said is ahead of the monotonic clock, in ms, the earliest time first. It is
   * asked for all the time.
   */
  sortedOffsets(): readonly number[] {
    const nowMs = this.monotonicMs();
    if (this.known !== null && nowMs < this.known.untilMs) return this.known.offsets;
    const offsets = this.offsets().sort((a, b) => a - b);
    let untilMs = Infinity;
    for (const { atMs } of this.witnesses.values()) {
      const oldMs = atMs + WITNESS_MS;
      if (oldMs > nowMs) untilMs = Math.min(untilMs, oldMs);
    }
    this.known = { offsets, untilMs };
    return offsets;
  }

  /** The same of those who said so later than that time of the monotonic clock, in any order. */
  offsets(sinceMs = -Infinity): number[] {
    return this.recent(sinceMs).map(({ offsetMs }) => offsetMs);
  }

  /** What was said of late, and later than that time of the monotonic clock. */
  recent(sinceMs = -Infinity): Witness[] {
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

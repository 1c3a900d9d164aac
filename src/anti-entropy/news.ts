/**
 * How this node passes on what others may not have: by rounds that follow soon after one another,
 * until enough of them in a row met somebody who had it already. That is rumour mongering with
 * feedback and a counter (Demers et al., Epidemic Algorithms for Replicated Database Maintenance,
 * 1987): what one node of N has reaches all of them in some log N rounds, at a cost of some log N
 * sessions for each node. A node that knows only that it misses something asks others in the same
 * way.
 */

/** Rounds in a row that brought nothing, beyond log2 of the number of nodes. */
const SPARE_ROUNDS = 2;

/** What a session came to, as far as this matters. */
export interface SessionYield {
  /** Entries came that were new here. */
  readonly hasLearned: boolean;
  /** Entries went over, in either direction. */
  readonly hasMoved: boolean;
}

/** See the file header. */
export class News {
  private roundsLeft = 0;

  /** `peerCount` is how many other nodes there are, about. */
  constructor(private readonly peerCount: () => number) {}

  /** Whether rounds are to follow one another soon. */
  get isSpreading(): boolean {
    return this.roundsLeft > 0;
  }

  /** There is something that others may not have, or that this node misses. */
  begin(): void {
    this.roundsLeft = Math.ceil(Math.log2(1 + this.peerCount())) + SPARE_ROUNDS;
  }

  /**
   * A session brought nothing that was new here. If it brought the other something, so may
   * others.
   */
  noteSession({ hasMoved }: Pick<SessionYield, "hasMoved">): void {
    if (!hasMoved && this.roundsLeft > 0) this.roundsLeft--;
  }
}

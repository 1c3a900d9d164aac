/**
 * Which of the peers that come are served at once. There are only so many places; no peer takes
 * more than its share of them, neither under one node id nor from one address, and those that this
 * node has never met itself leave some to those that it has. Who is slow, or has had a place for
 * long, makes room when somebody waits: so a few cannot keep everybody else out, whatever
 * they do there.
 */

/** A peer that comes, or is being served. */
export interface Guest {
  readonly nodeId: string;
  /** Its address without the port. */
  readonly host: string;
  /**
   * Whether it is so slow, or has been there for so long, that it has to make room. With so many
   * times the usual `patience`, a slow one may take so much longer.
   */
  hasHadItsTurn(patience: number): boolean;
  /** Ends its session; `leave` is called in the course of it. */
  dismiss(reason: string): void;
}

const FULL = "it holds as many sessions as it may";
const DISMISSED = "others waited for its place; what still differs is compared anew";

/** A node that had to make room gets twice the time when it comes again, up to so many times. */
const MOST_PATIENCE = 16;
/** Most nodes of which that is remembered; the one that was dismissed first is forgotten. */
const MAX_DISMISSED = 1_024;

/** The guests of one node. */
export class Admission {
  private readonly guests = new Set<Guest>();
  /**
   * Of nodes that had to make room for others: over a line of seconds not even a short session is
   * over in the usual time, and they would come again for ever. Nobody gets more than who is fast.
   */
  private readonly patience = new Map<string, number>();

  /**
   * `isKnown` tells whether this node has met a node of that id at an address of its own choice.
   */
  constructor(
    /** How many there may be. */
    public places: number,
    private readonly isKnown: (nodeId: string) => boolean,
  ) {}

  /** Takes in a guest. Null when it is in, else why it is not. */
  admit(guest: Guest): string | null {
    const half = Math.ceil(this.places / 2);
    const { nodeId, host } = guest;
    const hasRoom =
      this.makeRoom(half, (it) => it.nodeId === nodeId) &&
      this.makeRoom(Math.max(1, this.places - 1), (it) => it.host === host) &&
      (this.isKnown(nodeId) || this.makeRoom(half, (it) => !this.isKnown(it.nodeId))) &&
      this.makeRoom(this.places, () => true);
    if (!hasRoom) return FULL;
    this.guests.add(guest);
    return null;
  }

  /** Its session is over; `isDone`: it had all the time it needed. */
  leave(guest: Guest, isDone: boolean): void {
    this.guests.delete(guest);
    if (isDone) this.patience.delete(guest.nodeId);
  }

  /**
   * Whether one more of those is no more than `most`, once one that has had its turn has made room.
   */
  private makeRoom(most: number, isOfThose: (guest: Guest) => boolean): boolean {
    const those = [...this.guests].filter(isOfThose);
    if (those.length < most) return true;
    const former = those.find((guest) => guest.hasHadItsTurn(this.patienceWith(guest)));
    if (former === undefined) return false;
    this.guests.delete(former);
    this.noteDismissed(former);
    former.dismiss(DISMISSED);
    return true;
  }

  private patienceWith({ nodeId }: Guest): number {
    return this.patience.get(nodeId) ?? 1;
  }

  private noteDismissed(guest: Guest): void {
    const { patience } = this;
    const { nodeId } = guest;
    const more = Math.min(2 * this.patienceWith(guest), MOST_PATIENCE);
    patience.delete(nodeId);
    patience.set(nodeId, more);
    if (patience.size > MAX_DISMISSED) patience.delete(patience.keys().next().value!);
  }
}

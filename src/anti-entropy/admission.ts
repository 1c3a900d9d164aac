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
  /** Whether it is so slow, or has been there for so long, that it has to make room. */
  hasHadItsTurn(): boolean;
  /** Ends its session; `leave` is called in the course of it. */
  dismiss(reason: string): void;
}

const FULL = "it holds as many sessions as it may";
const DISMISSED = "others waited for its place; what still differs is compared anew";

/** The guests of one node. */
export class Admission {
  private readonly guests = new Set<Guest>();

  /**
   * `isKnown` tells whether this node has met a node of that id at an address of its own choice.
   */
  constructor(
    private readonly places: number,
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

  /** Its session is over. */
  leave(guest: Guest): void {
    this.guests.delete(guest);
  }

  /**
   * Whether one more of those is no more than `most`, once one that has had its turn has made room.
   */
  private makeRoom(most: number, isOfThose: (guest: Guest) => boolean): boolean {
    const those = [...this.guests].filter(isOfThose);
    if (those.length < most) return true;
    const former = those.find((guest) => guest.hasHadItsTurn());
    if (former === undefined) return false;
    this.guests.delete(former);
    former.dismiss(DISMISSED);
    return true;
  }
}

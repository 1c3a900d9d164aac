/**
 * The contact vector: for each member of the cluster, up to which moment this node has,
 * from it directly or through others, everything that it had. It tells whether a node was
 * away for so long that it may have missed a deletion which another has forgotten since:
 * Y is stale towards X when Y's contact with X lies before what X has purged.
 *
 * It holds MAX_MEMBERS; the one longest out of contact makes room. To have forgotten a
 * member is to have had no contact: safe, as then more is set aside, never less.
 */

/** Most members that a contact vector holds. */
export const MAX_MEMBERS = 128;

interface Contact {
  readonly originHigh: number;
  readonly originLow: number;
  ms: number;
}

/** One node's contacts, by the origin of the other node. Times are Unix milliseconds. */
export class Contacts {
  private readonly contacts: Contact[] = [];

  /** Number of members known. */
  get size(): number {
    return this.contacts.length;
  }

  /** Up to when everything of this member is here; 0 when there was no contact. */
  of(originHigh: number, originLow: number): number {
    return this.find(originHigh, originLow)?.ms ?? 0;
  }

  /** Notes that everything a member had up to `ms` is here. Never goes back. */
  note(originHigh: number, originLow: number, ms: number): void {
    const known = this.find(originHigh, originLow);
    if (known !== undefined) {
      if (ms > known.ms) known.ms = ms;
      return;
    }
    if (this.contacts.length === MAX_MEMBERS) {
      let oldest = 0;
      for (let i = 1; i < MAX_MEMBERS; i++) {
        if (this.contacts[i].ms < this.contacts[oldest].ms) oldest = i;
      }
      if (this.contacts[oldest].ms >= ms) return;
      this.contacts.splice(oldest, 1);
    }
    this.contacts.push({ originHigh, originLow, ms });
  }

  /** Visits all members, in the order in which they became known. */
  forEach(visit: (originHigh: number, originLow: number, ms: number) => void): void {
    for (const { originHigh, originLow, ms } of this.contacts) visit(originHigh, originLow, ms);
  }

  private find(originHigh: number, originLow: number): Contact | undefined {
    return this.contacts.find((it) => it.originHigh === originHigh && it.originLow === originLow);
  }
}

/**
 * The contact vector: for each member of the cluster, up to which moment this node has,
 * from it directly or through others, everything that it had, and up to when the deletions were
 * dated that it had purged by then. It tells whether a node was away for so long that it may have
 * missed a deletion which has been forgotten since: Y is stale towards X when X, or somebody
 * whose data X has taken over, has purged something dated after Y's contact with that purger.
 * Contact with X alone does not do: X may have learned later that the key is gone.
 *
 * It holds MAX_MEMBERS; the one longest out of contact makes room. To have forgotten a
 * member is to have had no contact: safe, as then more is set aside, never less.
 */

import type { Origin } from "./origin.ts";

/** Most members that a contact vector holds. */
export const MAX_MEMBERS = 128;

interface Contact {
  readonly originHigh: number;
  readonly originLow: number;
  ms: number;
  purgedUpToMs: number;
}

/** A member that has purged deletions: its origin, and up to when they were dated. */
export interface Purger {
  originHigh: number;
  originLow: number;
  upToMs: number;
}

/** What makes a node stale or not towards another. */
export interface Standing {
  readonly origin: Origin;
  /** What it has purged itself. */
  readonly purgedUpToMs: number;
  readonly contacts: Contacts;
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

  /** Notes that everything a member had up to `ms` is here, and what it had purged. Never goes back. */
  note(originHigh: number, originLow: number, ms: number, purgedUpToMs = 0): void {
    const known = this.find(originHigh, originLow);
    if (known !== undefined) {
      known.ms = Math.max(known.ms, ms);
      known.purgedUpToMs = Math.max(known.purgedUpToMs, purgedUpToMs);
      return;
    }
    this.contacts.push({ originHigh, originLow, ms, purgedUpToMs });
    if (this.contacts.length > MAX_MEMBERS) this.makeRoom();
  }

  /** As they are now. */
  clone(): Contacts {
    const copy = new Contacts();
    this.forEach((...contact) => copy.note(...contact));
    return copy;
  }

  /** Visits all members, in the order in which they became known. */
  forEach(
    visit: (originHigh: number, originLow: number, ms: number, purgedUpToMs: number) => void,
  ): void {
    for (const { originHigh, originLow, ms, purgedUpToMs } of this.contacts) {
      visit(originHigh, originLow, ms, purgedUpToMs);
    }
  }

  /** Forgets the member longest out of contact, but not that somebody purged deletions. */
  private makeRoom(): void {
    const { contacts } = this;
    const nobody = this.find(0, 0);
    let oldest: Contact | undefined;
    for (const contact of contacts) {
      if (contact !== nobody && contact.ms < (oldest?.ms ?? Infinity)) oldest = contact;
    }
    if (oldest === undefined) return;
    contacts.splice(contacts.indexOf(oldest), 1);
    // With nobody there is ever contact, so this counts as missed by all.
    if (oldest.purgedUpToMs > 0) this.note(0, 0, 0, oldest.purgedUpToMs);
  }

  private find(originHigh: number, originLow: number): Contact | undefined {
    return this.contacts.find((it) => it.originHigh === originHigh && it.originLow === originLow);
  }
}

/**
 * Of those whose deletions are forgotten at `here`, and of which `there` may have missed some, the
 * one who purged last; `upToMs` is 0 when there is none.
 */
export function latestMissed(here: Standing, there: Standing): Purger {
  const { origin, purgedUpToMs } = here;
  const latest: Purger = { originHigh: 0, originLow: 0, upToMs: 0 };
  const look = (originHigh: number, originLow: number, upToMs: number): void => {
    if (upToMs <= latest.upToMs || knownOf(there, originHigh, originLow) >= upToMs) return;
    Object.assign(latest, { originHigh, originLow, upToMs });
  };
  look(origin.high, origin.low, purgedUpToMs);
  here.contacts.forEach((high, low, _, upToMs) => look(high, low, upToMs));
  return latest;
}

/** Up to when `node` knows all deletions of a member, which may be itself before it lost its data. */
function knownOf(node: Standing, originHigh: number, originLow: number): number {
  const contactMs = node.contacts.of(originHigh, originLow);
  if (originHigh !== node.origin.high || originLow !== node.origin.low) return contactMs;
  // Others have it in whole seconds, rounded up.
  return Math.max(contactMs, Math.ceil(node.purgedUpToMs / 1000) * 1000);
}

/**
 * The contact vector: what lets a node forget deletions without any of them ever being undone.
 *
 * To *know* a deletion is to hold its tombstone, or something newer under that key, or to have
 * forgotten it. The time of a deletion is when its key died (`diedMs`). For each member of the
 * cluster a node keeps two times:
 *
 *   ms            this node knows every deletion up to then that the member knows
 *   purgedUpToMs  up to when deletions are forgotten here because that member had purged them
 *
 * A node Y is *stale* towards a node X when a purger Z, which is X or somebody whose data X has
 * taken over, has purged a deletion later than Y's `ms` for Z: Y may never have heard of that
 * deletion. It is not enough that Y had contact with X: X may have learned later that the key is
 * gone.
 *
 * Claim: a node that knows a deletion D accepts nothing older of that key from one that does not.
 *
 * 1. `ms` is true when it is noted, and stays true. It is the watermark of a session that compared
 *    all that was in X's tree up to it. What X held by then and Y did not, Y received, or it
 *    received what had replaced it. What X had forgotten, Y either did not hold, or X refused it
 *    and Y set it aside. Nothing is purged during the session. A deletion that reaches X after the
 *    session began, however old, counts at X as one that died when it arrived (`Deletions.vouch`),
 *    which is after the watermark. What X says of a third member holds for Y through X, up to the
 *    same watermark.
 * 2. A node that forgets D says who purged it: if X purged it, X names itself, and Y, which has
 *    taken over X's data, names all whom X names.
 * 3. So if X knows D and does not hold it, X names a purger Z, with a purge time that is D's death
 *    at Z or later. By 1, a node that does not know D has an earlier `ms` for Z. So it is stale
 *    towards X, and X refuses what it has from before the purge time. D is younger than what it
 *    deletes, so that is refused too. X may have accepted an older deletion of that key since. That
 *    changes nothing, because holding the older one is not knowing D.
 *
 * What comes through the broker names no contacts. So events that are older than what was purged,
 * and whose key is not here, are left to a session.
 *
 * Point 1 holds whatever the machines' clocks do, for a process and for a later one that has its
 * data: the hybrid clock is stored with the data, and has seen every watermark. A node that lost
 * its data lost that clock too. It is then as stale towards its former self as towards anybody
 * else; but its machine's clock must not be behind what it vouched for before.
 *
 * A node has to set entries aside only when it was away for longer than the grace, less what clocks
 * differ: it holds them from before deletions that were purged a grace after they were learned of,
 * and it has not heard of the purger since.
 *
 * What can a member do that lies as well as it can? It may always write, delete and flush as any
 * client may, and give up what it holds. What it says of times and of others has these effects and
 * no more:
 *
 *   HELLO purge times, its own       later than a grace before its own clock, or before this
 *     and those of third members     node's clock plus the allowed skew: the session fails as
 *                                    "untrue". Otherwise they are noted, but as no later than a
 *                                    grace before this node's clock
 *   HELLO clock                      moves this node's hybrid clock, within the allowed skew
 *   HELLO watermark                  can only make it earlier: less is compared, and vouched for
 *   HELLO contacts, too late         what the liar is stale for is accepted from it, as if it had
 *                                    just written it
 *   HELLO contacts, too early        more of its own is refused
 *   HELLO contacts of third members  noted, but as no later than what was compared. A node that was
 *                                    away for longer than the grace, and met only the liar
 *                                    meanwhile, then takes itself to know their deletions, and may
 *                                    bring a deleted key back, as if the liar had written it. The
 *                                    same goes for a node that passes itself off as another: until
 *                                    peers authenticate, nothing proves who somebody is
 *   HELLO latest time accepted,      the liar gets less; it is asked again, every few seconds
 *     LATER                          at the most
 *   HELLO floor                      a flush; if it is from the future, the session fails
 *   HELLO root, ROOT, "roots equal"  the liar is not healed, and this node believes to have met it
 *   HELLO longest frame              the liar gets less, and the session is incomplete
 *   TURN, END, digests, lists        the liar is not healed; an early END ends the session
 *   REFUSED                          a purge time that cannot be: "untrue". A deletion older than
 *                                    the grace is purged, in this node's own name, too: who had no
 *                                    contact with it for the grace is stale. What was written, or
 *                                    deleted, within the grace stays, whoever refuses it. What is
 *                                    older is set aside in a file, as for a member that was away
 *   entries                          those of any client; from the future, they are refused
 *   events, batches                  the same; a gap in their numbers costs a sync with the source
 *   presence                         tells whom to dial; what that one says is judged as above
 *
 * So the grace must be the same on all nodes. A node with a shorter one claims what cannot be by
 * the grace of the others, and they say so. When the grace is raised, a node reports its earlier
 * purges as older than they were, so that it claims no more than can be.
 *
 * The vector holds MAX_MEMBERS members. For a new one, the member longest out of contact makes
 * room. Its purge time is kept under the name of nobody, with whom no node ever has contact:
 * because of that more may be set aside, never less.
 */

import type { Origin } from "../data/origin.ts";

/** Most members that a contact vector holds. */
export const MAX_MEMBERS = 128;
/** A member met within this time before the latest meeting does not make room, in ms. */
const RECENT_MS = 3_600_000;
/** How many members a node names one by one to others, at least. */
const FEWEST_NAMED = 8;

interface Contact {
  readonly originHigh: number;
  readonly originLow: number;
  ms: number;
  purgedUpToMs: number;
  /** When this process last met it itself; 0 when others only told of it. */
  metMs: number;
}

/** A member that has purged deletions: its origin, and the time of the latest of them. */
export interface Purger {
  originHigh: number;
  originLow: number;
  upToMs: number;
}

/** What decides whether one node is stale towards another. */
export interface PurgeKnowledge {
  readonly origin: Origin;
  /** What it has purged itself. */
  readonly purgedUpToMs: number;
  readonly contacts: Contacts;
}

/** One node's contacts, by the origin of the other node. Times are Unix milliseconds. */
export class Contacts {
  /**
   * How many members this node names to others, those last in contact; for the rest it sends a
   * digest (`contact-summary.ts`). It grows while others turn out to know the rest differently.
   */
  named = FEWEST_NAMED;
  private readonly contacts: Contact[] = [];

  /** Number of members known. */
  get size(): number {
    return this.contacts.length;
  }

  /** Up to when this node knows all that the member knows; 0 when there was no contact. */
  of(originHigh: number, originLow: number): number {
    return this.find(originHigh, originLow)?.ms ?? 0;
  }

  /**
   * Notes that everything a member had up to `ms` is here, and what it had purged. Never goes back.
   */
  note(originHigh: number, originLow: number, ms: number, purgedUpToMs = 0): void {
    this.record(originHigh, originLow, ms, purgedUpToMs, 0);
  }

  /** Notes the same of a member with which there was a session. */
  meet(originHigh: number, originLow: number, ms: number): void {
    this.record(originHigh, originLow, ms, 0, ms);
  }

  private record(
    originHigh: number,
    originLow: number,
    ms: number,
    purgedUpToMs: number,
    metMs: number,
  ): void {
    const known = this.find(originHigh, originLow);
    if (known !== undefined) {
      known.ms = Math.max(known.ms, ms);
      known.purgedUpToMs = Math.max(known.purgedUpToMs, purgedUpToMs);
      known.metMs = Math.max(known.metMs, metMs);
      return;
    }
    this.contacts.push({ originHigh, originLow, ms, purgedUpToMs, metMs });
    if (this.contacts.length > MAX_MEMBERS) this.makeRoom();
  }

  /** Adapts `named` to whether a peer knew the same of those that were not named. */
  noteRecognised(isSame: boolean): void {
    const named = isSame ? this.named - 1 : this.named * 2;
    this.named = Math.min(Math.max(named, FEWEST_NAMED), MAX_MEMBERS);
  }

  /** As they are now; purges later than `latestPurgeMs` count as of then. */
  clone(latestPurgeMs = Infinity): Contacts {
    const copy = new Contacts();
    this.forEach((originHigh, originLow, ms, purgedUpToMs) => {
      copy.note(originHigh, originLow, ms, Math.min(purgedUpToMs, latestPurgeMs));
    });
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

  /**
   * Forgets the member longest out of contact, but not that somebody purged deletions. If there are
   * several, all nodes forget the same one; otherwise what they know would never become alike.
   * Members met recently stay, or a peer that tells of countless members would displace them.
   */
  private makeRoom(): void {
    const { contacts } = this;
    const nobody = this.find(0, 0);
    const latestMs = Math.max(...contacts.map(({ metMs }) => metMs));
    const isRecent = ({ metMs }: Contact) => metMs > 0 && metMs >= latestMs - RECENT_MS;
    const mayGo = contacts.filter((contact) => contact !== nobody && !isRecent(contact));
    let oldest: Contact | undefined;
    for (const contact of mayGo.length > 0 ? mayGo : contacts) {
      if (contact !== nobody && (!oldest || isLongerAgo(contact, oldest))) oldest = contact;
    }
    if (oldest === undefined) return;
    contacts.splice(contacts.indexOf(oldest), 1);
    // No node ever has contact with nobody, so all nodes count as having missed this.
    if (oldest.purgedUpToMs > 0) this.note(0, 0, 0, oldest.purgedUpToMs);
  }

  private find(originHigh: number, originLow: number): Contact | undefined {
    return this.contacts.find((it) => it.originHigh === originHigh && it.originLow === originLow);
  }
}

function isLongerAgo(a: Contact, b: Contact): boolean {
  if (a.ms !== b.ms) return a.ms < b.ms;
  return a.originHigh !== b.originHigh ? a.originHigh < b.originHigh : a.originLow < b.originLow;
}

/**
 * Among the members whose purged deletions are forgotten at `here` while `there` may have missed
 * some of them, the one that purged last; `upToMs` is 0 when there is none.
 */
export function latestMissed(here: PurgeKnowledge, there: PurgeKnowledge): Purger {
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

/**
 * Up to when `node` knows all deletions of a member, which may be itself before it lost its data.
 */
function knownOf(node: PurgeKnowledge, originHigh: number, originLow: number): number {
  const contactMs = node.contacts.of(originHigh, originLow);
  if (originHigh !== node.origin.high || originLow !== node.origin.low) return contactMs;
  // Others were told it in whole seconds, rounded up.
  return Math.max(contactMs, Math.ceil(node.purgedUpToMs / 1000) * 1000);
}

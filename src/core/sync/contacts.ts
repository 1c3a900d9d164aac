/**
 * The contact vector: how a node forgets deletions and yet none of them is ever undone.
 *
 * For each member of the cluster a node keeps `ms`: it knows every deletion that the member knows
 * and that died up to then; and `purgedUpToMs`: up to when deletions died that are forgotten
 * here because that member had purged them. To know a deletion is to hold it, or something newer
 * of that key, or to have forgotten it. Y is stale towards X when X, or somebody whose data X has
 * taken over, has purged something that died after Y's `ms` for that purger. Contact with X alone
 * does not do: X may have learned later that the key is gone.
 *
 * Claim: a node that knows a deletion D accepts nothing older of that key from one that does not.
 *
 * 1. `ms` is true when it is noted, and stays so. It is the watermark of a session that compared
 *    all that was in X's tree up to it. What X had by then and Y had not, Y got, or what stood in
 *    its place. What X had forgotten, Y did not have, or X refused it, and Y sets it aside. Nothing
 *    is purged meanwhile. A deletion that reaches X after the session began, however old, counts
 *    at X as one that died when it came (`Deletions.vouch`), which is after the watermark. What is
 *    said of a third member holds through X, up to the same watermark.
 * 2. Who forgets D names who purged it: X its own purge, and Y, with its data, all that X names.
 * 3. So if X knows D and does not hold it, X names a purger Z, and what Z purged reaches up to D's
 *    death at Z or later. Who has not known D has, by 1, less than that for Z, and is stale: what
 *    it has from before then is refused. As D is younger than what it deletes, that includes it. An
 *    older deletion of that key that X has taken in since changes nothing: it does not stand for D.
 *
 * What comes through the broker names no contacts, so all that is older than what was purged, and
 * whose key is not here, is left to a session.
 *
 * Whatever clocks do, 1 holds for a process and for one that has its data: the hybrid clock, which
 * is kept, has seen every watermark. A node that lost its data has lost that too. To its former
 * self it is as stale as to anybody; but its clock must not be behind what it vouched for before.
 *
 * Set aside is only what a node holds from before deletions that were purged a grace after they
 * were learned, when it has not heard of the purger since: it was away for longer than the grace,
 * less what clocks are off.
 *
 * What if a member lies, by the most it can? It may always write, delete and flush as any client
 * may, and give up what it holds. What it says of times and of others goes only so far:
 *
 *   HELLO purge times, its own       later than the grace before its clock, or before this node's
 *     and those of third members     and the allowed skew: the session fails as "untrue". Else
 *                                    noted, but no later than the grace before this node's clock
 *   HELLO clock                      moves this node's hybrid clock, within the allowed skew
 *   HELLO watermark                  can only be earlier: less is compared, and vouched for
 *   HELLO contacts, too late         what the liar is stale for is taken from it: as if it wrote it
 *   HELLO contacts, too early        more of its own is refused
 *   HELLO contacts of third members  noted, no later than what was compared. A node that was away
 *                                    for longer than the grace, and met only the liar meanwhile,
 *                                    believes to know their deletions, and may bring a deleted key
 *                                    back, as if the liar had written it. So it is with one that
 *                                    passes itself off as another: until peers authenticate,
 *                                    nothing proves who it is
 *   HELLO latest time accepted,      it gets less; it is asked again, every few seconds at the most
 *     LATER
 *   HELLO floor                      a flush; from the future, the session fails
 *   HELLO root, ROOT, "roots equal"  it is not healed, and this node believes to have met it
 *   HELLO longest frame              it gets less, and the session is incomplete
 *   TURN, END, digests, lists        it is not healed; an END before its time ends the session
 *   REFUSED                          a purge time that cannot be: "untrue". A deletion older than
 *                                    the grace is purged, in this node's own name, too: who had no
 *                                    contact with it for the grace is stale. What was written, or
 *                                    deleted, within the grace stays, whoever refuses it. What is
 *                                    older is set aside in a file, as for a member that was away
 *   entries                          those of any client; from the future, they are refused
 *   events, batches                  the same; a gap costs a sync with its source
 *   presence                         who is dialled; what that one says is judged as above
 *
 * So the grace must be the same on all nodes. One with a shorter one claims what cannot be for the
 * others, and they say so. When it is raised, a node tells its purges of before as if they were
 * older: it says no more than can be.
 *
 * It holds MAX_MEMBERS; the one longest out of contact makes room. That it had purged is kept under
 * nobody's name, with whom there is no contact: then more is set aside, never less.
 */

import type { Origin } from "../data/origin.ts";

/** Most members that a contact vector holds. */
export const MAX_MEMBERS = 128;
/** Who was met within this time of the latest meeting makes no room for anybody, in ms. */
const RECENT_MS = 3_600_000;
/** Least members that a node names one by one to others. */
const FEWEST_NAMED = 8;

interface Contact {
  readonly originHigh: number;
  readonly originLow: number;
  ms: number;
  purgedUpToMs: number;
  /** When this process last met it itself; 0 when others only told of it. */
  metMs: number;
}

/** A member that has purged deletions: its origin, and up to when they were dated. */
export interface Purger {
  originHigh: number;
  originLow: number;
  upToMs: number;
}

/** What makes a node stale or not towards another. */
export interface PurgeKnowledge {
  readonly origin: Origin;
  /** What it has purged itself. */
  readonly purgedUpToMs: number;
  readonly contacts: Contacts;
}

/** One node's contacts, by the origin of the other node. Times are Unix milliseconds. */
export class Contacts {
  /**
   * How many of those last in contact this node names to others, of the rest it says a digest
   * (`contact-summary.ts`): more as long as others know something else of the rest.
   */
  named = FEWEST_NAMED;
  private readonly contacts: Contact[] = [];

  /** Number of members known. */
  get size(): number {
    return this.contacts.length;
  }

  /** Up to when everything of this member is here; 0 when there was no contact. */
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

  /** A peer knew the same of those that were not named, or not: adapts `named`. */
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
   * Forgets the member longest out of contact, but not that somebody purged deletions. Of several,
   * all nodes forget the same, or what they know would never become alike. Those that were met of
   * late stay: else a peer that tells of members without number would take their place.
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
    // With nobody there is ever contact, so this counts as missed by all.
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
 * Of those whose deletions are forgotten at `here`, and of which `there` may have missed some, the
 * one who purged last; `upToMs` is 0 when there is none.
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
  // Others have it in whole seconds, rounded up.
  return Math.max(contactMs, Math.ceil(node.purgedUpToMs / 1000) * 1000);
}

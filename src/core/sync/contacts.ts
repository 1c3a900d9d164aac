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
 * All this is so while nobody forgets a deletion before its grace is over. A node whose clock was
 * ahead did, and says so, of times up to years ahead, with which nobody can have had contact. Once
 * it is certain of the time again, it refuses nothing that is younger than the grace, and takes
 * nobody to be stale who was met within the grace (`Deletions.latestForgottenMs`). Nobody would
 * give such an entry up anyway, so that the two would differ until it is older, and then what was
 * written by clocks that were right would be set aside. A deletion that no other node had heard of
 * when it was forgotten so early is lost.
 *
 * Members come and go, and those that are gone for good need not be named for ever (5 to 7).
 *
 * 5. X also notes when it came to know what Z had purged, as `learnedMs`: when Z's purge time rose
 *    here, when X took over data of Z that it had not known, or when it dropped a deletion
 *    because a peer refused it. A node whose contact with X is later than that knows, by 1, all
 *    that X knew then. It is not stale for Z's purges, whatever its contact with Z.
 * 6. A grace after `learnedMs`, X may drop what it holds of Z. From then on it claims to have
 *    purged itself what died up to `learnedMs`. A node that is not stale for that claim knows
 *    what X knew at that time, D included. From a node that is stale for it X accepts nothing
 *    from before `learnedMs`, and what D deleted is from before. That X has no contact with Z any
 *    more can only make X stale towards others.
 * 7. When X has dropped Z, and Y has not and names Z again, X ignores that if Z has purged nothing,
 *    or if X's contact with Y is later than Y's `learnedMs`: then X knew all of it when it dropped
 *    Z. Otherwise X notes Z again, as learned now. So a dropped member does not come back from node
 *    to node for ever, and nothing that is new about it is missed.
 *
 * A member is dropped when its last contact, and the last word that it is gone (FORGET), are older
 * than `anti_entropy.forget_after_days`; that is never shorter than parts of counters wait for it
 * (`counter-fold.ts`). FORGET changes nothing of all this. The member only counts as none any more,
 * until somebody has contact with it again.
 *
 * An entry that has expired counts as a deletion of all that is older, from its death on: that is
 * when its time was over, and no earlier than value and expiry were written (`endedMs`). Points 1
 * to 3 hold for it. The tree shows an entry from the later of its two versions on, so a session
 * that compared up to a watermark after the death had the entry in it; and a node that has it
 * without its value, as a husk, knows it all the same. Whether an entry has expired each node
 * judges by its own clock. Where it has not, it is no deletion there, and is not refused as one:
 * the node that holds it decides what becomes of it (`refusals.ts`). A value is as old as the
 * write that made it, whatever expiries it was given since (`writtenMs`). So an EXPIRE that did
 * not know of a deletion makes nothing younger than that; and when an EXPIRE that brought the
 * death forward is forgotten, what a stale node holds with the expiry of before is refused like
 * anything else of that age.
 *
 * What comes through the broker names no contacts. So events that are older than what was purged,
 * and whose key is not here, are left to a session.
 *
 * Point 1 holds whatever the machines' clocks do, for a process and for a later one that has its
 * data: the hybrid clock is stored with the data, and has seen every watermark. When that clock
 * begins anew at an earlier time (`clock.ts`), what was seen is stored all the same, and a deletion
 * made below a watermark counts as one of later (`Deletions.vouch`). A node that is not certain of
 * the time, and takes it to be so early that nobody would believe what it has forgotten, compares
 * no more than up to where it can say so (`Deletions.latestToldMs`). A node that lost its data lost
 * that clock too. It is then as stale towards its former self as towards anybody
 * else; but its machine's clock must not be behind what it vouched for before. The same goes for
 * one whose power went within the second, or so, until its disk had the clock and the contacts.
 *
 * A node has to set entries aside only when it was away for longer than the grace, less what clocks
 * differ and, among many members, a sixteenth (`contact-summary.ts`): it holds them from before
 * deletions that were purged a grace after they were learned of, and it has not heard of the
 * purger since.
 *
 * What can a member do that lies as well as it can? It may always write, delete and flush as any
 * client may, and give up what it holds. What it says of times and of others has these effects and
 * no more:
 *
 *   HELLO purge times, its own       later than a grace before its own clock, or before this
 *     and those of third members     node's clock plus the allowed skew: the session fails as
 *                                    "untrue". Otherwise they are noted, but as no later than a
 *                                    grace before this node's clock
 *   HELLO clock                      moves this node's hybrid clock, within the allowed skew. And
 *                                    it says what time it is: what a lie does, and how many it
 *                                    takes, is said in `trusted-clock.ts`
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
 *   HELLO members that are gone      they count as none until there is contact with them again
 *   HELLO when a purge was learned   a purge is not noted, or this node takes itself to know it;
 *                                    the liar could as well leave the purge out
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
 * The vector holds MAX_MEMBERS members. Beyond them, members that are forgotten make room first,
 * then those longest out of contact. Their purge time is kept under the name of nobody, with whom
 * no node ever has contact: because of that more may be set aside, never less.
 */

import type { Origin } from "../data/origin.ts";

/** Most members that a contact vector holds. */
export const MAX_MEMBERS = 4_096;
/** Who was met within this time of the latest meeting makes no room for anybody, in ms. */
const RECENT_MS = 3_600_000;
const FIRST_ROOM = 16;

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

/** What is known of one member; times are Unix milliseconds, 0 for none. */
export interface Contact {
  originHigh: number;
  originLow: number;
  /** Up to when everything of this member is here. */
  ms: number;
  /** Up to when deletions died that it has purged. */
  purgedUpToMs: number;
  /** When that came to be known here; Infinity when it is not known when. */
  learnedMs: number;
  /** When somebody said that it is gone for good. */
  forgottenMs: number;
}

/** One node's contacts, in the order of the origins of the other nodes. */
export class Contacts {
  /** Grows with each change. */
  changes = 0;
  private count = 0;
  /** Whether anybody was ever said to be gone. */
  hasForgotten = false;
  private highs = new Uint32Array(FIRST_ROOM);
  private lows = new Uint32Array(FIRST_ROOM);
  private contactMs = new Float64Array(FIRST_ROOM);
  private purgedMs = new Float64Array(FIRST_ROOM);
  private learnedMs = new Float64Array(FIRST_ROOM);
  private forgottenMs = new Float64Array(FIRST_ROOM);
  /** When this process last met it itself; 0 when others only told of it. */
  private metMs = new Float64Array(FIRST_ROOM);

  /** Number of members known, forgotten ones included. */
  get size(): number {
    return this.count;
  }

  /** Up to when everything of this member is here; 0 when there was no contact. */
  of(originHigh: number, originLow: number): number {
    const at = this.find(originHigh, originLow);
    return at < 0 ? 0 : this.contactMs[at];
  }

  /** Whether anything is known of this member. */
  has(originHigh: number, originLow: number): boolean {
    return this.find(originHigh, originLow) >= 0;
  }

  /** What is known of this member; null when nothing is. */
  get(originHigh: number, originLow: number): Contact | null {
    const at = this.find(originHigh, originLow);
    return at < 0 ? null : this.at(at);
  }

  /** The member at this place in the order, from 0 to below `size`. */
  at(at: number): Contact {
    return {
      originHigh: this.highs[at],
      originLow: this.lows[at],
      ms: this.contactMs[at],
      purgedUpToMs: this.purgedMs[at],
      learnedMs: this.learnedMs[at],
      forgottenMs: this.forgottenMs[at],
    };
  }

  /** Whether somebody said that the member is gone for good, and there was no contact since. */
  isForgotten(originHigh: number, originLow: number): boolean {
    const at = this.find(originHigh, originLow);
    return at >= 0 && this.forgottenMs[at] > 0 && this.forgottenMs[at] >= this.contactMs[at];
  }

  /** How many members there are that nobody said are gone. */
  get living(): number {
    let living = 0;
    for (let at = 0; at < this.count; at++) {
      const isNobody = this.highs[at] === 0 && this.lows[at] === 0;
      const isGone = this.forgottenMs[at] > 0 && this.forgottenMs[at] >= this.contactMs[at];
      if (!isNobody && !isGone) living++;
    }
    return living;
  }

  /**
   * Notes that everything a member had up to `ms` is here, and what it had purged, which was
   * learned at `learnedMs`. Never goes back.
   */
  note(
    originHigh: number,
    originLow: number,
    ms: number,
    purgedUpToMs = 0,
    learnedMs = Infinity,
  ): void {
    const at = this.place(originHigh, originLow);
    this.changes++;
    const isNews = purgedUpToMs > this.purgedMs[at] || this.contactMs[at] < purgedUpToMs;
    if (isNews) this.learnedMs[at] = Math.max(this.learnedMs[at], learnedMs);
    this.contactMs[at] = Math.max(this.contactMs[at], ms);
    this.purgedMs[at] = Math.max(this.purgedMs[at], purgedUpToMs);
  }

  /** Notes contact with a member with which there was a session. */
  meet(originHigh: number, originLow: number, ms: number): void {
    const at = this.place(originHigh, originLow);
    this.changes++;
    this.contactMs[at] = Math.max(this.contactMs[at], ms);
    this.metMs[at] = Math.max(this.metMs[at], ms);
  }

  /** A deletion that was purged by somebody is dropped here: all that was purged counts as new. */
  relearn(nowMs: number): void {
    for (let at = 0; at < this.count; at++) {
      if (this.purgedMs[at] > 0) this.learnedMs[at] = Math.max(this.learnedMs[at], nowMs);
    }
  }

  /** Notes that somebody said at that time that a member is gone for good. */
  forget(originHigh: number, originLow: number, atMs: number): void {
    this.hasForgotten = true;
    this.changes++;
    const at = this.place(originHigh, originLow);
    this.forgottenMs[at] = Math.max(this.forgottenMs[at], atMs);
  }

  /** Whether what is known of a member is so old that it need not be kept. */
  static isSpent({ ms, forgottenMs }: Contact, spentUpToMs: number): boolean {
    return ms <= spentUpToMs && forgottenMs <= spentUpToMs;
  }

  /**
   * Drops members of whom all is older than `spentUpToMs` and what they purged was learned before
   * `latestPurgeMs`. Returns up to when deletions count as purged by this node from now on, 0 when
   * that has not changed.
   */
  dropSpent(spentUpToMs: number, latestPurgeMs: number): number {
    let purgedUpToMs = 0;
    this.keep((at) => {
      const isNobody = this.highs[at] === 0 && this.lows[at] === 0;
      if (isNobody || !Contacts.isSpent(this.at(at), spentUpToMs)) return true;
      if (this.purgedMs[at] === 0) return false;
      if (this.learnedMs[at] >= latestPurgeMs) return true;
      purgedUpToMs = Math.max(purgedUpToMs, this.learnedMs[at]);
      return false;
    });
    return purgedUpToMs;
  }

  /** As they are now; purges later than `latestPurgeMs` count as of then. */
  clone(latestPurgeMs = Infinity): Contacts {
    const copy = new Contacts();
    copy.count = this.count;
    copy.hasForgotten = this.hasForgotten;
    copy.highs = this.highs.slice(0, this.count);
    copy.lows = this.lows.slice(0, this.count);
    copy.contactMs = this.contactMs.slice(0, this.count);
    copy.purgedMs = this.purgedMs.slice(0, this.count);
    copy.learnedMs = this.learnedMs.slice(0, this.count);
    copy.forgottenMs = this.forgottenMs.slice(0, this.count);
    copy.metMs = this.metMs.slice(0, this.count);
    if (latestPurgeMs === Infinity) return copy;
    for (let at = 0; at < copy.count; at++) {
      copy.purgedMs[at] = Math.min(copy.purgedMs[at], latestPurgeMs);
    }
    return copy;
  }

  /**
   * As they are told: contacts in whole steps, rounded down, and what was purged in whole seconds,
   * rounded up. So what is claimed is never more than what is so, nor forgotten less.
   */
  told(stepMs: number, latestPurgeMs = Infinity): Contacts {
    const told = this.clone(latestPurgeMs);
    for (let at = 0; at < told.count; at++) {
      told.contactMs[at] = Math.floor(told.contactMs[at] / stepMs) * stepMs;
      told.purgedMs[at] = Math.ceil(told.purgedMs[at] / 1000) * 1000;
      told.forgottenMs[at] = Math.floor(told.forgottenMs[at] / 1000) * 1000;
    }
    return told;
  }

  /**
   * Up to when deletions may have been purged, whoever did, for who has the same digest of these
   * (`purgeInSteps`).
   */
  purgedAtMostMs(stepMs: number): number {
    let upToMs = 0;
    for (let at = 0; at < this.count; at++) {
      upToMs = Math.max(upToMs, purgeInSteps(this.contactMs[at], this.purgedMs[at], stepMs));
    }
    return upToMs;
  }

  /** Visits members in the order of their origins: all, or from one place to below another. */
  forEach(
    visit: (
      originHigh: number,
      originLow: number,
      ms: number,
      purgedUpToMs: number,
      learnedMs: number,
      forgottenMs: number,
    ) => void,
    from = 0,
    to = this.count,
  ): void {
    for (let at = from; at < to; at++) {
      visit(
        this.highs[at],
        this.lows[at],
        this.contactMs[at],
        this.purgedMs[at],
        this.learnedMs[at],
        this.forgottenMs[at],
      );
    }
  }

  /** Adds members behind all those that are known, in the order of their origins. */
  append(contact: Contact): void {
    if (this.count === this.highs.length) this.grow();
    const at = this.count++;
    this.highs[at] = contact.originHigh;
    this.lows[at] = contact.originLow;
    this.contactMs[at] = contact.ms;
    this.purgedMs[at] = contact.purgedUpToMs;
    this.learnedMs[at] = contact.learnedMs;
    this.forgottenMs[at] = contact.forgottenMs;
    this.metMs[at] = 0;
    this.hasForgotten ||= contact.forgottenMs > 0;
  }

  /**
   * Forgets members beyond MAX_MEMBERS, but not that they purged deletions: first those that were
   * said to be gone, then those longest out of contact. Of several, all nodes forget the same, or
   * what they know would never become alike. Those that were met of late stay: else a peer that
   * tells of members without number would take their place.
   */
  trim(): void {
    if (this.count <= MAX_MEMBERS) return;
    const nobody = this.find(0, 0);
    const latestMs = this.metMs.subarray(0, this.count).reduce((a, b) => Math.max(a, b), 0);
    const ranks = Array.from({ length: this.count }, (_, at) => this.rank(at, nobody, latestMs));
    const order = Array.from(ranks.keys()).sort(
      (a, b) => ranks[a] - ranks[b] || this.contactMs[a] - this.contactMs[b] || a - b,
    );
    const leaving = new Set(order.slice(0, this.count - MAX_MEMBERS));
    let purgedUpToMs = 0;
    for (const at of leaving) purgedUpToMs = Math.max(purgedUpToMs, this.purgedMs[at]);
    this.keep((at) => !leaving.has(at));
    // With nobody there is ever contact, so this counts as missed by all.
    if (purgedUpToMs > 0) this.note(0, 0, 0, purgedUpToMs);
    if (purgedUpToMs > 0) this.trim();
  }

  /** Whose turn it is to make room: the lowest first. */
  private rank(at: number, nobody: number, latestMs: number): number {
    if (at === nobody) return 3;
    if (this.metMs[at] > 0 && this.metMs[at] >= latestMs - RECENT_MS) return 2;
    return this.forgottenMs[at] > 0 && this.forgottenMs[at] >= this.contactMs[at] ? 0 : 1;
  }

  /** Drops all but those places. */
  private keep(isKept: (at: number) => boolean): void {
    let to = 0;
    for (let at = 0; at < this.count; at++) {
      if (!isKept(at)) continue;
      if (to !== at) for (const column of this.columns()) column[to] = column[at];
      to++;
    }
    if (to < this.count) this.changes++;
    this.count = to;
  }

  /** Where the member is, who is taken up if it is new. */
  private place(originHigh: number, originLow: number): number {
    const found = this.find(originHigh, originLow);
    if (found >= 0) return found;
    this.insert(-1 - found, originHigh, originLow);
    return -1 - found;
  }

  /** Where the member is; -1 - p when it is unknown and would be at p. */
  private find(originHigh: number, originLow: number): number {
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const order = this.highs[middle] - originHigh || this.lows[middle] - originLow;
      if (order === 0) return middle;
      if (order < 0) low = middle + 1;
      else high = middle;
    }
    return -1 - low;
  }

  private insert(at: number, originHigh: number, originLow: number): void {
    if (this.count === this.highs.length) this.grow();
    for (const column of this.columns()) {
      column.copyWithin(at + 1, at, this.count);
      column[at] = 0;
    }
    this.highs[at] = originHigh;
    this.lows[at] = originLow;
    this.count++;
  }

  private grow(): void {
    const length = Math.max(FIRST_ROOM, this.count * 2);
    this.highs = words(this.highs, length);
    this.lows = words(this.lows, length);
    this.contactMs = times(this.contactMs, length);
    this.purgedMs = times(this.purgedMs, length);
    this.learnedMs = times(this.learnedMs, length);
    this.forgottenMs = times(this.forgottenMs, length);
    this.metMs = times(this.metMs, length);
  }

  private columns(): (Uint32Array | Float64Array)[] {
    const { highs, lows, contactMs, purgedMs, learnedMs, forgottenMs, metMs } = this;
    return [highs, lows, contactMs, purgedMs, learnedMs, forgottenMs, metMs];
  }
}

/**
 * What a digest has of a purge: the end of the step in which it falls, if there was contact with
 * that member later. 0 for none.
 */
export function purgeInSteps(contactMs: number, purgedUpToMs: number, stepMs: number): number {
  const endMs = Math.ceil(purgedUpToMs / stepMs) * stepMs;
  return contactMs >= endMs ? endMs : purgedUpToMs;
}

function words(from: Uint32Array, length: number): Uint32Array<ArrayBuffer> {
  const larger = new Uint32Array(length);
  larger.set(from);
  return larger;
}

function times(from: Float64Array, length: number): Float64Array<ArrayBuffer> {
  const larger = new Float64Array(length);
  larger.set(from);
  return larger;
}

/**
 * Of those whose deletions are forgotten at `here`, and of which `there` may have missed some, the
 * one who purged last; `upToMs` is 0 when there is none. What they say they purged later than
 * `latestMs` they purged up to then.
 */
export function latestMissed(here: Standing, there: Standing, latestMs = Infinity): Purger {
  const { origin, purgedUpToMs } = here;
  const latest: Purger = { originHigh: 0, originLow: 0, upToMs: 0 };
  // What `here` knew by then, `there` knows.
  const sharedMs = there.contacts.of(origin.high, origin.low);
  const look = (originHigh: number, originLow: number, purgedUpToMs: number): void => {
    const upToMs = Math.min(purgedUpToMs, latestMs);
    if (upToMs <= latest.upToMs || knownOf(there, originHigh, originLow) >= upToMs) return;
    Object.assign(latest, { originHigh, originLow, upToMs });
  };
  look(origin.high, origin.low, purgedUpToMs);
  here.contacts.forEach((high, low, _, upToMs, learnedMs) => {
    if (sharedMs < learnedMs) look(high, low, upToMs);
  });
  return latest;
}

/**
 * Up to when `node` knows all deletions of a member, which may be itself before it lost its data.
 */
function knownOf(node: Standing, originHigh: number, originLow: number): number {
  const contactMs = node.contacts.of(originHigh, originLow);
  if (originHigh !== node.origin.high || originLow !== node.origin.low) return contactMs;
  // Others have it in whole seconds, rounded up.
  return Math.max(contactMs, Math.ceil(node.purgedUpToMs / 1000) * 1000);
}

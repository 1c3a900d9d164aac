/**
 * The contact vector: what lets a node forget deletions without any of them ever being undone. For
 * each member of the cluster a node keeps up to when it knows all deletions that the member knows
 * (the contact), up to when that member has purged deletions, and when it came to know of that.
 *
 * A node Y is *stale* towards a node X when X names a purger that has purged a deletion later than
 * Y's contact with the purger, and X learned of that later than Y's contact with X. Then Y may
 * never have heard of that deletion: X accepts nothing from Y that is older and that X lacks.
 *
 * Claim: a node that knows a deletion accepts nothing older of that key from one that does not.
 * docs/forgetting.md argues why, and what a member that lies can do. It rests on this:
 *
 * 1. A contact is true when it is noted, and stays true. It is the watermark of a session that
 *    compared everything; nothing was purged meanwhile (`purge-guard.ts`), nothing was refused and
 *    kept (`refusals.ts`), and what either side learns later counts as learned after the
 *    watermark (`Deletions.vouch`).
 * 2. Who forgets names the purger: itself for what it purged, and all whom the peer names for what
 *    it took over from there (`notePurges`). Who drops a deletion because a peer refuses it does
 *    both, and counts all purges that it knows of as learned now (`relearn`).
 * 3. Nobody forgets within the grace, or is believed to have: no purge time that is said or noted
 *    is later than a grace before the clock (`Deletions.latestPurgeMs`).
 * 4. What is told is never more than what is so: contacts are rounded down, purges up (`told`).
 * 5. Who drops a member claims its purges as its own, up to when it learned of them (`dropSpent`),
 *    and does so no earlier than a grace after that. Who was dropped is noted again only for what
 *    was not known by then (`Greeting.noteContact`).
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

/**
 * What a store may forget of deletions, and what it may have forgotten already.
 *
 * A deletion is kept as a tombstone for the grace, and so is what has expired, which is a deletion
 * of all that it had replaced. Then it is purged, and the node does not know of
 * it any more; nor does it know what was purged by others whose data it has taken over. So an entry
 * from before such a purge may have been deleted without a trace of it here. `mayHaveForgotten`
 * answers whether that can be. `core/sync/contacts.ts` keeps which other member purged what, and
 * docs/forgetting.md argues why deletions stay deleted all the same.
 */
import type { HybridClock } from "../data/clock.ts";
import { KIND_TOMBSTONE, type Entry } from "../data/entry.ts";
import { diedMs, endedMs, writtenMs } from "../data/merge.ts";

/** Sessions hold purges back for at most this part of the grace. */
const HELD_SHARE = 1 / 8;

/** What one store knows of its deletions. All times are Unix ms. */
export class Deletions {
  private purgedMs = 0;
  private elsewhereMs = 0;
  private vouchedMs = 0;
  private sessions = 0;
  private purgeCount = 0;
  /** Since when a session has held back a purge; 0 while none does. */
  private heldSinceMs = 0;
  /** This pass of the sweep purges whatever sessions there are. */
  private isPurgeDue = false;

  /**
   * `graceMs`: how long a tombstone is kept. `mayForget`: whether the time is certain enough for
   * that.
   */
  constructor(
    private readonly clock: HybridClock,
    readonly graceMs: number,
    private readonly mayForget: () => boolean = () => true,
  ) {}

  /**
   * The latest death among the tombstones that were purged here; 0 if there were none. This store
   * still knows all deletions of what died later, but perhaps not of what died before.
   */
  get purgedUpToMs(): number {
    return this.purgedMs;
  }

  /** The same for purges by other members whose data this store has taken over since. */
  get purgedElsewhereMs(): number {
    return this.elsewhereMs;
  }

  /** How many deletions were purged. A session during which this changes has to begin anew. */
  get purges(): number {
    return this.purgeCount;
  }

  /** How many sessions are under way. */
  get sessionsUnderWay(): number {
    return this.sessions;
  }

  /**
   * Whether a deletion newer than this entry may once have been known here, and be forgotten now.
   */
  mayHaveForgotten(entry: Entry): boolean {
    const { forgottenUpToMs } = this;
    return forgottenUpToMs > 0 && writtenMs(entry) <= forgottenUpToMs;
  }

  /** The time up to which deletions may be forgotten here, whoever purged them. */
  get forgottenUpToMs(): number {
    return Math.max(this.purgedMs, this.elsewhereMs);
  }

  /**
   * Up to when a deletion can have been forgotten here before all had a grace to hear of it, in
   * Unix ms; Infinity while the time is not certain. What was purged by a clock that was ahead is
   * dated later, at times by years. If it counted, nothing new would be taken from anybody for as
   * long. The later of this clock and that of a peer counts, in Unix ms: whichever is behind, what
   * was rightly forgotten is included.
   */
  latestForgottenMs(peerClockMs: number): number {
    if (!this.mayForget()) return Infinity;
    return this.latestPurgeMs(Math.max(this.clock.nowMs(), peerClockMs));
  }

  /**
   * Up to when this node can say which deletions it has forgotten, in Unix ms; Infinity when it can
   * of all. Nobody believes that what died within the grace was forgotten. So a node that is not
   * certain of the time, and takes it to be earlier than when it last purged, cannot tell of some.
   */
  latestToldMs(): number {
    const latestMs = this.latestPurgeMs();
    return this.mayForget() || this.forgottenUpToMs <= latestMs ? Infinity : latestMs;
  }

  // What was purged.

  /** Deletions up to then were purged here. */
  notePurgedHere(upToMs: number): void {
    this.purgedMs = Math.max(this.purgedMs, upToMs);
  }

  /** Deletions up to then were purged by others, whose data is here. */
  notePurgedElsewhere(upToMs: number): void {
    this.elsewhereMs = Math.max(this.elsewhereMs, upToMs);
  }

  // What may be purged.

  /**
   * Deletions of what died before this time may be purged, because their grace is over. With
   * `clockMs`, the same for another node with the same grace, whose clock shows that.
   */
  latestPurgeMs(clockMs = this.clock.nowMs()): number {
    return Math.max(0, clockMs - this.graceMs);
  }

  /**
   * A session that compares this store begins. Nothing is purged until all such sessions have
   * ended; but purges are held back for no longer than HELD_SHARE of the grace, whoever keeps
   * sessions going.
   */
  beginSession(): void {
    this.sessions++;
  }

  /** One of those has ended. */
  endSession(): void {
    this.sessions--;
  }

  /** A pass over all tombstones begins. If purges were held back for long, it makes up for them. */
  beginPass(): void {
    const nowMs = this.clock.nowMs();
    // A clock that was set back begins anew.
    if (this.heldSinceMs > nowMs) this.heldSinceMs = nowMs;
    const isHeld = this.heldSinceMs > 0;
    this.isPurgeDue = isHeld && nowMs - this.heldSinceMs > this.graceMs * HELD_SHARE;
    if (this.isPurgeDue || this.sessions === 0) this.heldSinceMs = 0;
  }

  /** Whether the grace of what is dead is over. */
  isPurgeable(dead: Entry): boolean {
    if (dead.kind !== KIND_TOMBSTONE && dead.expiresAtMs === 0) return false;
    return diedMs(dead) < this.latestPurgeMs();
  }

  /** Whether what is dead is to be purged now; notes that it is. */
  purge(tombstone: Entry): boolean {
    if (!this.isPurgeable(tombstone) || !this.mayForget()) return false;
    if (this.sessions > 0 && !this.isPurgeDue) {
      if (this.heldSinceMs === 0) this.heldSinceMs = this.clock.nowMs();
      return false;
    }
    this.purgeAtOnce(tombstone);
    return true;
  }

  /**
   * Notes that a tombstone is purged now, whatever sessions there are: those under way have to
   * begin anew. Nobody believes that what died within the grace was purged, so no more than that
   * is said.
   */
  purgeAtOnce(tombstone: Entry): void {
    this.purgeCount++;
    this.notePurgedHere(Math.min(diedMs(tombstone), this.latestPurgeMs()));
  }

  /**
   * Says from now on that what died up to then was purged, though nothing need have been: for whom
   * somebody else had purged it who is a member no more. Sessions under way begin anew.
   */
  claimPurge(upToMs: number): void {
    if (upToMs <= this.purgedMs) return;
    this.purgeCount++;
    this.notePurgedHere(Math.min(upToMs, this.latestPurgeMs()));
  }

  // What was vouched for.

  /**
   * Peers are told that they know every deletion that is known here and died up to then. So a
   * deletion that this node learns of later counts as one that died at that later moment.
   */
  vouch(upToMs: number): void {
    this.vouchedMs = Math.max(this.vouchedMs, upToMs);
  }

  /**
   * When this node is to have learned that the key is dead which an entry stands for, as it is put
   * in its place now; 0 when that was no later than it died. A death that comes to be known after
   * peers were told that they have all up to then counts as one of this moment. Nobody else need
   * agree on when that was (see `merge.ts` and `record-digest.ts`).
   */
  learnedMs(entry: Entry): number {
    if (entry.kind !== KIND_TOMBSTONE && entry.expiresAtMs === 0) return 0;
    const latestMs = this.clock.latestMs();
    const toldMs = Math.min(entry.learnedMs, latestMs);
    const endMs = endedMs(entry);
    if (Math.max(endMs, toldMs) > this.vouchedMs) return toldMs > endMs ? toldMs : 0;
    return this.learningMs();
  }

  /**
   * The time of what this node learns now, in Unix ms: after all that peers were told it knew
   * everything by, though its clock may have begun anew at an earlier time since.
   */
  learningMs(): number {
    return Math.max(this.clock.latestMs(), this.vouchedMs + 1);
  }
}

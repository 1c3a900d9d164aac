/**
 * What a store may forget of deletions, and what it may have forgotten.
 *
 * A deletion is kept as a tombstone for the grace, and purged then. What a node has purged, or has
 * taken over from others that had, it knows no more: an entry from before may have been deleted
 * without a trace here. That is the one question, `mayHaveForgotten`. Why deletions stay deleted
 * all the same is argued in `core/sync/contacts.ts`, which keeps who of the other members purged
 * what.
 */
import type { HybridClock } from "../data/clock.ts";
import { Entry, KIND_TOMBSTONE } from "../data/entry.ts";
import { diedMs, writtenMs } from "../data/merge.ts";

/** Sessions hold back a purge for this part of the grace at most. */
const HELD_SHARE = 1 / 8;

/** The account of one store's deletions. All times are Unix ms. */
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
  private readonly learned = new Entry();

  /** `graceMs`: how long a tombstone is kept. */
  constructor(
    private readonly clock: HybridClock,
    private readonly graceMs: number,
  ) {}

  /**
   * The latest death among the tombstones that were purged here; 0 if none. Of what died later this
   * store knows all deletions; of what died before, it may not.
   */
  get purgedUpToMs(): number {
    return this.purgedMs;
  }

  /** The same of those whose data this store has taken over since: what they purged is not here. */
  get purgedElsewhereMs(): number {
    return this.elsewhereMs;
  }

  /** How many deletions were purged: a session in whose course it changes has to begin anew. */
  get purges(): number {
    return this.purgeCount;
  }

  /** How many sessions are under way. */
  get sessionsUnderWay(): number {
    return this.sessions;
  }

  /**
   * Whether a deletion that is newer than this entry may have been known here, and be so no more.
   */
  mayHaveForgotten(entry: Entry): boolean {
    const { forgottenUpToMs } = this;
    return forgottenUpToMs > 0 && writtenMs(entry) <= forgottenUpToMs;
  }

  /** Deletions of what died up to then may be forgotten here, whoever purged them. */
  get forgottenUpToMs(): number {
    return Math.max(this.purgedMs, this.elsewhereMs);
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
   * A deletion may be forgotten once it died before this: its grace is over. The same for a clock
   * other than this node's, which has to be one of a node with the same grace.
   */
  latestPurgeMs(clockMs = this.clock.nowMs()): number {
    return Math.max(0, clockMs - this.graceMs);
  }

  /**
   * A session is under way that compares what is here: until as many have ended nothing is purged;
   * but not for longer than a part of the grace (HELD_SHARE), whoever keeps them going.
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

  /** Whether a tombstone is to be purged now; notes that it is. */
  purge(tombstone: Entry): boolean {
    if (diedMs(tombstone) >= this.latestPurgeMs()) return false;
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

  // What was vouched for.

  /**
   * Peers are told that they have every deletion known here that died up to then. One learned of
   * later counts as one that died at that later moment.
   */
  vouch(upToMs: number): void {
    this.vouchedMs = Math.max(this.vouchedMs, upToMs);
  }

  /**
   * An entry as it is accepted now. A deletion that comes after peers were told that they have all
   * up to its death is one that died just now. Nobody else need agree on when that was (see
   * `merge.ts` and `record-digest.ts`). What is returned is valid until the next call.
   */
  asLearnedNow(entry: Entry): Entry {
    if (entry.kind !== KIND_TOMBSTONE || diedMs(entry) > this.vouchedMs) return entry;
    const { learned } = this;
    learned.kind = KIND_TOMBSTONE;
    learned.setKey(entry.key, entry.keyOffset, entry.keyLength).setValue(entry.key, 0, 0);
    learned.setVersion(entry.timeHigh, entry.timeLow, entry.originHigh, entry.originLow);
    learned.expiresAtMs = Math.max(this.clock.latestMs(), this.vouchedMs + 1);
    return learned;
  }
}

/**
 * What two nodes agree on with their HELLOs: whether they belong together, as of when they
 * compare, and afterwards up to when each has everything the other had.
 *
 * A node's clock here is its hybrid logical clock, for that is what it stamps writes with. Both
 * observe the other's, so that a node whose clock is behind, or was set back, compares up to the
 * present from the next session on, and not hours later.
 */
import { timeHighOf, timeLowOf, unixMsOf } from "../data/clock.ts";
import { latestMissed, type Contacts } from "./contacts.ts";
import { REFUSED_FUTURE, REFUSED_READ_ONLY, UNCHANGED } from "../store/outcome.ts";
import type { Store } from "../store/store.ts";
import { Hello } from "./hello.ts";
import { ROOT_BYTES } from "./items.ts";
import type { Salt } from "./short-digest.ts";
import type { SyncCounts, SyncFailure } from "./result.ts";
import { watermarkBehind } from "./watermark.ts";

/** What a node brings to a greeting. */
export interface GreetingOptions {
  readonly store: Store;
  readonly contacts: Contacts;
  readonly cluster: string;
  readonly nodeId: string;
  readonly epoch: number;
  readonly lagMs: number;
  readonly salt: Salt;
  readonly maxFrameBytes: number;
  readonly nowMs: () => number;
}

/** A failure, and the sentence that says so. */
export type FailureReason = readonly [failure: SyncFailure, reason: string];

/** One side's view of the greeting. */
export class Greeting {
  /** As of when the two sides compare, in Unix ms. */
  watermarkMs = 0;

  constructor(private readonly options: GreetingOptions) {}

  /**
   * Begins, before anything is compared, with the latest time this node would compare as of. For
   * what it learns of up to then it vouches from now on.
   */
  begin(): void {
    const { store, lagMs } = this.options;
    this.watermarkMs = watermarkBehind(store.clockMs(), lagMs);
    store.deletions.vouch(this.watermarkMs);
  }

  /**
   * Meets the peer that said this: takes over its clock and its flush, and agrees with it on a
   * watermark. What the session fails for when the two do not talk to each other, or cannot; else
   * whether a flush came with it.
   */
  meet(theirs: Hello, counts: SyncCounts): boolean | FailureReason {
    const refusal = this.judge(theirs);
    if (refusal !== null) return refusal;
    const adopted = this.adopt(theirs);
    if (typeof adopted === "boolean") this.agree(theirs);
    else {
      const { timeHigh, timeLow } = theirs.floor;
      const isAhead = this.options.store.isTooFarAhead(timeHigh, timeLow);
      if (isAhead) counts.postpone(unixMsOf(timeHigh, timeLow));
    }
    return adopted;
  }

  /** Agrees with the peer on the earlier of both watermarks. */
  private agree(theirs: Hello): void {
    this.watermarkMs = Math.min(this.watermarkMs, theirs.watermarkMs);
    // Both clocks are there already. So a restart does not forget what was vouched for.
    this.options.store.clock.observe(timeHighOf(this.watermarkMs), timeLowOf(this.watermarkMs));
  }

  /** What this node says, with this root. */
  hello(mode: number, root: Uint8Array | null): Hello {
    const { store, contacts, cluster, nodeId, epoch, salt, maxFrameBytes } = this.options;
    const hello = new Hello();
    hello.mode = mode;
    hello.cluster = cluster;
    hello.nodeId = nodeId;
    hello.epoch = epoch;
    hello.salt = salt;
    hello.maxFrameBytes = maxFrameBytes;
    hello.clockMs = this.options.store.clockMs();
    hello.watermarkMs = this.watermarkMs;
    hello.isFull = store.isFull || store.isReadOnly;
    hello.acceptsUpToMs = store.acceptsUpToMs();
    // Of a time in which its clock was ahead, or its grace shorter, it says no more than can be.
    const latestPurgeMs = store.deletions.latestPurgeMs();
    hello.purgedUpToMs = Math.min(store.deletions.purgedUpToMs, latestPurgeMs);
    hello.floor = store.floor;
    if (root !== null) hello.root.set(root.subarray(0, ROOT_BYTES));
    hello.contacts = contacts.clone(latestPurgeMs);
    hello.mostNamed = contacts.named;
    return hello;
  }

  /** Whether this node talks to the one that said this. Null when it does. */
  private judge(theirs: Hello): FailureReason | null {
    const { cluster, nodeId, epoch } = this.options;
    if (theirs.cluster !== cluster) {
      const reason = `it belongs to the cluster "${theirs.cluster}", this node to "${cluster}"`;
      return ["incompatible", reason];
    }
    if (theirs.nodeId !== nodeId) return null;
    if (theirs.epoch === epoch) return ["self", "the address leads back to this node itself"];
    return ["duplicate", `another running node has this node's node_id, "${nodeId}"`];
  }

  /** Whether one of the two may have missed deletions that the other has forgotten. */
  hasMissed(theirs: Hello): boolean {
    const { store, contacts } = this.options;
    const { purgedUpToMs } = store.deletions;
    const own = { origin: store.origin, purgedUpToMs, contacts };
    return latestMissed(own, theirs).upToMs > 0 || latestMissed(theirs, own).upToMs > 0;
  }

  /**
   * Takes over clock and flush of the peer. True when a flush came with it; a refusal when it
   * cannot be.
   */
  private adopt(theirs: Hello): boolean | FailureReason {
    const { store, nowMs } = this.options;
    const untruth = findUntruePurge(store, theirs.forgottenUpToMs(), theirs.clockMs);
    if (untruth !== null) return ["untrue", untruth];
    store.observeClock(timeHighOf(theirs.clockMs), timeLowOf(theirs.clockMs));
    const { timeHigh, timeLow, originHigh, originLow } = theirs.floor;
    const outcome = store.applyFloor(timeHigh, timeLow, originHigh, originLow);
    // Without the flush nothing here could be compared with what is there.
    if (outcome === REFUSED_READ_ONLY) {
      return ["incomplete", "it was flushed, and this node can write nothing down for now"];
    }
    if (outcome !== REFUSED_FUTURE) return outcome !== UNCHANGED;
    const ahead = aTimeAhead(unixMsOf(timeHigh, timeLow), nowMs());
    return ["incompatible", `it was flushed at ${ahead}`];
  }

  /**
   * After a complete session: everything the peer had is here, and what it had from others. And
   * what was purged there is not here any more.
   */
  noteContact(theirs: Hello): void {
    const { contacts } = this.options;
    const { high, low } = theirs.origin;
    contacts.meet(high, low, this.watermarkMs);
    // What is said of this node itself counts too: it may have lost its data since.
    theirs.contacts.forEach((high, low, ms) => {
      contacts.note(high, low, Math.min(ms, this.watermarkMs));
    });
    notePurges(this.options, theirs);
  }
}

/** Purge times are told in whole seconds, rounded up, and clocks in seconds, rounded down. */
const ROUNDING_MS = 2_000;

/**
 * Why nobody can have forgotten deletions up to that time, in a sentence; null when it can be. By
 * the clock of who says so, and by this node's within the skew that is allowed, a deletion is kept
 * for its grace. Would it be believed, who has what is newer would be told to give it up.
 */
export function findUntruePurge(
  store: Store,
  forgottenUpToMs: number,
  peerClockMs: number,
): string | null {
  if (forgottenUpToMs === 0) return null;
  const byTheirsMs = store.deletions.latestPurgeMs(peerClockMs);
  const byOursMs = store.deletions.latestPurgeMs(store.acceptsUpToMs());
  if (forgottenUpToMs <= Math.min(byTheirsMs, byOursMs) + ROUNDING_MS) return null;
  const nowMs = store.clock.nowMs();
  const seconds = Math.round((forgottenUpToMs - nowMs) / 1000);
  const when = seconds > 0 ? `${seconds} s ahead of this node's clock` : `${-seconds} s ago`;
  const graceSeconds = (nowMs - store.deletions.latestPurgeMs()) / 1000;
  return (
    `it claims to have forgotten deletions of ${when}, which are kept for ${graceSeconds} s ` +
    "here; if its clock is right and storage.tombstone_grace_seconds the same, do not trust it"
  );
}

function aTimeAhead(ms: number, nowMs: number): string {
  return `a time that lies ${Math.round((ms - nowMs) / 1000)} s ahead of this node's clock`;
}

/** From now on, what the peer and those before it purged is not to come in here either. */
export function notePurges(
  { store, contacts }: Pick<GreetingOptions, "store" | "contacts">,
  theirs: Hello,
): void {
  // What its clock has it further than this node's is told again, and noted, a little later: until
  // then nothing that is younger than the grace is turned away here.
  const latestMs = store.deletions.latestPurgeMs();
  const note = (high: number, low: number, purgedUpToMs: number): void => {
    const upToMs = Math.min(purgedUpToMs, latestMs);
    contacts.note(high, low, 0, upToMs);
    store.deletions.notePurgedElsewhere(upToMs);
  };
  note(theirs.origin.high, theirs.origin.low, theirs.purgedUpToMs);
  theirs.contacts.forEach((high, low, _, purgedUpToMs) => note(high, low, purgedUpToMs));
}

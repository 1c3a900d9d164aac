/**
 * What two nodes agree on with their HELLOs: whether they belong together, as of when they
 * compare, and afterwards up to when each has everything the other had.
 *
 * The clock of a node is its hybrid logical clock here, because it stamps writes with that. Each
 * node observes the other's clock. So a node whose clock is behind, or was set back, compares up to
 * the present from its next session on, and not only hours later.
 */
import { timeHighOf, timeLowOf, unixMsOf } from "../data/clock.ts";
import { CURRENT, type Capabilities } from "../data/capabilities.ts";
import { FEW_MEMBERS } from "./contact-summary.ts";
import { Contacts, latestMissed, type Contact } from "./contacts.ts";
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
  /** Members are dropped when nothing was heard of them for so long, in ms; never by default. */
  readonly forgetAfterMs?: number;
  readonly nowMs: () => number;
  readonly role: "initiator" | "responder";
  readonly isTimeKnown?: () => boolean;
  readonly capabilities?: Capabilities;
  readonly onPeerTime?: (nodeId: string, unixMs: number | null) => void;
}

/** A failure, and the sentence that says so. */
export type FailureReason = readonly [failure: SyncFailure, reason: string];

/** So many steps in which contacts are told make a grace. */
const STEPS_A_GRACE = 16;

/** One side's view of the greeting. */
export class Greeting {
  /** As of when the two sides compare, in Unix ms. */
  watermarkMs = 0;
  /** Whether both are members of one cluster, whatever else is wrong. */
  isOfMembers = false;

  constructor(private readonly options: GreetingOptions) {}

  /**
   * Begins, before anything is compared, with the latest watermark that this node would agree to.
   * From now on it vouches for knowing every deletion up to then (`Deletions.vouch`).
   */
  begin(): void {
    const { store, lagMs } = this.options;
    const { deletions } = store;
    const latestMs = watermarkBehind(store.clockMs(), lagMs);
    this.watermarkMs = Math.min(latestMs, watermarkBehind(deletions.latestToldMs(), 0));
    deletions.vouch(this.watermarkMs);
  }

  /**
   * Meets the peer that said this HELLO: takes over its clock and its flush, and agrees with it on
   * a watermark. Returns the reason when the two must not or cannot talk to each other, else
   * whether a flush came with the HELLO.
   */
  meet(theirs: Hello, counts: SyncCounts): boolean | FailureReason {
    const refusal = this.judge(theirs);
    if (refusal !== null) return refusal;
    this.isOfMembers = true;
    this.noteTime(theirs);
    const adopted = this.adopt(theirs);
    if (typeof adopted === "boolean") {
      this.agree(theirs);
      this.noteForgotten(theirs);
    } else {
      const { timeHigh, timeLow } = theirs.floor;
      const isAhead = this.options.store.isTooFarAhead(timeHigh, timeLow);
      if (isAhead) counts.postpone(unixMsOf(timeHigh, timeLow));
    }
    return adopted;
  }

  /** Notes what time it is by the peer, whose hybrid clock may be ahead of that. */
  private noteTime({ nodeId, clockMs, acceptsUpToMs, isUnsure }: Hello): void {
    const { onPeerTime, role, store } = this.options;
    // Who came by itself may be anybody.
    if (role !== "initiator") return;
    const unixMs = Math.min(clockMs, acceptsUpToMs - store.maxClockSkewMs);
    onPeerTime?.(nodeId, isUnsure ? null : unixMs);
  }

  /** Agrees with the peer on the earlier of both watermarks. */
  private agree(theirs: Hello): void {
    this.watermarkMs = Math.min(this.watermarkMs, theirs.watermarkMs);
    // Both clocks have passed it already; observing it has a restart remember what was vouched for.
    this.options.store.clock.observe(timeHighOf(this.watermarkMs), timeLowOf(this.watermarkMs));
  }

  /**
   * This node's contacts as it tells them in this session, in the initiator's steps. To be called
   * after `begin`: what this node vouches for from then on it has to tell with who purged it.
   */
  tell(stepMs: number): Contacts {
    const { store, contacts } = this.options;
    // If its clock was ahead, or its grace shorter, when it purged, it claims no more than can be.
    return contacts.told(stepMs, store.deletions.latestPurgeMs());
  }

  /**
   * The step in which this node tells of its contacts as an initiator: a part of the grace when
   * there are so many that it sends a digest of them, a second otherwise.
   */
  stepMs(): number {
    const { store, contacts } = this.options;
    if (contacts.size <= FEW_MEMBERS) return 1_000;
    return Math.max(1, Math.floor(store.deletions.graceMs / STEPS_A_GRACE / 1000)) * 1000;
  }

  /** How long this node keeps deletions, in ms. */
  get graceMs(): number {
    return this.options.store.deletions.graceMs;
  }

  /** What this node says, with this root and these contacts. */
  hello(mode: number, root: Uint8Array | null, told: Contacts): Hello {
    const { store, cluster, nodeId, epoch, salt, maxFrameBytes } = this.options;
    const hello = new Hello();
    hello.capabilities = this.options.capabilities ?? CURRENT;
    hello.mode = mode;
    hello.cluster = cluster;
    hello.nodeId = nodeId;
    hello.epoch = epoch;
    hello.salt = salt;
    hello.maxFrameBytes = maxFrameBytes;
    hello.clockMs = this.options.store.clockMs();
    hello.watermarkMs = this.watermarkMs;
    hello.isUnsure = this.options.isTimeKnown?.() === false;
    hello.isFull = store.isFull || store.isReadOnly;
    hello.acceptsUpToMs = store.acceptsUpToMs();
    const latestPurgeMs = store.deletions.latestPurgeMs();
    hello.purgedUpToMs = Math.min(store.deletions.purgedUpToMs, latestPurgeMs);
    hello.floor = store.floor;
    if (root !== null) hello.root.set(root.subarray(0, ROOT_BYTES));
    hello.contacts = told;
    hello.graceMs = this.graceMs;
    return hello;
  }

  /** Why this node does not talk to the one that said this; null when it does. */
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
    const latestMs = store.deletions.latestForgottenMs(theirs.clockMs);
    return latestMissed(own, theirs, latestMs).upToMs > 0 || latestMissed(theirs, own).upToMs > 0;
  }

  /**
   * Takes over clock and flush of the peer. True when a flush came with it; the reason when that is
   * impossible.
   */
  private adopt(theirs: Hello): boolean | FailureReason {
    const { store, nowMs } = this.options;
    const untruth = findUntruePurge(store, theirs.forgottenUpToMs(), theirs.clockMs);
    if (untruth !== null) return ["untrue", untruth];
    store.observeClock(timeHighOf(theirs.clockMs), timeLowOf(theirs.clockMs));
    const { timeHigh, timeLow, originHigh, originLow } = theirs.floor;
    const outcome = store.applyFloor(timeHigh, timeLow, originHigh, originLow);
    // Unless this node carries the flush out, its data cannot be compared with the peer's.
    if (outcome === REFUSED_READ_ONLY) {
      return ["incomplete", "it was flushed, and this node can write nothing down for now"];
    }
    if (outcome !== REFUSED_FUTURE) return outcome !== UNCHANGED;
    const ahead = aTimeAhead(unixMsOf(timeHigh, timeLow), nowMs());
    return ["incompatible", `it was flushed at ${ahead}`];
  }

  /**
   * Notes after a complete session that everything the peer had is here, also what it had from
   * others, and that what was purged there is not here any more.
   */
  noteContact(theirs: Hello): void {
    const { contacts, store, forgetAfterMs = Infinity } = this.options;
    const { origin } = theirs;
    const sharedMs = contacts.of(origin.high, origin.low);
    const spentUpToMs = store.clockMs() - forgetAfterMs;
    // Of whom nothing need be noted: this node knew all of it when it dropped that member.
    const isIgnored = (it: Contact): boolean =>
      Contacts.isSpent(it, spentUpToMs) &&
      (it.purgedUpToMs === 0 || it.learnedMs <= sharedMs) &&
      !contacts.has(it.originHigh, it.originLow);
    // What the peer says of this node itself counts too: this node may have lost its data since.
    notePurges(this.options, theirs, isIgnored, this.watermarkMs);
    contacts.meet(origin.high, origin.low, this.watermarkMs);
    contacts.trim();
  }

  /** Notes which members the peer says are gone for good, but not as of a time to come. */
  private noteForgotten(theirs: Hello): void {
    const { contacts, store, forgetAfterMs = Infinity } = this.options;
    const nowMs = store.clockMs();
    theirs.contacts.forEach((high, low, _ms, _purged, _learned, forgottenMs) => {
      if (forgottenMs <= nowMs - forgetAfterMs || (high === 0 && low === 0)) return;
      if (forgottenMs > 0) contacts.forget(high, low, Math.min(forgottenMs, nowMs));
    });
    contacts.trim();
  }
}

/** Purge times travel in whole seconds, rounded up; clocks are in seconds, rounded down. */
const ROUNDING_MS = 2_000;

/**
 * Says in a sentence why no node can have forgotten deletions up to that time; null when one can.
 * Every node keeps a deletion for the grace, by its own clock, which may differ from this node's by
 * the allowed skew. A node that believed a later time would give up entries that are too new to
 * have been deleted and forgotten.
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

/**
 * Notes that what the peer purged, and those whose data it has, is not to come in here either. With
 * `comparedUpToMs`, what the peer had from them up to then is here. Those of whom `isIgnored` is
 * true are left out.
 */
export function notePurges(
  { store, contacts }: Pick<GreetingOptions, "store" | "contacts">,
  theirs: Hello,
  isIgnored: (member: Contact) => boolean = () => false,
  comparedUpToMs = 0,
): void {
  // A peer whose clock is ahead may have purged what is younger than the grace by this node's
  // clock. That part is told again, and noted, in a later session; until then this node does not
  // refuse anything younger than the grace.
  const latestMs = store.deletions.latestPurgeMs();
  const learnedMs = store.deletions.learningMs();
  const note = (high: number, low: number, ms: number, purgedUpToMs: number): void => {
    const upToMs = Math.min(purgedUpToMs, latestMs);
    contacts.note(high, low, Math.min(ms, comparedUpToMs), upToMs, learnedMs);
    store.deletions.notePurgedElsewhere(upToMs);
  };
  note(theirs.origin.high, theirs.origin.low, 0, theirs.purgedUpToMs);
  for (let at = 0; at < theirs.contacts.size; at++) {
    const it = theirs.contacts.at(at);
    if (!isIgnored(it)) note(it.originHigh, it.originLow, it.ms, it.purgedUpToMs);
  }
}

/**
 * One address that a scheduler knows and how things stand with the node there: what is wanted of
 * it, and from when on it may be asked. Times are those of the scheduler.
 */
import type { NodeAddress } from "../config/address.ts";
import type { Destination } from "./destination.ts";
import { WaitingKeys } from "./waiting-keys.ts";

/** Time between two syncs that a peer's troubles ask for, and the first delay after a failure. */
const PAUSE_MS = 1_000;
/** PAUSE_MS doubles with each sync in a row that brought nothing, but no more often than this. */
const MAX_DOUBLINGS = 6;
/** Longest delay after failures. */
const MAX_BACKOFF_MS = 300_000;
/** Shortest delay after a peer was busy, and what chance adds to it. */
const BUSY_MS = 100;
const BUSY_SPREAD_MS = 500;
/** The most that can speak for a stranger, which is at least 0. */
export const MAX_CREDIT = 2;

/** See the file header. */
export class Peer implements Destination {
  readonly hostPort: NodeAddress | null;
  /** Changed as presence says. */
  relayTo: string;
  /** Empty while unknown. Changed by the list that the peer is in. */
  nodeId = "";
  /** Whether a session said so; else presence did. */
  isProven = false;
  /** A session that this node began there has succeeded. */
  isMet = false;
  /** Whose presence names this address; empty when nobody's does. Changed by the list, too. */
  announcedBy = "";
  /** Epoch in that presence. */
  epoch = 0;
  /** Which start and connection of it was looked at last, to compare with it; 0 for none. */
  seenEpoch = 0;
  seenConnection = 0;
  /** It was announced by somebody who is there, not only remembered by the broker. */
  isLive = false;
  /** A node of that id has come by itself, or was met before this node started. */
  isAcquainted = false;
  isRunning = false;
  /** What this node drew, and until when that counts, for whether it turns to that one. */
  draw = 0;
  drawnUntilMs = -Infinity;
  /** When a session was begun last. */
  triedMs = -Infinity;
  /** What is to be fetched from it. */
  keys = new WaitingKeys();
  /** Failures in a row. */
  failures = 0;
  /** Up to which of the scheduler's wants all are satisfied. */
  satisfied = 0;
  /** Which of them the latest sync wanted at once is. */
  private latestWant = 0;
  /** The sync that is wanted begins no earlier, so that many nodes do not all begin at once. */
  private wantedFromMs: number;
  /** The fetch that is wanted begins no earlier. */
  private fetchedFromMs: number;
  /** After a failure nothing is begun before this time. */
  private notBeforeMs: number;
  /** Sessions in a row that were asked for and brought nothing, and when the last of them ended. */
  private vain = 0;
  private vainMs = 0;

  /** `isListed`: whether it is in the configuration. */
  constructor(
    readonly address: string,
    public isListed: boolean,
    { hostPort, relayTo }: Destination,
    nowMs: number,
  ) {
    this.hostPort = hostPort;
    this.relayTo = relayTo;
    this.wantedFromMs = nowMs;
    this.fetchedFromMs = nowMs;
    this.notBeforeMs = nowMs;
  }

  /** Whether all that speaks for it is that somebody says it is there. */
  get isStranger(): boolean {
    return !this.isListed && !this.isMet;
  }

  /** How much speaks for a stranger being a node of the cluster. */
  get credit(): number {
    return this.isAcquainted ? MAX_CREDIT : this.isLive ? 1 : 0;
  }

  /** Whether a sync is wanted at once. */
  get isWanted(): boolean {
    return this.latestWant > this.satisfied;
  }

  /** Whether there is anything to do. */
  get isPending(): boolean {
    return this.isWanted || this.keys.size > 0;
  }

  /** Whether that sync has its time now. */
  isDue(nowMs: number): boolean {
    return this.isWanted && this.wantedFromMs <= nowMs;
  }

  /** Whether keys are to be fetched now. */
  isFetchDue(nowMs: number): boolean {
    return this.keys.size > 0 && this.fetchedFromMs <= nowMs;
  }

  /** Whether a session may begin. */
  isReady(nowMs: number): boolean {
    return !this.isRunning && this.notBeforeMs <= nowMs;
  }

  /** A sync is wanted, which is the scheduler's want of that number. */
  want(number: number, fromMs: number): void {
    if (!this.isWanted) this.wantedFromMs = Math.max(this.wantedFromMs, fromMs);
    this.latestWant = number;
  }

  /** A sync brought what was wanted up to then. */
  satisfy(upTo: number): void {
    this.satisfied = Math.max(this.satisfied, upTo);
  }

  /** Whatever failed before, it may be asked now. */
  forgive(nowMs: number): void {
    this.failures = 0;
    this.notBeforeMs = nowMs;
  }

  /** Whatever failed before and whoever else syncs with it: what is wanted is wanted now. */
  hurry(nowMs: number): void {
    this.forgive(nowMs);
    this.wantedFromMs = nowMs;
  }

  /**
   * A session with it succeeded. The next one of its kind is not wanted so soon, and later and
   * later while they bring nothing: whatever asks for them may not be true.
   */
  noteSuccess(kind: "round" | "sync" | "fetch", hasMoved: boolean, nowMs: number): void {
    this.failures = 0;
    const isLongAgo = nowMs - this.vainMs > PAUSE_MS * 2 ** MAX_DOUBLINGS;
    if (hasMoved || isLongAgo) this.vain = 0;
    if (kind !== "round" && !hasMoved) {
      this.vain++;
      this.vainMs = nowMs;
    }
    const pauseMs = PAUSE_MS * 2 ** Math.min(Math.max(0, this.vain - 1), MAX_DOUBLINGS);
    if (kind !== "fetch") this.wantedFromMs = nowMs + pauseMs;
    else if (!hasMoved) this.fetchedFromMs = nowMs + pauseMs;
  }

  /**
   * A session with it failed. `chance` is from 0 to below 1. The larger the crowd that may want the
   * same of it, from 1 on, the longer it is left alone when it is busy.
   */
  noteFailure(isBusy: boolean, nowMs: number, chance: number, crowd = 1): void {
    if (isBusy) {
      this.notBeforeMs = nowMs + BUSY_MS + BUSY_SPREAD_MS * crowd * chance;
      return;
    }
    const delayMs = Math.min(PAUSE_MS * 2 ** this.failures, MAX_BACKOFF_MS);
    this.failures++;
    this.notBeforeMs = nowMs + delayMs * (0.5 + chance / 2);
  }

  /** The sync that is wanted here is wanted there instead. */
  handOverTo(other: Peer): void {
    if (other === this || !this.isWanted) return;
    other.latestWant = Math.max(other.latestWant, this.latestWant);
    this.latestWant = this.satisfied;
  }
}

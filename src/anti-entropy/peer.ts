/**
 * One address that a scheduler knows and how things stand with the node there: what is wanted of
 * it, and from when on it may be asked. Times are those of the scheduler.
 */
import type { HostPort } from "../config/address.ts";

/** Time between two syncs that a peer's troubles ask for, and the first delay after a failure. */
const PAUSE_MS = 1_000;
/** Longest delay after failures. */
const MAX_BACKOFF_MS = 300_000;
/** Shortest delay after a peer was busy, and what chance adds to it. */
const BUSY_MS = 100;
const BUSY_SPREAD_MS = 500;

/** Keys to be fetched, by their bytes as latin1 text: each once, however often it is written. */
export type WaitingKeys = Map<string, Uint8Array>;

/** See the file header. */
export class Peer implements HostPort {
  readonly host: string;
  readonly port: number;
  /** Empty while unknown. */
  nodeId = "";
  /** Epoch and connection in its latest presence. */
  incarnation = "";
  isRunning = false;
  /** What is to be fetched from it. */
  keys: WaitingKeys = new Map();
  /** Failures in a row. */
  failures = 0;
  /** Up to which of the scheduler's wants all are settled. */
  settled = 0;
  /** Which of them the latest sync wanted at once is. */
  private latestWant = 0;
  /** It does not begin before this time: so many nodes do not sync at the same moment. */
  private wantedFromMs: number;
  /** After a failure nothing is begun before this time. */
  private notBeforeMs: number;

  /** `isListed`: whether it is in the configuration. */
  constructor(
    readonly address: string,
    readonly isListed: boolean,
    { host, port }: HostPort,
    nowMs: number,
  ) {
    this.host = host;
    this.port = port;
    this.wantedFromMs = nowMs;
    this.notBeforeMs = nowMs;
  }

  /** Whether a sync is wanted at once. */
  get isWanted(): boolean {
    return this.latestWant > this.settled;
  }

  /** Whether that sync has its time now. */
  isDue(nowMs: number): boolean {
    return this.isWanted && this.wantedFromMs <= nowMs;
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
  settle(upTo: number): void {
    this.settled = Math.max(this.settled, upTo);
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

  /** A session with it succeeded. With `isSync`, the next one is not wanted so soon. */
  noteSuccess(isSync: boolean, nowMs: number): void {
    this.failures = 0;
    if (isSync) this.wantedFromMs = nowMs + PAUSE_MS;
  }

  /** A session with it failed. `chance` is from 0 to below 1. */
  noteFailure(isBusy: boolean, nowMs: number, chance: number): void {
    if (isBusy) {
      this.notBeforeMs = nowMs + BUSY_MS + BUSY_SPREAD_MS * chance;
      return;
    }
    const delayMs = Math.min(PAUSE_MS * 2 ** this.failures, MAX_BACKOFF_MS);
    this.failures++;
    this.notBeforeMs = nowMs + delayMs * (0.5 + chance / 2);
  }

  /** These keys wait too. */
  addKeys(keys: WaitingKeys): void {
    for (const [text, key] of keys) this.keys.set(text, key);
  }

  /** The sync that is wanted here is wanted there instead. */
  handOverTo(other: Peer): void {
    if (other === this || !this.isWanted) return;
    other.latestWant = Math.max(other.latestWant, this.latestWant);
    this.latestWant = this.settled;
  }
}

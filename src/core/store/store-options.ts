/**
 * What a store is made with: its clock, its name, its secrets and its limits.
 */
import type { HybridClock } from "../data/clock.ts";
import type { Origin } from "../data/origin.ts";

/** What a store is made with. */
export interface StoreOptions {
  readonly clock: HybridClock;
  readonly origin: Origin;
  /**
   * Whose increments this process adds up in counters; new at each start, `origin` by default.
   * A total is only ever added to by who holds all of it, and a process that came back
   * without its last increments, which peers may have, does not.
   */
  readonly counterOrigin?: Origin;
  /** Secret seed of the hash index, two 32-bit words. */
  readonly hashSeed: Origin;
  /** From 0 to below 1; decides the shape of the order, nothing else. */
  readonly random: () => number;
  /**
   * Writes are refused beyond this many bytes, and merges beyond a reserve above; 0 means no limit.
   */
  readonly memoryLimitBytes: number;
  /** Entries from further ahead than this are refused. */
  readonly maxClockSkewMs: number;
  /** How long a tombstone is kept. */
  readonly tombstoneGraceMs: number;
  /** Whether the time is certain enough to forget tombstones by it; it is by default. */
  readonly mayForget?: () => boolean;
  /** What has expired by then, in Unix ms, is let go of; by default by what the clock says. */
  readonly expiredMs?: () => number;
}

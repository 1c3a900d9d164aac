/**
 * The clock over restarts. Its last time is in the newest version on disk, except for what a
 * power cut took away or a snapshot left out; so it is a fact besides. With it the clock never
 * goes back, even when the machine's did.
 */
import type { HybridClock } from "../core/clock.ts";
import { readU32, writeU32 } from "./frame.ts";

/** Name of the fact: a time of the hybrid clock, 8 bytes, that no version is above. */
export const CLOCK_FACT = "clock";

/** The clock's time, `aheadMs` later. */
export function clockFact(clock: HybridClock, aheadMs = 0): Uint8Array {
  const bytes = new Uint8Array(8);
  const low = clock.low + (((aheadMs % 65_536) << 16) >>> 0);
  writeU32(bytes, 0, clock.high + Math.floor(aheadMs / 65_536) + (low > 0xffff_ffff ? 1 : 0));
  writeU32(bytes, 4, low >>> 0);
  return bytes;
}

/** Takes a clock past what the fact says. */
export function observeClockFact(clock: HybridClock, fact: Uint8Array): void {
  if (fact.length === 8) clock.observe(readU32(fact, 0), readU32(fact, 4));
}

/** The store that fuzzers try to change by what must not change it. */
import { HybridClock } from "../../src/core/data/clock.ts";
import { originOf } from "../../src/core/data/origin.ts";
import { Store } from "../../src/core/store/store.ts";
import { seeded } from "./random.ts";

/** What time it is there, in Unix ms. */
export const FUZZED_NOW_MS = 1_700_000_000_000;

/** An empty one of the node "me", the same each time. */
export function fuzzedStore(): Store {
  return new Store({
    clock: new HybridClock(() => FUZZED_NOW_MS),
    origin: originOf("me"),
    hashSeed: { high: 1, low: 2 },
    random: seeded(1),
    memoryLimitBytes: 16 * 1_048_576,
    maxClockSkewMs: 1_000,
    tombstoneGraceMs: 1_000,
  });
}

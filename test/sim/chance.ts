/** Everything that is left to chance in a simulation, drawn from one seed. */
import { seeded } from "../support/random.ts";

/** Draws, all from one sequence, so that the same seed makes the same draws. */
export class Chance {
  /** From 0 to below 1. */
  readonly next: () => number;

  constructor(seed: number) {
    this.next = seeded(seed);
  }

  /** An integer from 0 to below `limit`. */
  below(limit: number): number {
    return Math.floor(this.next() * limit);
  }

  /** An integer from `low` to `high`, both included. */
  between(low: number, high: number): number {
    return low + this.below(high - low + 1);
  }

  /** True with this probability. */
  happens(probability: number): boolean {
    return this.next() < probability;
  }

  /** One of these. */
  pick<T>(choices: readonly T[]): T {
    return choices[this.below(choices.length)];
  }

  /** From `low` to `high`, small ones as likely as large ones (log-uniform), an integer. */
  magnitude(low: number, high: number): number {
    return Math.floor(low * (high / low) ** this.next());
  }
}

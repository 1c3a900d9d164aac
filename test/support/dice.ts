/** What a fuzzer is, and chance for fuzzers: how bad input is made. */

/** A source of bad input, beside which good input goes on and is remembered. */
export interface Fuzzer {
  readonly name: string;
  /** One more piece of bad input, and now and then some good. Throws when something is wrong. */
  step(): Promise<void>;
  /** Throws when what is stored is not what the good input stored. */
  check(): void;
}

/** Chance, in the ways a fuzzer wants it. */
export class Dice {
  constructor(private readonly random: () => number) {}

  below(n: number): number {
    return Math.floor(this.random() * n);
  }

  chance(probability: number): boolean {
    return this.random() < probability;
  }

  one<T>(from: readonly T[]): T {
    return from[this.below(from.length)];
  }

  bytes(most: number): Buffer {
    return Buffer.from(Array.from({ length: this.below(most + 1) }, () => this.below(256)));
  }

  /** Changes a few bytes: flips, removes, inserts, doubles or cuts off. */
  mutate(input: Buffer, pieces: readonly string[]): Buffer {
    let bytes = Buffer.from(input);
    for (let edits = 1 + this.below(4); edits > 0; edits--) {
      const at = this.below(bytes.length + 1);
      const [head, tail] = [bytes.subarray(0, at), bytes.subarray(at)];
      switch (this.below(6)) {
        case 0:
          if (at < bytes.length) bytes[at] ^= 1 << this.below(8);
          break;
        case 1:
          if (at < bytes.length) bytes[at] = this.below(256);
          break;
        case 2:
          bytes = Buffer.concat([head, tail.subarray(1 + this.below(4))]);
          break;
        case 3:
          bytes = Buffer.concat([head, Buffer.from(this.one(pieces), "latin1"), tail]);
          break;
        case 4:
          bytes = Buffer.concat([head, tail.subarray(0, 8), tail]);
          break;
        default:
          if (this.chance(0.2)) bytes = Buffer.from(head);
      }
    }
    return bytes;
  }
}

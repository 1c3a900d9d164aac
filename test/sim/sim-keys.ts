/**
 * The keys with which a node seals what is on its disk: half of the nodes have none at first, and
 * whoever looks after one may give it another key while it is down.
 */
import type { DiskKeys } from "../../src/durability/sealing.ts";
import { diskSecret } from "../support/disk-keys.ts";
import type { Chance } from "./chance.ts";

const SECRETS = ["one", "two"].map(diskSecret);
const CHANGE = 0.2;

/** See the file header. */
export class SimKeys {
  /** None, then the secrets in turn. */
  private step: number;

  constructor(
    private readonly chance: Chance,
    private readonly onChange: (keyId: string) => void,
  ) {
    this.step = chance.happens(0.5) ? 1 : 0;
  }

  /** Before each start. */
  mayChange(): void {
    if (!this.chance.happens(CHANGE)) return;
    this.step++;
    this.onChange(this.now().current!.id);
  }

  /** Those of now. */
  now(): DiskKeys {
    const current = this.step === 0 ? null : SECRETS[this.step % SECRETS.length];
    return {
      current,
      previous: SECRETS,
      randomWords: (count) => Uint32Array.from({ length: count }, () => this.chance.below(2 ** 32)),
    };
  }
}

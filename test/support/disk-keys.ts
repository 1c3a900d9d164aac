/** Keys for what is on disk, for tests. */
import type { DiskKeys } from "../../src/durability/sealing.ts";
import { secretOf, type Secret } from "../../src/security/keys.ts";
import { realWorld } from "../../src/world.ts";

/** A secret of that name. */
export function diskSecret(name: string): Secret {
  const secret = secretOf(Buffer.from(name.padEnd(40, "-")));
  if ("problem" in secret) throw new Error(secret.problem);
  return secret;
}

/** The first seals; with the others files can be read. An empty name stands for no key. */
export function diskKeys(current: string, ...previous: string[]): DiskKeys {
  return {
    current: current === "" ? null : diskSecret(current),
    previous: previous.map(diskSecret),
    randomWords: realWorld.randomWords,
  };
}

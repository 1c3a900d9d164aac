/** Some thousands of each kind of bad input; `bun run fuzz` sends a million. */
import { describe, test } from "bun:test";
import { fuzzers } from "../support/fuzz.ts";

const STEPS = 5_000;
/** Over real connections. */
const HELLOS = 2_000;

describe("bad input changes nothing and is answered as the protocol says", () => {
  // A new seed each time; the name tells which it was.
  const seed = Date.now() % 1_000_000;
  test.each(fuzzers(seed).map((each) => [each.name, each] as const))(
    `%s, seed ${seed}`,
    async (_, fuzzer) => {
      const steps = fuzzer.name === "TLS hellos" ? HELLOS : STEPS;
      for (let i = 0; i < steps; i++) await fuzzer.step();
      fuzzer.check();
    },
  );
});

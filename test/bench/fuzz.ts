/**
 * `bun run fuzz [--count N] [--seed N] [--only NAME]`: a million steps each of random and mutated
 * lines, RESP frames, replication events, messages of sealed sessions, sealed messages at the
 * broker, TLS hellos and access rules. Ends at the first thing that is wrong, with exit code 1 and
 * the seed that shows it again. Watches memory as well: after the first tenth it may not grow any more.
 */
import { parseArgs } from "node:util";
import { fuzzers } from "../support/fuzz.ts";

/** What garbage collection may leave lying about. */
const TOLERATED_BYTES = 64 * 1_048_576;

const { values } = parseArgs({
  options: { count: { type: "string" }, seed: { type: "string" }, only: { type: "string" } },
});
const count = Number(values.count ?? 1_000_000);
const seed = Number(values.seed ?? Date.now() % 1_000_000);

for (const fuzzer of fuzzers(seed)) {
  if (values.only !== undefined && !fuzzer.name.includes(values.only)) continue;
  let before = Infinity;
  try {
    for (let i = 0; i < count; i++) {
      await fuzzer.step();
      if (i === Math.floor(count / 10)) before = residentBytes();
    }
    fuzzer.check();
    const grown = residentBytes() - before;
    if (grown > TOLERATED_BYTES) throw new Error(`memory grew by ${grown} bytes`);
    console.log(
      `${fuzzer.name}: ${count} tried, memory grew by ${(grown / 1_048_576).toFixed(1)} MB`,
    );
  } catch (error) {
    console.error(`${fuzzer.name}, --seed ${seed}: ${(error as Error).stack}`);
    process.exit(1);
  }
}

function residentBytes(): number {
  Bun.gc(true);
  return process.memoryUsage.rss();
}

/**
 * Counters over crashes, against sets of increments: merging must be their union. Nodes lose what
 * their disks had not promised to keep, are repaired, or are set back to what they once had; what a
 * peer was told, the node must never take away from it again by what it counts later.
 */
import { expect, test } from "bun:test";
import fc from "fast-check";
import type { FsyncMode } from "../../src/durability/log.ts";
import { BEGIN_MS, Pair } from "../support/counting-pair.ts";
import { seeded } from "../support/random.ts";

/** Each has a bit of a 64-bit number. */
const MOST_INCREMENTS = 60;

const mode = fc.constantFrom<FsyncMode>("always", "everysec", "never");
/** A process ends, and another one begins. */
interface Restart {
  readonly kind: "restart";
  readonly how: "stop" | "kill" | "power";
  readonly mode: FsyncMode | null;
  /** From the copy of its disk. */
  readonly restores: boolean;
  /** The power goes once more as soon as it has begun. */
  readonly again: boolean;
  readonly seed: number;
}
const restart = fc.record<Restart>({
  kind: fc.constant("restart"),
  how: fc.constantFrom("stop", "kill", "power"),
  mode: fc.option(mode, { freq: 2 }),
  restores: fc.nat(2).map((it) => it === 0),
  again: fc.nat(2).map((it) => it === 0),
  seed: fc.nat(),
});
const count = fc.record({ kind: fc.constant("count" as const), tells: fc.boolean() });
const other = fc.record({
  kind: fc.constantFrom("tell", "hear", "meet", "fold", "tick", "compact", "copy"),
});
const clock = fc.record({ kind: fc.constant("clock" as const), offMs: fc.nat(20_000) });
const step = fc.oneof(
  { weight: 6, arbitrary: count },
  { weight: 4, arbitrary: restart },
  { weight: 4, arbitrary: other },
  { weight: 2, arbitrary: clock },
);

type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

async function begin(pair: Pair, { how, mode, restores, again, seed }: Restart): Promise<void> {
  const random = seeded(seed);
  await pair.end(how, random);
  if (restores) await pair.restore();
  if (again) {
    await pair.start();
    await pair.end("power", random);
  }
  pair.fsync = mode ?? pair.fsync;
  await pair.start();
}

async function take(pair: Pair, it: Step): Promise<void> {
  if (it.kind === "count") {
    pair.increment();
    if (it.tells) await pair.tell();
  } else if (it.kind === "restart") await begin(pair, it);
  else if (it.kind === "clock") pair.clockMs = BEGIN_MS + it.offMs;
  else if (it.kind === "tell") await pair.tell();
  else if (it.kind === "hear") pair.hear();
  else if (it.kind === "meet") await pair.meet();
  else if (it.kind === "fold") pair.allowFolding();
  else if (it.kind === "tick") await pair.tick();
  else if (it.kind === "compact") await pair.compact();
  else await pair.copy();
}

test("what a peer was told is never taken away, whatever a node forgets", async () => {
  const steps = fc.array(step, { maxLength: MOST_INCREMENTS, size: "max" });
  const property = fc.asyncProperty(mode, steps, async (fsync, all) => {
    const pair = new Pair(fsync);
    await pair.start();
    for (const each of all) {
      await take(pair, each);
      pair.check();
    }
    await pair.end("kill", () => 0.5);
  });
  await fc.assert(property, { numRuns: 250 });
});

/** Loses power, and begins again. */
async function lose(pair: Pair): Promise<void> {
  await pair.end("power", () => 0);
  await pair.start();
}

test("what is counted after a start is later than it, though the clock is set back", async () => {
  const pair = new Pair("everysec");
  await pair.start();
  pair.increment();
  await pair.tick();
  pair.clockMs = BEGIN_MS + 10_000;
  await lose(pair);
  pair.clockMs = BEGIN_MS + 3_000;
  pair.increment();
  pair.clockMs = BEGIN_MS + 10_500;
  await pair.meet();
  pair.clockMs = BEGIN_MS + 3_000;
  pair.increment();
  await pair.tick();
  pair.increment();
  await pair.tell();
  pair.clockMs = BEGIN_MS + 12_000;
  await lose(pair);
  // The start before this one is stable by its time, but not what was counted last and lost.
  pair.clockMs = BEGIN_MS + 12_500;
  pair.allowFolding();
  pair.increment();
  await pair.tell();
  pair.check();
});

test("a run begins after all contacts that it knows of, though the clock is set back", async () => {
  const pair = new Pair("never");
  await pair.start();
  pair.increment();
  await pair.end("stop", () => 0);
  pair.clockMs = BEGIN_MS + 10_000;
  await pair.start();
  await pair.meet();
  await pair.tick();
  await pair.end("kill", () => 0);
  pair.clockMs = BEGIN_MS + 3_000;
  await pair.start();
  expect(pair.store.clockMs()).toBeGreaterThanOrEqual(BEGIN_MS + 10_000);
});

/**
 * `bun test/proof/kill-nine.ts [--rounds N] [--fsync MODE] [--seed N]`: kills a node with -9 at random
 * moments under load, starts it again on what is on disk, and looks for everything that it had
 * acknowledged. 200 rounds, shared among the three fsync modes, unless told otherwise; exit code 1
 * when anything is missing.
 *
 * What killing a process cannot show is the loss of what the system had not written to the disk
 * yet; the simulated disk in the unit tests does that.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { LineClient } from "../support/line-client.ts";
import { startNodeProcess } from "../support/process.ts";
import { seeded } from "../support/random.ts";

/** The modes of `storage.fsync`. */
export const FSYNC_MODES = ["always", "everysec", "never"] as const;

/** What is run. */
export interface KillNineOptions {
  readonly fsync: (typeof FSYNC_MODES)[number];
  readonly rounds: number;
  readonly seed: number;
  /** Told after each round. */
  readonly onRound?: (round: number, facts: RoundFacts) => void;
}

/** One round. */
export interface RoundFacts {
  readonly acknowledged: number;
  readonly killedAfterMs: number;
}

const WRITERS = 8;
const KEYS_A_WRITER = 50;
/** Requests a writer sends before it reads their replies. */
const PIPELINE = 16;
const LONGEST_LIFE_MS = 400;

/** What one key must hold: between what was acknowledged last and what was sent last. */
interface Expected {
  acknowledged: number;
  sent: number;
}

/**
 * Runs the rounds on one data directory, which the next round goes on with. Returns a line for
 * each thing that was lost.
 */
export async function killNine(options: KillNineOptions): Promise<string[]> {
  const random = seeded(options.seed);
  const directory = mkdtempSync(join(tmpdir(), "merklekv-kill-nine-"));
  const strings = new Map<string, Expected>();
  const counters = new Map<string, Expected>();
  const lost: string[] = [];
  try {
    for (let round = 0; round < options.rounds; round++) {
      const node = await startNodeProcess({ config: configOf(options.fsync, directory) });
      const client = await LineClient.connect(node.port);
      await verify(client, strings, lost, round);
      await verify(client, counters, lost, round);
      let acknowledged = 0;
      const count = (): void => void acknowledged++;
      const writing = Array.from({ length: WRITERS }, (_, writer) =>
        write(node.port, writer, { strings, counters, count }),
      );
      const killedAfterMs = Math.floor(random() * LONGEST_LIFE_MS);
      await Bun.sleep(killedAfterMs);
      await node.kill();
      await Promise.all(writing);
      await client.close();
      options.onRound?.(round, { acknowledged, killedAfterMs });
      if (lost.length > 0) break;
    }
    return lost;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Writes until the connection is gone: two strings, then a counter, over and over. */
async function write(
  port: number,
  writer: number,
  to: { strings: Map<string, Expected>; counters: Map<string, Expected>; count: () => void },
): Promise<void> {
  const client = await LineClient.connect(port).catch(() => null);
  if (client === null) return;
  try {
    for (let i = 0; ; i += PIPELINE) {
      const sent: { expected: Expected; value: number }[] = [];
      let lines = "";
      for (let j = i; j < i + PIPELINE; j++) {
        const isCounter = j % 3 === 2;
        const key = `${isCounter ? "counter" : "key"}:${writer}:${j % KEYS_A_WRITER}`;
        const expected = expectedOf(isCounter ? to.counters : to.strings, key);
        expected.sent++;
        sent.push({ expected, value: expected.sent });
        lines += isCounter ? `INCR ${key}\n` : `SET ${key} ${expected.sent}\n`;
      }
      client.sendRaw(lines);
      for (const { expected, value } of sent) {
        const reply = await client.readLine();
        if (reply.startsWith("ERROR")) throw new Error(reply);
        // A counter may have kept increments that were not acknowledged before an earlier kill.
        if (reply === "OK") expected.acknowledged = value;
        else expected.acknowledged = Number(reply);
        to.count();
      }
    }
  } catch {
    // The node was killed: what was sent and not acknowledged may be there or not.
  } finally {
    await client.close();
  }
}

function expectedOf(map: Map<string, Expected>, key: string): Expected {
  let expected = map.get(key);
  if (expected === undefined) map.set(key, (expected = { acknowledged: 0, sent: 0 }));
  return expected;
}

async function verify(
  client: LineClient,
  map: Map<string, Expected>,
  lost: string[],
  round: number,
): Promise<void> {
  for (const [key, expected] of map) {
    const reply = await client.send(`GET ${key}`);
    const found = reply === "(null)" ? 0 : Number(reply);
    if (!(found >= expected.acknowledged && found <= expected.sent)) {
      const { acknowledged, sent } = expected;
      lost.push(`round ${round}: ${key} is ${reply}; acknowledged ${acknowledged}, sent ${sent}`);
    }
    // What is there now was recovered, and has to stay.
    expected.acknowledged = found;
    expected.sent = found;
  }
}

function configOf(fsync: string, directory: string): string {
  return [
    `node_id = "kill-nine"`,
    `[network]`,
    `bind_port = 0`,
    `[mqtt]`,
    `enabled = false`,
    `[anti_entropy]`,
    `enabled = false`,
    `[storage]`,
    `engine = "log"`,
    `path = ${JSON.stringify(join(directory, "data"))}`,
    `fsync = "${fsync}"`,
    "",
  ].join("\n");
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      rounds: { type: "string", default: "200" },
      fsync: { type: "string" },
      seed: { type: "string", default: "1" },
    },
  });
  const modes = FSYNC_MODES.filter((mode) => values.fsync === undefined || values.fsync === mode);
  let lostCount = 0;
  for (const fsync of modes) {
    let acknowledged = 0;
    let kills = 0;
    const rounds = Math.ceil(Number(values.rounds) / modes.length);
    const lost = await killNine({
      fsync,
      rounds,
      seed: Number(values.seed),
      onRound(_round, facts) {
        kills++;
        acknowledged += facts.acknowledged;
      },
    });
    for (const line of lost) console.error(line);
    console.log(
      `${fsync}: ${kills} kills, ${acknowledged} writes acknowledged, ${lost.length} lost`,
    );
    lostCount += lost.length;
  }
  return lostCount === 0 ? 0 : 1;
}

if (import.meta.main) process.exit(await main());

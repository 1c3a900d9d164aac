/**
 * `bun test/proof/kill-tools.ts [--rounds N] [--seed N] [--only NAME]`: kills with -9, at random
 * moments, what works on a data directory besides writing to its log: `restore --force`,
 * `check --fix`, `backup`, and a node that recovers or compacts. Afterwards everything must be
 * either as it was or complete. 40 rounds of each unless told otherwise; exit code 1 when anything
 * is half done.
 */
import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { LineClient } from "../support/line-client.ts";
import { type NodeProcess, runBinary, runToEnd, startNodeProcess } from "../support/process.ts";
import { seeded } from "../support/random.ts";

/** What is killed. */
export const VICTIMS = ["restore", "fix", "backup", "recovery", "compaction"] as const;

/** One of VICTIMS. */
export type Victim = (typeof VICTIMS)[number];

/** What is run. */
export interface KillToolsOptions {
  readonly victims: readonly Victim[];
  /** Of each victim. */
  readonly rounds: number;
  readonly seed: number;
  /** Told how often each outcome was met. */
  readonly onVictim?: (victim: Victim, outcomes: Record<string, number>) => void;
}

const KEYS = 5_000;
const VALUE = "x".repeat(200);
/** Killed later than this, most have ended by themselves. */
const LONGEST_LIFE_MS = 120;

/** Runs the rounds. Returns a line for each thing that was left half done. */
export async function killTools(options: KillToolsOptions): Promise<string[]> {
  const directory = mkdtempSync(join(tmpdir(), "merklekv-kill-tools-"));
  try {
    const scene = await Scene.prepare(directory);
    const problems: string[] = [];
    for (const victim of options.victims) {
      const random = seeded(options.seed);
      const outcomes: Record<string, number> = {};
      for (let round = 0; round < options.rounds; round++) {
        const outcome = await scene.round(victim, Math.floor(random() * LONGEST_LIFE_MS));
        outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
        if (!["as before", "complete"].includes(outcome)) {
          problems.push(`${victim}, round ${round}: ${outcome}`);
        }
      }
      options.onVictim?.(victim, outcomes);
    }
    return problems;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Directories to begin with, and what each must come to, as `HASH` tells it. */
class Scene {
  private readonly old: string;
  private readonly damaged: string;
  private readonly torn: string;
  private readonly backup: string;
  private readonly work: string;
  private oldHash = "";
  private newHash = "";
  private fixedHash = "";

  private constructor(private readonly directory: string) {
    this.old = join(directory, "old");
    this.damaged = join(directory, "damaged");
    this.torn = join(directory, "torn");
    this.backup = join(directory, "new.backup");
    this.work = join(directory, "work");
  }

  static async prepare(directory: string): Promise<Scene> {
    const scene = new Scene(directory);
    await withNode(scene.old, async (client) => {
      await fill(client, "old");
      scene.oldHash = await client.send("HASH");
    });
    scene.startOver(scene.old);
    await withNode(scene.work, async (client, node) => {
      await fill(client, "new");
      scene.newHash = await client.send("HASH");
      await runToEnd(["backup", "-p", `${node.port}`, "--to", scene.backup]);
    });
    cpSync(scene.old, scene.torn, { recursive: true });
    appendFileSync(join(scene.torn, LOG), "MKVF and nothing after it");
    cpSync(scene.old, scene.damaged, { recursive: true });
    const bytes = readFileSync(join(scene.damaged, LOG));
    bytes[bytes.length >> 1] ^= 1;
    writeFileSync(join(scene.damaged, LOG), bytes);
    scene.startOver(scene.damaged);
    await runToEnd(["check", "--fix", scene.work]);
    scene.fixedHash = await hashOf(scene.work);
    return scene;
  }

  /** Kills the victim after that long; "as before", "complete", or what is wrong. */
  round(victim: Victim, afterMs: number): Promise<string> {
    switch (victim) {
      case "restore":
        return this.restore(afterMs);
      case "fix":
        return this.fix(afterMs);
      case "backup":
        return this.fetch(afterMs);
      case "recovery":
        return this.recover(afterMs);
      case "compaction":
        return this.compact(afterMs);
    }
  }

  private async restore(afterMs: number): Promise<string> {
    this.startOver(this.old);
    const { work } = this;
    const hasEnded = await killedRun(["restore", "--force", this.backup, work], afterMs);
    const hash = await hashOf(work);
    if (hash === this.oldHash && !hasEnded) return "as before";
    if (hash !== this.newHash) return `restored to ${hash}`;
    return this.isAside(this.old) ? "complete" : "what was there is not aside";
  }

  private async fix(afterMs: number): Promise<string> {
    this.startOver(this.damaged);
    const hasEnded = await killedRun(["check", "--fix", this.work], afterMs);
    const { code } = await runToEnd(["check", this.work]);
    if (code === 1 && !hasEnded) {
      const isSame = sameFile(join(this.work, LOG), join(this.damaged, LOG));
      return isSame ? "as before" : "damaged otherwise";
    }
    const hash = await hashOf(this.work);
    if (hash !== this.fixedHash) return `repaired to ${hash}`;
    return this.isAside(this.damaged) ? "complete" : "the original is not aside";
  }

  private async fetch(afterMs: number): Promise<string> {
    this.startOver(this.old);
    const to = join(this.directory, "fetched.backup");
    const target = join(this.directory, "target");
    rmSync(to, { force: true });
    rmSync(target, { recursive: true, force: true });
    await withNode(this.work, async (_client, node) => {
      await killedRun(["backup", "-p", `${node.port}`, "--to", to], afterMs);
    });
    await hashOf(this.work); // a start, which tidies up
    const backups = join(this.work, "backups");
    const left = existsSync(backups) ? readdirSync(backups) : [];
    if (left.length > 0) return `${left} stays on the node`;
    if (!existsSync(to)) return "as before";
    const { output } = await runToEnd(["restore", to, target]);
    if (!existsSync(target)) return output;
    return (await hashOf(target)) === this.oldHash ? "complete" : "another state in the backup";
  }

  private async recover(afterMs: number): Promise<string> {
    this.startOver(this.torn);
    const config = join(this.directory, "node.toml");
    writeFileSync(config, configOf(this.work));
    await killedRun(["serve", "--config", config, "--exit-with-stdin"], afterMs);
    const isCut = sameFile(join(this.work, LOG), join(this.torn, LOG)) ? "as before" : "complete";
    const hash = await hashOf(this.work);
    return hash === this.oldHash ? isCut : `recovered to ${hash}`;
  }

  private async compact(afterMs: number): Promise<string> {
    this.startOver(this.old);
    const node = await startNodeProcess({ config: configOf(this.work) });
    const client = await LineClient.connect(node.port);
    client.sendRaw("SNAPSHOT\n");
    await Bun.sleep(afterMs / 3);
    await node.kill();
    await client.close();
    const hasSnapshot = readdirSync(this.work).some((name) => name.endsWith(".snap"));
    const hash = await hashOf(this.work);
    if (hash !== this.oldHash) return `compacted to ${hash}`;
    if (readdirSync(this.work).some((name) => name.endsWith(".tmp"))) return "a file is left";
    return hasSnapshot ? "complete" : "as before";
  }

  private startOver(from: string): void {
    rmSync(this.work, { recursive: true, force: true });
    cpSync(from, this.work, { recursive: true });
  }

  /** Whether the log of that directory is now in one beside the data. */
  private isAside(from: string): boolean {
    const asides = readdirSync(this.work).filter((name) => name.startsWith("aside-"));
    return asides.some((name) => sameFile(join(this.work, name, LOG), join(from, LOG)));
  }
}

const LOG = "0000000001.log";

/** Runs the binary and kills it after that long; whether it had ended well by then. */
async function killedRun(args: string[], afterMs: number): Promise<boolean> {
  const run = await runBinary(args);
  await Promise.race([run.exited, Bun.sleep(afterMs)]);
  await run.kill();
  return (await run.exited) === 0;
}

function sameFile(one: string, other: string): boolean {
  return existsSync(one) && readFileSync(one).equals(readFileSync(other));
}

async function fill(client: LineClient, prefix: string): Promise<void> {
  const lines = Array.from({ length: KEYS }, (_, i) => `SET ${prefix}:${i} ${i}${VALUE}\n`);
  client.sendRaw(lines.join(""));
  const replies = await client.readLines(KEYS);
  if (replies.some((reply) => reply !== "OK")) throw new Error("a write was refused");
}

/** The fingerprint of what a node starts with on a directory; its own words when it does not start. */
async function hashOf(directory: string): Promise<string> {
  let hash = "";
  try {
    await withNode(directory, async (client) => void (hash = await client.send("HASH")));
  } catch (error) {
    return (error as Error).message;
  }
  return hash;
}

async function withNode(
  directory: string,
  work: (client: LineClient, node: NodeProcess) => Promise<void>,
): Promise<void> {
  const node = await startNodeProcess({ config: configOf(directory) });
  const client = await LineClient.connect(node.port);
  await work(client, node);
  await client.close();
  await node.stop();
}

function configOf(directory: string): string {
  return (
    `node_id = "kill-tools"\n[network]\nbind_port = 0\n[mqtt]\nenabled = false\n` +
    `[storage]\npath = ${JSON.stringify(directory)}\nfsync = "always"\n`
  );
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      rounds: { type: "string", default: "40" },
      seed: { type: "string", default: "1" },
      only: { type: "string" },
    },
  });
  const problems = await killTools({
    victims: VICTIMS.filter((victim) => values.only === undefined || values.only === victim),
    rounds: Number(values.rounds),
    seed: Number(values.seed),
    onVictim: (victim, outcomes) => console.log(`${victim}: ${JSON.stringify(outcomes)}`),
  });
  for (const line of problems) console.error(line);
  return problems.length === 0 ? 0 : 1;
}

if (import.meta.main) process.exit(await main());

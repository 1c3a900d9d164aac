/**
 * `bun run bench`: how fast and how small the built binary is, beside redis where that is installed.
 *
 *   bun run bench [--rounds N] [--quick] [--only PART[,PART…]] [--json FILE] [--update-docs]
 *
 * How to read it. Every row is a median over the rounds. `ratio` is ours divided by what it is
 * compared with: for requests per second more is better, for milliseconds and megabytes less.
 * `spread` is the lowest and highest ratio of a single round, in which both were measured right
 * after one another; where it is wide the machine was busy with something else, and a target missed
 * or met by less than the spread says little. `target` is a limit for the ratio when it ends in ×,
 * else for our own number. Close other programs before you measure, and give it time: the whole run
 * takes about a quarter of an hour. `--quick` only shows that everything works.
 *
 * The load generator shares the machine with what it measures and is itself a single thread. Where a
 * server is about as fast as redis-benchmark can ask, at pipeline 100, ratios come out too small.
 * Persistence is off in redis; a bench node has the configuration's defaults. A missed target is
 * reported, not punished: the exit code is 0. (1: the build failed; 2: the command line makes no sense.)
 *
 * `--update-docs` writes the tables of requests, walks and memory into docs/figures.md, with the day
 * and the machine.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { cpus, loadavg } from "node:os";
import { parseArgs } from "node:util";
import { merklekvBinary } from "../support/binary.ts";
import { backlog } from "./backlog.ts";
import { cluster } from "./cluster.ts";
import { delay } from "./delay.ts";
import { http } from "./http.ts";
import { idle } from "./idle.ts";
import { memory } from "./memory.ts";
import type { Plan } from "./plan.ts";
import { replication } from "./replication.ts";
import { measuredOn, updateFigures } from "./figures.ts";
import { markdownOf, type Measurement, type Result, resultOf, tableOf } from "./report.ts";
import { redisPath } from "./servers.ts";
import { sealing } from "./sealing.ts";
import { startup } from "./startup.ts";
import { throughput } from "./throughput.ts";
import { tracing } from "./tracing.ts";
import { walks } from "./walks.ts";

const parts: Record<string, (plan: Plan) => Promise<Measurement[]>> = {
  throughput,
  walks,
  memory,
  replication,
  backlog,
  delay,
  cluster,
  sealing,
  http,
  tracing,
  idle,
  startup,
};
const USAGE = `Usage: bun run bench [--rounds N] [--quick] [--only PART[,PART…]] [--json FILE] [--update-docs]
Parts: ${Object.keys(parts).join(", ")}`;
const DEFAULT_ROUNDS = 5;
/** Parts that have a place in docs/figures.md. */
const IN_DOCS = new Set(["throughput", "walks", "memory"]);

interface Options {
  readonly rounds: number;
  readonly isQuick: boolean;
  readonly names: readonly string[];
  readonly jsonPath: string | undefined;
  readonly updatesDocs: boolean;
}

/** Throws an Error of one line when the arguments make no sense. Null: help was asked for. */
function readOptions(): Options | null {
  const { values } = parseArgs({
    args: process.argv.slice(2),
    options: {
      rounds: { type: "string" },
      quick: { type: "boolean", default: false },
      only: { type: "string", multiple: true, default: [] },
      json: { type: "string" },
      "update-docs": { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return null;
  const rounds = Number(values.rounds ?? (values.quick ? 1 : DEFAULT_ROUNDS));
  if (!Number.isInteger(rounds) || rounds < 1) {
    throw new Error(`--rounds: ${values.rounds} is not a number of rounds, from 1 up`);
  }
  const wanted = values.only.flatMap((names) => names.split(","));
  const unknown = wanted.find((name) => !Object.hasOwn(parts, name));
  if (unknown !== undefined) throw new Error(`--only: there is no part "${unknown}"`);
  const names = wanted.length === 0 ? Object.keys(parts) : wanted;
  const { quick: isQuick, json: jsonPath, "update-docs": updatesDocs } = values;
  return { rounds, isQuick, names, jsonPath, updatesDocs };
}

/** What numbers were measured on. */
interface Machine {
  readonly processor: string;
  readonly cores: number;
  readonly memoryGb: number;
  readonly loadBefore: number;
  readonly redis: string;
}

/** And when, and how often. */
interface About extends Machine {
  readonly date: string;
  readonly rounds: number;
  readonly isQuick: boolean;
}

/** What the numbers were measured on: without it they mean little. */
function machine(): Machine {
  const { stdout } = redisPath === null ? {} : Bun.spawnSync([redisPath, "--version"]);
  const memoryKb = /^MemTotal:\s+(\d+)/m.exec(readFileSync("/proc/meminfo", "utf8"))?.[1];
  return {
    processor: cpus()[0]?.model ?? "unknown",
    cores: cpus().length,
    memoryGb: Math.round((Number(memoryKb) * 1024) / 1e9),
    loadBefore: Number(loadavg()[0].toFixed(1)),
    redis: /v=(\S+)/.exec(stdout?.toString() ?? "")?.[1] ?? "not installed",
  };
}

/** A part's table in the documentation, with what is needed to judge it. */
function markdownPart(about: About, results: readonly Result[]): string {
  const { rounds, redis, loadBefore } = about;
  const runs = rounds === 1 ? "one round" : `medians of ${rounds} rounds`;
  const others = `redis ${redis}; load average before ${loadBefore}`;
  return `${measuredOn()}, ${others}; ${runs}:\n\n${markdownOf(results)}`;
}

async function main(): Promise<number> {
  let options: Options | null;
  try {
    options = readOptions();
  } catch (error) {
    console.error(`bench: ${(error as Error).message}\n${USAGE}`);
    return 2;
  }
  if (options === null) {
    console.log(USAGE);
    return 0;
  }
  const { rounds, isQuick, names, jsonPath, updatesDocs } = options;
  const missing: string[] = [];
  const plan: Plan = {
    rounds,
    isQuick,
    note: (what) => console.error(`… ${what}`),
    skipped: (why) => void missing.push(why),
  };
  if (redisPath === null) {
    plan.skipped(
      "redis-server is not installed (Debian: apt-get install redis-server): ours alone",
    );
  }
  const about: About = { date: new Date().toISOString(), ...machine(), rounds, isQuick };
  try {
    await merklekvBinary();
  } catch (error) {
    console.error(`bench: ${(error as Error).message}`);
    return 1;
  }

  const results: Result[] = [];
  for (const name of names) {
    try {
      const ofPart = (await parts[name](plan)).map(resultOf);
      results.push(...ofPart);
      if (updatesDocs && IN_DOCS.has(name))
        updateFigures(`bun run bench --only ${name}`, markdownPart(about, ofPart));
    } catch (error) {
      plan.skipped(`${name} failed: ${Bun.inspect(error)}`);
    }
  }

  console.log(
    Object.entries(about)
      .map(([key, value]) => `${key}: ${value}`)
      .join("  "),
  );
  console.log(`\n${tableOf(results)}`);
  for (const why of missing) console.log(`note: ${why}`);
  if (jsonPath !== undefined) {
    writeFileSync(jsonPath, `${JSON.stringify({ about, results, missing }, null, 2)}\n`);
  }
  return 0;
}

process.exit(await main());

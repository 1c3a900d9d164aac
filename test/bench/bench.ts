/**
 * `bun run bench`: how fast and how small the built binary is, beside redis where that is installed.
 *
 *   bun run bench [--rounds N] [--quick] [--only PART[,PART…]] [--json FILE]
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
 */
import { readFileSync, writeFileSync } from "node:fs";
import { cpus, loadavg } from "node:os";
import { parseArgs } from "node:util";
import { merklekvBinary } from "../support/binary.ts";
import { backlog } from "./backlog.ts";
import { cluster } from "./cluster.ts";
import { delay } from "./delay.ts";
import { idle } from "./idle.ts";
import { memory } from "./memory.ts";
import type { Plan } from "./plan.ts";
import { replication } from "./replication.ts";
import { type Measurement, type Result, resultOf, tableOf } from "./report.ts";
import { redisPath } from "./servers.ts";
import { sealing } from "./sealing.ts";
import { startup } from "./startup.ts";
import { throughput } from "./throughput.ts";

const parts: Record<string, (plan: Plan) => Promise<Measurement[]>> = {
  throughput,
  memory,
  replication,
  backlog,
  delay,
  cluster,
  sealing,
  idle,
  startup,
};
const USAGE = `Usage: bun run bench [--rounds N] [--quick] [--only PART[,PART…]] [--json FILE]
Parts: ${Object.keys(parts).join(", ")}`;
const DEFAULT_ROUNDS = 5;

interface Options {
  readonly rounds: number;
  readonly isQuick: boolean;
  readonly names: readonly string[];
  readonly jsonPath: string | undefined;
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
  return { rounds, isQuick: values.quick, names, jsonPath: values.json };
}

/** What the numbers were measured on: without it they mean little. */
function machine(): Record<string, string | number> {
  const { stdout } = redisPath === null ? {} : Bun.spawnSync([redisPath, "--version"]);
  const memoryKb = /^MemTotal:\s+(\d+)/m.exec(readFileSync("/proc/meminfo", "utf8"))?.[1];
  return {
    processor: cpus()[0]?.model ?? "unknown",
    cores: cpus().length,
    memoryGb: Math.round((Number(memoryKb) * 1024) / 1e9),
    loadBefore: loadavg()[0],
    redis: /v=(\S+)/.exec(stdout?.toString() ?? "")?.[1] ?? "not installed",
  };
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
  const { rounds, isQuick, names, jsonPath } = options;
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
  const about = { date: new Date().toISOString(), ...machine(), rounds, isQuick };
  try {
    await merklekvBinary();
  } catch (error) {
    console.error(`bench: ${(error as Error).message}`);
    return 1;
  }

  const results: Result[] = [];
  for (const name of names) {
    try {
      results.push(...(await parts[name](plan)).map(resultOf));
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

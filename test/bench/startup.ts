/** From starting the process to its first reply, beside redis; and how large the binary is. */
import { statSync } from "node:fs";
import { mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { merklekvBinary } from "../support/binary.ts";
import { LineClient } from "../support/line-client.ts";
import { freePort } from "../support/mosquitto.ts";
import { inTurns, type Plan } from "./plan.ts";
import type { Measurement } from "./report.ts";
import { nodeConfig, redisCommand, redisPath, spawnQuietly } from "./servers.ts";

/** A start takes milliseconds, so there can be more of them. */
const STARTS_A_ROUND = 4;
const DEADLINE_MS = 20_000;

/** The part. */
export async function startup(plan: Plan): Promise<Measurement[]> {
  const binary = await merklekvBinary();
  await using directory = await mkdtempDisposable(join(tmpdir(), "merklekv-bench-"));
  const config = join(directory.path, "node.toml");
  const starters = [
    async () => {
      const port = await freePort();
      await writeFile(config, nodeConfig("bench", { bindPort: port }));
      return firstReplyMs([binary, "serve", "--config", config], port);
    },
    async () => {
      const port = await freePort();
      return firstReplyMs(redisCommand(port), port);
    },
  ];
  if (redisPath === null) starters.pop();
  const starts = { ...plan, rounds: plan.rounds * STARTS_A_ROUND };
  const runs = await inTurns(starts, starters, "start to first reply", (start) => start());
  return [
    {
      name: "start to first reply",
      unit: "ms",
      ours: runs[0],
      ...(runs[1] && { otherName: "redis", others: runs[1] }),
    },
    { name: "size of the binary", unit: "MB", ours: [statSync(binary).size / 1e6] },
  ];
}

async function firstReplyMs(command: string[], port: number): Promise<number> {
  const started = performance.now();
  const child = spawnQuietly(command);
  try {
    for (;;) {
      if (child.exitCode !== null) throw new Error(`${command[0]} ended before it replied`);
      if (performance.now() - started > DEADLINE_MS) throw new Error(`${command[0]} is silent`);
      const client = await LineClient.connect(port).catch(() => null);
      if (client === null) continue; // refused, which takes no time
      await client.send("PING");
      const elapsedMs = performance.now() - started;
      await client.close();
      return elapsedMs;
    }
  } finally {
    child.kill("SIGTERM");
    await child.exited;
  }
}

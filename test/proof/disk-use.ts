/**
 * `bun test/proof/disk-use.ts [--keys N] [--rounds N] [--connections N] [--value-bytes N]`: overwrites
 * the keys of a real node again and again, as fast as it takes them, looks every few milliseconds at
 * how much its directory holds, and prints the most there was as a multiple of the live data.
 */
import { mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { LineClient } from "../support/line-client.ts";
import { startNodeProcess } from "../support/process.ts";
import { seeded } from "../support/random.ts";

const SEGMENT_BYTES = 64 * 1024 * 1024;
const LOOK_EVERY_MS = 5;
/** Requests that are sent before their replies are awaited. */
const PIPELINE = 200;
const REPLY_BYTES = "OK\n".length;

/** Sends requests for every key once in random order, a pipeline at a time. */
async function overwrite(port: number, keys: number[], value: string): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const socket = connect({ port, host: "127.0.0.1", noDelay: true });
  let sent = 0;
  let awaitedBytes = 0;
  const more = (): void => {
    if (sent === keys.length) return void socket.end(resolve);
    const some = keys.slice(sent, sent + PIPELINE);
    sent += some.length;
    awaitedBytes += some.length * REPLY_BYTES;
    socket.write(some.map((key) => `SET key:${key} ${value}\n`).join(""));
  };
  socket.on("connect", more).on("error", reject);
  socket.on("data", (replies) => {
    awaitedBytes -= replies.length;
    if (awaitedBytes === 0) more();
  });
  await promise;
}

function bytesIn(directory: string): number {
  let bytes = 0;
  for (const name of readdirSync(directory)) {
    bytes += statSync(join(directory, name), { throwIfNoEntry: false })?.size ?? 0;
  }
  return bytes;
}

async function factOf(client: LineClient, fact: string): Promise<number> {
  client.sendRaw("INFO\nECHO end\n");
  let value = NaN;
  for (let line = ""; line !== "end"; line = await client.readLine()) {
    if (line.startsWith(`${fact}:`)) value = Number(line.slice(fact.length + 1));
  }
  return value;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      keys: { type: "string", default: "300000" },
      rounds: { type: "string", default: "8" },
      connections: { type: "string", default: "8" },
      "value-bytes": { type: "string", default: "200" },
    },
  });
  const [keyCount, rounds, connections] = [values.keys, values.rounds, values.connections].map(
    Number,
  );
  const directory = mkdtempSync(join(tmpdir(), "merklekv-disk-use-"));
  const data = join(directory, "data");
  const random = seeded(1);
  const value = "x".repeat(Number(values["value-bytes"]));
  const node = await startNodeProcess({
    config:
      `node_id = "disk-use"\n[network]\nbind_port = 0\n[mqtt]\nenabled = false\n` +
      `[storage]\npath = ${JSON.stringify(data)}\n`,
  });
  let mostBytes = 0;
  const watch = setInterval(() => (mostBytes = Math.max(mostBytes, bytesIn(data))), LOOK_EVERY_MS);
  try {
    const startMs = performance.now();
    const writers = Array.from({ length: connections }, async (_, writer) => {
      const keys: number[] = [];
      for (let key = writer; key < keyCount; key += connections) keys.push(key);
      for (let round = 0; round < rounds; round++) {
        await overwrite(
          node.port,
          keys.sort(() => random() - 0.5),
          value,
        );
      }
    });
    await Promise.all(writers);
    const perSecond = (keyCount * rounds) / ((performance.now() - startMs) / 1000);
    const client = await LineClient.connect(node.port);
    await client.send("SNAPSHOT");
    const liveBytes = await factOf(client, "snapshot_bytes");
    await client.close();
    const mib = (bytes: number): string => `${(bytes / 1_048_576).toFixed(0)} MiB`;
    const ratio = (bytes: number): string => (bytes / liveBytes).toFixed(2);
    console.log(
      `${keyCount} keys, ${Math.round(perSecond)} writes/s: live data ${mib(liveBytes)}, ` +
        `at most ${mib(mostBytes)} on disk: ${ratio(mostBytes)} times the live data, ` +
        `or ${ratio(mostBytes - SEGMENT_BYTES)} times and a segment`,
    );
  } finally {
    clearInterval(watch);
    await node.kill();
    rmSync(directory, { recursive: true, force: true });
  }
}

if (import.meta.main) await main();

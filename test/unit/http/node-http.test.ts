/** What it takes to be ready, check by check. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { Statistics } from "../../../src/commands/statistics.ts";
import { loadConfig } from "../../../src/config/load.ts";
import { openNodeHttp, type NodeHttp, type ServingNode } from "../../../src/node-http.ts";
import { eventLoop, randomHex } from "../../../src/world.ts";

let http: NodeHttp;
let serving: ServingNode | null;

beforeEach(() => {
  const env = { MERKLE_KV_NODE_ID: "n", MERKLE_KV_HTTP_BIND_ADDRESS: "127.0.0.1" };
  const loaded = loadConfig({ randomHex, env });
  if (!loaded.ok) throw new Error(loaded.problems.join("\n"));
  serving = null;
  http = openNodeHttp(loaded.config, eventLoop, () => serving)!;
});
afterEach(() => http.stop());

/** A node of which only that is not well. */
function nodeWith(trouble: {
  failure?: { message: string };
  isFull?: boolean;
  writeRefusal?: string;
  hasSynced?: boolean;
}): ServingNode {
  const { failure = null, isFull = false, writeRefusal = null, hasSynced = true } = trouble;
  const replica = { journal: { failure }, store: { isFull }, clockWatch: { writeRefusal } };
  return {
    replica: replica as unknown as ServingNode["replica"],
    statistics: new Statistics(),
    hasSynced,
    facts: () => [],
  };
}

async function readiness(): Promise<[status: number, problems: string[]]> {
  const response = await fetch(`http://${http.address}/readyz`);
  const { checks } = (await response.json()) as {
    checks: { name: string; ok: boolean; reason: string }[];
  };
  const problems = checks.filter(({ ok }) => !ok).map((it) => `${it.name}: ${it.reason}`);
  return [response.status, problems];
}

test("while the data is read from disk it lives, is not ready, and has no metrics", async () => {
  expect(await readiness()).toEqual([503, ["recovered: the data is being read from disk"]]);
  expect((await fetch(`http://${http.address}/healthz`)).status).toBe(200);
  expect((await fetch(`http://${http.address}/metrics`)).status).toBe(503);
});

test("a node with nothing wrong is ready", async () => {
  serving = nodeWith({});
  expect(await readiness()).toEqual([200, []]);
});

test.each([
  [{ failure: { message: "the disk is full" } }, "journal: the disk is full"],
  [{ isFull: true }, "memory: storage.memory_limit_mb is reached"],
  [{ writeRefusal: "the clock was stepped" }, "clock: the clock was stepped"],
  [{ hasSynced: false }, "first_sync: the first sync with the peers goes on"],
])("%j is why it is not", async (trouble, problem) => {
  serving = nodeWith(trouble);
  expect(await readiness()).toEqual([503, [problem]]);
});

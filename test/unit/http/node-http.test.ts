/** What it takes to be ready, check by check. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { networkInterfaces } from "node:os";
import type { UserDirectory } from "../../../src/access/directory.ts";
import { loadConfig } from "../../../src/config/load.ts";
import type { RecoveryProgress } from "../../../src/durability/recovery.ts";
import { openNodeHttp, type NodeHttp, type ServingNode } from "../../../src/node-http.ts";
import { noTracer } from "../../../src/tracer.ts";
import type { AuditEvent, InnerClient } from "../../../src/ports.ts";
import { NodeUsers } from "../../../src/node-users.ts";
import { silentLogger } from "../../../src/observability/log.ts";
import { eventLoop, randomHex, realWorld } from "../../../src/world.ts";

let http: NodeHttp;
let users: UserDirectory;
let serving: ServingNode | null;
let recovery: RecoveryProgress | null = null;
let audited: AuditEvent[];

beforeEach(() => open({ MERKLE_KV_HTTP_BIND_ADDRESS: "127.0.0.1" }));
afterEach(() => http.stop());

function open(settings: Record<string, string>): void {
  const env = { MERKLE_KV_NODE_ID: "n", ...settings };
  const loaded = loadConfig({ randomHex, env });
  if (!loaded.ok) throw new Error(loaded.problems.join("\n"));
  serving = null;
  users = new NodeUsers(loaded.config, silentLogger, realWorld).directory;
  audited = [];
  const audit = { record: (event: AuditEvent) => void audited.push(event) };
  http = openNodeHttp({
    config: loaded.config,
    timing: eventLoop,
    wallMs: realWorld.wallMs,
    users,
    audit,
    serving: () => serving,
    recovery: () => recovery,
    tls: null,
  })!;
}

const NO_CELLS = new Uint8Array(0);

/** A node of which only that is not well. */
function nodeWith(trouble: {
  failure?: { message: string };
  isFull?: boolean;
  isFullForClients?: boolean;
  writeRefusal?: string;
  hasSynced?: boolean;
}): ServingNode {
  const { failure = null, writeRefusal = null, hasSynced = true } = trouble;
  const { isFull = false, isFullForClients = false } = trouble;
  const replica = {
    journal: { failure },
    store: { isFull, isFullForClients, size: 3 },
    clockWatch: { writeRefusal },
  };
  return {
    replica: replica as unknown as ServingNode["replica"],
    hasSynced,
    view: {
      facts: () => [],
      members: () => [],
      treeCells: () => NO_CELLS,
      differences: () => NO_CELLS,
    },
    series: () => [],
    openClient: () => {
      throw new Error("nobody asks for keys");
    },
    reportBug: (error) => {
      throw error;
    },
    tracer: noTracer,
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

test("how far the data is back from disk is told", async () => {
  recovery = { bytesRead: 50, bytesTotal: 200, entries: 7 };
  const reason = "recovered: the data is being read from disk: 25 % so far";
  expect(await readiness()).toEqual([503, [reason]]);
  const body = await (await fetch(`http://${http.address}/readyz`)).json();
  const progress = { bytes_read: 50, bytes_total: 200, entries: 7 };
  expect(body).toMatchObject({ checks: [{ name: "recovered", progress }] });
  recovery = null;
});

test("a node with nothing wrong is ready", async () => {
  serving = nodeWith({});
  expect(await readiness()).toEqual([200, []]);
});

test.each([
  [{ failure: { message: "the disk is full" } }, "journal: the disk is full"],
  [
    { isFull: true },
    "memory: storage.memory_limit_mb is reached: what other nodes write cannot be taken; raise it, or delete",
  ],
  [
    { isFullForClients: true },
    "memory: storage.memory_limit_mb is reached: clients' writes cannot be taken; raise it, or delete",
  ],
  [{ writeRefusal: "the clock was stepped" }, "clock: the clock was stepped"],
  [{ hasSynced: false }, "first_sync: the first sync with the peers goes on; 3 keys are here"],
])("%j is why it is not", async (trouble, problem) => {
  serving = nodeWith(trouble);
  expect(await readiness()).toEqual([503, [problem]]);
});

describe("with users", () => {
  const statusOf = async (path: string, login?: string): Promise<number> => {
    const headers: Record<string, string> =
      login === undefined ? {} : { authorization: `Basic ${btoa(login)}` };
    return (await fetch(`http://${http.address}${path}`, { headers })).status;
  };

  beforeEach(() => {
    serving = nodeWith({});
    expect(users.change("watch", ["on", ">secret:1", "+info"])).toBeNull();
    expect(users.change("dash", ["on", ">secret2", "~*", "+get"])).toBeNull();
    expect(users.change("default", ["off"])).toBeNull();
  });

  test("metrics and version are for who may say INFO", async () => {
    for (const path of ["/metrics", "/version", "/other"]) {
      expect(await statusOf(path)).toBe(401);
      expect(await statusOf(path, "dash:secret2")).toBe(401);
      expect(await statusOf(path, "watch:secret2")).toBe(401);
    }
    expect(await statusOf("/metrics", "watch:secret:1")).toBe(200);
    expect(await statusOf("/version", "watch:secret:1")).toBe(200);
  });

  test("who is refused is written down, with the address that delays the next login", async () => {
    for (const login of [undefined, "dash:secret2", "watch:wrong", "nobody:x"]) {
      expect(await statusOf("/metrics", login)).toBe(401);
    }
    expect(audited.map(({ event, user, command }) => [event, user, command])).toEqual([
      ["denied", "", "HTTP"],
      ["denied", "dash", "HTTP"],
      ["login_failed", "watch", "HTTP"],
      ["login_failed", "nobody", "HTTP"],
    ]);
    for (const { address } of audited) expect(address).toMatch(/^127\.0\.0\.1:\d+$/);
    expect(JSON.stringify(audited)).not.toMatch(/secret2|wrong/);
    expect(await statusOf("/metrics", "watch:secret:1")).toBe(200);
    expect(audited).toHaveLength(4);
  });

  test("whether it lives and is ready anybody learns", async () => {
    expect(await statusOf("/healthz")).toBe(200);
    expect(await statusOf("/readyz")).toBe(200);
  });
});

test("without users, who is not on this machine reads only, and calls the port by no strange name", async () => {
  const beyond = Object.values(networkInterfaces())
    .flat()
    .find((it) => it !== undefined && !it.internal && it.family === "IPv4");
  if (beyond === undefined) return;
  await http.stop();
  open({ MERKLE_KV_HTTP_BIND_ADDRESS: "0.0.0.0", MERKLE_KV_HTTP_HOST_NAMES: "kv.example" });
  const asked: string[] = [];
  const noKeys = new TextEncoder().encode("*0\r\n");
  const client = { askForBytes: async () => noKeys, end() {} } as unknown as InnerClient;
  serving = { ...nodeWith({}), openClient: (_user, from) => (asked.push(from.address), client) };
  const port = http.address.split(":").pop()!;
  const statusOf = async (method: string, host?: string): Promise<number> => {
    const headers: Record<string, string> = host === undefined ? {} : { host };
    const url = `http://${beyond.address}:${port}/v1/keys`;
    return (await fetch(url, { method, headers })).status;
  };
  expect(await statusOf("GET")).toBe(200);
  expect(await statusOf("PUT")).toBe(403);
  expect(await statusOf("GET", "evil.example")).toBe(403);
  expect(await statusOf("GET", "kv.example")).toBe(200);
  expect(asked.length).toBe(2);
});

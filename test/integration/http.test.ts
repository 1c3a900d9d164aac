/** The HTTP port of the real binary. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { eventually } from "../support/eventually.ts";
import { LineClient } from "../support/line-client.ts";
import { readMetrics } from "../support/metrics-text.ts";
import { runToEnd, startNodeProcess, type NodeProcess } from "../support/process.ts";

let node: NodeProcess;
let base: string;

beforeAll(async () => {
  node = await startNodeProcess({
    env: { MERKLE_KV_HTTP_BIND_ADDRESS: "127.0.0.1", MERKLE_KV_STORAGE_ENGINE: "log" },
  });
  base = `http://${/HTTP on (\S+)/.exec(node.output())![1]}`;
});
afterAll(async () => void (await node.stop()));

async function get(path: string, init: RequestInit = {}): Promise<Response> {
  return await fetch(base + path, init);
}

/** Checks of /readyz that are not well, by name. */
async function problems(): Promise<string[]> {
  const response = await get("/readyz");
  const { ready, checks } = (await response.json()) as {
    ready: boolean;
    checks: { name: string; ok: boolean }[];
  };
  expect(response.status).toBe(ready ? 200 : 503);
  return checks.filter(({ ok }) => !ok).map(({ name }) => name);
}

describe("the HTTP port", () => {
  test("serves metrics in the format that is asked for", async () => {
    const client = await LineClient.connect(node.port);
    client.sendRaw("GET nothing\n");
    await client.readLine();
    await client.close();
    const plain = await get("/metrics");
    expect(plain.headers.get("content-type")).toContain("version=0.0.4");
    const text = await plain.text();
    expect(text).toContain('merklekv_commands_total{family="get"} 1\n');
    expect(readMetrics(text, false).problems).toEqual([]);
    expect(text).toContain('merklekv_storage_state{state="ok"} 1\n');
    const open = await get("/metrics", { headers: { accept: "application/openmetrics-text" } });
    expect(open.headers.get("content-type")).toContain("openmetrics-text");
    expect(readMetrics(await open.text(), true).problems).toEqual([]);
  });

  test("says that it is alive, which version it is, and when it is ready", async () => {
    expect(await (await get("/healthz")).text()).toBe("ok\n");
    expect(await (await get("/version")).json()).toMatchObject({ version: expect.any(String) });
    await eventually("it is ready", async () => (await problems()).length === 0);
  });

  test("refuses what it does not serve", async () => {
    expect((await get("/other")).status).toBe(404);
    const post = await get("/metrics", { method: "POST", body: "FLUSH" });
    expect([post.status, post.headers.get("allow")]).toEqual([405, "GET, HEAD"]);
    const head = await get("/metrics", { method: "HEAD" });
    expect([head.status, await head.text()]).toEqual([200, ""]);
  });
});

test("a node that answers writes with Storage full is not ready, and says so", async () => {
  const client = await LineClient.connect(node.port);
  const isFull = async () => /^merklekv_memory_full 1$/m.test(await (await get("/metrics")).text());
  try {
    await eventually("it is ready", async () => (await problems()).length === 0);
    expect(await client.send("CONFIG SET storage.memory_limit_mb 4")).toBe("OK");
    expect(await isFull()).toBeFalse();
    let written = 0;
    while ((await client.send(`SET full:${written} ${"v".repeat(60_000)}`)) === "OK") written++;
    expect(await client.send(`SET more ${"v".repeat(60_000)}`)).toMatch(/Storage full/);
    expect([await problems(), await isFull()]).toEqual([["memory"], true]);
    await node.waitFor(/WARN .*Memory is used up to storage.memory_limit_mb: writes are refused/);
    for (let i = 0; i < written; i++) await client.send(`DELETE full:${i}`);
    await node.waitFor(/There is memory for writes again/);
    expect([await problems(), await isFull()]).toEqual([[], false]);
  } finally {
    await client.send("CONFIG UNSET storage.memory_limit_mb");
    await client.close();
  }
});

test("a port that is taken ends the start with one line", async () => {
  const port = base.slice(base.lastIndexOf(":") + 1);
  const { code, output } = await runToEnd([], {
    env: {
      MERKLE_KV_NODE_ID: "other",
      MERKLE_KV_STORAGE_ENGINE: "memory",
      MERKLE_KV_HTTP_BIND_PORT: port,
    },
  });
  expect(code).toBe(1);
  expect(output).toContain(`merklekv: cannot serve HTTP on 127.0.0.1:${port}`);
  expect(output).toContain("choose another http.bind_port");
});

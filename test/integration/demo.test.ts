/** `merklekv demo`: what it shows, and that nothing of it is left however it ends. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { eventually } from "../support/eventually.ts";
import { LineClient } from "../support/line-client.ts";
import { type BinaryProcess, runBinary } from "../support/process.ts";

/** Working, home and temporary directory in one: any file left behind would be in it. */
let directory: string;
/** In the environment of the demo and so of every process it starts. */
let mark: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "merklekv-demo-"));
  mark = `DEMO_TEST_MARK=${crypto.randomUUID()}`;
});
afterEach(() => {
  for (const pid of processes()) process.kill(pid, "SIGKILL");
  rmSync(directory, { recursive: true, force: true });
});

function startDemo(...args: string[]): Promise<BinaryProcess> {
  const [name, value] = mark.split("=") as [string, string];
  const env = { [name]: value, TMPDIR: directory, HOME: directory };
  return runBinary(["demo", ...args], { cwd: directory, env });
}

/** The living processes of this test's demo. */
function processes(): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .filter((pid) => environmentOf(pid).includes(mark))
    .map(Number);
}

/** Empty for a process that is gone, a zombie, or somebody else's. */
function environmentOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/environ`, "utf8");
  } catch {
    return "";
  }
}

function expectNothingLeft(): void {
  expect(processes()).toEqual([]);
  expect(readdirSync(directory)).toEqual([]);
}

const INVITATION = /nc 127\.0\.0\.1 \d+/;

test("shows writes travelling, then ends with --exit", async () => {
  const demo = await startDemo("--exit");
  expect(await demo.ended()).toBe(0);
  const output = demo.output();
  const took = String.raw`\d+\.\d ms later\n`;
  expect(output).toMatch(/ broker +mqtt:\/\/127\.0\.0\.1:\d+\n/);
  for (const node of [1, 2, 3]) expect(output).toMatch(` node ${node}   127.0.0.1:`);
  expect(output).toMatch(/node 1> +SET greeting Hello from node 1 +OK\n/);
  for (const node of [2, 3]) {
    expect(output).toMatch(new RegExp(`node ${node}> +GET greeting +Hello from node 1 +${took}`));
  }
  expect(output).toMatch(new RegExp(`node 3> +GET visits +42 +${took}`));
  expect(output).toMatch(new RegExp(`node 1> +GET greeting +\\(null\\) +${took}`));
  expect(output).toMatch(/node 3> +REPLICATE disable +OK\n/);
  expect(output).toMatch(new RegExp(`node 3> +GET stock:7 +\\(null\\) +${took}`));
  for (const node of [1, 3]) {
    expect(output).toMatch(new RegExp(`node ${node}> +GET visits +50 +${took}`));
  }
  expect(output).toMatch(/all +HASH +[0-9a-f]{16}…\n/);
  expect(output).toMatch(/Node 3 and node [12], in \d round trips and \d+ bytes:\n/);
  // Three keys were written on the one side and two on the other, one of them on both.
  expect(output).toMatch(/compared one by one +[1-9] of 10002 keys/);
  // Killed, node 3 has what it had acknowledged, and gets what it missed.
  expect(output).toMatch(/node 3> +kill -9\n/);
  expect(output).toMatch(new RegExp(`node 3> +GET lake +West +${took}`));
  expect(output).toMatch(new RegExp(`node 3> +GET bridge +Long Bien +${took}`));
  for (const node of [1, 3]) {
    expect(output).toMatch(new RegExp(`node ${node}> +GET visits +51 +${took}`));
  }
  expect(output).toMatch(/from its disk +10\d\d\d entries\n/);
  expect(output).toMatch(/from its peers +[1-9] entries\n/);
  expectNothingLeft();
});

test("keeps three connected nodes running until Ctrl-C", async () => {
  const demo = await startDemo();
  await demo.waitFor(/Ctrl-C ends everything/);
  const ports = [...demo.output().matchAll(/node \d {3}127\.0\.0\.1:(\d+)/g)].map((it) => it[1]);
  expect(ports).toHaveLength(3);
  const [one, , three] = await Promise.all(ports.map((port) => LineClient.connect(Number(port))));
  expect(await one.send("SET mine at last")).toBe("OK");
  await eventually("it arrives", async () => (await three.send("GET mine")) === "at last");
  await Promise.all([one.close(), three.close()]);

  demo.signal("SIGINT");
  expect(await demo.ended()).toBe(0);
  expectNothingLeft();
});

test.each([
  ["SIGTERM", /one MQTT broker/],
  ["SIGINT", /one MQTT broker/],
  ["SIGINT", /mqtt:\/\//],
  ["SIGINT", /node 1 /],
  ["SIGINT", /kill -9/],
  ["SIGHUP", INVITATION],
] as const)("%s after %p leaves nothing behind", async (name, moment) => {
  const demo = await startDemo();
  await demo.waitFor(moment);
  demo.signal(name);
  expect(await demo.ended()).toBe(0);
  expectNothingLeft();
});

test("kill -9 leaves nothing behind either", async () => {
  const demo = await startDemo();
  await demo.waitFor(INVITATION);
  expect(processes()).toHaveLength(5);
  await demo.kill();
  await eventually("its children have stopped", () => processes().length === 0);
  expectNothingLeft();
});

test("says which node died, and ends", async () => {
  const demo = await startDemo();
  await demo.waitFor(INVITATION);
  const children = processes().filter((pid) => pid !== demo.pid);
  process.kill(children.at(-1)!, "SIGKILL");
  expect(await demo.ended()).toBe(1);
  expect(demo.output()).toMatch(/^merklekv: (node \d|broker) ended with exit code 137$/m);
  expectNothingLeft();
});

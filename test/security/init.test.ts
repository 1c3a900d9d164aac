/** `merklekv init`: what it makes, what it refuses, and that what it prints can be run as printed. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { merklekvBinary } from "../support/binary.ts";
import { loadConfig } from "../../src/config/load.ts";
import { randomHex } from "../../src/world.ts";
import { eventually } from "../support/eventually.ts";
import { freePort, Mosquitto, mosquittoPath } from "../support/mosquitto.ts";
import { runBinary, runToEnd } from "../support/process.ts";

let directory = "";
beforeEach(() => (directory = mkdtempSync(join(tmpdir(), "merklekv-init-"))));
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const modeOf = (path: string) => (statSync(path).mode & 0o777).toString(8);
const inside = (...names: string[]) => join(directory, ...names);
const FILES = ["cluster.key", "data", "node.toml", "users.acl"];

/** What stands on a line of its own, indented: commands, and the password. */
const shownIn = (output: string) =>
  Array.from(output.matchAll(/^ {4}(\S.*)$/gm), ([, text]) => text);

test("all is for its owner alone, and nothing of a password is kept", async () => {
  const node = inside("node");
  const { code, output } = await runToEnd(["init", node]);
  expect(code).toBe(0);
  expect(readdirSync(node).sort()).toEqual(FILES);
  expect(modeOf(node)).toBe("700");
  expect(FILES.map((name) => modeOf(join(node, name)))).toEqual(["600", "700", "600", "600"]);
  const [password] = shownIn(output);
  expect(password).toMatch(/^[\w-]{32}$/);
  for (const name of ["node.toml", "users.acl", "cluster.key"]) {
    expect(readFileSync(join(node, name), "utf8")).not.toContain(password);
  }
  const other = await runToEnd(["init", inside("other")]);
  expect(shownIn(other.output)[0]).not.toBe(password);
});

test.each(FILES)("nothing is done where %s is there already", async (name) => {
  mkdirSync(inside("node"));
  writeFileSync(inside("node", name), "mine");
  const { code, output } = await runToEnd(["init", inside("node")]);
  expect(code).toBe(1);
  expect(output).toContain(`${inside("node", name)} is there already`);
  expect(readdirSync(inside("node"))).toEqual([name]);
  expect(readFileSync(inside("node", name), "utf8")).toBe("mine");
});

test("nor through a link that leads nowhere", async () => {
  mkdirSync(inside("node"));
  symlinkSync(inside("elsewhere"), inside("node", "cluster.key"));
  expect((await runToEnd(["init", inside("node")])).code).toBe(1);
  expect(existsSync(inside("elsewhere"))).toBe(false);
});

test.each([
  [["--broker", "http://x"], "--broker: allowed is"],
  [["--broker", "mqtt://user:pass@x"], "--broker: allowed is"],
  [["--bind", "not a host"], "--bind: allowed is"],
  [["--node-id", "a/b"], "--node-id: allowed are"],
  [["--port", "99999"], "--port: found"],
])("what no node starts with is refused: %p", async (options, line) => {
  const { code, output } = await runToEnd(["init", ...options, inside("node")]);
  expect([code, output.includes(line)]).toEqual([2, true]);
  expect(existsSync(inside("node"))).toBe(false);
});

test.each([
  ["mqtt://127.0.0.1:1883", "127.0.0.1", ""],
  ["mqtts://broker.example:8883", "127.0.0.1", "none"],
  ["mqtts://broker.example:8883", "0.0.0.0", ""],
  ["embedded.example", "::1", null],
])("what is written is a configuration: broker %s, clients at %s", async (broker, bind, hidden) => {
  const options = ["--broker", broker, "--bind", bind, "--node-id", 'odd"\\name'];
  const { code } = await runToEnd(["init", inside("no de"), ...options]);
  if (hidden === null) return expect(code).toBe(2);
  const loaded = loadConfig({ path: inside("no de", "node.toml"), env: {}, randomHex });
  if (!loaded.ok) throw new Error(loaded.problems.join());
  expect(loaded.notices).toEqual([]);
  const { config } = loaded;
  expect(config).toMatchObject({
    node_id: 'odd"\\name',
    network: { bind_address: bind, advertise_address: hidden },
    mqtt: { broker_address: broker },
    cluster: { secret_file: inside("no de", "cluster.key") },
    storage: { path: inside("no de", "data") },
  });
});

test("a secret that others may read is not taken over", async () => {
  await runToEnd(["init", inside("first")]);
  chmodSync(inside("first", "cluster.key"), 0o644);
  const { code, output } = await runToEnd(["init", "--from", inside("first"), inside("second")]);
  expect(code).toBe(1);
  expect(output).toContain(`chmod 600 ${inside("first", "cluster.key")}`);
  expect(existsSync(inside("second"))).toBe(false);
});

test.skipIf(mosquittoPath === null)("what it prints starts two nodes that agree", async () => {
  const broker = await Mosquitto.start();
  const binary = await merklekvBinary();
  mkdirSync(inside("bin"));
  symlinkSync(binary, inside("bin", "merklekv"));
  const ports = [await freePort(), await freePort()];
  const shell = (command: string, env: Record<string, string> = {}) => {
    const PATH = `${inside("bin")}:${process.env["PATH"]}`;
    return { command: ["sh", "-c", command], cwd: directory, env: { PATH, ...env } };
  };
  const run = async (command: string, env: Record<string, string> = {}, input = "") => {
    const ended = await runToEnd([], { ...shell(command, env), input });
    return ended;
  };
  const serve = async (command: string) => {
    const node = await runBinary([], shell(`exec ${command}`));
    await node.waitFor(/ready: node/);
    return node;
  };
  const url = `mqtt://127.0.0.1:${broker.port}`;
  const made = await run(`merklekv init first-node --broker ${url} --port ${ports[0]}`);
  const [password, start, talk, fetch, second] = shownIn(made.output);
  const first = await serve(start);
  expect(await run(talk, {}, `${password}\n`)).toMatchObject({ code: 0 });

  // As scp does, without another host.
  expect(fetch).toMatch(/^mkdir -m 700 first && scp -p THIS_HOST:\S+ first\/$/);
  mkdirSync(inside("first"), { mode: 0o700 });
  for (const name of ["cluster.key", "users.acl"]) {
    copyFileSync(inside("first-node", name), inside("first", name));
    chmodSync(inside("first", name), 0o600);
  }
  const joined = await run(`${second} --port ${ports[1]}`);
  expect(joined).toMatchObject({ code: 0 });
  const [startSecond, talkSecond] = shownIn(joined.output);
  const other = await serve(startSecond);

  const login = { MERKLE_KV_USER: "admin", MERKLE_KV_PASSWORD: password };
  const ask = async (port: number, words: string) =>
    (await run(`merklekv cli -p ${port} ${words}`, login)).output.trim();
  expect(await ask(ports[0], "SET greeting hello")).toBe("OK");
  await eventually("the second node has it", async () => {
    return (await ask(ports[1], "GET greeting")) === "hello";
  });
  expect(await ask(ports[1], "SET answer back")).toBe("OK");
  await eventually("and the first has its answer", async () => {
    return (await ask(ports[0], "GET answer")) === "back";
  });
  expect(await run(talkSecond, {}, "wrong\n")).toMatchObject({ code: 1 });
  const stranger = await run(`merklekv cli -p ${ports[0]} GET greeting`);
  expect(stranger.output).toContain("Not authenticated");
  for (const node of [first, other]) await node.stop();
  await broker.stop();
  for (const node of [first, other]) expect(node.output()).not.toContain(password);
  expect(readFileSync(inside("first-node", "audit.jsonl"), "utf8")).not.toContain(password);
});

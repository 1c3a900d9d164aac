/**
 * The attacker is another user of the machine, or has got the disk: what a node writes is for its
 * owner alone whatever the umask, a key seals it, and no line of the log can be forged.
 */
import { afterEach, beforeEach, expect, test } from "bun:test";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { merklekvBinary } from "../support/binary.ts";
import { eventually } from "../support/eventually.ts";
import { respRequest } from "../support/in-process.ts";
import { LineClient } from "../support/line-client.ts";
import { runBinary, runToEnd, type BinaryProcess } from "../support/process.ts";

let directory = "";
beforeEach(() => (directory = mkdtempSync(join(tmpdir(), "merklekv-files-"))));
afterEach(() => rmSync(directory, { recursive: true, force: true }));

interface Started extends BinaryProcess {
  readonly client: LineClient;
  readonly port: number;
}

/** Starts a node in the directory under that umask. */
async function start(config: string, umask = "0022"): Promise<Started> {
  const file = join(directory, "node.toml");
  const common = 'node_id = "n1"\n[network]\nbind_port = 0\n[mqtt]\nenabled = false\n';
  writeFileSync(file, common + config);
  const command = ["sh", "-c", `umask ${umask}; exec "$0" "$@"`, await merklekvBinary()];
  const child = await runBinary(["serve", "--config", file, "--exit-with-stdin"], {
    cwd: directory,
    command,
  });
  const ready = await child.waitFor(/ready: node \S+ on \S+:(\d+)$/m);
  const port = Number(ready[1]);
  return { ...child, port, client: await LineClient.connect(port) };
}

const everything = () =>
  readdirSync(directory, { recursive: true })
    .map((name) => join(directory, String(name)))
    .filter((path) => path !== join(directory, "node.toml"));

const LOGS = '[logging]\nfile_path = "logs/node.log"\n[audit]\nfile = "logs/audit.jsonl"\n';

test.each(["0000", "0022", "0002", "0077", "0777"])("under umask %s", async (umask) => {
  mkdirSync(join(directory, "logs"), { mode: 0o700 });
  const node = await start(LOGS, umask);
  expect(await node.client.send("SET key value")).toBe("OK");
  expect(await node.client.send("BACKUP one")).toStartWith("BACKUP one");
  expect(await node.client.send("SNAPSHOT")).toBe("OK");
  await node.client.close();
  await node.stop();
  const paths = everything();
  expect(paths.length).toBeGreaterThan(7);
  for (const path of paths) {
    const found = statSync(path);
    const mode = (found.mode & 0o777).toString(8);
    expect([path, mode]).toEqual([path, found.isDirectory() ? "700" : "600"]);
  }
  expect(readFileSync(join(directory, "logs/node.log"), "utf8")).not.toContain("chmod");
});

test("what is looser is told of once, with what to do", async () => {
  for (const name of ["data", "logs"]) mkdirSync(join(directory, name));
  const first = await start(LOGS);
  await first.client.close();
  await first.stop();
  chmodSync(join(directory, "data"), 0o755);
  chmodSync(join(directory, "data/0000000001.log"), 0o644);
  const node = await start(LOGS);
  await node.client.close();
  await node.stop();
  const lines = readFileSync(join(directory, "logs/node.log"), "utf8").split("\n");
  const told = lines.filter((line) => line.includes("Other users of this machine"));
  // Of the first run, too, as the directory was loose then.
  expect(told).toHaveLength(2);
  expect(told[1]).toContain("files=2 first=./data mode=0755");
  const command = /run="(.*)"$/.exec(told[1])![1];
  const fixed = Bun.spawnSync(["sh", "-c", command], { cwd: directory });
  expect(fixed.stderr.toString()).toBe("");
  for (const name of readdirSync(join(directory, "data"))) {
    expect(statSync(join(directory, "data", name)).mode & 0o077).toBe(0);
  }
  expect(statSync(join(directory, "data")).mode & 0o077).toBe(0);
});

test("passwords in a configuration that others may read are told of, and those elsewhere not", async () => {
  const warning = /WARN .*may read the passwords in the configuration.*/;
  const node = await start('[auth]\npassword = "hunter2"\n');
  const [line] = await node.waitFor(warning);
  expect(line).toContain("keys=auth.password mode=0644");
  expect(line).toContain(`run="chmod -R go= ${join(directory, "node.toml")}"`);
  expect(line).not.toContain("hunter2");
  await node.client.close();
  await node.stop();
  mkdirSync(join(directory, "logs"));
  const other = await start(LOGS);
  await other.client.close();
  await other.stop();
  expect(readFileSync(join(directory, "logs/node.log"), "utf8")).not.toMatch(warning);
});

test("an audit file that was moved away is begun anew, for the owner alone", async () => {
  mkdirSync(join(directory, "logs"), { mode: 0o700 });
  const node = await start(LOGS, "0000");
  const path = join(directory, "logs/audit.jsonl");
  expect(await node.client.send("CONFIG GET node_id")).toContain("node_id");
  expect(await node.client.readLine()).toBe("");
  await eventually("a line", () => readFileSync(path, "utf8").includes("CONFIG GET"));
  renameSync(path, `${path}.old`);
  node.signal("SIGHUP");
  await eventually("another file", () => existsSync(path));
  expect(await node.client.send("SNAPSHOT")).toBe("OK");
  await eventually("its first line", () => readFileSync(path, "utf8").includes("SNAPSHOT"));
  expect(statSync(path).mode & 0o777).toBe(0o600);
  await node.client.close();
  await node.stop();
  expect(readFileSync(`${path}.old`, "utf8")).not.toContain("SNAPSHOT");
});

/** What would end a line, colour a terminal, or turn text round. */
const EVIL =
  "a\r\nERROR forged\u001b[31m\u0007\u0085\u009b31m\u2028\u2029\u202e\u2066\u200b\u00ad\u061c\u{e0041}";

test.each(["text", "json"])("no name and no key forges a line of the log: %s", async (format) => {
  mkdirSync(join(directory, "logs"), { mode: 0o700 });
  const logging = `${LOGS.replace("[audit]", `format = "${format}"\nlevel = "trace"\n[audit]`)}`;
  const node = await start(logging);
  const { client } = node;
  for (const words of [
    ["AUTH", EVIL, "password"],
    ["SYNC", EVIL],
    ["BACKUP", EVIL],
    ["CLIENT", "SETNAME", EVIL],
    ["FORGET", EVIL],
    ["ACL", "SETUSER", EVIL, "on"],
    ["GET", EVIL],
    ["SET", EVIL, EVIL],
    ["CONFIG", "SET", EVIL, EVIL],
    [EVIL],
  ]) {
    client.sendRaw(respRequest(...words));
    await client.readLine();
  }
  await client.close();
  await node.stop();
  for (const name of ["node.log", "audit.jsonl"]) {
    const text = readFileSync(join(directory, "logs", name), "utf8");
    for (const line of text.split("\n")) {
      expect(line).not.toMatch(/^ERROR forged/);
      expect(line).not.toMatch(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u);
    }
  }
});

test("with a key, nobody who gets the disk learns a key, a value or a name", async () => {
  const key = join(directory, "storage.key");
  expect((await runToEnd(["keygen", key])).code).toBe(0);
  const storage = `[storage]\nkey_file = "${key}"\n`;
  const node = await start(storage);
  for (let i = 0; i < 100; i++) await node.client.send(`SET private-key-${i} private-value-${i}`);
  await node.client.send("BACKUP one");
  const to = join(directory, "fetched.backup");
  const port = String(node.port);
  const fetched = await runToEnd(["backup", "--to", to, "-p", port]);
  expect(fetched).toMatchObject({ code: 0 });
  expect(fetched.output).toMatch(/^Backup, sealed with the key [0-9a-f]{8}: 100 entries/);
  await node.client.close();
  await node.stop();
  for (const path of everything()) {
    if (statSync(path).isFile()) expect(readFileSync(path, "latin1")).not.toContain("private-");
  }

  const data = join(directory, "data");
  const without = await runToEnd(["check", data]);
  expect(without.code).toBe(1);
  expect(without.output).toMatch(/is sealed with the key [0-9a-f]{8}, which is not there/);
  const checked = await runToEnd(["check", "--key-file", key, data]);
  expect(checked.output).toMatch(/sealed with [0-9a-f]{8} {2}good\n/);
  const unreadable = await runToEnd(["restore", to, join(directory, "other")]);
  expect(unreadable.output).toContain("which is not there");
  const restored = await runToEnd(["restore", "--key-file", key, to, join(directory, "other")]);
  expect(restored.output).toContain("Restored 100 entries of node n1");

  chmodSync(key, 0o644);
  const open = await runToEnd(["serve", "--config", join(directory, "node.toml")], {
    cwd: directory,
  });
  expect(open.code).toBe(1);
  expect(open.output).toContain(`forbid it with: chmod 600 ${key}`);
  chmodSync(key, 0o600);

  const other = join(directory, "other.key");
  await runToEnd(["keygen", other]);
  writeFileSync(
    join(directory, "node.toml"),
    `node_id = "n1"\n[mqtt]\nenabled = false\n${storage.replace(key, other)}`,
  );
  const locked = await runToEnd(["serve", "--config", join(directory, "node.toml")], {
    cwd: directory,
  });
  expect(locked.code).toBe(1);
  expect(locked.output).toMatch(
    /^merklekv: \S+ is sealed with the key [0-9a-f]{8}, which is not there; .*$/m,
  );

  const again = await start(storage);
  expect(await again.client.send("GET private-key-7")).toBe("private-value-7");
  await again.client.close();
  await again.stop();
});

/**
 * The commands of docs/security.md, as they stand there, from its set-up to the rotation of the disk
 * key. Those on TLS and on the cluster secret are run by tests of their own, and so is no other
 * section left out.
 */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import TOML from "@iarna/toml";
import {
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
import { merklekvBinary, projectRoot } from "../support/binary.ts";
import { eventually } from "../support/eventually.ts";
import { freePort, Mosquitto, mosquittoPath } from "../support/mosquitto.ts";
import { runBinary, runToEnd, type BinaryProcess } from "../support/process.ts";

const page = readFileSync(join(projectRoot, "docs/security.md"), "utf8");

/** What stands in the blocks of a section, by their kind. */
function blocksOf(heading: string, kind: string): string[] {
  const section = page.split(`\n${heading}\n`)[1].split(/\n##/)[0];
  const blocks = section.matchAll(/^ *```(\w+)\n([\s\S]*?)^ *```$/gm);
  return Array.from(blocks).flatMap(([, found, text]) => (found === kind ? [text] : []));
}

/** Its commands, one a line. */
const commandsOf = (heading: string) =>
  blocksOf(heading, "console")
    .join("")
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line.startsWith("$ "))
    .map((line) => line.slice(2));

let directory = "";
let running: BinaryProcess[] = [];
beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), "merklekv-security-docs-"));
  mkdirSync(join(directory, "bin"));
  symlinkSync(await merklekvBinary(), join(directory, "bin/merklekv"));
});
afterEach(async () => {
  for (const node of running.splice(0)) await node.stop();
  rmSync(directory, { recursive: true, force: true });
});

const shell = (command: string) => ({
  command: ["bash", "-c", command],
  cwd: directory,
  env: { PATH: `${join(directory, "bin")}:${process.env["PATH"]}` },
});

/** Runs a command to its end; all that it prints. Throws that when it fails. */
async function run(command: string, input = ""): Promise<string> {
  const { code, output } = await runToEnd([], { ...shell(command), input });
  if (code !== 0) throw new Error(`${command}: ${output}`);
  return output;
}

async function serve(command: string): Promise<BinaryProcess> {
  const node = await runBinary([], shell(`exec ${command}`));
  await node.waitFor(/ready: node/);
  running.push(node);
  return node;
}

test("every section with commands has a test", () => {
  const headings = Array.from(page.matchAll(/^(##+ .*)$/gm), ([, heading]) => heading);
  const found = headings.filter((heading) => commandsOf(heading).length > 0);
  const own = [
    "## Set-up in ten lines",
    "## Users and rights",
    "## Encryption at rest",
    "### Of passwords",
    "### Of the disk key",
  ];
  const others = [
    "## The cluster secret",
    "### Sessions between nodes",
    "## TLS",
    "### Of the cluster secret",
    "### Of certificates",
  ];
  expect(found.filter((heading) => !own.includes(heading) && !others.includes(heading))).toEqual(
    [],
  );
  for (const heading of own) expect(found).toContain(heading);
});

test.skipIf(mosquittoPath === null)("the set-up, in ten lines", async () => {
  const commands = commandsOf("## Set-up in ten lines");
  expect(commands).toHaveLength(10);
  const broker = await Mosquitto.start();
  const ports = [await freePort(), await freePort()];
  let node = 0;
  let password = "";
  const printed: string[] = [];
  for (const line of commands) {
    // Another machine, and its address, are all that is not as it stands there.
    const command = line
      .replaceAll("mqtt://10.0.0.1:1883", broker.address)
      .replaceAll("host1:", "")
      .replace(/^scp -p/, "cp -p")
      .replace(/^(merklekv init .*)$/, `$1 --port ${ports[node]}`)
      .replace(/^merklekv cli/, `merklekv cli -p ${ports[1]}`);
    if (/^merklekv serve/.test(command)) {
      await serve(command);
      node++;
      continue;
    }
    const asks = command.includes("--askpass");
    const output = await run(command, asks ? `${password}\n` : "");
    if (password === "") password = /^ {4}(\S{32})$/m.exec(output)![1]!;
    printed.push(output.trim().split("\n").at(-1)!.replace("Password: ", ""));
  }
  expect(printed.slice(-3)).toEqual(["OK", "OK", "(null)"]);
  const as = (user: string, port: number, words: string) =>
    runToEnd([], {
      ...shell(`merklekv cli -p ${port} --user ${user} --askpass ${words}`),
      input: `${user === "admin" ? password : readFileSync(join(directory, "dash.password"))}\n`,
    });
  expect((await as("admin", ports[0], "SET site:1 up")).output).toContain("OK");
  const get = `merklekv cli -p ${ports[1]} --user dash --pass-file dash.password GET site:1`;
  await eventually("it is there", async () => (await run(get)) === "up\n");
  expect((await as("dash", ports[1], "SET site:1 down")).output).toContain("Permission denied");
  expect((await as("dash", ports[1], "GET other")).output).toContain("Permission denied");
  // Nothing waits for this file, so the last lines may come a little later.
  const about = (name: string) =>
    readFileSync(join(directory, "node2/audit.jsonl"), "utf8")
      .split("\n")
      .slice(0, -1)
      .map((line) => JSON.parse(line) as Record<string, unknown>)
      .filter(({ event }) => event === name);
  await eventually("both denials are written", () => about("denied").length >= 2);
  expect(about("acl").map(({ command, detail }) => [command, detail])).toEqual([
    ["ACL SETUSER", "dash"],
    ["ACL SAVE", undefined],
  ]);
  expect(about("denied").map(({ user, command, key }) => [user, command, key])).toEqual([
    ["dash", "SET", "site:1"],
    ["dash", "GET", "other"],
  ]);
  for (const name of ["node1", "node2", "first"]) {
    expect(statSync(join(directory, name)).mode & 0o777).toBe(0o700);
  }
  await broker.stop();
});

describe("encryption at rest", () => {
  let port = 0;
  beforeEach(async () => void (port = await freePort()));

  /** A node with those settings of storage; its data are in `data`. */
  const startWith = (toml: string): Promise<BinaryProcess> => {
    const storage = (TOML.parse(toml)["storage"] ?? {}) as Record<string, unknown>;
    const lines = Object.entries(storage).map(
      ([key, value]) => `${key} = ${JSON.stringify(value)}`,
    );
    const config = [
      'node_id = "node1"',
      `[network]\nbind_port = ${port}`,
      "[mqtt]\nenabled = false",
      `[storage]\n${lines.join("\n")}`,
    ];
    writeFileSync(join(directory, "node.toml"), `${config.join("\n")}\n`);
    return serve("merklekv serve --config node.toml");
  };
  const atPort = (command: string) =>
    command.replace(/^merklekv (cli|backup)/, `merklekv $1 -p ${port}`);
  const ask = async (words: string) => (await run(atPort(`merklekv cli ${words}`))).trim();
  const stop = async (node: BinaryProcess) => {
    running = running.filter((it) => it !== node);
    await node.stop();
  };
  const textOf = (path: string) => readFileSync(join(directory, path), "latin1");

  test("is set up, and its tools work, as it stands there", async () => {
    const [keygen, check, backup, restore, unseal] = commandsOf("## Encryption at rest");
    const before = await startWith("");
    expect(await ask("SET private value-of-it")).toBe("OK");
    await stop(before);
    expect(textOf("data/0000000001.log")).toContain("value-of-it");

    await run(keygen);
    const [toml] = blocksOf("## Encryption at rest", "toml");
    const node = await startWith(toml);
    await eventually("all is sealed", async () => {
      return /^storage_other_keys:\s*$/m.test(await ask("INFO"));
    });
    for (const name of readdirSync(join(directory, "data"))) {
      const path = join("data", name);
      if (statSync(join(directory, path)).isFile()) expect(textOf(path)).not.toContain("value-of");
    }
    expect(await run(atPort(backup))).toMatch(/^Backup of node node1: 1 entries/);
    await stop(node);
    expect(await run(check)).toContain("data of node node1: 1 entries, good");
    expect(await run(restore)).toStartWith("Restored 1 entries of node node1");
    // What a node without a key set aside is printed as it is.
    writeFileSync(join(directory, "data/set-aside-node1.jsonl"), '{"key":"old"}\n');
    expect(await run(unseal)).toBe('{"key":"old"}\n');
  });

  test("its key is changed as it stands there", async () => {
    await run("merklekv keygen storage.key");
    const first = await startWith('[storage]\nkey_file = "storage.key"');
    expect(await ask("SET private value-of-it")).toBe("OK");
    await stop(first);
    const [keygen, wait] = commandsOf("### Of the disk key");
    const steps = blocksOf("### Of the disk key", "toml");
    expect(steps).toHaveLength(2);
    await run(keygen);
    const both = await startWith(steps[0]);
    expect(await ask("GET private")).toBe("value-of-it");
    await eventually("nothing needs the old key", () => run(atPort(wait)));
    await stop(both);
    rmSync(join(directory, "storage.key"));
    const last = await startWith(steps[1]);
    expect(await ask("GET private")).toBe("value-of-it");
    await stop(last);
  });
});

describe("users", () => {
  let port = 0;
  const sha256 = (text: string) => new Bun.CryptoHasher("sha256").update(text).digest("hex");
  const PASSWORDS: Readonly<Record<string, string>> = { admin: "admin-pass", dash: "dash-pass" };

  /** A node with the users of the text, whose passwords are those above. */
  beforeEach(async () => {
    port = await freePort();
    const [lines] = blocksOf("## Users and rights", "text");
    const named = lines.replace(/^user (\w+) on #\S+/gm, (_, name: string) => {
      return `user ${name} on #${sha256(PASSWORDS[name])}`;
    });
    writeFileSync(join(directory, "users.acl"), named, { mode: 0o600 });
    writeFileSync(join(directory, "dash.password"), `${PASSWORDS["dash"]}\n`, { mode: 0o600 });
    const [toml] = blocksOf("## Users and rights", "toml");
    const rest = `[network]\nbind_port = ${port}\n[mqtt]\nenabled = false\n[storage]\nengine = "memory"`;
    writeFileSync(join(directory, "node.toml"), `node_id = "n"\n${toml}${rest}\n`);
    await serve("merklekv serve --config node.toml");
  });

  /** Runs one of the commands against that node, and types the password that it asks for. */
  const runAs = async (command: string): Promise<string> => {
    const user = /--user (\w+)/.exec(command)?.[1] ?? "";
    const there = command
      .replace(/^merklekv cli/, `merklekv cli -p ${port}`)
      .replace("-p 7379", `-p ${port}`)
      // It wants a terminal to ask.
      .replace(/^redis-cli (.*) --askpass/, `REDISCLI_AUTH=${PASSWORDS[user]} redis-cli $1`);
    return (await run(there, `${PASSWORDS[user]}\n`)).replace("Password: ", "").trim();
  };

  test("do what the text says that they may", async () => {
    const answers: string[] = [];
    for (const command of commandsOf("## Users and rights")) {
      if (command.startsWith("redis-cli") && Bun.which("redis-cli") === null) continue;
      answers.push(await runAs(command));
    }
    const denied = "This user has no permissions to access the 'site:1:pin' key";
    expect(answers.slice(0, 3)).toEqual(["OK", "21", denied]);
    if (answers.length === 3) return;
    expect(answers.slice(3)).toEqual(["OK", "OK"]);
    const saved = readFileSync(join(directory, "users.acl"), "utf8");
    expect(saved).toContain(" ~site:*:temp %W~inbox:* -@all +@read +set\n");
  });

  test("get another password, and can log in at every moment", async () => {
    const [keygen, add, save, useNew, ...rest] = commandsOf("### Of passwords");
    const at = (file: string): Promise<{ code: number; output: string }> =>
      runToEnd(
        [],
        shell(`merklekv cli -p ${port} --user dash --pass-file ${file} GET site:1:temp`),
      );
    const works = { code: 0, output: "(null)\n" };
    await run(keygen);
    expect(await runAs(add)).toBe("OK");
    expect(await runAs(save)).toBe("OK");
    expect(await at("dash.password")).toEqual(works);
    expect(await at("dash.password.new")).toEqual(works);
    expect(useNew).toContain("--pass-file dash.password.new");
    const program = await runBinary(
      [],
      shell(`exec merklekv cli -p ${port} --user dash --pass-file dash.password`),
    );
    program.write("GET site:1:temp\n");
    await program.waitFor(/\(null\)/);
    const [take, saveAgain, kill, move] = rest;
    expect([await runAs(take), await runAs(saveAgain)]).toEqual(["OK", "OK"]);
    expect(await runAs(kill)).toBe("1");
    program.write("GET site:1:temp\n");
    expect(await program.ended()).toBe(1);
    expect((await at("dash.password")).output).toContain("Not authenticated");
    await run(move);
    expect(await at("dash.password")).toEqual(works);
    expect(readFileSync(join(directory, "users.acl"), "utf8")).not.toContain(sha256("dash-pass"));
  });
});

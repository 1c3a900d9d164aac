/**
 * Data directories and backups that nobody can use, or that hold what is somebody else's, under the
 * real binary: one clear line that names the file, exit code 1, and nothing written.
 */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  chmodSync,
  chownSync,
  cpSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { merklekvBinary } from "../support/binary.ts";
import { eventually } from "../support/eventually.ts";
import { LineClient } from "../support/line-client.ts";
import { type NodeProcess, runToEnd, startNodeProcess } from "../support/process.ts";

const NOBODY = 65534;
const LOG = "0000000001.log";
const isRoot = process.getuid?.() === 0;

let directory: string;
/** A good data directory, and a good backup of it. */
let data: string;
let backup: string;
beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), "merklekv-bad-"));
  data = join(directory, "data");
  backup = join(directory, "node.backup");
  const node = await startNodeProcess({ config: configOf(data) });
  const client = await LineClient.connect(node.port);
  expect(await client.send("SET city Hanoi")).toBe("OK");
  await runToEnd(["backup", "-p", `${node.port}`, "--to", backup]);
  await client.close();
  expect(await node.stop()).toBe(0);
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

function configOf(path: string): string {
  return (
    `node_id = "solo"\n[network]\nbind_port = 0\n[mqtt]\nenabled = false\n` +
    `[storage]\npath = ${JSON.stringify(path)}\n`
  );
}

/** The arguments of a node on a directory. */
function serveOn(path: string): string[] {
  const config = join(directory, "node.toml");
  writeFileSync(config, configOf(path), { mode: 0o644 });
  return ["serve", "--config", config, "--exit-with-stdin"];
}

/** Every file below a directory, what it is and what it holds; but for locks, which hold nothing. */
function treeOf(path: string, below = ""): Record<string, string> {
  const tree: Record<string, string> = {};
  for (const name of readdirSync(join(path, below)).sort()) {
    if (name === "lock" || name === "node.toml") continue;
    const inside = join(below, name);
    const found = lstatSync(join(path, inside));
    const contents = found.isFile() ? readFileSync(join(path, inside), "latin1") : "";
    tree[inside] = `${found.mode} ${contents}`;
    if (found.isDirectory()) Object.assign(tree, treeOf(path, inside));
  }
  return tree;
}

type Run = (args: string[]) => Promise<{ code: number; output: string }>;

const asSelf: Run = (args) => runToEnd(args, { cwd: directory });

/** Root may read and write everything. */
const asNobody: Run = async (args) => {
  const drop = ["setpriv", `--reuid=${NOBODY}`, `--regid=${NOBODY}`, "--clear-groups", "--"];
  const command = [...(isRoot ? drop : []), await merklekvBinary(), ...args];
  const child = Bun.spawn(command, { stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  const output = (await Promise.all([child.stdout.text(), child.stderr.text()])).join("");
  return { code: await child.exited, output };
};

async function expectRefused(args: string[], pattern: RegExp, run = asSelf): Promise<void> {
  const before = treeOf(directory);
  const { code, output } = await run(args);
  expect(output).toMatch(pattern);
  expect(output.trimEnd().split("\n")).toHaveLength(1);
  expect(code).toBe(1);
  expect(treeOf(directory)).toEqual(before);
}

/** All that can be done to a data directory. */
function allOn(path: string): string[][] {
  return [
    serveOn(path),
    ["check", path],
    ["check", "--fix", path],
    ["restore", "--force", backup, path],
  ];
}

/** Whether that can be run here; says so when not. */
function canRun(command: string, what: string): boolean {
  if (!isRoot || Bun.spawnSync(["sh", "-c", command]).exitCode === 0) return true;
  console.warn(`skipped: ${what}`);
  return false;
}

describe("what must not be touched", () => {
  test("a read-only file system", async () => {
    const mounted = join(directory, "mounted");
    mkdirSync(mounted);
    const mount = `mount -t tmpfs merklekv-test ${mounted}`;
    if (!isRoot || !canRun(mount, "mounting takes root on Linux")) return;
    try {
      const there = join(mounted, "data");
      cpSync(data, there, { recursive: true });
      expect(canRun(`mount -o remount,ro ${mounted}`, "remounting")).toBe(true);
      for (const args of allOn(there)) {
        await expectRefused(
          args,
          /^merklekv: cannot write to \S+data: the file system is read-only \(EROFS\)\n$/,
        );
      }
      const target = join(mounted, "new");
      const readOnly = /^merklekv: cannot make .*\S+new: the file system is read-only \(EROFS\)\n$/;
      await expectRefused(serveOn(target), readOnly);
      await expectRefused(["restore", backup, target], readOnly);
      await expectBackupRefused(
        join(mounted, "x.backup"),
        /^merklekv: cannot write \S+x\.backup\.tmp: the file system is read-only \(EROFS\)\n$/,
      );
    } finally {
      Bun.spawnSync(["umount", "-l", mounted]);
    }
  });

  test("a directory, or a file in it, that is somebody else's", async () => {
    if (!canRun("setpriv --version", "as root this needs setpriv")) return;
    chmodSync(directory, 0o755);
    chmodSync(backup, 0o644);
    if (isRoot) {
      for (const name of ["", LOG, "lock"]) chownSync(join(data, name), NOBODY, NOBODY);
    }
    chmodSync(join(data, LOG), 0o000);
    const file = /^merklekv: cannot read \S+0000000001\.log: permission denied; .+ \(EACCES\)\n$/;
    for (const args of allOn(data).slice(0, 3)) await expectRefused(args, file, asNobody);
    chmodSync(join(data, LOG), 0o600);
    for (const mode of [0o000, 0o555]) {
      chmodSync(data, mode);
      const denied = /^merklekv: cannot (read|write to) \S+data: permission denied; .+\n$/;
      for (const args of allOn(data)) {
        // Nobody cannot look into it; root can, for the comparison.
        if (isRoot) await expectRefused(args, denied, asNobody);
        else expect((await asNobody(args)).output).toMatch(denied);
      }
    }
    chmodSync(data, 0o755);
    chmodSync(backup, 0o000);
    await expectRefused(
      ["restore", backup, join(data, "new")],
      /^merklekv: cannot read \S+node\.backup: permission denied; .+\n$/,
      asNobody,
    );
  });
});

async function expectBackupRefused(to: string, pattern: RegExp): Promise<void> {
  const node = await startNodeProcess();
  try {
    await expectRefused(["backup", "-p", `${node.port}`, "--to", to], pattern);
  } finally {
    await node.stop();
  }
}

describe("what is no file of a node", () => {
  test.each([
    ["a loop of symbolic links", /cannot (read|look at) \S+\.log: its path is a loop/],
    ["a link to nothing", /cannot read \S+\.log: there is no such file/],
    ["a pipe", /cannot read \S+\.log: it is not a file but a pipe or a device \(EFTYPE\)/],
    ["a directory", /cannot read \S+\.log: it is a directory/],
  ])("%s in a segment's place", async (what, pattern) => {
    const log = join(data, LOG);
    rmSync(log);
    if (what === "a pipe") Bun.spawnSync(["mkfifo", log]);
    else if (what === "a directory") mkdirSync(log);
    else symlinkSync(what === "a link to nothing" ? "nowhere" : log, log);
    for (const args of allOn(data).slice(0, 3)) await expectRefused(args, pattern);
    await expectRefused(["restore", log, join(directory, "new")], /^merklekv: cannot read /);
    await expectRefused(["restore", backup, data], /holds data already; --force puts that aside/);
  });

  test("a loop, or a link to nothing, in the directory's place", async () => {
    const loop = join(directory, "loop");
    const dangling = join(directory, "dangling");
    symlinkSync(loop, loop);
    symlinkSync(join(directory, "nowhere"), dangling);
    for (const args of allOn(loop)) {
      await expectRefused(
        args,
        /^merklekv: cannot \D+ \S+loop: its path is a loop of symbolic links/,
      );
    }
    const nothing = /^merklekv: (cannot make .*dangling: there is no such|there is no directory) /;
    for (const args of allOn(dangling)) await expectRefused(args, nothing);
  });

  test.each([40, 5_000, 100_000])("a letter of %p bytes in a segment's place", async (bytes) => {
    writeFileSync(join(data, LOG), "Dear aunt, ".repeat(bytes).slice(0, bytes));
    const damaged = /^merklekv: \S+\.log is damaged at byte 0: .+ "merklekv check .+\n$/;
    await expectRefused(serveOn(data), damaged);
    await expectRefused(
      ["check", "--fix", data],
      /^merklekv: no file in \S+data tells whose it is; /,
    );
    expect((await runToEnd(["check", data])).output).toContain("DAMAGED at byte 0");
  });

  test("other files beside the data stay as they are", async () => {
    const names = ["notes.tmp", "1.log", "0000000001.log.old", "letter"];
    for (const name of names) writeFileSync(join(data, name), "mine");
    const node = await startNodeProcess({ config: configOf(data) });
    const client = await LineClient.connect(node.port);
    expect(await client.send("GET city")).toBe("Hanoi");
    expect(await client.send("SNAPSHOT")).toBe("OK");
    await client.close();
    await node.stop();
    for (const name of names) expect(readFileSync(join(data, name), "utf8")).toBe("mine");
    expect((await runToEnd(["check", data])).code).toBe(0);
  });

  test("what is put aside keeps its name, however the directory is written", async () => {
    const { code } = await asSelf(["restore", "--force", backup, "./data/"]);
    expect(code).toBe(0);
    const aside = readdirSync(data).find((name) => name.startsWith("aside-"))!;
    expect(readdirSync(join(data, aside))).toEqual([LOG]);
  });

  test("the log that belongs to a snapshot is missing", async () => {
    const node = await startNodeProcess({ config: configOf(data) });
    const client = await LineClient.connect(node.port);
    expect(await client.send("SNAPSHOT")).toBe("OK");
    expect(await client.send("SET city Hue")).toBe("OK");
    await client.close();
    await node.stop();
    rmSync(join(data, "0000000002.log"));
    await expectRefused(
      serveOn(data),
      /^merklekv: \S+0000000002\.log is damaged at byte 0: it is missing; .+\n$/,
    );
    expect((await runToEnd(["check", data])).code).toBe(1);
    expect((await runToEnd(["check", "--fix", data])).code).toBe(0);
    const again = await startNodeProcess({ config: configOf(data) });
    await again.stop();
  });
});

describe("backup --to", () => {
  test("a place that is taken, a directory, or below a file", async () => {
    const exists = /^merklekv: \S+ exists; choose another name or remove it\n$/;
    await expectBackupRefused(backup, exists);
    await expectBackupRefused(data, exists);
    await expectBackupRefused(
      join(backup, "x"),
      /^merklekv: cannot look at \S+x: a part of its path/,
    );
    await expectBackupRefused(
      join(directory, "no", "x"),
      /^merklekv: cannot write \S+: there is no/,
    );
  });

  test("from what is no node", async () => {
    const server = Bun.serve({ port: 0, fetch: () => new Response("a web server") });
    await expectRefused(
      ["backup", "-p", `${server.port}`, "--to", join(directory, "x")],
      /^merklekv: 127\.0\.0\.1:\d+ is no node: .+\n$/,
    );
    await server.stop(true);
  });

  test("from a node that keeps nothing on disk", async () => {
    const config = configOf(join(directory, "none")).replace(
      "[storage]",
      '[storage]\nengine = "memory"',
    );
    const node = await startNodeProcess({ config });
    const client = await LineClient.connect(node.port);
    expect(await client.send("SET city Hue")).toBe("OK");
    await client.close();
    const to = join(directory, "memory.backup");
    expect((await runToEnd(["backup", "-p", `${node.port}`, "--to", to])).code).toBe(0);
    await node.stop();
    expect((await runToEnd(["restore", to, join(directory, "new")])).output).toStartWith(
      "Restored 1 ",
    );
  });
});

describe("a data directory under a running node that is", () => {
  const isReadOnly = /^ERROR:? Read only - .*0000000001\.log was removed or replaced/;

  test.each([
    ["removed", () => rmSync(data, { recursive: true })],
    [
      "replaced by a copy of itself",
      () => {
        renameSync(data, `${data}.old`);
        cpSync(`${data}.old`, data, { recursive: true });
      },
    ],
    ["without the file that is written to", () => rmSync(join(data, LOG))],
  ])("%s: one line says so, reads go on, and writes do not", async (_how, change) => {
    await using node = await startOn(data);
    expect(await ask(node, "SET city Hue")).toBe("OK");
    change();
    await eventually("no write is taken", async () => {
      return isReadOnly.test(await ask(node, "SET city Saigon"));
    });
    expect(await ask(node, "GET city")).toMatch(/^(Hue|Saigon)$/);
    await node.stop();
    expect(node.output().match(/Taking no writes/g)).toHaveLength(1);
  });

  test("away for a while: writes are taken again when it is back", async () => {
    await using node = await startOn(data);
    renameSync(data, `${data}.away`);
    const isTaken = async () => (await ask(node, "SET city Hue")) === "OK";
    await eventually("no write is taken", async () => !(await isTaken()));
    renameSync(`${data}.away`, data);
    await eventually("writes are taken", isTaken);
    expect(await node.stop()).toBe(0);
    await using again = await startOn(data);
    expect(await ask(again, "GET city")).toBe("Hue");
    expect(await again.stop()).toBe(0);
  });
});

/** The answer to a line; none when the connection is closed, as who waits for the disk is told. */
async function ask({ port }: NodeProcess, line: string): Promise<string> {
  const client = await LineClient.connect(port);
  const answer = await client.send(line).catch(() => "");
  await client.close();
  return answer;
}

/** A node on a directory, killed at the end of its block. */
async function startOn(path: string): Promise<NodeProcess & AsyncDisposable> {
  const node = await startNodeProcess({ config: configOf(path) });
  return Object.assign(node, { [Symbol.asyncDispose]: () => node.kill() });
}

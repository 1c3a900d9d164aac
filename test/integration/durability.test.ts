/** What a real node keeps on a real disk: restarts, kills, backups, damage, and bad input. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  chmodSync,
  cpSync,
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
import { FORMAT_VERSION } from "../../src/durability/frame.ts";
import { killNine, FSYNC_MODES } from "../proof/kill-nine.ts";
import { killTools, VICTIMS } from "../proof/kill-tools.ts";
import { merklekvBinary } from "../support/binary.ts";
import { LineClient } from "../support/line-client.ts";
import { type NodeProcess, runToEnd, startNodeProcess } from "../support/process.ts";

let directory: string;
/** The data directory of the node under test. */
let data: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "merklekv-durability-"));
  data = join(directory, "data");
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

function configOf(path: string, nodeId = "solo", fsync = "everysec"): string {
  return (
    `node_id = "${nodeId}"\n[network]\nbind_port = 0\n[mqtt]\nenabled = false\n` +
    `[storage]\npath = ${JSON.stringify(path)}\nfsync = "${fsync}"\n`
  );
}

/** Runs `work` with a client of a node on `path`, and stops the node afterwards, or kills it. */
async function withNode(
  path: string,
  work: (client: LineClient, node: NodeProcess) => Promise<void>,
  options: { fsync?: string; ends?: "stopped" | "killed" } = {},
): Promise<void> {
  const node = await startNodeProcess({ config: configOf(path, "solo", options.fsync) });
  try {
    const client = await LineClient.connect(node.port);
    await work(client, node);
    await client.close();
  } finally {
    if (options.ends === "killed") await node.kill();
    else expect(await node.stop()).toBe(0);
  }
}

/** Starts a node that cannot start; what it said. */
async function startInVain(
  path: string,
  nodeId?: string,
): Promise<{ code: number; output: string }> {
  const file = join(directory, "node.toml");
  writeFileSync(file, configOf(path, nodeId));
  return runToEnd(["serve", "--config", file, "--exit-with-stdin"], { cwd: directory });
}

async function say(client: LineClient, lines: Record<string, string>): Promise<void> {
  for (const [line, reply] of Object.entries(lines)) {
    expect(`${line} → ${await client.send(line)}`).toBe(`${line} → ${reply}`);
  }
}

/** A node's data of a few kinds, stopped cleanly. */
async function makeData(path: string): Promise<void> {
  await withNode(path, (client) =>
    say(client, {
      "SET city Hanoi": "OK",
      "INCR visits 42": "42",
      "SET gone soon": "OK",
      "DEL gone": "DELETED",
    }),
  );
}

const MADE = { "GET city": "Hanoi", "GET visits": "42", "GET gone": "(null)", DBSIZE: "2" };

/** Every file below a directory with its contents, but for the lock, which has none. */
function contentsOf(path: string): Record<string, string> {
  const names = readdirSync(path, { recursive: true }).map(String).sort();
  const files = names.filter((name) => name !== "lock" && statSync(join(path, name)).isFile());
  return Object.fromEntries(files.map((name) => [name, readFileSync(join(path, name), "latin1")]));
}

describe("a restart", () => {
  test.each(["stopped", "killed"] as const)(
    "of a node that was %s brings all back",
    async (ends) => {
      let hash = "";
      await withNode(
        data,
        async (client) => {
          await say(client, {
            "SET city Hanoi": "OK",
            'SET lines "two\\nlines"': "OK",
            "SETEX brief 1000 value": "OK",
            "INCR visits 40": "40",
            "INCR visits 2": "42",
            "SET gone soon": "OK",
            "DEL gone": "DELETED",
          });
          hash = await client.send("HASH");
        },
        { ends },
      );
      await withNode(data, async (client) => {
        await say(client, {
          "GET city": "Hanoi",
          "GET lines": '"two\\nlines"',
          "GET gone": "(null)",
          DBSIZE: "4",
          HASH: hash,
          "INCR visits": "43",
        });
        const seconds = Number(await client.send("TTL brief"));
        expect(seconds).toBeGreaterThan(900);
        expect(seconds).toBeLessThanOrEqual(1000);
        // A clock that had gone back would make this write older than the value.
        await say(client, { "SET city Hue": "OK", "GET city": "Hue" });
      });
    },
  );

  test("after FLUSH brings nothing back, and after SNAPSHOT everything", async () => {
    await withNode(
      data,
      (client) =>
        say(client, { "SET old value": "OK", FLUSH: "OK", "SET new value": "OK", SNAPSHOT: "OK" }),
      { ends: "killed" },
    );
    expect(readdirSync(data).filter((name) => name.endsWith(".snap"))).toHaveLength(1);
    await withNode(data, (client) => say(client, { "GET old": "(null)", "GET new": "value" }));
  });

  test("of the engine memory brings nothing back and leaves no file", async () => {
    const config = configOf(data).replace("[storage]", '[storage]\nengine = "memory"');
    const node = await startNodeProcess({ config });
    const client = await LineClient.connect(node.port);
    await say(client, { "SET city Hanoi": "OK" });
    await client.close();
    await node.stop();
    expect(readdirSync(directory)).toEqual([]);
  });
});

describe("kill -9 under load", () => {
  test.each(FSYNC_MODES)("%s: no acknowledged write is lost", async (fsync) => {
    let acknowledged = 0;
    const lost = await killNine({
      fsync,
      rounds: 6,
      seed: 7,
      onRound: (_round, facts) => void (acknowledged += facts.acknowledged),
    });
    expect(lost).toEqual([]);
    expect(acknowledged).toBeGreaterThan(0);
  });
});

describe("kill -9 of what works on a data directory", () => {
  test.each(VICTIMS)("%s: all is as before, or complete", async (victim) => {
    expect(await killTools({ victims: [victim], rounds: 4, seed: 3 })).toEqual([]);
  });
});

describe("backup and restore", () => {
  let file: string;
  beforeEach(() => {
    file = join(directory, "node.backup");
  });

  test("BACKUP makes a file that restores to the data of that moment", async () => {
    await withNode(data, async (client) => {
      await say(client, { "SET city Hanoi": "OK", "INCR visits 42": "42" });
      expect(await client.send("BACKUP monday")).toMatch(/^BACKUP monday \d+ bytes 2 entries$/);
      expect(await client.send("BACKUP monday")).toMatch(/^ERROR: .*already; choose another name/);
      expect(await client.send("BACKUP ../out")).toMatch(/^ERROR: .*the name of a backup/);
      await say(client, { "SET city Hue": "OK" });
    });
    const restored = join(directory, "restored");
    const monday = join(data, "backups", "monday.backup");
    expect(await runToEnd(["restore", monday, restored])).toEqual({
      code: 0,
      output: `Restored 2 entries of node solo into ${restored}\n`,
    });
    await withNode(restored, (client) =>
      say(client, { "GET city": "Hanoi", "GET visits": "42", "INCR visits": "43" }),
    );
  });

  test("backup --to fetches one from a running node and leaves none there", async () => {
    await makeData(data);
    await withNode(data, async (_client, node) => {
      const args = ["backup", "-p", `${node.port}`, "--to", file];
      const { code, output } = await runToEnd(args);
      expect(output).toMatch(/^Backup of node solo: 3 entries, \d+ bytes, in \S+node\.backup\n$/);
      expect(code).toBe(0);
      expect(readdirSync(join(data, "backups"))).toEqual([]);

      const before = contentsOf(directory)["node.backup"];
      const again = await runToEnd(args);
      expect(again).toEqual({
        code: 1,
        output: `merklekv: ${file} exists; choose another name or remove it\n`,
      });
      expect(contentsOf(directory)["node.backup"]).toBe(before);
    });
    const restored = join(directory, "restored");
    expect((await runToEnd(["restore", file, restored])).code).toBe(0);
    expect(await runToEnd(["check", restored])).toMatchObject({ code: 0 });
    await withNode(restored, (client) => say(client, MADE));
  });

  test("restore replaces data only with --force, and puts it aside", async () => {
    await makeData(data);
    await withNode(data, async (client, node) => {
      await runToEnd(["backup", "-p", `${node.port}`, "--to", file]);
      await say(client, { "SET city Hue": "OK" });
      expect((await runToEnd(["restore", "--force", file, data])).output).toBe(
        `merklekv: ${data} is in use by another merklekv process; stop that or choose another directory\n`,
      );
    });
    const before = contentsOf(data);
    expect(await runToEnd(["restore", file, data])).toEqual({
      code: 1,
      output: `merklekv: ${data} holds data already; --force puts that aside\n`,
    });
    expect(contentsOf(data)).toEqual(before);

    const { code, output } = await runToEnd(["restore", "--force", file, data]);
    expect(output).toMatch(
      /^Restored 3 entries of node solo into \S+; what was there is in \S+\n$/,
    );
    expect(code).toBe(0);
    const aside = /is in (\S+)\n/.exec(output)![1];
    for (const [name, bytes] of Object.entries(before)) {
      if (name.endsWith(".log")) expect(readFileSync(join(aside, name), "latin1")).toBe(bytes);
    }
    await withNode(data, (client) => say(client, MADE));
  });

  test("restore --node-id makes the data another node's", async () => {
    await makeData(data);
    await withNode(data, async (_client, node) => {
      await runToEnd(["backup", "-p", `${node.port}`, "--to", file]);
    });
    const restored = join(directory, "restored");
    expect((await runToEnd(["restore", "--node-id", "twin", file, restored])).code).toBe(0);
    expect((await startInVain(restored)).output).toContain('belongs to node "twin", not to "solo"');
  });

  test("a backup cut at any length, or flipped anywhere, is refused and nothing is written", async () => {
    await makeData(data);
    await withNode(data, async (_client, node) => {
      await runToEnd(["backup", "-p", `${node.port}`, "--to", file]);
    });
    const whole = readFileSync(file);
    const target = join(directory, "target");
    const flipped = Buffer.from(whole);
    flipped[whole.length >> 1] ^= 1;
    const bad = [1, 30, whole.length >> 1, whole.length - 1].map((cut) => whole.subarray(0, cut));
    for (const bytes of [
      ...bad,
      flipped,
      Buffer.from("no backup at all\n".repeat(100)),
      Buffer.alloc(0),
    ]) {
      writeFileSync(file, bytes);
      const { code, output } = await runToEnd(["restore", file, target]);
      expect(output).toMatch(
        /^merklekv: \S+node\.backup is not (whole: at byte \d+ of it, .+|a backup)\n$/,
      );
      expect(code).toBe(1);
      expect(readdirSync(directory)).not.toContain("target");
    }
  });
});

describe("check", () => {
  test("finds a good directory good", async () => {
    await makeData(data);
    const { code, output } = await runToEnd(["check", data]);
    expect(output).toMatch(/^0000000001\.log  \d+ bytes  \d+ frames  4 entries  good\n/);
    expect(output).toContain(`${data} of node solo: 4 entries, good\n`);
    expect(code).toBe(0);
    const report = JSON.parse((await runToEnd(["check", "--json", data])).output);
    expect(report).toMatchObject({ nodeId: "solo", isGood: true, entries: 4 });
  });

  test("is refused while a node runs on it, and so is a second node", async () => {
    await withNode(data, async () => {
      const inUse = `merklekv: ${data} is in use by another merklekv process; stop that or choose another directory\n`;
      expect(await runToEnd(["check", data])).toEqual({ code: 1, output: inUse });
      expect(await startInVain(data)).toEqual({ code: 1, output: inUse });
    });
  });

  test("names damage; the node refuses it; --fix keeps the rest and puts the original aside", async () => {
    await withNode(
      data,
      async (client) => {
        for (let i = 0; i < 20; i++) await say(client, { [`SET key:${i} value-${i}`]: "OK" });
      },
      { fsync: "always" },
    );
    const log = join(data, "0000000001.log");
    const bytes = readFileSync(log);
    bytes[bytes.indexOf("value-7")] ^= 0x20;
    writeFileSync(log, bytes);
    const damaged = contentsOf(data);

    const refused = await startInVain(data);
    const [, offset] = /^merklekv: \S+\/0000000001\.log is damaged at byte (\d+): .+\n$/.exec(
      refused.output,
    )!;
    expect(refused.code).toBe(1);
    const seen = await runToEnd(["check", data]);
    expect(seen.output).toContain(`DAMAGED at byte ${offset}: `);
    expect(seen.code).toBe(1);
    const asJson = await runToEnd(["check", "--json", data]);
    expect(asJson.code).toBe(1);
    const report = JSON.parse(asJson.output);
    expect(report.isGood).toBe(false);
    expect(report.files[0].problem.offset).toBe(Number(offset));
    expect(contentsOf(data)).toEqual(damaged);

    const fixed = await runToEnd(["check", data, "--fix"]);
    expect(fixed.code).toBe(0);
    const aside = /^Repaired: 19 entries kept; as it was: (\S+)$/m.exec(fixed.output)![1];
    expect(readFileSync(join(aside, "0000000001.log"), "latin1")).toBe(damaged["0000000001.log"]);
    await withNode(data, (client) =>
      say(client, {
        "GET key:6": "value-6",
        "GET key:7": "(null)",
        "GET key:19": "value-19",
        DBSIZE: "19",
      }),
    );
  });
});

/** Input nobody can use: it is one clear line, the exit code is not 0, and nothing is written. */
describe("bad input", () => {
  let good: string;
  let elsewhere: string;
  beforeEach(async () => {
    elsewhere = mkdtempSync(join(tmpdir(), "merklekv-elsewhere-"));
    good = join(directory, "good");
    await makeData(good);
  });
  afterEach(() => rmSync(elsewhere, { recursive: true, force: true }));

  async function expectRefused(args: string[], pattern: RegExp): Promise<void> {
    const before = contentsOf(directory);
    const { code, output } = await runToEnd(args, { cwd: directory });
    expect(output).toMatch(pattern);
    expect(output.trimEnd().split("\n")).toHaveLength(1);
    expect(code).toBe(1);
    expect(contentsOf(directory)).toEqual(before);
  }

  async function expectNoStart(path: string, pattern: RegExp, nodeId?: string): Promise<void> {
    const before = contentsOf(directory);
    const { code, output } = await startInVain(path, nodeId);
    expect(output).toMatch(pattern);
    expect(output.trimEnd().split("\n")).toHaveLength(1);
    expect(code).toBe(1);
    rmSync(join(directory, "node.toml"));
    expect(contentsOf(directory)).toEqual(before);
  }

  test("a data directory of another node", () =>
    expectNoStart(good, /^merklekv: \S+\.log belongs to node "solo", not to "other"; .+/, "other"));

  test("a data directory of another version", async () => {
    setFormatVersion(join(good, "0000000001.log"), 99);
    const pattern = new RegExp(
      `^merklekv: \\S+\\.log is in format 99 and this merklekv reads formats 1 to ${FORMAT_VERSION}; .+`,
    );
    await expectNoStart(good, pattern);
    await expectRefused(["check", good], pattern);
    await expectRefused(["check", "--fix", good], pattern);
  });

  test("a missing segment", async () => {
    await withNode(good, (client) => say(client, { SNAPSHOT: "OK" }));
    const log = readdirSync(good).find((name) => name.endsWith(".log"))!;
    cpSync(join(good, log), join(good, "0000000009.log"));
    await expectNoStart(
      good,
      /^merklekv: \S+0000000003\.log is damaged at byte 0: it is missing; .+/,
    );
  });

  test("a loop of symbolic links", async () => {
    const loop = join(elsewhere, "loop");
    symlinkSync(loop, loop);
    await expectNoStart(loop, /^merklekv: cannot make the data directory \S+: .+/);
    await expectRefused(
      ["check", loop],
      /^merklekv: cannot look at \S+: .* loop of symbolic links/,
    );
    await expectRefused(
      ["restore", loop, good],
      /^merklekv: cannot read \S+: .* loop of symbolic links/,
    );
  });

  test("no directory, or not one of a node", async () => {
    const nowhere = join(directory, "nowhere");
    const other = join(directory, "other");
    const file = join(directory, "file");
    mkdirSync(other);
    writeFileSync(file, "text");
    await expectRefused(["check", nowhere], /^merklekv: there is no directory \S+nowhere\n$/);
    await expectRefused(
      ["check", "--fix", nowhere],
      /^merklekv: there is no directory \S+nowhere\n$/,
    );
    await expectRefused(["check", other], /^merklekv: \S+other is no data directory: .+/);
    await expectRefused(["check", file], /^merklekv: cannot read \S+file: .* not a directory/);
    expect(readdirSync(directory).sort()).toEqual(["file", "good", "other"]);
    expect(readdirSync(other)).toEqual([]);
    await expectNoStart(file, /^merklekv: cannot make the data directory \S+file: .+/);
  });

  test("a backup that is none, or not there", async () => {
    const target = join(directory, "target");
    const nowhere = join(directory, "nowhere");
    await expectRefused(
      ["restore", nowhere, target],
      /^merklekv: cannot read \S+nowhere: there is no such file/,
    );
    await expectRefused(
      ["restore", good, target],
      /^merklekv: cannot read \S+good: it is a directory/,
    );
    const log = join(good, "0000000001.log");
    await expectRefused(["restore", log, target], /^merklekv: \S+ is a log segment, not a backup/);
    expect(readdirSync(directory)).toEqual(["good"]);
  });

  test("a place no backup can be written to, and a node that is not there", async () => {
    const lost = join(directory, "nowhere", "node.backup");
    await withNode(good, async (client, node) => {
      await client.send("PING");
      const args = ["backup", "-p", `${node.port}`, "--to", lost];
      const { code, output } = await runToEnd(args);
      expect(output).toMatch(
        /^merklekv: cannot write \S+: there is no such file or directory.*\n$/,
      );
      expect(code).toBe(1);
    });
    const backup = join(directory, "node.backup");
    await expectRefused(
      ["backup", "-p", "1", "--to", backup],
      /^merklekv: cannot reach 127\.0\.0\.1:1: .+/,
    );
  });

  test("a directory that must not be read, or not be written to", async () => {
    if (!(await canRunUnprivileged())) return;
    chmodSync(directory, 0o755);
    writeFileSync(join(directory, "node.toml"), configOf(good));
    const serve = ["serve", "--config", join(directory, "node.toml"), "--exit-with-stdin"];
    const denied = /^merklekv: cannot (read|look at|write to) \S+good: permission denied; .+\n$/;
    const before = contentsOf(directory);
    for (const mode of [0o000, 0o555]) {
      chmodSync(good, mode);
      for (const args of [serve, ["check", good]]) {
        const { code, output } = await runUnprivileged(args);
        expect(output).toMatch(denied);
        expect(code).toBe(1);
      }
    }
    chmodSync(good, 0o755);
    expect(contentsOf(directory)).toEqual(before);
  });
});

/** Makes the head of a file say another version, its checksums right. */
function setFormatVersion(path: string, version: number): void {
  const bytes = readFileSync(path);
  bytes.writeUInt16BE(version, 29);
  const payloadBytes = bytes.readUInt32BE(4);
  bytes.writeUInt32BE(Bun.hash.crc32(bytes.subarray(28, 28 + payloadBytes)), 8);
  bytes.writeUInt32BE(Bun.hash.crc32(bytes.subarray(0, 24)), 24);
  writeFileSync(path, bytes);
}

/** Root may read and write everything, so the binary is run as nobody. */
const UNPRIVILEGED =
  process.getuid?.() === 0
    ? ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
    : [];

async function canRunUnprivileged(): Promise<boolean> {
  const isPossible = UNPRIVILEGED.length === 0 || Bun.which("setpriv") !== null;
  if (isPossible && (await runUnprivileged(["--version"])).code === 0) return true;
  console.warn("skipped: as root this needs setpriv, and a directory that nobody may read");
  return false;
}

async function runUnprivileged(args: string[]): Promise<{ code: number; output: string }> {
  const command = [...UNPRIVILEGED, await merklekvBinary(), ...args];
  const child = Bun.spawn(command, { stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  const output = (await Promise.all([child.stdout.text(), child.stderr.text()])).join("");
  return { code: await child.exited, output };
}

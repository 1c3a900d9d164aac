/**
 * A disk that fails to write, to sync or to read, under the real binary and on real files; see
 * `failing-disk.ts`. A disk that is full is in `disk-full.test.ts`.
 */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { eventually } from "../support/eventually.ts";
import { FailingDisk, noFailingDisk } from "../support/failing-disk.ts";
import { LineClient } from "../support/line-client.ts";
import { type NodeProcess, runToEnd, startNodeProcess } from "../support/process.ts";

if (noFailingDisk !== "") console.warn(`skipped: ${noFailingDisk}`);

describe.skipIf(noFailingDisk !== "")("a failing disk", () => {
  let directory: string;
  let data: string;
  let disk: FailingDisk;
  const nodes: NodeProcess[] = [];
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "merklekv-disk-"));
    data = join(directory, "data");
    disk = new FailingDisk();
  });
  afterEach(async () => {
    for (const node of nodes.splice(0)) await node.kill();
    disk.remove();
    rmSync(directory, { recursive: true });
  });

  function configOf(fsync: string): string {
    return (
      `node_id = "solo"\n[network]\nbind_port = 0\n[mqtt]\nenabled = false\n` +
      `[storage]\npath = ${JSON.stringify(data)}\nfsync = "${fsync}"\n`
    );
  }

  async function start(fsync: string): Promise<NodeProcess> {
    const node = await startNodeProcess({ config: configOf(fsync), env: disk.env });
    nodes.push(node);
    return node;
  }

  /** Writes until a write is refused or cut off; the keys that were acknowledged. */
  async function writeUntilRefused(port: number, prefix: string, ontoDisk: () => void) {
    const acknowledged: string[] = [];
    const client = await LineClient.connect(port);
    try {
      for (let i = 0; ; i++) {
        const reply = await client.send(`SET ${prefix}:${i} ${i}`);
        if (reply !== "OK") return (expect(reply).toStartWith("ERROR: Read only - "), acknowledged);
        acknowledged.push(`${prefix}:${i}`);
        if (i === 20) ontoDisk();
      }
    } catch (error) {
      // Whose write was under way is not told what became of it.
      expect((error as Error).message).toContain("closed before a reply");
    } finally {
      await client.close();
    }
    return acknowledged;
  }

  async function expectAll(client: LineClient, keys: string[]): Promise<void> {
    const perTurn = 1_000;
    for (let i = 0; i < keys.length; i += perTurn) {
      const some = keys.slice(i, i + perTurn);
      client.sendRaw(some.map((key) => `GET ${key}\n`).join(""));
      const values = await client.readLines(some.length);
      expect(values).toEqual(some.map((key) => key.split(":")[1]));
    }
  }

  async function infoOf(client: LineClient): Promise<Record<string, string>> {
    client.sendRaw("INFO\nECHO end\n");
    const facts: Record<string, string> = {};
    for (let line = ""; line !== "end"; line = await client.readLine()) {
      const colon = line.indexOf(":");
      facts[line.slice(0, colon)] = line.slice(colon + 1);
    }
    return facts;
  }

  /** What has to hold while writes are refused. */
  async function expectRefusing(client: LineClient, state: string, keys: string[]): Promise<void> {
    const message = state === "sync" ? "cannot sync " : "cannot write ";
    const refused = new RegExp(`^ERROR: Read only - ${message}\\S+\\.log: .*\\(EIO\\)`);
    expect(await client.send("SET refused 1")).toMatch(refused);
    expect(await client.send("INCR refused")).toMatch(refused);
    expect(await client.send(`DEL ${keys[0]}`)).toMatch(refused);
    expect(await client.send("FLUSH")).toMatch(refused);
    expect(await client.send("SNAPSHOT")).toContain("(EIO)");
    expect(await client.send("PING")).toBe("PONG");
    expect((await infoOf(client))["storage_state"]).toBe(state);
    await expectAll(client, keys);
  }

  // With `always` a write is its own sync, so that one which fails is as bad as a failed sync.
  test.each([
    ["always", "sync"],
    ["always", "write"],
    ["everysec", "sync"],
  ] as const)("%s, a %s fails: no write until a restart, and nothing lost", async (fsync, kind) => {
    const node = await start(fsync);
    const writers = [0, 1, 2, 3].map((writer) =>
      writeUntilRefused(node.port, `key${writer}`, () => disk.fail(kind)),
    );
    const acknowledged = (await Promise.all(writers)).flat();
    expect(acknowledged.length).toBeGreaterThan(20);

    const client = await LineClient.connect(node.port);
    await expectRefusing(client, "sync", acknowledged);
    disk.mend(kind);
    // Longer than the node waits before it tries again what it may try again.
    const upTime = async () => Number((await infoOf(client))["uptime_seconds"]);
    const seconds = await upTime();
    await eventually("time passes", async () => (await upTime()) >= seconds + 2);
    await expectRefusing(client, "sync", acknowledged);
    await client.close();

    await node.kill();
    const again = await start(fsync);
    const later = await LineClient.connect(again.port);
    await expectAll(later, acknowledged);
    expect(await later.send("GET refused")).toBe("(null)");
    expect((await infoOf(later))["storage_state"]).toBe("ok");
    expect(await later.send("SET after 1")).toBe("OK");
    await later.close();
  });

  test.each(["everysec", "never"])(
    "%s, a write fails: writing resumes by itself",
    async (fsync) => {
      const node = await start(fsync);
      const before = await writeUntilRefused(node.port, "before", () => disk.fail("write"));
      const client = await LineClient.connect(node.port);
      await expectRefusing(client, "write", before);
      disk.mend("write");
      await eventually("writing resumes", async () => (await client.send("SET a 1")) === "OK");
      expect((await infoOf(client))["storage_state"]).toBe("ok");
      expect(await client.send("GET refused")).toBe("(null)");
      expect(await client.send("SET after:2 2")).toBe("OK");
      await client.close();
      await node.kill();

      const again = await start(fsync);
      const later = await LineClient.connect(again.port);
      await expectAll(later, [...before, "after:2"]);
      await later.close();
      expect(await again.stop()).toBe(0);
      expect(await runToEnd(["check", data])).toMatchObject({ code: 0 });
    },
  );

  test("a node stops while its disk fails to sync, and what was kept is good", async () => {
    const node = await start("everysec");
    const kept = await writeUntilRefused(node.port, "key", () => disk.fail("sync"));
    expect(await node.stop()).toBe(0);
    disk.mend("sync");
    const again = await start("everysec");
    const client = await LineClient.connect(again.port);
    await expectAll(client, kept);
    await client.close();
  });

  test("what cannot be done is one clear line, and leaves nothing", async () => {
    const node = await start("everysec");
    const client = await LineClient.connect(node.port);
    for (let i = 0; i < 20; i++) expect(await client.send(`SET key:${i} ${i}`)).toBe("OK");
    const backup = join(directory, "node.backup");
    await runToEnd(["backup", "-p", `${node.port}`, "--to", backup]);
    disk.fail("write");
    expect(await client.send("BACKUP large")).toMatch(
      /^ERROR: .*cannot write \S+large\.backup: .*\(EIO\)/,
    );
    disk.mend("write");
    expect(readdirSync(join(data, "backups"))).toEqual([]);
    await client.close();
    expect(await node.stop()).toBe(0);

    const restored = join(directory, "restored");
    const config = join(directory, "node.toml");
    writeFileSync(config, configOf("everysec").replace(data, join(directory, "other")));
    const other = ["serve", "--config", config, "--exit-with-stdin"];
    for (const [failure, args, pattern] of [
      ["sync", other, /^merklekv: cannot make the data directory \S+other: .*\(EIO\)$/],
      ["sync", ["restore", backup, restored], /^merklekv: cannot make \S+restored: .*\(EIO\)$/],
      [
        "write",
        ["restore", backup, restored],
        /^merklekv: cannot write to \S+restored: .*\(EIO\)$/,
      ],
      ["read", ["restore", backup, restored], /^merklekv: cannot read \S+node\.backup: .*\(EIO\)$/],
      ["read", ["check", data], /^merklekv: cannot read \S+0000000001\.log: .*\(EIO\)$/],
      ["read", ["check", "--fix", data], /^merklekv: cannot read \S+0000000001\.log: .*\(EIO\)$/],
    ] as const) {
      disk.fail(failure);
      const { code, output } = await runToEnd([...args], { env: disk.env });
      disk.mend(failure);
      expect(output.trimEnd().split("\n").at(-1)).toMatch(pattern);
      expect(output).not.toContain("a bug");
      expect(code).toBe(1);
    }
    expect(readdirSync(restored)).toEqual(["lock"]);
    expect(await runToEnd(["check", data])).toMatchObject({ code: 0 });
  });

  test("a log that is written slowly has each line once when the node cannot start", async () => {
    const node = await start("everysec");
    const config = join(directory, "node.toml");
    writeFileSync(
      config,
      configOf("everysec")
        .replace(data, join(directory, "other"))
        .replace("bind_port = 0", `bind_port = ${node.port}`),
    );
    disk.fail("stderr");
    const { code, output } = await runToEnd(["serve", "--config", config, "--exit-with-stdin"], {
      env: disk.env,
    });
    const lines = output.trimEnd().split("\n");
    expect(lines.filter((line) => line.includes("Recovered from disk"))).toHaveLength(1);
    expect(lines.at(-1)).toMatch(/^merklekv: cannot listen on .+: the port is in use; /);
    expect(code).toBe(1);
  });
});

/**
 * A disk that is really full: a small file system made for the test, which takes root. What a
 * disk does that fails to sync is for the simulated one in the unit tests.
 */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { eventually } from "../support/eventually.ts";
import { LineClient } from "../support/line-client.ts";
import { type NodeProcess, startNodeProcess } from "../support/process.ts";

const DISK_BYTES = 2 * 1024 * 1024;
const BALLAST_BYTES = 1024 * 1024;
const VALUE = "x".repeat(10_000);

/** Why these tests are skipped; empty when they are not. */
const missing = canMount() ? "" : "mounting a small tmpfs takes root on Linux";
if (missing !== "") console.warn(`skipped: ${missing}`);

function mountDisk(path: string): boolean {
  const size = `size=${DISK_BYTES}`;
  return run(["mount", "-t", "tmpfs", "-o", size, "merklekv-test", path]);
}

function unmountDisk(path: string): void {
  // Lazily: a node that a failed test left behind may still use it.
  if (!run(["umount", "-l", path])) throw new Error(`cannot unmount ${path}`);
}

function canMount(): boolean {
  if (process.getuid?.() !== 0 || Bun.which("mount") === null) return false;
  const path = mkdtempSync(join(tmpdir(), "merklekv-mount-"));
  const isMounted = mountDisk(path);
  if (isMounted) unmountDisk(path);
  rmSync(path, { recursive: true });
  return isMounted;
}

function run(command: string[]): boolean {
  return Bun.spawnSync(command, { stdout: "ignore", stderr: "ignore" }).exitCode === 0;
}

describe.skipIf(missing !== "")("a full disk", () => {
  let disk: string;
  let ballast: string;
  const nodes: NodeProcess[] = [];
  beforeEach(() => {
    disk = mkdtempSync(join(tmpdir(), "merklekv-full-"));
    ballast = join(disk, "ballast");
    mountDisk(disk);
    writeFileSync(ballast, new Uint8Array(BALLAST_BYTES));
  });
  afterEach(async () => {
    for (const node of nodes.splice(0)) await node.kill();
    unmountDisk(disk);
    rmSync(disk, { recursive: true });
  });

  /** Takes what room there is. */
  function fillUp(path: string): void {
    expect(() => writeFileSync(path, new Uint8Array(DISK_BYTES))).toThrow("ENOSPC");
  }

  async function startOn(fsync: string, settings = ""): Promise<NodeProcess> {
    const path = JSON.stringify(join(disk, "data"));
    const node = await startNodeProcess({
      config:
        `node_id = "solo"\n[network]\nbind_port = 0\n[mqtt]\nenabled = false\n` +
        `[storage]\npath = ${path}\nfsync = "${fsync}"\n${settings}`,
    });
    nodes.push(node);
    return node;
  }

  /** Writes from several connections until none gets through; the keys that were acknowledged. */
  async function fill(port: number): Promise<string[]> {
    const acknowledged: string[] = [];
    const write = async (writer: number): Promise<void> => {
      const client = await LineClient.connect(port);
      try {
        for (let i = 0; ; i++) {
          const key = `key:${writer}:${i}`;
          const reply = await client.send(`SET ${key} ${VALUE}`);
          if (reply !== "OK") return expect(reply).toStartWith("ERROR: Storage full");
          acknowledged.push(key);
        }
      } catch (error) {
        // Whose write was under way when the disk was full is not told what became of it.
        expect((error as Error).message).toContain("closed before a reply");
      } finally {
        await client.close();
      }
    };
    await Promise.all([0, 1, 2, 3].map(write));
    return acknowledged;
  }

  async function expectAll(port: number, keys: string[]): Promise<void> {
    const client = await LineClient.connect(port);
    for (const key of keys) expect(await client.send(`GET ${key}`)).toBe(VALUE);
    await client.close();
  }

  async function stateOf(client: LineClient): Promise<string> {
    client.sendRaw("INFO\nECHO end\n");
    let state = "";
    for (let line = ""; line !== "end"; line = await client.readLine()) {
      if (line.startsWith("storage_state:")) state = line.slice("storage_state:".length);
    }
    return state;
  }

  test.each(["always", "everysec", "never"])(
    "%s: writes are refused, reads go on, and writing resumes with the space",
    async (fsync) => {
      const node = await startOn(fsync);
      const before = await fill(node.port);
      expect(before.length).toBeGreaterThan(10);

      const client = await LineClient.connect(node.port);
      expect(await client.send("SET refused 1")).toStartWith("ERROR: Storage full - cannot write ");
      expect(await client.send("INCR refused")).toStartWith("ERROR: Storage full");
      client.sendRaw("*3\r\n$3\r\nSET\r\n$7\r\nrefused\r\n$1\r\n1\r\n");
      expect(await client.readLine()).toStartWith("-MISCONF cannot write ");
      expect(await client.send(`DEL ${before[0]}`)).toStartWith("ERROR: Storage full");
      expect(await client.send("SNAPSHOT")).toContain("the disk is full");
      expect(await client.send("PING")).toBe("PONG");
      expect(await stateOf(client)).toBe("full");
      await expectAll(node.port, before);

      rmSync(ballast);
      await eventually("writing resumes", async () => (await client.send("SET a 1")) === "OK");
      expect(await stateOf(client)).toBe("ok");
      expect(await client.send("GET refused")).toBe("(null)");
      await client.close();

      const after = await fill(node.port);
      expect(after.length).toBeGreaterThan(10);
      await node.kill();
      // And again, on a disk that is still full, to the last byte.
      fillUp(join(disk, "rest"));
      const again = await startOn(fsync);
      await expectAll(again.port, [...new Set([...before, ...after])]);
    },
  );

  test.each([
    ["min_free_mb = 0\n", /^ERROR: Storage full - .*the disk is full/],
    ["", /^ERROR: Storage full - a backup would leave less than \d+ MiB free where /],
  ])("no room for a backup, %j: an error, and the node goes on", async (settings, error) => {
    const node = await startOn("everysec", settings);
    const client = await LineClient.connect(node.port);
    for (let i = 0; i < 60; i++) expect(await client.send(`SET key:${i} ${VALUE}`)).toBe("OK");
    expect(await client.send("BACKUP large")).toMatch(error);
    expect(readdirSync(join(disk, "data", "backups"))).toEqual([]);
    expect(await client.send("SET key:0 changed")).toBe("OK");
    expect(await stateOf(client)).toBe("ok");
    await client.close();
  });

  test("no room for a data directory: one clear line", async () => {
    fillUp(join(disk, "rest"));
    await expect(startOn("everysec")).rejects.toThrow(
      /merklekv: cannot (make the data directory|write to) \S+: the disk is full \(ENOSPC\)$/m,
    );
  });
});

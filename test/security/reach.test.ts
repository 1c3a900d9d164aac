/** The attacker is a client: what a node calls, or writes, is not for it to choose. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { eventually } from "../support/eventually.ts";
import { respRequest } from "../support/in-process.ts";
import { LineClient } from "../support/line-client.ts";
import { soloConfig, startNodeProcess, type NodeProcess } from "../support/process.ts";

let node: NodeProcess;
let client: LineClient;
let trap: Bun.TCPSocketListener<undefined>;
let calls = 0;
beforeAll(async () => {
  const open = (): void => void calls++;
  trap = Bun.listen({ hostname: "0.0.0.0", port: 0, socket: { open, data() {} } });
  const config = `${soloConfig("solo")}\n[anti_entropy]\npeer_list = ["0.0.0.0:${trap.port}"]\n`;
  node = await startNodeProcess({ config });
  client = await LineClient.connect(node.port);
});
afterAll(async () => {
  await client.close();
  await node.stop();
  trap.stop(true);
});

test.each([
  "169.254.169.254",
  "[fe80::1]",
  "fe80::a9fe:a9fe%lo",
  "[::ffff:169.254.169.254]",
  "::ffff:a9fe:a9fe",
  "64:ff9b::a9fe:a9fe",
  "fd00:ec2::254",
  "100.100.100.200",
  "[::]",
])("SYNC %s says that only the configuration may name it", async (host) => {
  const answer = await client.send(`SYNC ${host} 80`);
  expect(answer).toMatch(/^ERROR: Connection failed - .*only anti_entropy\.peer_list may name$/);
});

test.each(["2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "169.254.43518", "169.254.0xa9fe"])(
  "SYNC %s names no host",
  async (host) => expect(await client.send(`SYNC ${host} 80`)).toContain("not a host"),
);

test("what the configuration names may be called", async () => {
  const before = calls;
  client.sendRaw(`SYNC 0.0.0.0 ${trap.port}\n`);
  await eventually("a call", () => calls > before);
  trap.stop(true);
  expect(await client.readLine()).toMatch(/^ERROR: Connection failed/);
});

test("ports are not scanned: after a few where no node is, there is a pause", async () => {
  const answers: string[] = [];
  for (let port = 1; port <= 40; port++) answers.push(await client.send(`SYNC 127.0.0.1 ${port}`));
  const tried = answers.filter((it) => !it.includes("too many addresses were tried"));
  expect(tried.length).toBeLessThan(24);
  expect(answers.at(-1)).toContain("too many addresses were tried");
});

test.each([
  "..",
  ".",
  "../planted",
  "a/b",
  "/tmp/planted",
  ".hidden",
  "-rf",
  "a b",
  "a\nb",
  "a\0b",
  "%2e%2e%2fx",
  "..\\x",
  "é",
  "x".repeat(129),
  "",
])("BACKUP %p writes, reads and removes nothing", async (name) => {
  const outside = join(node.directory, "data", "planted.backup");
  writeFileSync(outside, "kept");
  const list = () => readdirSync(node.directory, { recursive: true }).map(String).sort();
  const before = list();
  for (const words of [
    ["BACKUP", name],
    ["BACKUP", "READ", name, "0", "100"],
    ["BACKUP", "DROP", name],
  ]) {
    client.sendRaw(respRequest(...words));
    expect(await client.readLine()).toMatch(/^-ERR.*(name of a backup|BACKUP)/);
  }
  expect(list().filter((path) => !path.endsWith(".log"))).toEqual(
    before.filter((path) => !path.endsWith(".log")),
  );
  expect(await Bun.file(outside).text()).toBe("kept");
});

test("who may SYNC and no more names only peers, and is not told what is there", async () => {
  const hash = new Bun.CryptoHasher("sha256").update("guess").digest("hex");
  const directory = mkdtempSync(join(tmpdir(), "merklekv-reach-"));
  const users = join(directory, "users.acl");
  const lines = `user default on nopass ~* +@all\nuser syncer on #${hash} ~* +sync\n`;
  writeFileSync(users, lines, { mode: 0o600 });
  const rest = `[auth]\nacl_file = "${users}"\n[anti_entropy]\npeer_list = ["127.0.0.1:9"]\n`;
  const limited = await startNodeProcess({ config: `${soloConfig("limited")}\n${rest}` });
  const syncer = await LineClient.connect(limited.port);
  expect(await syncer.send("AUTH syncer guess")).toBe("OK");
  expect(await syncer.send("SYNC 127.0.0.1 10")).toBe(
    "ERROR: Permission denied - only @admin may name an address where no peer is",
  );
  const answer = await syncer.send("SYNC 127.0.0.1 9");
  expect(answer).toMatch(/^ERROR: Connection failed - the sync did not succeed/);
  expect(await syncer.send("SYNC nobody")).toBe(answer);
  await syncer.close();
  await limited.stop();
  rmSync(directory, { recursive: true });
});

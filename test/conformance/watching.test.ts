/**
 * `SLOWLOG` and `MONITOR` beside redis-server's: the same requests leave the same entries and the
 * same lines, but for times and addresses, and neither shows a password.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { redisPath, startRedis, type Server } from "../bench/servers.ts";
import { eventually } from "../support/eventually.ts";
import { respRequest } from "../support/in-process.ts";
import { LineClient } from "../support/line-client.ts";
import { startNodeProcess, type NodeProcess } from "../support/process.ts";

const REDIS_MISSING = "redis-server is not installed (Debian: apt-get install redis-server)";
if (redisPath === null) console.warn(`skipped: ${REDIS_MISSING}`);

/** Not seen before, as the requests before this one are among what is shown. */
let marks = 100;

const REQUESTS: string[][] = [
  ["SET", "k", "v"],
  ["set", "bytes", '\x00\x7f\xff"\\\n\r\t\x07\x08 '],
  ["GET", "k"],
  ["SET", "long", "x".repeat(300)],
  ["MSET", ...Array.from({ length: 80 }, (_, i) => String(i))],
  ["MSET", ...Array.from({ length: 32 }, (_, i) => String(i))],
  ["AUTH", "hunter2"],
  ["AUTH", "somebody", "hunter2"],
  ["HELLO", "2", "AUTH", "somebody", "hunter2"],
  ["HELLO", "2", "AUTH", "somebody", "hunter2", "SETNAME", "c"],
  ["ACL", "SETUSER", "other", "on", ">hunter2", "~*"],
  ["ACL", "DELUSER", "other"],
  ["CLIENT", "SETNAME", "watched"],
  ["INCR", "k"],
  ["GET"],
  ["NOSUCH", "hunter2"],
];

describe.skipIf(redisPath === null)("as Redis has it:", () => {
  let redis: Server;
  let node: NodeProcess;
  let clients: LineClient[];
  beforeAll(async () => {
    redis = await startRedis();
    node = await startNodeProcess({ env: { MERKLE_KV_SLOWLOG_LOG_SLOWER_THAN: "0" } });
    clients = [await LineClient.connect(redis.port), await LineClient.connect(node.port)];
    await ask(clients[0], ["CONFIG", "SET", "slowlog-log-slower-than", "0"]);
  });
  afterAll(async () => {
    for (const client of clients) await client.close();
    await node.stop();
    await redis[Symbol.asyncDispose]();
  });

  /** All lines of the replies to these requests, without what only tells where one ends. */
  async function ask(client: LineClient, ...requests: string[][]): Promise<string[]> {
    const mark = `-- end ${marks++} --`;
    const all = [...requests, ["ECHO", mark]];
    client.sendRaw(Buffer.concat(all.map((words) => respRequest(...words))));
    const lines: string[] = [];
    for (let line = ""; line !== mark;) lines.push((line = await client.readLine()));
    return lines.slice(0, -2);
  }

  test("what is kept of slow requests, and what monitors are told", async () => {
    const found = await Promise.all(
      [redis.port, node.port].map(async (port, i) => {
        const monitor = await LineClient.connect(port);
        monitor.sendRaw(respRequest("MONITOR"));
        expect(await monitor.readLine()).toBe("+OK");
        await ask(clients[i], ["SLOWLOG", "RESET"], ...REQUESTS, ["ECHO", "last"]);
        const kept = await ask(clients[i], ["SLOWLOG", "GET", "-1"]);
        const told: string[] = [];
        while (!told.at(-1)?.includes('"last"')) told.push(await monitor.readLine());
        await monitor.close();
        return {
          kept: kept
            .map((it) => it.replace(/^:\d+$/, ":number").replace(/^127.*:\d+$|^-- end.*/, "at"))
            .join("\n"),
          told: told
            .map((it) => it.replace(/^\+\d+\.\d{6} \[0 [\d.:]+\] /, "+TIME [AT] "))
            .join("\n"),
        };
      }),
    );
    const [theirs, ours] = found as [(typeof found)[0], (typeof found)[0]];
    expect(ours.kept).toBe(theirs.kept);
    expect(ours.told).toBe(theirs.told);
    for (const text of Object.values(ours)) {
      expect(text).toContain("(redacted)");
      expect(text).not.toContain("hunter2");
    }
  });

  test("a monitor gets lines of its own dialect, and may go on asking", async () => {
    const monitor = await LineClient.connect(node.port);
    expect(await monitor.send("MONITOR")).toBe("OK");
    monitor.sendRaw("GET nothing\n");
    const lines = [await monitor.readLine(), await monitor.readLine()].sort();
    expect(lines[0]).toBe("(null)");
    expect(lines[1]).toMatch(/^\d+\.\d{6} \[0 127\.0\.0\.1:\d+\] "GET" "nothing"$/);
    await monitor.close();
    await eventually("it is counted no more", async () => {
      return (await ask(clients[1], ["INFO", "stats"])).includes("monitors:0");
    });
  });
});

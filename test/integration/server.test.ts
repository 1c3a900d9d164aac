/** The real binary as clients meet it: stock Redis clients, limits, and a clean end. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { Redis } from "ioredis";
import { createClient } from "redis";
import { respRequest } from "../support/in-process.ts";
import { eventually } from "../support/eventually.ts";
import { LineClient } from "../support/line-client.ts";
import {
  runBinary,
  startNodeProcess,
  type BinaryProcess,
  type NodeProcess,
} from "../support/process.ts";
import { hasRedisTools, redisBenchmark, redisCli, runTool } from "../support/redis.ts";

const withNode = async (
  env: Record<string, string>,
  use: (node: NodeProcess) => Promise<void>,
): Promise<void> => {
  const prefixed = Object.entries(env).map(([name, value]) => [`MERKLE_KV_${name}`, value]);
  const node = await startNodeProcess({ env: Object.fromEntries(prefixed) });
  try {
    await use(node);
  } finally {
    await node.stop();
  }
};

/** Resident memory of a process, in bytes. */
function residentBytes({ pid }: BinaryProcess): number {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return Number(/VmRSS:\s+(\d+)/.exec(status)![1]) * 1024;
}

/** Number in a line of INFO or STATS. */
async function statistic(node: NodeProcess, command: string, name: string): Promise<number> {
  const client = await LineClient.connect(node.port);
  try {
    client.sendRaw(`${command}\n`);
    for (;;) {
      const [found, value] = (await client.readLine()).split(":");
      if (found === name) return Number(value);
    }
  } finally {
    await client.close();
  }
}

describe("stock clients", () => {
  let node: NodeProcess;
  beforeAll(async () => {
    node = await startNodeProcess();
  });
  afterAll(async () => void (await node.stop()));

  test.skipIf(!hasRedisTools)("redis-cli", async () => {
    const cli = (...args: string[]) => runTool(redisCli!, ["-p", String(node.port), ...args]);
    expect(await cli("FLUSHALL")).toBe("OK\n");
    expect(await cli("SET", "key", "two words")).toBe("OK\n");
    expect(await cli("GET", "key")).toBe("two words\n");
    expect(await cli("GET", "missing")).toBe("\n");
    expect(await cli("INCRBY", "n", "41")).toBe("41\n");
    expect(await cli("--no-raw", "MGET", "key", "missing")).toBe('1) "two words"\n2) (nil)\n');
    expect(await cli("-3", "--no-raw", "GET", "missing")).toBe("(nil)\n");
    expect(await cli("--scan")).toBe("key\nn\n");
    expect(await cli("INFO", "server")).toContain("version:1.0.0");
    const typed = "SET a 1\nINCR a\nGET a\nDEL a key n\nDBSIZE\n";
    expect(await runTool(redisCli!, ["-p", String(node.port)], typed)).toBe("OK\n2\n2\n3\n0\n");
    const requests = Array.from({ length: 5_000 }, (_, i) => respRequest("SET", `p${i}`, "v"));
    const piped = Buffer.concat(requests).toString();
    expect(await runTool(redisCli!, ["-p", String(node.port), "--pipe"], piped)).toContain(
      "errors: 0, replies: 5000",
    );
    expect(await cli("DBSIZE")).toBe("5000\n");
    expect(await cli("FLUSHDB")).toBe("OK\n");
  });

  test.skipIf(!hasRedisTools)("redis-benchmark", async () => {
    const tests = "ping_mbulk,set,get,incr,mset";
    for (const pipeline of ["1", "16"]) {
      const args = ["-p", String(node.port), "-n", "5000", "-c", "20", "-r", "1000", "-q"];
      const output = await runTool(redisBenchmark!, [...args, "-P", pipeline, "-t", tests]);
      expect(output.match(/requests per second/g)).toHaveLength(5);
      expect(output).not.toMatch(/error|warning/i);
    }
  });

  test("ioredis", async () => {
    const client = new Redis({ port: node.port, host: "127.0.0.1", lazyConnect: true });
    await client.connect();
    try {
      await client.flushall();
      expect(await client.set("key", "välue")).toBe("OK");
      expect(await client.get("key")).toBe("välue");
      expect(await client.get("missing")).toBeNull();
      const binary = Buffer.from([0, 13, 10, 255]);
      await client.set("binary", binary);
      expect(await client.getBuffer("binary")).toEqual(binary);
      expect(await client.set("key", "w", "NX")).toBeNull();
      expect(await client.append("key", "!")).toBe(7);
      expect(await client.incr("n")).toBe(1);
      expect(await client.incrby("n", 10)).toBe(11);
      await expect(client.incr("key")).rejects.toThrow("not an integer");
      expect(await client.mset({ a: "1", b: "2" })).toBe("OK");
      expect(await client.mget("a", "b", "c")).toEqual(["1", "2", null]);
      expect(await client.exists("a", "b", "c")).toBe(2);
      expect(await client.expire("a", 100)).toBe(1);
      expect(await client.ttl("a")).toBeGreaterThan(90);
      expect((await client.keys("?")).sort()).toEqual(["a", "b", "n"]);
      const scanned: string[] = [];
      for await (const keys of client.scanStream({ count: 2 })) scanned.push(...keys);
      expect(scanned.sort()).toEqual(["a", "b", "binary", "key", "n"]);
      expect(await client.dbsize()).toBe(5);
      expect(await client.del("a", "b", "c")).toBe(2);
      expect(await client.ping()).toBe("PONG");
      expect(await client.info()).toContain("# Server");

      const pipeline = client.pipeline();
      for (let i = 0; i < 10_000; i++) pipeline.set(`p${i}`, `v${i}`).get(`p${i}`);
      const results = (await pipeline.exec())!;
      expect(results).toHaveLength(20_000);
      expect(results[19_999]).toEqual([null, "v9999"]);
      expect(await client.flushdb()).toBe("OK");
    } finally {
      client.disconnect();
    }
  });

  test.each([2, 3] as const)("redis with RESP%d", async (RESP) => {
    const client = createClient({ url: `redis://127.0.0.1:${node.port}`, RESP });
    client.on("error", () => {}); // awaited calls reject
    await client.connect();
    try {
      await client.flushAll();
      expect(await client.set("key", "value")).toBe("OK");
      expect(await client.get("key")).toBe("value");
      expect(await client.get("missing")).toBeNull();
      expect(await client.set("key", "w", { condition: "NX" })).toBeNull();
      expect(await client.incr("n")).toBe(1);
      expect(await client.decrBy("n", 5)).toBe(-4);
      await expect(client.incr("key")).rejects.toThrow("not an integer");
      expect(await client.append("key", "s")).toBe(6);
      await client.mSet({ a: "1", b: "2" });
      expect(await client.mGet(["a", "b", "c"])).toEqual(["1", "2", null]);
      expect(await client.exists(["a", "b", "c"])).toBe(2);
      const scanned: string[] = [];
      for await (const keys of client.scanIterator({ COUNT: 2 })) scanned.push(...keys);
      expect(scanned.sort()).toEqual(["a", "b", "key", "n"]);
      expect(await client.dbSize()).toBe(4);
      expect(await client.del(["a", "b"])).toBe(2);
      expect(await client.ping()).toBe("PONG");
      expect(await client.info("server")).toContain("redis_version");
      expect(await client.configGet("save")).toEqual({ save: "" });
      // Calls of one turn go out together.
      const all = Array.from({ length: 5_000 }, (_, i) => [
        client.set(`p${i}`, `v${i}`),
        client.get(`p${i}`),
      ]);
      const results = await Promise.all(all.flat());
      expect(results.at(-1)).toBe("v4999");
      const pipelined = await client.multi().get("p0").get("p1").execAsPipeline();
      expect(pipelined.map(String)).toEqual(["v0", "v1"]);
      expect(await client.flushDb()).toBe("OK");
    } finally {
      await client.close();
    }
  });
});

test("IPv4 and IPv6 on one port", async () => {
  await withNode({ NETWORK_BIND_ADDRESS: "::" }, async (node) => {
    for (const host of ["127.0.0.1", "::1"]) {
      const client = await LineClient.connect(node.port, host);
      expect(await client.send("PING")).toBe("PONG");
      client.sendRaw("CLIENT INFO\n");
      expect(await client.readLine()).toContain(host === "::1" ? "addr=[::1]:" : "127.0.0.1]:");
      await client.close();
    }
  });
});

/** A bare socket, for what LineClient is too polite for. */
async function rawSocket(port: number): Promise<Socket> {
  const socket = connect({ port, host: "127.0.0.1" });
  socket.on("error", () => {}); // "close" follows
  await new Promise((resolve) => socket.once("connect", resolve));
  return socket;
}

const once = (socket: Socket, event: string) =>
  new Promise<void>((resolve) => void socket.once(event, () => resolve()));

describe("backpressure", () => {
  test("a client that does not read is held back, costs little, and gets all when it reads", async () => {
    await withNode({}, async (node) => {
      const setter = await LineClient.connect(node.port);
      expect(await setter.send(`SET k ${"v".repeat(100_000)}`)).toBe("OK");
      const before = residentBytes(node);
      const socket = await rawSocket(node.port);
      socket.pause();
      // Asks for 1 GB.
      const requests = 10_000;
      socket.write("GET k\n".repeat(requests));
      // It has stopped working for this client; others are served.
      let served = -1;
      await eventually("the server stops running its requests", async () => {
        const previous = served;
        served = await statistic(node, "STATS", "get_commands");
        return served > 0 && served === previous;
      });
      expect(served).toBeLessThan(requests);
      expect(residentBytes(node) - before).toBeLessThan(64 * 1_048_576);

      let received = 0;
      const all = new Promise<void>((resolve) => {
        socket.on("data", (chunk: Buffer) => {
          received += chunk.length;
          if (received >= requests * 100_001) resolve();
        });
      });
      socket.resume();
      await all;
      expect(received).toBe(requests * 100_001);
      expect(await statistic(node, "STATS", "get_commands")).toBe(requests);
      socket.destroy();
      await setter.close();
    });
  });

  test("a client whose replies are held back cannot send for ever", async () => {
    await withNode({}, async (node) => {
      const socket = await rawSocket(node.port);
      socket.pause();
      const before = residentBytes(node);
      const chunk = Buffer.from(`ECHO ${"e".repeat(10_000)}\n`.repeat(100));
      // Writes until nothing more is taken, which the kernel's buffers alone decide.
      let sent = 0;
      const write = () => {
        while (socket.write(chunk)) sent += chunk.length;
        socket.once("drain", write);
      };
      write();
      let last = -1;
      await eventually("the client is stuck", async () => {
        const previous = last;
        last = sent + (await statistic(node, "STATS", "echo_commands"));
        return last === previous;
      });
      expect(residentBytes(node) - before).toBeLessThan(64 * 1_048_576);
      socket.destroy();
    });
  });

  test("a reply beyond max_output_bytes is refused", async () => {
    const limits = { NETWORK_MAX_VALUE_BYTES: "2000000", NETWORK_MAX_OUTPUT_BYTES: "5000000" };
    await withNode(limits, async (node) => {
      const client = await LineClient.connect(node.port);
      await client.send(`SET k ${"v".repeat(1_000_000)}`);
      client.sendRaw("MGET k k k k\n");
      for (const line of await client.readLines(4)) expect(line).toHaveLength(1_000_000);
      expect(await client.send(`MGET${" k".repeat(8)}`)).toBe(
        "ERROR: Value too large - the reply exceeds network.max_output_bytes; ask for fewer keys",
      );
      expect(await client.send("PING")).toBe("PONG");
      await client.close();
    });
  });
});

test("HTTP gets an answer in kind, and what a browser would send does not run", async () => {
  await withNode({}, async (node) => {
    const client = await LineClient.connect(node.port);
    await client.send("SET precious 1");
    for (const init of [{}, { method: "POST", body: "FLUSH\r\n" }] as const) {
      const response = await fetch(`http://127.0.0.1:${node.port}/`, init);
      expect(response.status).toBe(400);
      expect(await response.text()).toInclude("MerkleKV");
    }
    expect(await client.send("GET precious")).toBe("1");
    await client.close();
  });
});

test("a client that resets its connection at once is no bug", async () => {
  await withNode({}, async (node) => {
    for (let i = 0; i < 50; i++) {
      const socket = connect({ port: node.port, host: "127.0.0.1" });
      socket.on("error", () => {});
      await new Promise((resolve) => socket.once("connect", resolve));
      socket.write("SET a");
      socket.resetAndDestroy();
    }
    const client = await LineClient.connect(node.port);
    expect(await client.send("PING")).toBe("PONG");
    await client.close();
    expect(node.output()).not.toContain("A bug");
  });
});

describe("limits", () => {
  test("past max_connections a connection gets its error and is closed", async () => {
    await withNode({ NETWORK_MAX_CONNECTIONS: "2" }, async (node) => {
      const clients = [await LineClient.connect(node.port), await LineClient.connect(node.port)];
      for (const client of clients) expect(await client.send("PING")).toBe("PONG");
      const third = await LineClient.connect(node.port);
      expect(await third.readLine()).toBe("ERROR: Too many connections");
      await third.closed;
      for (const client of clients) expect(await client.send("PING")).toBe("PONG");
      await clients[0].close();
      await eventually("there is room again", async () => {
        const client = await LineClient.connect(node.port);
        const reply = await client.send("PING").catch(String);
        await client.close();
        return reply === "PONG";
      });
      await clients[1].close();
    });
  });

  test("a command half sent closes the connection after connection_timeout, idling does not", async () => {
    await withNode({ NETWORK_CONNECTION_TIMEOUT: "1" }, async (node) => {
      const idle = await LineClient.connect(node.port);
      expect(await idle.send("PING")).toBe("PONG");
      const line = await LineClient.connect(node.port);
      line.sendRaw("SET a");
      const array = await LineClient.connect(node.port);
      array.sendRaw("*3\r\n$3\r\nSET\r\n$1\r\na");
      const words = "Invalid command - not completed within 1 s; closing";
      expect(await line.readLine()).toBe(`ERROR: ${words}`);
      expect(await array.readLine()).toBe(`-ERR ${words}`);
      await Promise.all([line.closed, array.closed]);
      expect(await idle.send("EXISTS a")).toBe("0");
      await idle.close();
    });
  });

  test("512 MB without a newline are refused with memory staying flat, and the connection goes on", async () => {
    await withNode({}, async (node) => {
      const client = await LineClient.connect(node.port);
      const pump = async (megabytes: number) => {
        const socket = await rawSocket(node.port);
        const megabyte = Buffer.alloc(1_048_576, "x");
        let reply = "";
        let most = 0;
        socket.on("data", (chunk: Buffer) => (reply += chunk.toString()));
        for (let i = 0; i < megabytes; i++) {
          if (!socket.write(megabyte)) await once(socket, "drain");
          if (i % 8 === 0) most = Math.max(most, residentBytes(node));
        }
        socket.write("\nPING\n");
        await eventually("the connection goes on", () => reply.endsWith("PONG\n"));
        socket.destroy();
        return { reply, most };
      };
      // The first bytes of any kind make the runtime set up its buffers.
      await pump(8);
      const before = residentBytes(node);
      const { reply, most } = await pump(512);
      expect(reply).toBe("ERROR: Line too long - network.max_line_bytes is 1048576\nPONG\n");
      expect(most - before).toBeLessThan(16 * 1_048_576);
      await client.close();
    });
  });

  test("past memory_limit_mb writes are refused, reads and deletes go on", async () => {
    await withNode({ STORAGE_MEMORY_LIMIT_MB: "8" }, async (node) => {
      const client = await LineClient.connect(node.port);
      const value = "v".repeat(10_000);
      let count = 0;
      while ((await client.send(`SET key${count} ${value}`)) === "OK") count++;
      expect(count).toBeGreaterThan(300);
      expect(await client.send(`SET more ${value}`)).toBe("ERROR: Storage full");
      expect(await client.send("GET key0")).toBe(value);
      expect(await client.send("DBSIZE")).toBe(String(count));
      for (let i = 0; i < 100; i++) expect(await client.send(`DEL key${i}`)).toBe("DELETED");
      expect(await client.send(`SET more ${value}`)).toBe("OK");
      await client.close();
    });
  });
});

describe("the end", () => {
  test.each(["SIGTERM", "SIGINT"] as const)("%s", async (signal) => {
    const node = await startNodeProcess();
    const client = await LineClient.connect(node.port);
    expect(await client.send("SET a 1")).toBe("OK");
    const half = await LineClient.connect(node.port);
    half.sendRaw("SET b");
    node.signal(signal);
    await Promise.all([client.closed, half.closed]);
    expect(await node.ended()).toBe(0);
    await expect(LineClient.connect(node.port)).rejects.toThrow();
  });

  test.each([
    ["a line", "SET a 1\nSHUTDOWN\nSET a 2\n", "OK\nOK\n"],
    ["RESP", "*1\r\n$8\r\nSHUTDOWN\r\n", "+OK\r\n"],
  ])("SHUTDOWN in %s is answered, then the node exits with 0", async (_, request, reply) => {
    const node = await startNodeProcess();
    const client = await LineClient.connect(node.port);
    const other = await LineClient.connect(node.port);
    client.sendRaw(request);
    expect((await client.readBytes(reply.length)).toString()).toBe(reply);
    await Promise.all([client.closed, other.closed]);
    expect(await node.ended()).toBe(0);
  });

  test("waits for a client to read its replies", async () => {
    const node = await startNodeProcess();
    const client = await LineClient.connect(node.port);
    await client.send(`SET k ${"v".repeat(1_000_000)}`);
    const socket = await rawSocket(node.port);
    socket.pause();
    socket.write("MGET" + " k".repeat(20) + "\nSHUTDOWN\n");
    await eventually(
      "it runs",
      async () => (await client.send("STATS")) !== "" && drainLines(client),
    );
    node.signal("SIGTERM");
    let received = 0;
    socket.on("data", (chunk: Buffer) => (received += chunk.length));
    const ended = once(socket, "end");
    socket.resume();
    await ended;
    expect(received).toBe(20 * 1_000_001);
    socket.end();
    expect(await node.ended()).toBe(0);
  });
});

/** Reads STATS to its end; whether a bulk command has run. */
async function drainLines(client: LineClient): Promise<boolean> {
  for (let ran = false; ;) {
    const line = await client.readLine();
    if (line === "") return ran;
    if (line.startsWith("bulk_commands:")) ran = line !== "bulk_commands:0";
  }
}

test("a port in use: one clear line, and an exit code", async () => {
  await withNode({}, async (node) => {
    const child = await runBinary(["serve"], {
      env: { MERKLE_KV_NETWORK_BIND_PORT: String(node.port), MERKLE_KV_MQTT_ENABLED: "false" },
    });
    expect(await child.ended()).not.toBe(0);
    const complaints = child
      .output()
      .split("\n")
      .filter((line) => /port|listen/.test(line));
    expect(complaints).toHaveLength(1);
    expect(complaints[0]).toContain(`127.0.0.1:${node.port}`);
    expect(complaints[0]).toContain("the port is in use");
    const client = await LineClient.connect(node.port);
    expect(await client.send("PING")).toBe("PONG");
    await client.close();
  });
});

/**
 * `bun run bench:slices`: how long anybody else waits while a node does what somebody made as long as
 * possible. Beside each such request a polite client, in a process of its own, says GET every 2 ms
 * to the built node; the table tells its longest wait, next to that of a node with nothing to do.
 *
 *   bun run bench:slices [--keys 300000] [--only WORD]
 *
 * What a request itself takes says little here: this process shares the processor with the node.
 */
import { connect, type Socket } from "node:net";
import { parseArgs } from "node:util";
import { Encoder } from "cbor-x/index-no-eval";
import { connectAsync } from "mqtt";
import { Mosquitto, MOSQUITTO_MISSING, mosquittoPath } from "../support/mosquitto.ts";
import { respRequest } from "../support/in-process.ts";
import { startMerklekv } from "./servers.ts";

const PAUSE_MS = 2;
/** How long the node with nothing to do is looked at. */
const QUIET_MS = 2_000;
const REPLY_DEADLINE_MS = 120_000;

const { values, positionals } = parseArgs({
  options: {
    keys: { type: "string", default: "300000" },
    only: { type: "string", default: "" },
  },
  allowPositionals: true,
});
if (positionals[0] === "polite") await bePolite(Number(positionals[1]));
else await measure(Number(values.keys), values.only);
process.exit(0);

/** Asks and asks, and for each line of its input prints the longest wait since the last one, in ms. */
async function bePolite(port: number): Promise<void> {
  const socket = connect({ port, host: "127.0.0.1", noDelay: true });
  let answered = (): void => {};
  socket.on("data", () => answered());
  socket.on("close", () => process.exit(0));
  let worstMs = 0;
  process.stdin.on("data", () => {
    console.log(worstMs.toFixed(2));
    worstMs = 0;
  });
  process.stdin.on("end", () => process.exit(0));
  for (;;) {
    const begunMs = performance.now();
    const reply = new Promise<void>((resolve) => (answered = resolve));
    socket.write("GET polite\n");
    await reply;
    worstMs = Math.max(worstMs, performance.now() - begunMs);
    await Bun.sleep(PAUSE_MS);
  }
}

/** A connection that sends what was made ready, and knows when all of it is answered. */
class Attacker {
  private waiting: { marker: string; done: () => void } | null = null;
  private tail = "";
  private markers = 0;

  private constructor(private readonly socket: Socket) {
    socket.on("error", () => {});
    socket.on("data", (chunk: Buffer) => {
      this.tail = (this.tail + chunk.subarray(-64).toString("latin1")).slice(-64);
      if (this.waiting !== null && this.tail.includes(this.waiting.marker)) this.waiting.done();
    });
  }

  static async connect(port: number): Promise<Attacker> {
    const socket = connect({ port, host: "127.0.0.1", noDelay: true });
    await new Promise<void>((resolve) => socket.once("connect", resolve));
    return new Attacker(socket);
  }

  /** Resolves when every request in these bytes is answered. */
  async ask(requests: Uint8Array): Promise<void> {
    const marker = `<done ${++this.markers}>`;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const timer = setTimeout(() => reject(new Error("no answer")), REPLY_DEADLINE_MS);
    this.waiting = { marker, done: resolve };
    this.socket.write(requests);
    this.socket.write(respRequest("ECHO", marker));
    await promise;
    clearTimeout(timer);
  }

  close(): void {
    this.socket.destroy();
  }
}

interface Case {
  readonly what: string;
  /** Makes it ready, unmeasured, and returns what is then measured. */
  ready(): Promise<() => Promise<unknown>>;
}

async function measure(count: number, only: string): Promise<void> {
  const broker = mosquittoPath === null ? null : await Mosquitto.start();
  if (broker === null) console.log(`messages of a broker are left out: ${MOSQUITTO_MISSING}`);
  await using server = await startMerklekv("slices", {
    maxConnections: 11_000,
    ...(broker !== null && { brokerPort: broker.port }),
  });
  const polite = Bun.spawn([process.execPath, import.meta.path, "polite", `${server.port}`], {
    stdin: "pipe",
    stdout: "pipe",
  });
  const reader = polite.stdout.getReader();
  const worstMs = async (): Promise<number> => {
    void polite.stdin.write("\n");
    await polite.stdin.flush();
    const { value } = await reader.read();
    return Number(new TextDecoder().decode(value));
  };
  const attacker = await Attacker.connect(server.port);
  console.log(`${"request".padEnd(56)}${"longest wait".padStart(14)}${"took".padStart(12)}`);
  const chosen = cases(attacker, count, server.port, broker?.port);
  for (const { what, ready } of chosen.filter((each) => each.what.includes(only))) {
    const run = await ready();
    await Bun.sleep(300);
    await worstMs();
    const begunMs = performance.now();
    await run();
    const tookMs = performance.now() - begunMs;
    const worst = await worstMs();
    console.log(
      `${what.padEnd(56)}${`${worst.toFixed(1)} ms`.padStart(14)}${`${Math.round(tookMs)} ms`.padStart(12)}`,
    );
  }
  attacker.close();
  polite.kill();
  await broker?.stop();
}

function cases(attacker: Attacker, count: number, port: number, brokerPort?: number): Case[] {
  const keys = Array.from({ length: count }, (_, i) => `key:${i}`);
  const longKeys = Array.from({ length: 60 }, (_, i) => "a".repeat(65_000) + i);
  const one = (what: string, ...words: string[]): Case => {
    return { what, ready: async () => () => attacker.ask(respRequest(...words)) };
  };
  const many = (what: string, times: number, ...words: string[]): Case => {
    const request = respRequest(...words);
    return {
      what,
      ready: async () => () => attacker.ask(Buffer.concat(Array(times).fill(request))),
    };
  };
  /** As `one`, with a words made only when it is its turn, and something done before. */
  const after = (what: string, before: () => Promise<void>, words: () => string[]): Case => {
    return {
      what,
      async ready() {
        await before();
        const request = respRequest(...words());
        return () => attacker.ask(request);
      },
    };
  };
  const fill = async (expiresIn?: number): Promise<void> => {
    for (let from = 0; from < keys.length; from += 500) {
      const some = keys.slice(from, from + 500);
      if (expiresIn === undefined) {
        await attacker.ask(respRequest("MSET", ...some.flatMap((key) => [key, "value"])));
      } else {
        const requests = some.map((key) => respRequest("SET", key, "v", "PX", `${expiresIn}`));
        await attacker.ask(Buffer.concat(requests));
      }
    }
  };
  const fillLong = async (): Promise<void> => {
    for (const key of longKeys) await attacker.ask(respRequest("SET", key, ""));
  };
  const nothing = async (): Promise<void> => {};
  const pairs = (): string[] => keys.flatMap((key) => [key, "v"]);
  const flush = (): Promise<void> => attacker.ask(respRequest("FLUSHALL"));
  return [
    { what: "nothing", ready: async () => () => Bun.sleep(QUIET_MS) },
    after("MSET of all keys", flush, () => ["MSET", ...pairs()]),
    after("MSET of all keys again", nothing, () => ["MSET", ...pairs()]),
    after("MSETNX of 1,000 keys", nothing, () => [
      "MSETNX",
      ...keys.slice(0, 1_000).flatMap((key) => [`new:${key}`, "v"]),
    ]),
    after("MGET of all keys", nothing, () => ["MGET", ...keys]),
    after("EXISTS of all keys", nothing, () => ["EXISTS", ...keys]),
    one("KEYS *", "KEYS", "*"),
    one(
      "SCAN 0 MATCH *x*y*z COUNT 1000000000",
      "SCAN",
      "0",
      "MATCH",
      "*x*y*z",
      "COUNT",
      "1000000000",
    ),
    one("SCAN 0 COUNT 1000000000", "SCAN", "0", "COUNT", "1000000000"),
    one("HASH", "HASH"),
    many("INFO, 200 times", 200, "INFO"),
    many("STATS and DBSIZE, 200 times", 200, "STATS"),
    many("COMMAND, 200 times", 200, "COMMAND"),
    many("RANDOMKEY, 1,000 times", 1_000, "RANDOMKEY"),
    one(
      "CONFIG GET of 500,000 patterns",
      "CONFIG",
      "GET",
      ...Array<string>(500_000).fill("*a*b*c*d"),
    ),
    one("COMMAND INFO of 300,000 names", "COMMAND", "INFO", ...Array<string>(300_000).fill("get")),
    one("SET with 500,000 options", "SET", "k", "v", ...Array<string>(500_000).fill("NX")),
    one("HELLO with 500,000 words", "HELLO", "3", ...Array<string>(500_000).fill("SETNAME")),
    one("a command of 8 MB", "x".repeat(8_000_000)),
    after("KEYS of many stars, keys of 64 KiB", fillLong, () => ["KEYS", `${"*a".repeat(500)}*b`]),
    one("KEYS of a long segment, keys of 64 KiB", "KEYS", `*${"a".repeat(32_000)}b*`),
    one("KEYS of a long segment with ?, keys of 64 KiB", "KEYS", `*${"a?".repeat(500)}b*`),
    after("MSET of keys of 64 KiB", nothing, () => [
      "MSET",
      ...longKeys.flatMap((key) => [key, ""]),
    ]),
    after("DEL of keys of 64 KiB", nothing, () => ["DEL", ...longKeys]),
    {
      what: "CLIENT LIST with 5,000 clients",
      async ready() {
        await openMany(port, 5_000);
        const request = respRequest("CLIENT", "LIST");
        return () => attacker.ask(Buffer.concat(Array(5).fill(request)));
      },
    },
    after("DEL of all keys but 100", nothing, () => ["DEL", ...keys.slice(100)]),
    many("RANDOMKEY, 1,000 times, 100 keys left of many", 1_000, "RANDOMKEY"),
    {
      what: "all keys expire at once",
      async ready() {
        // Longer than writing them takes.
        const writtenMs = performance.now();
        await fill(60_000);
        const tookMs = performance.now() - writtenMs;
        await fill(Math.max(1_000, Math.round(tookMs * 2)));
        return () => Bun.sleep(Math.round(tookMs * 2) + 6_000);
      },
    },
    {
      what: "FLUSHALL of all keys",
      async ready() {
        await fill();
        return () => attacker.ask(respRequest("FLUSHALL"));
      },
    },
    ...(brokerPort === undefined ? [] : messages(brokerPort)),
  ];
}

/** Opens connections that say nothing, and stay. */
async function openMany(port: number, count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    const socket = connect({ port, host: "127.0.0.1" });
    socket.on("error", () => {});
    if (i % 50 === 0) await new Promise<void>((resolve) => socket.once("connect", resolve));
  }
  await Bun.sleep(1_000);
}

/** What comes by the broker. */
function messages(port: number): Case[] {
  const encoder = new Encoder({ useRecords: false, variableMapSize: true, tagUint8Array: false });
  const nested = Array<unknown>(300_000).fill([[[[[]]]]]);
  const event = { v: 1, op: "set", key: "k", val: [1], ts: 1n, src: "elsewhere" };
  const batch = { v: 1, src: "elsewhere", epoch: 1, seq: 1, events: [] };
  const small = { op: "set", key: Buffer.from("k"), val: Buffer.from("v"), ts: 1n };
  const publish = (what: string, topic: string, payload: Buffer, times: number): Case => ({
    what,
    async ready() {
      const client = await connectAsync({ host: "127.0.0.1", port });
      return async () => {
        for (let i = 0; i < times; i++) client.publish(topic, payload);
        await client.publishAsync(topic, payload, { qos: 1 });
        await Bun.sleep(1_500);
        await client.endAsync();
      };
    },
  });
  const updates = "merkle-kv/updates";
  return [
    publish(
      "20,000 small messages",
      updates,
      encoder.encode({ ...batch, events: [small] }),
      20_000,
    ),
    publish("20,000 small single events", "merkle-kv/events", encoder.encode(event), 20_000),
    publish(
      "5 events with nested arrays, 2 MB each",
      "merkle-kv/events",
      encoder.encode({ ...event, extra: nested }),
      5,
    ),
    publish(
      "5 batches with nested arrays, 2 MB each",
      updates,
      encoder.encode({ ...batch, extra: nested }),
      5,
    ),
    publish(
      "5 batches of 50,000 events",
      updates,
      encoder.encode({ ...batch, events: Array(50_000).fill(small) }),
      5,
    ),
  ];
}

/**
 * Attacks by length: requests whose work the one who sends them decides, and messages of strangers
 * that are long inside. None may hold up anybody else, and none may be answered in part without a
 * word.
 */
import type { Socket } from "node:net";
import { Encoder } from "cbor-x/index-no-eval";
import { connectAsync } from "mqtt";
import { respRequest } from "../../support/in-process.ts";
import type { Attack } from "../attack.ts";
import { stillServes } from "./requests.ts";

const KEYS = 200_000;
const encoder = new Encoder({ useRecords: false, variableMapSize: true, tagUint8Array: false });

/** See the file header. */
export const lengths: readonly Attack[] = [
  {
    name: "glob-long-keys",
    what: "KEYS with patterns of long segments and many stars on keys of 64 KiB",
    async run(stage) {
      const socket = await stage.connect();
      for (let i = 0; i < 20; i++) {
        await ask(socket, respRequest("SET", "a".repeat(65_000) + i, ""));
      }
      stage.dataBytes += 20 * 131_072;
      const segment = "a?".repeat(stage.times(300));
      for (const pattern of [
        `*${"a".repeat(32_000)}b*`,
        `${"*a".repeat(2_000)}*b`,
        `*${segment}b*`,
      ]) {
        await ask(socket, respRequest("KEYS", pattern));
      }
      await stillServes(stage);
    },
  },
  {
    name: "many-keys",
    what: `MSET, MGET, EXISTS, KEYS, HASH and DEL of ${KEYS} keys`,
    async run(stage) {
      const socket = await stage.connect();
      const keys = Array.from({ length: stage.times(KEYS) }, (_, i) => `many:${i}`);
      stage.dataBytes += keys.length * 300;
      await ask(socket, respRequest("MSET", ...keys.flatMap((key) => [key, "v"])));
      await ask(socket, respRequest("MGET", ...keys));
      await ask(socket, respRequest("EXISTS", ...keys));
      await ask(socket, respRequest("HASH"));
      for (let i = 0; i < 5; i++) await ask(socket, respRequest("KEYS", "*"));
      const deleted = await ask(socket, respRequest("DEL", ...keys));
      stage.demand(deleted.startsWith(`:${keys.length}\r\n`), `DEL was answered with ${deleted}`);
      await ask(socket, Buffer.concat(Array(1_000).fill(respRequest("RANDOMKEY"))));
    },
  },
  {
    name: "keys-from-everybody",
    what: "100 connections that say KEYS * of 50,000 keys, all at once",
    async run(stage) {
      const socket = await stage.connect();
      const keys = Array.from({ length: 50_000 }, (_, i) => `everybody:${i}`);
      stage.dataBytes += keys.length * 200;
      await ask(socket, respRequest("MSET", ...keys.flatMap((key) => [key, "v"])));
      const sockets = await Promise.all(
        Array.from({ length: stage.times(100) }, () => stage.connect()),
      );
      await Promise.all(sockets.map((each) => ask(each, respRequest("KEYS", "*"))));
    },
  },
  {
    name: "many-words",
    what: "CONFIG GET, COMMAND INFO, SET and HELLO with hundreds of thousands of words",
    async run(stage) {
      const socket = await stage.connect();
      const count = stage.times(300_000);
      const words = (word: string): string[] => Array<string>(count).fill(word);
      await ask(socket, respRequest("CONFIG", "GET", ...words("*a*b*c*d")));
      await ask(socket, respRequest("COMMAND", "INFO", ...words("get")));
      await ask(socket, respRequest("SET", "k", "v", ...words("NX")));
      await ask(socket, respRequest("HELLO", "2", ...words("SETNAME")));
      await ask(socket, respRequest("x".repeat(stage.times(8_000_000))));
      await stillServes(stage);
    },
  },
  {
    name: "scan-full",
    what: "SCAN of keys that do not fit into one reply",
    settings: { network: { max_value_bytes: 1_024, max_output_bytes: 1_024 } },
    async run(stage) {
      const socket = await stage.connect();
      const keys = Array.from({ length: 20 }, (_, i) => `${i}`.padStart(200, "k"));
      for (const key of keys) await ask(socket, respRequest("SET", key, ""));
      const found = new Set<string>();
      let cursor = "0";
      do {
        const reply = await ask(socket, respRequest("SCAN", cursor, "COUNT", "100"));
        cursor = /^\*2\r\n\$\d+\r\n(\d+)/.exec(reply)?.[1] ?? "0";
        for (const [key] of reply.matchAll(/k+\d+/g)) found.add(key);
      } while (cursor !== "0");
      const missing = keys.filter((key) => !found.has(key)).length;
      stage.demand(missing === 0, `SCAN left out ${missing} of ${keys.length} keys`);
    },
  },
  {
    name: "expire-together",
    what: "60,000 keys that expire in the same moment",
    async run(stage) {
      const socket = await stage.connect();
      const count = stage.times(60_000);
      stage.dataBytes += count * 300;
      const atMs = `${Date.now() + 2_000}`;
      const sets = Array.from({ length: count }, (_, i) => {
        return respRequest("SET", `expiring:${i}`, "v", "PXAT", atMs);
      });
      await ask(socket, Buffer.concat(sets));
      await Bun.sleep(4_000);
    },
  },
  {
    name: "nested-events",
    what: "messages of 2 MB that hold hundreds of thousands of arrays, and 20,000 small ones",
    scene: "broker",
    async run(stage) {
      const nested = Array<unknown>(stage.times(300_000)).fill([[[[[]]]]]);
      const event = { v: 1, op: "set", key: "k", val: [1], ts: 1n, src: "elsewhere" };
      const batch = { v: 1, src: "elsewhere", epoch: 1, seq: 1, events: [] };
      const small = encoder.encode({ ...batch, src: "small" });
      const client = await connectAsync({ host: "127.0.0.1", port: stage.broker.port });
      for (let i = 0; i < 5; i++) {
        client.publish("merkle-kv/events", encoder.encode({ ...event, extra: nested }));
        client.publish("merkle-kv/updates", encoder.encode({ ...batch, extra: nested }));
      }
      for (let i = 0; i < stage.times(20_000); i++) client.publish("merkle-kv/updates", small);
      await client.publishAsync("merkle-kv/updates", small, { qos: 1 });
      await Bun.sleep(1_500);
      await client.endAsync();
      await stillServes(stage);
    },
  },
];

let asked = 0;

/** Sends requests; the first bytes of the replies, once all of them have come. */
async function ask(socket: Socket, requests: Uint8Array): Promise<string> {
  const marker = `<${++asked}>`;
  let text = "";
  let tail = "";
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const onData = (chunk: Buffer): void => {
    if (text.length < 8_192) text += chunk.toString("latin1");
    tail = (tail + chunk.subarray(-64).toString("latin1")).slice(-64);
    if (tail.includes(marker)) resolve();
  };
  const onClose = (): void => reject(new Error("cut off"));
  socket.on("data", onData).once("close", onClose);
  socket.write(requests);
  socket.write(respRequest("ECHO", marker));
  await promise;
  socket.off("data", onData).off("close", onClose);
  return text;
}

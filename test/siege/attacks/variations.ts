/** Attacks of before, by other ways: where one was mended, its kind must be. */
import { connectAsync } from "mqtt";
import { LineClient } from "../../support/line-client.ts";
import { SyncPeer } from "../../support/sync-peer.ts";
import type { Attack, Stage } from "../attack.ts";
import { array, stillServes } from "./requests.ts";

const MIB = 1_048_576;

/** See the file header. */
export const variations: readonly Attack[] = [
  {
    name: "append-pipeline",
    what: "pipelines that lengthen, cut out, and read a value of 7 MiB in every way",
    async run(stage) {
      const socket = await stage.connect();
      socket.resume();
      socket.write(array("SET", "big", "v".repeat(7 * MIB)));
      stage.dataBytes += 4 * 7 * MIB;
      const client = await LineClient.connect(stage.node.port);
      const requests = [
        "APPEND big x",
        "PREPEND big y",
        "SETRANGE big 7340100 z",
        "GETRANGE big 0 9",
      ];
      for (const request of [...requests, "GETEX big EX 100", "STRLEN big"]) {
        const count = stage.times(request.startsWith("GETEX") ? 20 : 60);
        client.sendRaw(`${request}\n`.repeat(count) + "ECHO done\n");
        while (!(await client.readLine()).endsWith("done"));
      }
      await client.close();
    },
  },
  {
    name: "long-answers",
    what: "20 connections with pipelines of INFO, STATS, COMMAND, CLIENT LIST, CONFIG GET and HASH",
    async run(stage) {
      const idle = await Promise.all(Array.from({ length: 500 }, () => stage.connect()));
      const requests = [
        "INFO",
        "STATS",
        "COMMAND",
        "CLIENT LIST",
        "CONFIG GET *",
        "HASH",
        "DBSIZE",
      ];
      const pipelines = Array.from({ length: 20 }, async (_, i) => {
        const socket = await stage.connect();
        socket.write(array(...requests[i % requests.length].split(" ")).repeat(stage.times(500)));
        socket.end();
        await new Promise((resolve) => socket.once("end", resolve).resume());
      });
      await Promise.all(pipelines);
      for (const socket of idle) socket.destroy();
    },
  },
  {
    name: "peers-half-frames",
    what: "100 connections that say PEER and send most of a frame of 8 MiB, before they say who",
    async run(stage) {
      const frame = Buffer.alloc(8 * MIB);
      frame.writeUInt32BE(8 * MIB);
      for (let i = 0; i < stage.times(100); i++) {
        const socket = await stage.connect();
        socket.write("PEER\n");
        socket.write(frame);
      }
      await stillServes(stage);
    },
  },
  {
    name: "guests-half-frames",
    what: "peers that say who they are, and then send most of a frame of 8 MiB",
    async run(stage) {
      const frame = Buffer.alloc(8 * MIB);
      frame.writeUInt32BE(8 * MIB);
      for (let i = 0; i < stage.times(100); i++) {
        const socket = await stage.connect();
        socket.write(new SyncPeer(`guest${i}`).opening());
        socket.write(frame);
      }
      await stillServes(stage);
    },
  },
  {
    name: "endless-frames",
    what: "peers that read nothing and send a frame of 4 GiB, as fast as it is taken",
    async run(stage) {
      const filler = new SyncPeer("filler");
      for (let i = 0; i < stage.times(20_000); i++) filler.set(`fill:${i}`, "v".repeat(500));
      await filler.visit(stage.node.port);
      stage.dataBytes += stage.times(20_000) * 1_000;
      const piece = Buffer.alloc(MIB, 255);
      for (let i = 0; i < 8; i++) {
        const socket = await stage.connect();
        socket.pause();
        socket.write(new SyncPeer(`deaf${i}`).opening("full"));
        for (let sent = 0; sent < stage.times(100); sent++) socket.write(piece);
      }
      await Bun.sleep(3_000 * stage.scale);
      await stillServes(stage);
    },
  },
  {
    name: "deep-topics",
    what: "topics of thousands of levels, and wildcards for each, at the embedded broker",
    settings: {
      mqtt: { enabled: true, broker_address: "embedded" },
      "mqtt.embedded": { bind_port: 0 },
    },
    async run(stage) {
      const listening = /Embedded broker listening address=\S+:(\d+)/;
      const [, port] = await stage.node.waitFor(listening);
      for (const levels of [2_000, 1_000, 500, 100, 50]) {
        for (let i = 0; i < stage.times(20); i++) {
          const client = await connectAsync(`mqtt://127.0.0.1:${port}`, {
            protocolVersion: 4,
            reconnectPeriod: 0,
          });
          const closed = new Promise<void>((resolve) => client.once("close", () => resolve()));
          client.on("error", () => {});
          const topicOf = (level: string): string => Array<string>(levels).fill(level).join("/");
          const wildcards = [
            topicOf("+"),
            `${topicOf("+")}/#`,
            `${topicOf("a/+")}/#`,
            topicOf("a"),
          ];
          const work = (async () => {
            await client.subscribeAsync(wildcards);
            for (let sent = 0; sent < 20; sent++) {
              await client.publishAsync(topicOf("a"), "x", { qos: 1, retain: sent % 2 === 0 });
            }
          })();
          // It may be cut off for it.
          await Promise.race([closed, work.catch(() => {})]);
          await client.endAsync(true);
        }
      }
      await stillServes(stage);
    },
  },
  {
    name: "other-protocols",
    what: "requests of HTTP in every shape, TLS, MQTT and SSH, each with a FLUSH behind",
    async run(stage) {
      const methods = [
        "GET",
        "post",
        "PUT",
        "OPTIONS",
        "DELETE",
        "PATCH",
        "CONNECT",
        "TRACE",
        "HEAD",
      ];
      const openings = methods.flatMap((method) => [
        `${method} / HTTP/1.1\r\nX: y\r\n\r\n`,
        `${method} http://h/ HTTP/1.0\r\n\r\n`,
        `\r\n${method} / HTTP/1.1\r\nhOST: h\r\n\r\n`,
        ` ${method}  /  HTTP/1.1\r\n\r\n`,
      ]);
      openings.push("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
      openings.push("\u0016\u0003\u0001\u0002\u0000\u0001\r\n", "SSH-2.0-x\r\n");
      await keepsAll(stage, openings);
    },
  },
];

/** What was written before is there, whatever was said in another protocol. */
async function keepsAll(stage: Stage, openings: readonly string[]): Promise<void> {
  const client = await LineClient.connect(stage.node.port);
  for (const opening of openings) {
    if (!/HTTP/.test(opening)) continue;
    await client.send("SET witness 1");
    const socket = await stage.connect();
    socket.end(`${opening}FLUSH\r\n`);
    await new Promise((resolve) => socket.once("close", resolve).resume());
    const reply = await client.send("GET witness");
    stage.demand(reply === "1", `${JSON.stringify(opening)} is followed by its FLUSH`);
  }
  await client.close();
}

/** Attacks by how many connections there are, what they leave half done, and what they do not read. */
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { projectRoot } from "../../support/binary.ts";
import { eventually } from "../../support/eventually.ts";
import { LineClient } from "../../support/line-client.ts";
import type { Attack, Stage } from "../attack.ts";
import { array, stillServes } from "./requests.ts";

const MIB = 1_048_576;

/** See the file header. */
export const connections: readonly Attack[] = [
  {
    name: "lists-unread",
    what: "100 connections that ask for all of 200,000 keys twenty times and read nothing",
    async run(stage) {
      const count = stage.times(200_000);
      await fill(stage, count);
      stage.dataBytes += count * 200;
      await unread(stage, 100, array("KEYS", "*").repeat(20));
      await stillServes(stage);
    },
  },
  {
    name: "large-gets-unread",
    what: "100 connections that ask for 8 MiB in one reply of 64 MiB and read nothing",
    async run(stage) {
      const writer = await LineClient.connect(stage.node.port);
      writer.sendRaw(array("SET", "big", "v".repeat(8 * MIB - 16)));
      await writer.readLine();
      stage.dataBytes += 16 * MIB;
      await unread(stage, 100, array("MGET", ..."big ".repeat(7).trim().split(" ")));
      await stillServes(stage);
    },
  },
  {
    name: "a-million-parts",
    what: "60 requests of a million empty parts of which the last never comes",
    async run(stage) {
      const request = Buffer.from(`*1000000\r\n${"$0\r\n\r\n".repeat(999_999)}`);
      for (let i = 0; i < stage.times(60); i++) (await stage.connect()).write(request);
      await stillServes(stage);
    },
  },
  {
    name: "drip-readers",
    what: "50 connections with replies of 8 MiB that read a few bytes a second",
    async run(stage) {
      const writer = await LineClient.connect(stage.node.port);
      writer.sendRaw(array("SET", "big", "v".repeat(8 * MIB)));
      await writer.readLine();
      stage.dataBytes += 16 * MIB;
      const sockets = await unread(stage, 50, array("GET", "big").repeat(5));
      for (let round = 0; round < 20; round++) {
        for (const socket of sockets) socket.read(10);
        await Bun.sleep(50);
      }
      await stillServes(stage);
    },
  },
  {
    name: "many-pipelines",
    what: "50 connections with 100,000 pipelined INCR each",
    async run(stage) {
      const requests = stage.times(100_000);
      const sockets = await Promise.all(
        Array.from({ length: 50 }, async (_, i) => {
          const socket = await stage.connect();
          let received = 0;
          socket.on("data", (chunk: Buffer) => (received += chunk.length));
          socket.write(array("INCR", `n${i}`).repeat(requests));
          return () => received;
        }),
      );
      await eventually(
        "every pipeline is answered",
        () => sockets.every((received) => received() >= requests * 4),
        120_000,
      );
    },
  },
  {
    name: "resets",
    what: "5,000 connections that are reset at once",
    async run(stage) {
      for (let i = 0; i < stage.times(5_000); i++) {
        const socket = connect({ port: stage.node.port, host: "127.0.0.1" });
        socket.on("error", () => {});
        await new Promise((resolve) => socket.once("connect", resolve).once("close", resolve));
        if (i % 2 === 0) socket.write("SET a");
        socket.resetAndDestroy();
      }
      await stillServes(stage);
    },
  },
  {
    name: "browsers",
    what: "2,000 POSTs from a web page whose body is FLUSH",
    async run(stage) {
      const post =
        "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://example.com\r\n" +
        "Content-Length: 7\r\n\r\nFLUSH\r\n";
      for (let i = 0; i < stage.times(2_000); i++) {
        const socket = await stage.connect();
        socket.write(post);
        if (i % 50 === 49) await new Promise((resolve) => socket.once("close", resolve).resume());
        else socket.resume();
      }
      await stillServes(stage);
    },
  },
  {
    name: "files-used-up",
    what: "idle connections beyond a limit of 256 open files, and 100 MB of writes",
    command: ["sh", "-c", `ulimit -n 256; exec "$0" "$@"`, join(projectRoot, "dist/merklekv")],
    async run(stage) {
      const writer = await LineClient.connect(stage.node.port);
      const held: Socket[] = [];
      for (let i = 0; i < 400; i++) {
        const socket = connect({ port: stage.node.port, host: "127.0.0.1" });
        socket.on("error", () => {});
        held.push(socket);
        await new Promise((resolve) => socket.once("connect", resolve).once("close", resolve));
      }
      const value = "v".repeat(MIB - 100);
      stage.dataBytes += 20 * MIB;
      for (let i = 0; i < stage.times(100); i++) {
        const answer = await writer.send(`SET k${i % 10} ${value}`);
        stage.demand(answer === "OK", `a write was answered with ${answer}`);
      }
      for (const socket of held) socket.destroy();
    },
  },
];

/** That many keys of 30 bytes. */
async function fill(stage: Stage, count: number): Promise<void> {
  const writer = await LineClient.connect(stage.node.port);
  for (let from = 0; from < count; from += 1_000) {
    const names = Array.from(
      { length: Math.min(1_000, count - from) },
      (_, i) => `key:${String(from + i).padStart(26, "0")}`,
    );
    writer.sendRaw(names.map((name) => `SET ${name} x\n`).join(""));
    await writer.readLines(names.length);
  }
  await writer.close();
}

/** Connections that have asked and read nothing. */
async function unread(stage: Stage, count: number, request: string): Promise<Socket[]> {
  const sockets: Socket[] = [];
  for (let i = 0; i < stage.times(count); i++) {
    const socket = await stage.connect();
    socket.pause();
    socket.write(request);
    sockets.push(socket);
  }
  return sockets;
}

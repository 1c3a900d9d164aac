/** Attacks by what is asked, and how often, over connections that are otherwise in order. */
import type { Socket } from "node:net";
import { LineClient } from "../../support/line-client.ts";
import type { Attack, Stage } from "../attack.ts";

const MIB = 1_048_576;

/** See the file header. */
export const requests: readonly Attack[] = [
  {
    name: "setrange-pipeline",
    what: "600 pipelined SETRANGE on a value of 8 MiB",
    run: (stage) => rewriteLargeValue(stage, "SETRANGE big 0 x", ":"),
  },
  {
    name: "expire-pipeline",
    what: "600 pipelined EXPIRE on a value of 8 MiB",
    run: (stage) => rewriteLargeValue(stage, "EXPIRE big 1000", ":1"),
  },
  {
    name: "mget-unread",
    what: "100 connections that ask for 8 MiB forty times and read nothing",
    async run(stage) {
      await writeLargeValue(stage);
      const request = array("MGET", "big");
      for (let i = 0; i < stage.times(100); i++) {
        const socket = await stage.connect();
        socket.pause();
        socket.write(request.repeat(40));
      }
      await stillServes(stage);
    },
  },
  {
    name: "half-sent",
    what: "100 requests of 8 MiB of which the last byte never comes",
    async run(stage) {
      const body = Buffer.alloc(8 * MIB - 1, "x");
      const head = `*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$${8 * MIB}\r\n`;
      for (let i = 0; i < stage.times(100); i++) {
        const socket = await stage.connect();
        socket.write(head);
        socket.write(body);
      }
      await stillServes(stage);
    },
  },
];

/** A request as a RESP array. */
export function array(...words: readonly string[]): string {
  const parts = words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`);
  return `*${words.length}\r\n${parts.join("")}`;
}

/** Writes 8 MiB to the key "big". */
async function writeLargeValue(stage: Stage): Promise<Socket> {
  const socket = await stage.connect();
  socket.write(array("SET", "big", "v".repeat(8 * MIB)));
  await replies(socket, "+OK\r\n", 1);
  stage.dataBytes += 2 * 8 * MIB;
  return socket;
}

async function rewriteLargeValue(stage: Stage, line: string, reply: string): Promise<void> {
  const socket = await writeLargeValue(stage);
  const count = stage.times(600);
  socket.write(array(...line.split(" ")).repeat(count));
  await replies(socket, reply, count);
}

/** Resolves once so many replies have come that each hold `text` once. */
async function replies(socket: Socket, text: string, count: number): Promise<void> {
  let seen = 0;
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  socket.on("data", (chunk: Buffer) => {
    seen += chunk.toString("latin1").split(text).length - 1;
    if (seen >= count) resolve();
  });
  socket.once("close", () => reject(new Error(`cut off after ${seen} of ${count} replies`)));
  await promise;
}

/** A newcomer is answered. */
export async function stillServes({ node }: Stage): Promise<void> {
  const client = await LineClient.connect(node.port);
  const reply = await client.send("PING");
  if (reply !== "PONG") throw new Error(`a newcomer's PING was answered with ${reply}`);
  await client.close();
}

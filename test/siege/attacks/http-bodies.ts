/** Attacks on the HTTP port by bodies that take much work for what they are. */
import type { Socket } from "node:net";
import type { Attack, Stage } from "../attack.ts";
import { stillServes } from "./requests.ts";

const settings = { http: { bind_address: "127.0.0.1" } };
const HOST = "Host: 127.0.0.1\r\n";

/** Says the same on some connections, and lets go of them when they are answered or it is late. */
async function onEach(stage: Stage, count: number, request: string, lateMs: number): Promise<void> {
  const sockets = await Promise.all(
    Array.from({ length: count }, () => stage.connect(stage.node.httpPort)),
  );
  const heard = sockets.map((socket: Socket) => {
    const answered = new Promise((resolve) => socket.once("data", resolve).once("close", resolve));
    socket.resume().write(request);
    return answered;
  });
  const late = Bun.sleep(lateMs * stage.scale);
  await Promise.race([Promise.all(heard), late]);
  await late;
  for (const socket of sockets) socket.destroy();
}

/** See the file header. */
export const httpBodies: readonly Attack[] = [
  {
    name: "http-small-chunks",
    what: "8 bodies of a million chunks of one byte, and 8 of long lines between chunks",
    settings,
    async run(stage) {
      const head = `PUT /v1/keys/chunks HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n`;
      const small = "1\r\nx\r\n".repeat(stage.times(1_000_000));
      const wordy = `1;${"e".repeat(250)}\r\nx\r\n`.repeat(stage.times(100_000));
      for (const chunks of [small, wordy])
        await onEach(stage, 8, `${head}${chunks}0\r\n\r\n`, 3_000);
      await stillServes(stage);
    },
  },
  {
    name: "http-batches-at-once",
    what: "20 connections with batches of 1,000 writes or deletions, one behind the other",
    settings,
    async run(stage) {
      stage.dataBytes += 1_000 * 3_000;
      const value = "\u0001é".repeat(100);
      const kinds = [
        (i: number) => ({ op: "put", key: `b${i}`, value }),
        (i: number) => ({ op: "put", key: `b${i}`, value: "x".repeat(800) }),
        (i: number) => ({ op: "delete", key: `b${i}` }),
      ];
      for (const kind of kinds) {
        const operations = Array.from({ length: 1_000 }, (_, i) => kind(i));
        const body = JSON.stringify({ operations });
        const length = Buffer.byteLength(body);
        const type = "Content-Type: application/json\r\n";
        const head = `POST /v1/keys:batch HTTP/1.1\r\n${HOST}${type}Content-Length: ${length}\r\n\r\n`;
        await onEach(stage, 20, `${head}${body}`.repeat(stage.times(20)), 3_000);
      }
      await stillServes(stage);
    },
  },
];

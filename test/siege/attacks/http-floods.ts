/** Attacks on the HTTP port by clients that ask, without end, for more than they are answered. */
import type { Socket } from "node:net";
import type { Attack, Stage } from "../attack.ts";
import { array, stillServes } from "./requests.ts";

const settings = { http: { bind_address: "127.0.0.1" } };
const HOST = "Host: 127.0.0.1\r\n";
const JSON_TYPE = "Content-Type: application/json\r\n";
const KEYS = 1_000;
const VALUE_BYTES = 1_000;
/** Who is not answered by then has been forgotten; a busy machine takes a second. */
const LATE_MS = 10_000;

function get(path: string, headers = ""): string {
  return `GET ${path} HTTP/1.1\r\n${HOST}${headers}\r\n`;
}

function post(path: string, body: object): string {
  const text = JSON.stringify(body);
  const head = `POST ${path} HTTP/1.1\r\n${HOST}${JSON_TYPE}`;
  return `${head}Content-Length: ${Buffer.byteLength(text)}\r\n\r\n${text}`;
}

async function writeKeys(stage: Stage): Promise<void> {
  const socket = await stage.connect();
  const keys = Array.from({ length: KEYS }, (_, i) => [`k${i}`, "v".repeat(VALUE_BYTES)]);
  socket.write(array("MSET", ...keys.flat()));
  await new Promise((resolve) => socket.once("data", resolve));
  stage.dataBytes += 2 * KEYS * VALUE_BYTES;
}

/** Somebody else comes to the HTTP port; a connection may be refused there when it is full. */
async function newcomerIsServed({ node }: Stage): Promise<unknown> {
  const headers = { connection: "close" };
  const url = `http://127.0.0.1:${node.httpPort}/healthz`;
  return fetch(url, { headers }).then(({ ok, status }) => ok || status, String);
}

/** Says the same on some connections again and again, as fast as it is taken, for so long. */
async function flood(
  stage: Stage,
  { count, isRead, forMs }: { count: number; isRead: boolean; forMs: number },
  request: string,
): Promise<void> {
  // Not a system call for each of the short ones.
  const bytes = Buffer.from(request.repeat(Math.ceil(20_000 / request.length)));
  const sockets = await Promise.all(
    Array.from({ length: stage.times(count) }, () => stage.connect(stage.node.httpPort)),
  );
  let isOver = false;
  const say = (socket: Socket): void => {
    while (!isOver && !socket.destroyed) {
      if (!socket.write(bytes)) return void socket.once("drain", () => say(socket));
    }
  };
  for (const socket of sockets) {
    if (isRead) socket.resume();
    else socket.pause();
    say(socket);
  }
  const over = Bun.sleep(forMs * stage.scale);
  await Promise.race([newcomerIsServed(stage), Bun.sleep(LATE_MS)]).then((served) => {
    stage.demand(served === true, `who came meanwhile was answered by HTTP with ${served}`);
  });
  await over;
  isOver = true;
  for (const socket of sockets) socket.destroy();
}

/** See the file header. */
export const httpFloods: readonly Attack[] = [
  {
    name: "http-short-requests",
    what: "20 connections with pipelines without end of short requests of each kind",
    settings,
    async run(stage) {
      await writeKeys(stage);
      const requests = [
        get("/v1/keys/k1"),
        get("/v1/keys/k2", "Accept: application/json\r\n"),
        get("/v1/nothing"),
        get("/healthz"),
        `PUT /v1/keys/k3 HTTP/1.1\r\n${HOST}Content-Length: 3\r\n\r\nabc`,
        post("/v1/keys/counter:increment", {}),
        post("/v1/command", { words: ["INFO"] }),
        `${"\r\n".repeat(10_000)}${get("/v1/facts")}`,
      ];
      for (const request of requests) {
        await flood(stage, { count: 20, isRead: true, forMs: 1_500 }, request);
      }
      await stillServes(stage);
    },
  },
  {
    name: "http-long-answers",
    what: "20 connections that read, and 100 that do not, ask for a million bytes without end",
    settings,
    async run(stage) {
      await writeKeys(stage);
      const keys = Array.from({ length: KEYS }, (_, i) => `k${i}`);
      const requests = [
        post("/v1/keys:batch", { operations: keys.map((key) => ({ op: "get", key })) }),
        post("/v1/command", { words: ["MGET", ...keys.slice(1)] }),
        get("/v1/keys?limit=1000"),
      ];
      for (const request of requests) {
        await flood(stage, { count: 20, isRead: true, forMs: 1_500 }, request);
        await flood(stage, { count: 100, isRead: false, forMs: 1_500 }, request);
      }
      await stillServes(stage);
    },
  },
];

/** Attacks on the HTTP port: its API, its metrics, and what lies below them. */
import type { Socket } from "node:net";
import { join } from "node:path";
import { projectRoot } from "../../support/binary.ts";
import { LineClient } from "../../support/line-client.ts";
import { usersFile } from "../../support/users-node.ts";
import type { Attack, Stage } from "../attack.ts";
import { array, stillServes } from "./requests.ts";

const MIB = 1_048_576;
const settings = { http: { bind_address: "127.0.0.1" } };
const HOST = "Host: 127.0.0.1\r\n";
const CLOSE = "Connection: close\r\n";
const JSON_TYPE = "Content-Type: application/json\r\n";

/** The node still answers by HTTP, and a newcomer on its client port. */
async function stillAnswers(stage: Stage): Promise<void> {
  const response = await fetch(`http://127.0.0.1:${stage.node.httpPort}/healthz`);
  if (response.status !== 200) throw new Error(`/healthz was answered with ${response.status}`);
  await stillServes(stage);
}

/** A connection to the HTTP port; null if the node has no place for it, which is its right. */
function dial(stage: Stage): Promise<Socket | null> {
  return stage.connect(stage.node.httpPort).catch(() => null);
}

/** As a client does that is refused a connection: it tries again, for two seconds at most. */
async function statusAtLast(url: string, authorization: string): Promise<number> {
  for (let tries = 0; ; tries++) {
    try {
      return (await fetch(url, { headers: { authorization } })).status;
    } catch (error) {
      if (tries === 20) throw error;
      await Bun.sleep(100);
    }
  }
}

function post(path: string, body: string): string {
  const length = Buffer.byteLength(body);
  return `POST ${path} HTTP/1.1\r\n${HOST}${CLOSE}${JSON_TYPE}Content-Length: ${length}\r\n\r\n${body}`;
}

/** Writes `bytes` bytes to a key. */
async function writeLarge(stage: Stage, key: string, bytes: number): Promise<void> {
  const socket = await stage.connect();
  socket.write(array("SET", key, "v".repeat(bytes)));
  await new Promise((resolve) => socket.once("data", resolve));
  stage.dataBytes += 2 * bytes;
}

/** Writes keys of 60,000 bytes that JSON makes six times as long. */
async function writeLongKeys(stage: Stage, count: number): Promise<void> {
  const socket = await stage.connect();
  socket.resume();
  let seen = 0;
  const done = Promise.withResolvers<void>();
  socket.on("data", (chunk: Buffer) => {
    seen += chunk.length;
    if (seen >= 5 * count) done.resolve();
  });
  for (let i = 0; i < count; i++) socket.write(array("SET", `${i}${"\x01".repeat(60_000)}`, ""));
  await done.promise;
  stage.dataBytes += 3 * count * 60_000;
}

/** Resolves when the socket is closed, or so much has come, or after a while. */
async function heard(socket: Socket, bytes: number, mostMs = 20_000): Promise<string> {
  let text = "";
  const done = Promise.withResolvers<void>();
  const timer = setTimeout(() => done.resolve(), mostMs);
  socket.on("data", (chunk: Buffer) => {
    text += chunk.toString("latin1");
    if (text.length >= bytes) done.resolve();
  });
  socket.once("close", () => done.resolve());
  await done.promise;
  clearTimeout(timer);
  return text;
}

/** See the file header. */
export const http: readonly Attack[] = [
  {
    name: "http-gets-unread",
    what: "400 connections that ask by HTTP for 8 MiB, five times each, and read nothing",
    settings,
    async run(stage) {
      await writeLarge(stage, "big", 8 * MIB);
      for (let i = 0; i < stage.times(400); i++) {
        const socket = await dial(stage);
        socket?.pause();
        socket?.write(`GET /v1/keys/big HTTP/1.1\r\n${HOST}\r\n`.repeat(5));
      }
      await stillAnswers(stage);
    },
  },
  {
    name: "http-pipelines",
    what: "20 connections with 5,000 pipelined requests for metrics, facts, keys and the console",
    settings,
    async run(stage) {
      const paths = ["/metrics", "/v1/facts", "/v1/keys", "/", "/v1/tree", "/v1/openapi.json"];
      const all = paths.map((path) => `GET ${path} HTTP/1.1\r\n${HOST}\r\n`).join("");
      for (let i = 0; i < stage.times(20); i++) {
        const socket = await dial(stage);
        socket?.resume();
        socket?.write(all.repeat(stage.times(800)));
      }
      await Bun.sleep(5_000 * stage.scale);
      await stillAnswers(stage);
    },
  },
  {
    name: "http-batches",
    what: "batches of 1,000 reads of 8 MiB, commands with large answers, and lists of long keys",
    settings,
    async run(stage) {
      await writeLarge(stage, "big", 8 * MIB);
      await writeLongKeys(stage, stage.times(1_000));
      const operations = Array.from({ length: 1_000 }, () => ({ op: "get", key: "big" }));
      const requests = [
        post("/v1/keys:batch", JSON.stringify({ operations })),
        post("/v1/command", JSON.stringify({ words: ["MGET", ..."x".repeat(900)].fill("big", 1) })),
        post("/v1/command", JSON.stringify({ words: ["KEYS", "*"] })),
        `GET /v1/keys?limit=1000 HTTP/1.1\r\n${HOST}${CLOSE}\r\n`,
        post("/v1/command", JSON.stringify({ words: ["INFO"] })),
      ];
      for (const request of requests) {
        const sockets = await Promise.all(Array.from({ length: 4 }, () => dial(stage)));
        const answers = sockets.map((socket) => {
          socket?.write(request);
          return socket && heard(socket, 4 * MIB, 5_000);
        });
        await Promise.all(answers);
        for (const socket of sockets) socket?.destroy();
      }
      await stillAnswers(stage);
    },
  },
  {
    name: "http-deep-json",
    what: "bodies of 10 MB of JSON that is deep, wide, or full of small things",
    settings,
    async run(stage) {
      const size = Math.floor(10 * MIB * Math.max(0.2, stage.scale));
      const bodies = [
        `{"words":${"[".repeat(size / 2)}${"]".repeat(size / 2)}}`,
        `{"words":[${"{},".repeat(size / 3)}{}]}`,
        `{${Array.from({ length: size / 16 }, (_, i) => `"k${i}":${i}`).join(",")}}`,
        `{"operations":[${"0,".repeat(size / 2)}0]}`,
        `{"words":["${'\\"'.repeat(size / 2)}"]}`,
        `{"words":["PING","${"\\u0001".repeat(size / 6)}"]}`,
        `{"words":["PING",${"[[[[[[[[[[]]]]]]]]]],".repeat(size / 21)}0]}`,
      ];
      for (const body of bodies) {
        for (const path of ["/v1/command", "/v1/keys:batch"]) {
          const socket = await dial(stage);
          socket?.write(post(path, body));
          if (socket) await heard(socket, 50);
          socket?.destroy();
        }
      }
      await stillAnswers(stage);
    },
  },
  {
    name: "http-half-sent",
    what: "1,000 requests of 8 MiB of which the last byte never comes, some to where nobody reads them",
    settings,
    async run(stage) {
      const paths = [
        "PUT /v1/keys/a",
        "POST /v1/command",
        "POST /metrics",
        "GET /healthz",
        "PUT /",
      ];
      const body = Buffer.alloc(8 * MIB - 1, "x");
      for (let i = 0; i < stage.times(1_000); i++) {
        const socket = await dial(stage);
        const head = `${paths[i % paths.length]} HTTP/1.1\r\n${HOST}${JSON_TYPE}`;
        socket?.resume();
        socket?.write(`${head}Content-Length: ${8 * MIB}\r\n\r\n`);
        socket?.write(body);
      }
      await Bun.sleep(2_000 * stage.scale);
      await stillAnswers(stage);
    },
  },
  {
    name: "http-watchers",
    what: "200 that watch and read nothing, and 1,000 keys of 60,000 bytes written again and again",
    settings,
    async run(stage) {
      for (let i = 0; i < stage.times(200); i++) {
        const socket = await dial(stage);
        if (i % 2 === 0) socket?.pause();
        else socket?.resume();
        socket?.write(`GET /v1/watch HTTP/1.1\r\n${HOST}\r\n`);
      }
      await Bun.sleep(200);
      for (let i = 0; i < 5; i++) await writeLongKeys(stage, stage.times(1_000));
      stage.dataBytes -= 4 * 3 * stage.times(1_000) * 60_000;
      await stillAnswers(stage);
    },
  },
  {
    name: "http-odd-requests",
    what: "requests that are no HTTP, nearly HTTP, or two in one",
    settings,
    async run(stage) {
      const put = "PUT /v1/keys/planted HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\n\r\nx";
      const length = (text: string) => `Content-Length: ${text}\r\n`;
      const chunked = "Transfer-Encoding: chunked\r\n";
      const start = `POST /healthz HTTP/1.1\r\n${HOST}`;
      const requests = [
        `${start}${length(`${put.length}`)}${chunked}\r\n0\r\n\r\n${put}`,
        `${start}${chunked}${length("0")}\r\n0\r\n\r\n${put}`,
        `${start}${length("0")}${length(`${put.length}`)}\r\n${put}`,
        `${start}${length(`${put.length}`)}${length("0")}\r\n${put}`,
        `${start}Content-Length : ${put.length}\r\n\r\n${put}`,
        `${start}${length(`0, ${put.length}`)}\r\n${put}`,
        `${start}${length(`+${put.length}`)}\r\n${put}`,
        `${start}${length("-1")}\r\n${put}`,
        `${start}${length("0x10")}\r\n${put}`,
        `${start}Transfer-Encoding: xchunked\r\n${length("0")}\r\n${put}`,
        `${start}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n${put}`,
        `${start}Transfer-Encoding:\tchunked\r\n\r\n0;${"x".repeat(5_000)}\r\n\r\n`,
        `${start}${chunked}\r\nffffffffffffffff\r\n${put}`,
        `${start}X: y\n${length("0")}\r\n${put}`,
        `${start}X: a\r\n folded: b\r\n\r\n`,
        `${start}X\0: a\r\n\r\n`,
        "GET /healthz HTTP/1.1\r\n\r\n",
        "GET /healthz HTTP/1.0\r\n\r\n",
        "GET http://[/v1/keys HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET //evil.example/v1/keys HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        "GET http://evil.example/v1/keys HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        "CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        "GET /v1/keys/%00%0d%0a HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        "GET /v1/keys/%zz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        "GET /v1/watch?prefix=%zz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        "GET /v1/keys/\xff\xfe HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        `GET /v1/keys HTTP/1.1\r\n${HOST}Authorization: Basic ${"A".repeat(8_000)}\r\n\r\n`,
        `GET /v1/keys HTTP/1.1\r\n${HOST}Authorization: Basic\r\n\r\n`,
        `GET /v1/keys HTTP/1.1\r\n${HOST}${"X: y\r\n".repeat(10_000)}\r\n`,
        `GET /v1/keys HTTP/1.1\r\n${HOST}X: ${"y".repeat(MIB)}\r\n\r\n`,
        `GET /${"x".repeat(MIB)} HTTP/1.1\r\n${HOST}\r\n`,
        `DELETE /v1/keys/a HTTP/1.1\r\n${HOST}If-Match: ${'"x",'.repeat(4_000)}\r\n\r\n`,
        `GET /v1/watch HTTP/1.1\r\n${HOST}Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n`,
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
      ];
      const hosts = ["", "[", "a b", "%", "a:99999", "a:b", "\xff", "a/b?c#d", "[::1", "@", "a@b"];
      for (const host of hosts) {
        for (const path of ["/healthz", "/v1/keys", "/metrics"]) {
          requests.push(`GET ${path} HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
          requests.push(`GET ${path} HTTP/1.1\r\nHost: x\r\nOrigin: ${host}\r\n\r\n`);
        }
      }
      const say = async (request: string, ...pieces: string[]): Promise<void> => {
        const socket = await dial(stage);
        if (socket === null) return;
        const answer = heard(socket, Infinity, 300);
        for (const piece of pieces) {
          socket.write(Buffer.from(piece, "latin1"));
          await Bun.sleep(20);
        }
        const text = await answer;
        const name = JSON.stringify(request.slice(0, 150));
        stage.demand(!/^HTTP\/1.1 (500|201)/m.test(text), `${name} was answered: ${text}`);
        socket.destroy();
      };
      await Promise.all(requests.map((it) => say(it, it)));
      await Promise.all(requests.map((it) => say(it, it.slice(0, 30), it.slice(30))));
      const client = await LineClient.connect(stage.node.port);
      const planted = await client.send("GET planted");
      stage.demand(planted === "(null)", "what lay in the body of another request was done");
      await client.close();
      await stillAnswers(stage);
    },
  },
  {
    name: "http-connections",
    what: "5,000 connections to the HTTP port that say nothing, or half a head, under a limit of 1,024 files",
    settings,
    command: ["sh", "-c", `ulimit -n 1024; exec "$0" "$@"`, join(projectRoot, "dist/merklekv")],
    async run(stage) {
      for (let i = 0; i < stage.times(5_000); i++) {
        const socket = await dial(stage);
        if (i % 2 === 0) socket?.write(`GET /healthz HTTP/1.1\r\n${HOST}X: `);
      }
      const late = Bun.sleep(5_000).then(() => "late");
      const served = await Promise.race([stillServes(stage), late]);
      stage.demand(served !== "late", "who came to the client port had to wait");
      const client = await LineClient.connect(stage.node.port);
      stage.demand((await client.send("SNAPSHOT")) === "OK", "no snapshot can be written");
      await client.close();
      await stillAnswers(stage);
    },
  },
  {
    name: "http-guesses",
    what: "200 connections that guess passwords at the HTTP port, while a user works there",
    get settings() {
      const users = ["user default on nopass ~* +@all", "user alice on >right ~* +@all"];
      return { ...settings, auth: { acl_file: usersFile(users) } };
    },
    async run(stage) {
      const wrong = `Authorization: Basic ${btoa("alice:wrong")}\r\n`;
      for (let i = 0; i < stage.times(200); i++) {
        const socket = await dial(stage);
        socket?.resume();
        socket?.write(`GET /v1/keys HTTP/1.1\r\n${HOST}${wrong}\r\n`.repeat(20));
      }
      const authorization = `Basic ${btoa("alice:right")}`;
      const url = `http://127.0.0.1:${stage.node.httpPort}/v1/keys`;
      for (let i = 0; i < 2; i++) {
        const status = await statusAtLast(url, authorization);
        stage.demand(status === 200, `a user was answered with ${status}`);
      }
    },
  },
];

/** Attacks on the port at which TLS is spoken. */
import { rmSync } from "node:fs";
import { connect as connectPlain, createServer, type Socket } from "node:net";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { Authority } from "../../support/certificates.ts";
import { LineClient } from "../../support/line-client.ts";
import type { Attack, Stage } from "../attack.ts";
import type { Sections } from "../node-on-disk.ts";
import { array, stillServes } from "./requests.ts";

const MIB = 1_048_576;
const PLACE = "127.0.0.1";

let made: Sections | null = null;

/** A certificate is made when the first of these attacks begins, and kept while others may come. */
function withCertificate(): Sections {
  if (made !== null) return made;
  const authority = new Authority();
  process.on("exit", () => rmSync(authority.directory, { recursive: true, force: true }));
  const { cert, key } = authority.issue();
  made = { tls: { cert_file: cert, key_file: key }, network: { bind_port: 0, tls_port: 0 } };
  return made;
}

/** See the file header. */
export const handshakes: readonly Attack[] = [
  {
    name: "tls-hellos",
    what: "6,000 TLS hellos, thirty at a time, of which nobody waits for the answer",
    get settings() {
      return withCertificate();
    },
    async run(stage) {
      const hello = await firstWords();
      const each = stage.times(200);
      const sender = async (): Promise<void> => {
        for (let i = 0; i < each; i++) {
          const socket = await open(stage);
          socket.write(hello);
          await new Promise((resolve) => socket.once("data", resolve).once("close", resolve));
          socket.destroy();
        }
      };
      await Promise.all(Array.from({ length: 30 }, sender));
      await stillServesTls(stage);
    },
  },
  {
    name: "tls-silence",
    what: "3,000 connections to the TLS port that say nothing, half a hello, or no TLS",
    get settings() {
      return withCertificate();
    },
    async run(stage) {
      const hello = await firstWords();
      const words = [Buffer.alloc(0), hello.subarray(0, 60), Buffer.from("GET / HTTP/1.1\r\n\r\n")];
      const sockets: Socket[] = [];
      for (let i = 0; i < stage.times(3_000); i++) {
        const socket = await open(stage);
        socket.write(words[i % words.length]);
        sockets.push(socket);
      }
      await stillServesTls(stage);
      for (const socket of sockets) socket.destroy();
    },
  },
  {
    name: "tls-unread",
    what: "60 TLS clients that ask for 8 MiB five times each and read nothing",
    get settings() {
      return withCertificate();
    },
    async run(stage) {
      const writer = await LineClient.connect(stage.node.port);
      writer.sendRaw(array("SET", "big", "v".repeat(8 * MIB - 16)));
      await writer.readLine();
      stage.dataBytes += 16 * MIB;
      const sockets = await Promise.all(Array.from({ length: 60 }, () => client(stage)));
      for (const socket of sockets) socket.pause().write(array("GET", "big").repeat(5));
      await stillServesTls(stage);
      for (const socket of sockets) socket.destroy();
      await stillServes(stage);
    },
  },
];

async function open(stage: Stage): Promise<Socket> {
  const socket = connectPlain({ host: PLACE, port: stage.node.tlsPort });
  socket.on("error", () => {});
  await new Promise((resolve) => socket.once("connect", resolve).once("close", resolve));
  return socket;
}

async function client(stage: Stage): Promise<TLSSocket> {
  const { tlsPort: port } = stage.node;
  const socket = connectTls({ host: PLACE, port, rejectUnauthorized: false });
  socket.on("error", () => {});
  await new Promise((resolve) => socket.once("secureConnect", resolve).once("close", resolve));
  return socket;
}

/** Whether somebody new gets in over TLS, and an answer. */
async function stillServesTls(stage: Stage): Promise<void> {
  const socket = await client(stage);
  const answer = new Promise<string>((resolve) => {
    socket.once("data", (chunk) => resolve(String(chunk))).once("close", () => resolve("nothing"));
  });
  socket.write("PING\n");
  const said = await answer;
  stage.demand(said === "PONG\n", `a new client over TLS got ${JSON.stringify(said)}`);
  socket.destroy();
}

/** What a client says first when it speaks TLS. */
async function firstWords(): Promise<Buffer> {
  const { promise, resolve } = Promise.withResolvers<Buffer>();
  const server = createServer((socket) => socket.once("data", resolve));
  await new Promise<void>((ready) => server.listen(0, PLACE, ready));
  const { port } = server.address() as { port: number };
  const socket = connectTls({ host: PLACE, port }).on("error", () => {});
  const words = await promise;
  socket.destroy();
  server.close();
  return words;
}

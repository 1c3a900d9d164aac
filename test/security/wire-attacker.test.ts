/**
 * Somebody owns the network between a client and a node that speak TLS: he reads, edits, cuts,
 * repeats and makes up what they say, and speaks to the client as if he were the node. He gets
 * nothing out and changes nothing.
 */
import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { createServer as createTlsServer } from "node:tls";
import { Authority, type CertificateFiles } from "../support/certificates.ts";
import { merklekvBinary } from "../support/binary.ts";
import { eventually } from "../support/eventually.ts";
import { seeded } from "../support/random.ts";
import { ask, connectTls } from "../support/tls-client.ts";
import { NodeOnDisk } from "../siege/node-on-disk.ts";

/** The end of the connection, of which TLS itself says nothing, comes after the chunk. */
const CUT = Symbol("cut");
/** What goes on in place of a chunk; null ends the connection in both directions at once. */
type Meddling = (chunk: Buffer, isFromClient: boolean, index: number) => Buffer | null | typeof CUT;

let authority: Authority;
let member: CertificateFiles;
let node: NodeOnDisk;
let network: Server;
let meddle: Meddling;
/** All that the network has heard, by who said it. */
let heard: { isFromClient: boolean; bytes: Buffer }[];

beforeAll(async () => {
  authority = new Authority();
  member = authority.issue({ name: "member" });
  node = await NodeOnDisk.start("n", {
    network: { bind_port: 0, tls_port: 0 },
    tls: {
      cert_file: member.cert,
      key_file: member.key,
      ca_file: authority.caFile,
      client_certificates: "require",
    },
    mqtt: { enabled: false },
    storage: { engine: "memory" },
  });
  network = createServer((client) => pass(client));
  await new Promise<void>((resolve) => network.listen(0, "127.0.0.1", resolve));
  relent();
});
afterAll(async () => {
  network.close();
  await node.remove();
  authority.remove();
});
afterEach(() => relent());

function relent(): void {
  meddle = (chunk) => chunk;
  heard = [];
}

function pass(client: Socket): void {
  const behind = connect({ port: node.tlsPort, host: "127.0.0.1" });
  let index = 0;
  const carry = (from: Socket, to: Socket, isFromClient: boolean): void => {
    from.on("data", (chunk: Buffer) => {
      heard.push({ isFromClient, bytes: chunk });
      const instead = meddle(chunk, isFromClient, index++);
      if (instead === CUT) return void to.end(chunk);
      if (instead !== null) return void to.write(instead);
      client.destroy();
      behind.destroy();
    });
    from.on("error", () => {}).on("close", () => to.destroy());
  };
  carry(client, behind, true);
  carry(behind, client, false);
}

const through = (port = (network.address() as AddressInfo).port) =>
  connectTls({ port, caFile: authority.caFile, certificate: member });

/** Asks the node itself, past the network. */
async function askNode(line: string): Promise<string | null> {
  const socket = await through(node.tlsPort);
  const reply = await ask(socket, line);
  socket.destroy();
  return reply;
}

test("nothing of what is said can be read", async () => {
  const socket = await through();
  expect(await ask(socket, "SET secret-key confidential-value")).toBe("OK");
  expect(await ask(socket, "GET secret-key")).toBe("confidential-value");
  socket.destroy();
  const all = Buffer.concat(heard.map(({ bytes }) => bytes)).toString("latin1");
  expect(all.length).toBeGreaterThan(500);
  for (const word of ["secret-key", "confidential", "SET ", "GET "])
    expect(all).not.toContain(word);
});

test("whatever is edited, left out or doubled changes nothing", async () => {
  const random = seeded(5);
  const below = (n: number): number => Math.floor(random() * n);
  const root = await askNode("HASH");
  for (let i = 0; i < 60; i++) {
    const at = below(8);
    const way = below(4);
    meddle = (chunk, isFromClient, index) => {
      if (!isFromClient || index < at) return chunk;
      if (way === 0) return null;
      if (way === 1) return Buffer.concat([chunk, chunk]);
      if (way === 2) return chunk.subarray(0, below(chunk.length));
      const edited = Buffer.from(chunk);
      edited[below(edited.length)] ^= 1 + below(255);
      return edited;
    };
    const socket = await Promise.race([through().catch(() => null), given(400)]);
    // It may have got through unharmed: then it only reads.
    if (socket !== null) await Promise.race([ask(socket, "GET forged"), given(200)]);
    socket?.destroy();
  }
  relent();
  expect(await askNode("HASH")).toBe(root);
  expect(await askNode("PING")).toBe("PONG");
  expect(node.output()).not.toContain("A bug in MerkleKV");
});

/** Nothing, once somebody has had so many ms to answer what he will never answer. */
async function given(ms: number): Promise<null> {
  await Bun.sleep(ms);
  return null;
}

test("a command that is cut off in the middle is not run", async () => {
  const before = await askNode("DBSIZE");
  for (const ending of [CUT, null] as const) {
    const socket = await through();
    expect(await ask(socket, "PING")).toBe("PONG");
    const closed = new Promise((resolve) => socket.once("close", resolve).resume());
    meddle = () => ending;
    socket.write("SET account 1");
    await closed;
    relent();
  }
  expect(await askNode("DBSIZE")).toBe(before);
});

test("a session that is said again is no session", async () => {
  const socket = await through();
  expect(await ask(socket, "INCR visits")).toBe("1");
  socket.destroy();
  const said = heard.filter(({ isFromClient }) => isFromClient).map(({ bytes }) => bytes);
  for (let i = 0; i < 3; i++) {
    const replay = connect({ port: node.tlsPort, host: "127.0.0.1" }).on("error", () => {});
    for (const bytes of said) replay.write(bytes);
    await new Promise((resolve) => replay.once("close", resolve).resume());
  }
  expect(await askNode("GET visits")).toBe("1");
});

test("somebody else's certificate, or none, is nobody to a client", async () => {
  const stranger = new Authority("Stranger");
  const { cert, key } = stranger.issue();
  const said: string[] = [];
  const impostor = createTlsServer(
    { cert: readFileSync(cert), key: readFileSync(key) },
    (socket) => void socket.on("data", (chunk) => said.push(String(chunk))).on("error", () => {}),
  );
  await new Promise<void>((resolve) => impostor.listen(0, "127.0.0.1", resolve));
  const { port } = impostor.address() as AddressInfo;
  await expect(through(port)).rejects.toThrow(/self.signed|unable to/i);
  for (const options of [["--cacert", authority.caFile], []]) {
    const child = Bun.spawn(
      [await merklekvBinary(), "cli", "-p", `${port}`, "--tls", ...options, "SET", "k", "mine"],
      { stdout: "pipe", stderr: "pipe" },
    );
    expect(await child.exited).toBe(1);
    expect(await new Response(child.stderr).text()).toContain("no authority that is trusted");
  }
  const words = await askNode(`SYNC 127.0.0.1 ${port} --tls`);
  expect(words).toContain("its certificate comes from no authority that is trusted");
  expect(said).toEqual([]);
  impostor.close();
  stranger.remove();
});

test("nobody is talked into less than TLS", async () => {
  // He answers for the node in plain text, and passes on an offer of TLS 1.1.
  const plain = createServer((socket) => void socket.on("error", () => {}).end("PONG\nOK\n"));
  await new Promise<void>((resolve) => plain.listen(0, "127.0.0.1", resolve));
  const { port } = plain.address() as AddressInfo;
  await expect(through(port)).rejects.toThrow();
  expect(await askNode(`SYNC 127.0.0.1 ${port} --tls`)).toContain("Connection failed");
  plain.close();
  meddle = (chunk, isFromClient, index) => {
    const edited = Buffer.from(chunk);
    if (isFromClient && index === 0) edited.fill(0x02, 9, 11); // the version of the hello
    return edited;
  };
  const socket = await through().catch(() => null);
  expect(socket).toBeNull();
  await eventually("the node goes on", async () => (await askNode("PING")) === "PONG");
});

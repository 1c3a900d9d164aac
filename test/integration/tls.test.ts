/** Clients over TLS, with the tools that people use. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import Redis from "ioredis";
import { connect, type Socket } from "node:net";
import { readFileSync } from "node:fs";
import { connect as connectOver, type TLSSocket } from "node:tls";
import { Authority, type CertificateFiles } from "../support/certificates.ts";
import { eventually } from "../support/eventually.ts";
import { LineClient } from "../support/line-client.ts";
import { ask, connectTls } from "../support/tls-client.ts";
import { NodeOnDisk, type Sections } from "../siege/node-on-disk.ts";

let authority: Authority;
let own: CertificateFiles;
let dash: CertificateFiles;
let node: NodeOnDisk;

beforeAll(async () => {
  authority = new Authority();
  own = authority.issue({ name: "node" });
  dash = authority.issue({ name: "dash" });
  node = await startNode({ client_certificates: "request" });
});
afterAll(async () => {
  await node.remove();
  authority.remove();
});

function startNode(tls: Sections[string], network: Sections[string] = {}): Promise<NodeOnDisk> {
  return NodeOnDisk.start("n", {
    network: { bind_port: 0, tls_port: 0, ...network },
    tls: { cert_file: own.cert, key_file: own.key, ca_file: authority.caFile, ...tls },
    mqtt: { enabled: false },
    storage: { engine: "memory" },
  });
}

function client(certificate?: CertificateFiles, at = node): Promise<TLSSocket> {
  const { tlsPort: port } = at;
  return connectTls({ port, caFile: authority.caFile, ...(certificate && { certificate }) });
}

async function fact(name: string, at = node): Promise<string> {
  const socket = await client(dash, at);
  const pattern = new RegExp(`^${name}:(.*?)\r?$`, "m");
  socket.write("INFO\nECHO done\n");
  let text = "";
  for await (const chunk of socket) {
    text += String(chunk);
    if (text.includes("\ndone")) break;
  }
  return pattern.exec(text)?.[1] ?? "";
}

/** Waits until the node has said so: the log is written when there is time. */
function logs(words: string, at = node): Promise<unknown> {
  return eventually(`the log says "${words}"`, () => at.output().includes(words));
}

/** Runs a tool; what it prints to either side. */
async function run(command: string[], input = ""): Promise<string> {
  const child = Bun.spawn(command, { stdin: "pipe", stdout: "pipe", stderr: "pipe" });
  void child.stdin.write(input);
  void child.stdin.end();
  const texts = [child.stdout, child.stderr].map((it) => new Response(it).text());
  return (await Promise.all(texts)).join("");
}

describe("tools", () => {
  test("openssl s_client, with TLS 1.2 and 1.3 and nothing older", async () => {
    const versions = ["-tls1_2", "-tls1_3"];
    for (const version of versions) {
      const output = await run(
        [
          ...["openssl", "s_client", "-connect", `127.0.0.1:${node.tlsPort}`, version],
          ...["-CAfile", authority.caFile, "-verify_return_error", "-ign_eof"],
        ],
        "PING over TLS\nQUIT\n",
      );
      expect(output).toContain("Verify return code: 0 (ok)");
      expect(output).toContain("PONG over TLS\nOK\n");
    }
    const old = await run([
      ...["openssl", "s_client", "-connect", `127.0.0.1:${node.tlsPort}`, "-tls1_1"],
      ...["-cipher", "DEFAULT@SECLEVEL=0"],
    ]);
    expect(old).toContain("alert protocol version");
  });

  test.skipIf(Bun.which("redis-cli") === null)("redis-cli", async () => {
    const tls = ["--tls", "--cacert", authority.caFile, "-p", `${node.tlsPort}`];
    expect(await run(["redis-cli", ...tls, "SET", "cli", "v"])).toBe("OK\n");
    const pair = ["--cert", dash.cert, "--key", dash.key];
    expect(await run(["redis-cli", ...tls, ...pair, "GET", "cli"])).toBe("v\n");
    const other = new Authority("Another");
    const wrong = ["--tls", "--cacert", other.caFile, "-p", `${node.tlsPort}`];
    expect(await run(["redis-cli", ...wrong, "PING"])).toContain("certificate verify failed");
    other.remove();
  });

  test("ioredis, with a pipeline and large values", async () => {
    const redis = new Redis({
      host: "127.0.0.1",
      port: node.tlsPort,
      tls: { ca: readFileSync(authority.caFile) },
      lazyConnect: true,
    });
    await redis.connect();
    const large = "x".repeat(3_000_000);
    const pipeline = redis.pipeline();
    for (let i = 0; i < 2_000; i++) pipeline.set(`k${i}`, `v${i}`);
    pipeline.set("large", large);
    pipeline.get("k1999");
    pipeline.get("large");
    const replies = await pipeline.exec();
    expect(replies!.at(-2)).toEqual([null, "v1999"]);
    expect(replies!.at(-1)![1] === large).toBe(true);
    redis.disconnect();
  });
});

describe("client certificates", () => {
  test("asked for: who has none gets in, who has a bad one does not", async () => {
    const plain = await client();
    expect(await ask(plain, "PING")).toBe("PONG");
    const known = await client(dash);
    expect(await ask(known, "PING")).toBe("PONG");
    const other = new Authority("Another");
    const expired = authority.issue({ name: "late", days: -1 });
    for (const bad of [other.issue({ name: "dash" }), expired]) {
      const before = Number(await fact("tls_refused_certificate"));
      const socket = await client(bad).catch(() => null);
      expect(socket && (await ask(socket, "SET stolen 1"))).toBeNull();
      expect(Number(await fact("tls_refused_certificate"))).toBe(before + 1);
    }
    expect(await ask(plain, "EXISTS stolen")).toBe("0");
    await logs("A TLS client was sent away for its certificate");
    for (const socket of [plain, known]) socket.destroy();
    other.remove();
  });

  test("required: nothing runs for who has none, in either version", async () => {
    const strict = await startNode({ client_certificates: "require" });
    try {
      for (const version of ["TLSv1.2", "TLSv1.3"] as const) {
        const more = { minVersion: version, maxVersion: version };
        const place = { port: strict.tlsPort, caFile: authority.caFile, more };
        const socket = await connectTls(place).catch(() => null);
        expect(socket && (await ask(socket, "SET stolen 1"))).toBeNull();
        const other = new Authority("Another");
        const bad = await connectTls({ ...place, certificate: other.issue() }).catch(() => null);
        expect(bad && (await ask(bad, "SET stolen 1"))).toBeNull();
        other.remove();
      }
      const good = await client(dash, strict);
      expect(await ask(good, "EXISTS stolen")).toBe("0");
      good.destroy();
      expect(await fact("tls_refused_no_certificate", strict)).toBe("2");
      expect(await fact("tls_refused_certificate", strict)).toBe("2");
    } finally {
      await strict.remove();
    }
  });
});

describe("what is no TLS", () => {
  test.each([
    ["a line", "PING\n", "ERROR: Connection failed - this port speaks TLS"],
    ["a request", "*1\r\n$4\r\nPING\r\n", "-ERR this port speaks TLS"],
    ["a browser", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 400 Bad Request"],
    ["noise", "\x00\x01\x02\xff\n", "ERROR: Connection failed - this port speaks TLS"],
  ])("%s is told so", async (_, words, answer) => {
    const plain = await LineClient.connect(node.tlsPort);
    plain.sendRaw(words);
    expect(await plain.readLine()).toStartWith(answer);
    await plain.closed;
    await logs("Something that is no TLS came to network.tls_port");
  });

  test("who says nothing is sent away in a while", async () => {
    const hasty = await startNode({}, { connection_timeout: 1 });
    const silent = await LineClient.connect(hasty.tlsPort);
    const half = await LineClient.connect(hasty.tlsPort);
    half.sendRaw(Buffer.from([22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]));
    await Promise.all([silent.closed, half.closed]);
    expect(await fact("tls_refused_late", hasty)).toBe("2");
    await hasty.remove();
  });
});

describe("ports", () => {
  test("plain text for everybody beside TLS is warned of, where others can reach it", async () => {
    const open = await startNode({}, { bind_address: "0.0.0.0" });
    await logs("Other machines may speak plain text to this node beside TLS", open);
    await open.remove();
    expect(node.output()).not.toContain("Other machines may speak plain text");
  });

  test("without plain text there is only the port for TLS", async () => {
    const strict = await startNode({}, { plaintext: "off" });
    expect(strict.port).toBe(strict.tlsPort);
    const socket = await client(undefined, strict);
    expect(await ask(socket, "PING")).toBe("PONG");
    socket.destroy();
    await strict.remove();
  });

  test("plain text for this machine only", async () => {
    const here = await startNode({}, { plaintext: "loopback", bind_address: "0.0.0.0" });
    const plain = await LineClient.connect(here.port);
    expect(await plain.send("PING")).toBe("PONG");
    await plain.close();
    const listening = readFileSync("/proc/net/tcp", "latin1");
    const hex = here.port.toString(16).toUpperCase().padStart(4, "0");
    expect(listening).toContain(`0100007F:${hex} 00000000:0000 0A`);
    expect(listening).not.toContain(`00000000:${hex} 00000000:0000 0A`);
    await here.remove();
  });
});

test("a client that does not read is held back, and gets all when it does", async () => {
  const socket = await client();
  const writer = await client();
  const value = "0123456789abcdef".repeat(32_768);
  expect(await ask(writer, `SET slow ${value}`)).toBe("OK");
  socket.pause();
  for (let i = 0; i < 20; i++) socket.write("GET slow\n");
  await eventually("the node waits", async () => Number(await fact("client_memory_bytes")) > 0);
  socket.end();
  let bytes = 0;
  for await (const chunk of socket) bytes += (chunk as Buffer).length;
  expect(bytes).toBe(20 * (value.length + 1));
  writer.destroy();
});

test("connections beyond the limit are told so over TLS, and peers have their places", async () => {
  const small = await startNode({}, { max_connections: 1 });
  const first = await client(dash, small);
  expect(await ask(first, "PING")).toBe("PONG");
  const second = await client(dash, small);
  expect(await ask(second, "GET k")).toBe("ERROR: Too many connections");
  const third = await client(dash, small);
  expect(await ask(third, "INFO")).toStartWith("# Server");
  for (const socket of [first, second, third]) socket.destroy();
  await small.remove();
});

test("many handshakes at once end in time, and others are served meanwhile", async () => {
  const silent: Socket[] = Array.from({ length: 60 }, () =>
    connect({ port: node.tlsPort, host: "127.0.0.1" }).on("error", () => {}),
  );
  const polite = await LineClient.connect(node.port);
  const sockets = await Promise.all(Array.from({ length: 100 }, () => client()));
  expect(await polite.send("PING")).toBe("PONG");
  expect(new Set(await Promise.all(sockets.map((it) => ask(it, "PING"))))).toEqual(
    new Set(["PONG"]),
  );
  for (const socket of [...silent, ...sockets]) socket.destroy();
  await polite.close();
});

test("what is slow or silent over TLS is ended as it is without", async () => {
  const hasty = await startNode({}, { connection_timeout: 2, idle_timeout: 4 });
  const end = (socket: TLSSocket): Promise<unknown> =>
    new Promise((resolve) => socket.once("close", resolve).once("end", () => socket.end()));
  const idle = await client(dash, hasty);
  const idleEnded = end(idle);
  expect(await ask(idle, "PING")).toBe("PONG");
  const half = await client(dash, hasty);
  const halfEnded = end(half);
  expect(await ask(half, "PING")).toBe("PONG");
  const told: string[] = [];
  half.on("data", (chunk) => void told.push(String(chunk)));
  half.write("SET half");
  const deaf = await client(dash, hasty);
  deaf.pause();
  deaf.write(`SET large ${"x".repeat(500_000)}\n`);
  for (let i = 0; i < 40; i++) deaf.write("GET large\n");
  await Promise.all([idleEnded, halfEnded]);
  expect(told.join("")).toBe("ERROR: Invalid command - not completed within 2 s; closing\n");
  await logs("Cut a connection that does not read its replies", hasty);
  deaf.destroy();
  await hasty.remove();
});

test("what is damaged on the way ends the connection, and is counted", async () => {
  const broken = async (): Promise<number> => Number(await fact("tls_broken_connections"));
  const before = await broken();
  const raw = connect({ port: node.tlsPort, host: "127.0.0.1" });
  const socket = connectOver({
    socket: raw,
    ca: readFileSync(authority.caFile),
    host: "localhost",
  });
  socket.on("error", () => {});
  await new Promise((resolve) => socket.once("secureConnect", resolve));
  expect(await ask(socket, "PING")).toBe("PONG");
  const closed = new Promise((resolve) => raw.once("close", resolve));
  // A record that nobody sealed.
  raw.write(Buffer.from([23, 3, 3, 0, 32, ...Array.from({ length: 32 }, (_, i) => i)]));
  await closed;
  await eventually("it is counted", async () => (await broken()) === before + 1);
  expect(node.output()).not.toContain("A bug in MerkleKV");
});

test("SHUTDOWN over TLS is answered, and everybody is told the end", async () => {
  const strict = await startNode({}, { plaintext: "off" });
  const [one, other] = [await client(dash, strict), await client(dash, strict)];
  expect(await ask(other, "PING")).toBe("PONG");
  const ended = new Promise((resolve) => other.once("end", resolve));
  other.resume();
  expect(await ask(one, "SHUTDOWN")).toBe("OK");
  await ended;
  for (const socket of [one, other]) socket.destroy();
  await eventually("it has stopped", async () => !(await strict.isRunning()));
  await strict.remove();
});

test("weak ciphers are not spoken", async () => {
  const weak = await run([
    ...["openssl", "s_client", "-connect", `127.0.0.1:${node.tlsPort}`, "-tls1_2"],
    ...["-cipher", "ECDHE-ECDSA-AES128-SHA:AES128-SHA:@SECLEVEL=0"],
  ]);
  expect(weak).toContain("handshake failure");
});

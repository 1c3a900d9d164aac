/** Brokers that are reached over TLS, and the embedded one when it serves it. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { connect as connectPlain } from "node:net";
import { createServer, type TLSSocket } from "node:tls";
import { connectAsync } from "mqtt";
import { Authority, type CertificateFiles } from "../support/certificates.ts";
import { eventually } from "../support/eventually.ts";
import { LineClient } from "../support/line-client.ts";
import { Mosquitto, mosquittoPath } from "../support/mosquitto.ts";
import { runBinary } from "../support/process.ts";
import { NodeOnDisk, type Sections } from "../siege/node-on-disk.ts";

let authority: Authority;
let server: CertificateFiles;
let member: CertificateFiles;
const nodes: NodeOnDisk[] = [];

beforeAll(() => {
  authority = new Authority();
  server = authority.issue({ name: "broker" });
  member = authority.issue({ name: "member" });
});
afterEach(async () => {
  for (const node of nodes.splice(0)) await node.remove();
});
afterAll(() => authority.remove());

async function startNode(
  id: string,
  mqtt: Sections[string],
  tls: Sections[string],
  more: Sections = {},
): Promise<NodeOnDisk> {
  const node = await NodeOnDisk.start(id, {
    network: { bind_port: 0, tls_port: 0 },
    mqtt,
    "mqtt.tls": tls,
    storage: { engine: "memory" },
    // What arrives has come through the broker.
    anti_entropy: { enabled: false },
    ...more,
  });
  nodes.push(node);
  return node;
}

/** What is written at one comes to the other. */
async function expectReplication(from: NodeOnDisk, to: NodeOnDisk): Promise<void> {
  const [writer, reader] = [await LineClient.connect(from.port), await LineClient.connect(to.port)];
  await eventually("both are connected", () =>
    [from, to].every((it) => it.output().includes("Connected to the broker")),
  );
  expect(await writer.send("SET over tls")).toBe("OK");
  await eventually("it has come", async () => (await reader.send("GET over")) === "tls");
  await Promise.all([writer.close(), reader.close()]);
}

const allTls = (): Sections[string] => ({
  ca_file: authority.caFile,
  cert_file: member.cert,
  key_file: member.key,
});

describe.skipIf(mosquittoPath === null)("mosquitto that wants certificates", () => {
  let mosquitto: Mosquitto;
  let address: string;
  beforeAll(async () => {
    mosquitto = await Mosquitto.start([
      `cafile ${authority.caFile}`,
      `certfile ${server.cert}`,
      `keyfile ${server.key}`,
      "require_certificate true",
      "user root",
    ]);
    address = `mqtts://127.0.0.1:${mosquitto.port}`;
  });
  afterAll(() => mosquitto.stop());

  test("carries what nodes write", async () => {
    const a = await startNode("a", { broker_address: address }, allTls());
    const b = await startNode("b", { broker_address: address }, allTls());
    await expectReplication(a, b);
  });

  test("what is wrong is said, with the setting to look at", async () => {
    const other = new Authority("Another");
    const cases: [Sections[string], string, string][] = [
      [{ ...allTls(), ca_file: other.caFile }, "comes from no authority", "mqtt.tls.ca_file"],
      [{ ...allTls(), server_name: "x.example" }, "not made for that name", "mqtt.tls.server_name"],
      [{ ca_file: authority.caFile }, "wants to see a certificate", "mqtt.tls.cert_file"],
    ];
    for (const [tls, reason, setting] of cases) {
      const node = await startNode("n", { broker_address: address }, tls);
      const line = new RegExp(`${reason}[^\n]* see="?${setting}`);
      await eventually(reason, () => line.test(node.output()));
      expect(node.output()).not.toContain("Connected to the broker");
    }
    const plain = await Mosquitto.start();
    const node = await startNode("n", { broker_address: `mqtts://127.0.0.1:${plain.port}` }, {});
    await eventually("it is said", () => /closed the connection|no TLS/.test(node.output()));
    await plain.stop();
    const careless = await startNode(
      "n",
      { broker_address: address },
      { cert_file: member.cert, key_file: member.key, insecure: true },
    );
    await eventually("it connects", () => careless.output().includes("Connected to the broker"));
    other.remove();
  });

  test("other certificates are shown on the next connection", async () => {
    const file = { cert: `${authority.directory}/m.crt`, key: `${authority.directory}/m.key` };
    const place = ({ cert, key }: CertificateFiles): void => {
      copyFileSync(cert, file.cert);
      copyFileSync(key, file.key);
    };
    place(member);
    const tls = { ca_file: authority.caFile, cert_file: file.cert, key_file: file.key };
    const node = await startNode("n", { broker_address: address }, tls);
    await eventually("it connects", () => node.output().includes("Connected to the broker"));
    place(authority.issue({ name: "later" }));
    node.hangUp();
    await eventually("it is read", () => node.output().includes("Other certificates are in use"));
    await mosquitto.pause();
    await mosquitto.resume();
    await eventually("it is back", () => node.output().includes("The broker is back"));
  });

  test("names and ALPN, as the services on port 443 want them", async () => {
    const seen: string[] = [];
    const front = createServer(
      {
        cert: readFileSync(server.cert),
        key: readFileSync(server.key),
        ca: readFileSync(authority.caFile),
        requestCert: true,
        rejectUnauthorized: true,
        ALPNProtocols: ["x-amzn-mqtt-ca"],
      },
      (socket: TLSSocket) => {
        seen.push(`${String(socket.alpnProtocol)} ${socket.getPeerCertificate().subject.CN}`);
        const behind = connectPlain({ port: inner.port, host: "127.0.0.1" });
        socket.pipe(behind).pipe(socket);
        for (const it of [socket, behind]) it.on("error", () => {});
      },
    );
    const inner = await Mosquitto.start();
    await new Promise<void>((resolve) => front.listen(0, "127.0.0.1", resolve));
    const { port } = front.address() as { port: number };
    const mqtt = { broker_address: `mqtts://127.0.0.1:${port}` };
    const tls = { ...allTls(), alpn: "x-amzn-mqtt-ca", server_name: "localhost" };
    await expectReplication(await startNode("a", mqtt, tls), await startNode("b", mqtt, tls));
    expect(new Set(seen)).toEqual(new Set(["x-amzn-mqtt-ca member"]));
    for (const node of nodes.splice(0)) await node.remove();
    front.close();
    await inner.stop();
  });

  test("WebSockets over TLS, with certificates on both sides", async () => {
    const inner = await Mosquitto.start();
    const front = serveWebSockets(inner.port);
    const mqtt = { broker_address: `wss://127.0.0.1:${front.port}/mqtt` };
    await expectReplication(
      await startNode("a", mqtt, allTls()),
      await startNode("b", mqtt, allTls()),
    );
    const stranger = await startNode("c", mqtt, { ca_file: authority.caFile });
    await eventually("it is said", () => stranger.output().includes("wants to see a certificate"));
    for (const node of nodes.splice(0)) await node.remove();
    await front.stop(true);
    await inner.stop();
  });
});

/** WebSockets over TLS in front of a broker that has none. */
function serveWebSockets(brokerPort: number) {
  type Behind = { socket: ReturnType<typeof connectPlain> };
  return Bun.serve<Behind, never>({
    port: 0,
    hostname: "127.0.0.1",
    development: false,
    tls: {
      cert: readFileSync(server.cert, "utf8"),
      key: readFileSync(server.key, "utf8"),
      ca: readFileSync(authority.caFile, "utf8"),
      requestCert: true,
      rejectUnauthorized: true,
    },
    fetch(request, front) {
      const socket = connectPlain({ port: brokerPort, host: "127.0.0.1" });
      const headers = { "Sec-WebSocket-Protocol": "mqtt" };
      if (front.upgrade(request, { headers, data: { socket } })) return undefined;
      return new Response("no", { status: 400 });
    },
    websocket: {
      open(ws) {
        ws.data.socket.on("data", (chunk: Buffer) => void ws.sendBinary(chunk));
        ws.data.socket.on("error", () => {}).on("close", () => ws.close());
      },
      message: (ws, message) => void ws.data.socket.write(message),
      close: (ws) => void ws.data.socket.destroy(),
    },
  });
}

describe("the embedded broker", () => {
  const account = { username: "cluster", password: "correct horse" };
  const own = (): Sections => ({
    tls: { cert_file: server.cert, key_file: server.key, ca_file: authority.caFile },
    "mqtt.embedded": { bind_port: 0, tls_port: 0 },
  });
  /** The line may come a moment after the one that says that the node is ready. */
  const portOf = async (node: NodeOnDisk): Promise<string> => {
    const [, port] = await node.waitFor(/Embedded broker listening.* tls=127\.0\.0\.1:(\d+)/);
    return port;
  };

  test("serves TLS alone, and asks for a name and a password", async () => {
    const mqtt = { broker_address: "embedded", ...account };
    const a = await startNode(
      "a",
      mqtt,
      {},
      {
        ...own(),
        network: { bind_port: 0, tls_port: 0, plaintext: "loopback" },
      },
    );
    const broker_address = `mqtts://127.0.0.1:${await portOf(a)}`;
    const tls = { ca_file: authority.caFile };
    const b = await startNode("b", { broker_address, ...account }, tls);
    await expectReplication(b, a);
    const c = await startNode("c", { broker_address, ...account, password: "wrong" }, tls);
    await eventually("it is told", () => /mqtt\.password/.test(c.output()));
    await eventually("it is said", () =>
      a.output().includes("The embedded broker refused a user name or password"),
    );
    expect(`${a.output()}${c.output()}`).not.toContain("correct horse");
    const d = await startNode("d", { broker_address }, tls);
    await eventually("so is who gives none", () => /mqtt\.username/.test(d.output()));
  });

  test("without plain text its own node comes by TLS, and clients need certificates", async () => {
    const strict = own();
    const a = await startNode(
      "a",
      { broker_address: "embedded" },
      {},
      {
        ...strict,
        tls: { ...strict["tls"], client_certificates: "require" },
        network: { bind_port: 0, tls_port: 0, plaintext: "off" },
      },
    );
    await eventually("it connects", () => a.output().includes("Connected to the broker"));
    expect(a.output()).not.toContain("Embedded broker listening address");
    const port = Number(await portOf(a));
    const options = {
      protocol: "mqtts" as const,
      host: "127.0.0.1",
      port,
      ca: readFileSync(authority.caFile),
      reconnectPeriod: 0,
      protocolVersion: 4 as const,
    };
    await expect(connectAsync(options)).rejects.toThrow();
    const pair = { cert: readFileSync(member.cert), key: readFileSync(member.key) };
    const client = await connectAsync({ ...options, ...pair });
    await client.endAsync();
    await eventually("it is said", () => a.output().includes("sent away a TLS client"));
  });

  test("as a process of its own", async () => {
    const password = `${authority.directory}/password`;
    writeFileSync(password, "secret\n", { mode: 0o600 });
    const broker = await runBinary([
      ...["broker", "--port", "0", "--tls-port", "0", "--exit-with-stdin", "--tls-only"],
      ...["--cert", server.cert, "--key", server.key, "--cacert", authority.caFile],
      ...["--username", "u", "--password-file", password],
    ]);
    const [, port] = await broker.waitFor(/broker ready: mqtts:\/\/127\.0\.0\.1:(\d+)$/m);
    const mqtt = { broker_address: `mqtts://127.0.0.1:${port}`, username: "u", password: "secret" };
    await expectReplication(
      await startNode("a", mqtt, allTls()),
      await startNode("b", mqtt, allTls()),
    );
    await broker.stop();
  });
});

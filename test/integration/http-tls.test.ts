/** HTTP over TLS, and by which names the port may be called. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { copyFileSync, mkdirSync } from "node:fs";
import { request } from "node:https";
import { join } from "node:path";
import { connect, type PeerCertificate, type TLSSocket } from "node:tls";
import { loadConfig } from "../../src/config/load.ts";
import { randomHex } from "../../src/world.ts";
import { Authority, type CertificateFiles } from "../support/certificates.ts";
import { eventually } from "../support/eventually.ts";
import { LineClient } from "../support/line-client.ts";
import { startNodeProcess, type NodeProcess } from "../support/process.ts";

const authority = new Authority();
const directory = join(authority.directory, "node");
mkdirSync(directory);
const files = { cert: join(directory, "tls.crt"), key: join(directory, "tls.key") };
afterAll(() => authority.remove());

function place({ cert, key }: CertificateFiles): void {
  copyFileSync(key, files.key);
  copyFileSync(cert, files.cert);
}

function portOf(node: NodeProcess): number {
  return Number(/HTTP on \S+:(\d+)/.exec(node.output())![1]);
}

function start(tls: string, http = ""): Promise<NodeProcess> {
  return startNodeProcess({
    config: `
node_id = "n"
[network]
bind_port = 0
tls_port = 0
[http]
bind_address = "127.0.0.1"
tls = true
${http}
[tls]
cert_file = "${files.cert}"
key_file = "${files.key}"
${tls}
[mqtt]
enabled = false
[storage]
engine = "memory"
`,
  });
}

interface Answer {
  readonly status: number;
  readonly certificate: string;
}

/** Asks on a connection of its own. */
function ask(port: number, path: string, own?: CertificateFiles): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  const ca = Bun.file(authority.caFile).text();
  const pems = own && Promise.all([Bun.file(own.cert).text(), Bun.file(own.key).text()]);
  void Promise.all([ca, pems]).then(([authorityPem, pem]) => {
    const options = { host: "127.0.0.1", port, path, ca: authorityPem, agent: false };
    const [cert, key] = pem ?? [];
    const asked = request({ ...options, ...(pem && { cert, key }) }, (response) => {
      const shown = (response.socket as TLSSocket).getPeerCertificate() as PeerCertificate;
      response.resume();
      response.on("end", () =>
        resolve({ status: response.statusCode!, certificate: String(shown.subject.CN) }),
      );
    });
    asked.on("error", reject);
    asked.end();
  });
  return promise;
}

describe("with http.tls", () => {
  let node: NodeProcess;
  beforeAll(async () => {
    place(authority.issue({ name: "first" }));
    node = await start("");
  });
  afterAll(async () => void (await node.stop()));

  test("it speaks TLS with the certificate of [tls], and nothing else", async () => {
    const port = portOf(node);
    expect(await ask(port, "/healthz")).toEqual({ status: 200, certificate: "first" });
    expect((await ask(port, "/metrics")).status).toBe(200);
    const plain = fetch(`http://127.0.0.1:${port}/healthz`).then(({ status }) => status);
    expect(await plain.catch(() => "refused")).not.toBe(200);
  });

  test("no cipher is spoken that the client port does not", async () => {
    const socket = connect({
      host: "127.0.0.1",
      port: portOf(node),
      maxVersion: "TLSv1.2",
      ciphers: "ECDHE-RSA-AES128-SHA:ECDHE-ECDSA-AES128-SHA",
      rejectUnauthorized: false,
    });
    const { promise, resolve } = Promise.withResolvers<string>();
    socket.on("secureConnect", () => resolve("connected"));
    socket.on("error", () => resolve("refused"));
    socket.on("close", () => resolve("refused"));
    expect(await promise).toBe("refused");
    socket.destroy();
  });

  test("another certificate is shown without a restart, on the same port", async () => {
    const port = portOf(node);
    place(authority.issue({ name: "second" }));
    process.kill(node.pid, "SIGHUP");
    await eventually("it is shown", async () => {
      const answer = await ask(port, "/healthz").catch(() => null);
      return answer?.certificate === "second" && answer.status === 200;
    });
  });
});

test('with client_certificates = "require" nobody is answered without one', async () => {
  place(authority.issue({ name: "node" }));
  const node = await start(`ca_file = "${authority.caFile}"`);
  try {
    const port = portOf(node);
    expect((await ask(port, "/healthz")).status).toBe(200);
    const client = await LineClient.connect(node.port);
    expect(await client.send("CONFIG SET tls.client_certificates require")).toBe("OK");
    await client.close();
    const refused = ask(port, "/healthz").then(({ status }) => status);
    expect(await refused.catch(() => "refused")).toBe("refused");
    const stranger = new Authority();
    const strange = ask(port, "/healthz", stranger.issue({ name: "c" })).then((it) => it.status);
    expect(await strange.catch(() => "refused")).toBe("refused");
    stranger.remove();
    expect((await ask(port, "/healthz", authority.issue({ name: "client" }))).status).toBe(200);
  } finally {
    await node.stop();
  }
});

describe("what cannot be is said at the start", () => {
  const problems = (env: Record<string, string>): string[] => {
    const loaded = loadConfig({ randomHex, env: { MERKLE_KV_NODE_ID: "n", ...env } });
    return loaded.ok ? [] : loaded.problems.map((it) => it.replace(/^.*?(?=[a-z_]+\.)/, ""));
  };
  const tls = { MERKLE_KV_TLS_CERT_FILE: "c", MERKLE_KV_TLS_KEY_FILE: "k" };
  const near = { MERKLE_KV_HTTP_BIND_PORT: "9464" };
  const far = { ...near, MERKLE_KV_HTTP_BIND_ADDRESS: "0.0.0.0" };

  test("TLS without a certificate", () => {
    expect(problems({ ...near, MERKLE_KV_HTTP_TLS: "true" })[0]).toContain("tls.cert_file");
    expect(problems({ ...near, ...tls, MERKLE_KV_HTTP_TLS: "true" })).toEqual([]);
  });

  test("plain text where network.plaintext allows none", () => {
    const off = { ...tls, MERKLE_KV_NETWORK_PLAINTEXT: "off" };
    const loopback = { ...tls, MERKLE_KV_NETWORK_PLAINTEXT: "loopback" };
    expect(problems(off)).toEqual([]);
    expect(problems({ ...off, ...near })[0]).toContain("http.tls");
    expect(problems({ ...loopback, ...near })).toEqual([]);
    expect(problems({ ...loopback, ...far })[0]).toContain("http.tls");
    expect(problems({ ...loopback, ...far, MERKLE_KV_HTTP_TLS: "true" })).toEqual([]);
  });
});

describe("where others can reach it, and there are no users", () => {
  let node: NodeProcess;
  let port: number;
  beforeAll(async () => {
    node = await startNodeProcess({
      env: {
        MERKLE_KV_HTTP_BIND_ADDRESS: "0.0.0.0",
        MERKLE_KV_HTTP_HOST_NAMES: "node.example",
      },
    });
    port = portOf(node);
  });
  afterAll(async () => void (await node.stop()));

  test.each([
    ["evil.example", "/metrics", 403],
    ["evil.example", "/version", 403],
    ["evil.example", "/readyz", 200],
    ["node.example", "/metrics", 200],
    ["node1", "/metrics", 200],
    ["127.0.0.1", "/metrics", 200],
  ])("whoever calls it %s gets %s with %d", async (host, path, status) => {
    const headers = { host: `${host}:${port}` };
    expect((await fetch(`http://127.0.0.1:${port}${path}`, { headers })).status).toBe(status);
  });
});

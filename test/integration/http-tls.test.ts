/** HTTP over TLS, and by which names the port may be called. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { copyFileSync, mkdirSync } from "node:fs";
import { request } from "node:https";
import { join } from "node:path";
import { connect, type TLSSocket } from "node:tls";
import { loadConfig } from "../../src/config/load.ts";
import { randomHex } from "../../src/world.ts";
import { Authority, type CertificateFiles } from "../support/certificates.ts";
import { eventually } from "../support/eventually.ts";
import { LineClient } from "../support/line-client.ts";
import { usersFile } from "../support/users-node.ts";
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
      const shown = (response.socket as TLSSocket).getPeerCertificate();
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

describe("a certificate makes a user", () => {
  const users = usersFile([
    "user dash on ~site:* +@read +@write",
    "user watcher on +info",
    "user eve on >secret ~* +@all",
  ]);
  let node: NodeProcess;
  let port: number;
  const certificates = new Map<string, CertificateFiles>();
  beforeAll(async () => {
    place(authority.issue({ name: "node" }));
    for (const name of ["dash", "watcher", "nobody"]) {
      certificates.set(name, authority.issue({ name }));
    }
    const audit = `[audit]\nfile = "${join(directory, "audit.jsonl")}"`;
    node = await start(
      `ca_file = "${authority.caFile}"
client_certificates = "request"
[auth]
acl_file = "${users}"
certificate_users = "common_name"
${audit}`,
    );
    port = portOf(node);
  });
  afterAll(async () => void (await node.stop()));

  /** Status and body, asked as the holder of that certificate, or as nobody. */
  async function as(
    holder: string | null,
    path: string,
    init: { method?: string; body?: string | Uint8Array; headers?: Record<string, string> } = {},
  ): Promise<[status: number, body: string]> {
    const own = holder === null ? undefined : certificates.get(holder)!;
    const ca = await Bun.file(authority.caFile).text();
    const pem = own && {
      cert: await Bun.file(own.cert).text(),
      key: await Bun.file(own.key).text(),
    };
    const { promise, resolve, reject } = Promise.withResolvers<[number, string]>();
    const { method = "GET", headers = {}, body } = init;
    const options = { host: "127.0.0.1", port, path, method, headers, ca, agent: false, ...pem };
    const asked = request(options, (response) => {
      let text = "";
      response.on("data", (piece: Buffer) => (text += piece.toString("latin1")));
      response.on("end", () => resolve([response.statusCode!, text]));
    });
    asked.on("error", reject);
    asked.end(body);
    return promise;
  }

  const put = (holder: string | null, key: string, body: string | Uint8Array) =>
    as(holder, `/v1/keys/${key}`, { method: "PUT", body }).then(([status]) => status);

  test("with the rights of that one, and without a password", async () => {
    expect(await put("dash", "site:1", "value")).toBe(201);
    expect(await as("dash", "/v1/keys/site:1")).toEqual([200, "value"]);
    expect(await put("dash", "other", "value")).toBe(403);
    expect((await as("dash", "/metrics"))[0]).toBe(401);
    expect((await as("watcher", "/metrics"))[0]).toBe(200);
    expect((await as("watcher", "/v1/keys/site:1"))[0]).toBe(403);
    expect(await put(null, "site:1", "value")).toBe(401);
    expect(await put("nobody", "site:1", "value")).toBe(401);
    await eventually("it is in the audit", async () => {
      const log = await Bun.file(join(directory, "audit.jsonl")).text();
      return /"denied".*"dash".*"certificate":"dash"/.test(log);
    });
  });

  test("a login wins over it", async () => {
    const authorization = `Basic ${btoa("eve:secret")}`;
    const body = await as("dash", "/v1/keys/other", { headers: { authorization } });
    expect(body[0]).toBe(404);
    const wrong = `Basic ${btoa("eve:wrong")}`;
    expect((await as("dash", "/v1/keys/site:1", { headers: { authorization: wrong } }))[0]).toBe(
      401,
    );
  });

  test("a page of another site gains nothing by the visitor's certificate", async () => {
    const headers = { origin: "https://evil.example", "sec-fetch-site": "cross-site" };
    expect((await as("dash", "/v1/keys/site:1", { method: "DELETE", headers }))[0]).toBe(403);
    expect((await as("dash", "/v1/keys/site:1"))[0]).toBe(200);
  });

  test("bytes go through as they are, long ones and those that come in pieces", async () => {
    const bytes = Uint8Array.from({ length: 3_000_000 }, (_, i) => (i * 7) & 255);
    expect(await put("dash", "site:long", bytes)).toBe(201);
    const [status, text] = await as("dash", "/v1/keys/site:long");
    expect([status, Buffer.from(text, "latin1").equals(Buffer.from(bytes))]).toEqual([200, true]);
    const chunked = { "transfer-encoding": "chunked" };
    const answer = await as("dash", "/v1/keys/site:2", {
      method: "PUT",
      body: "in pieces",
      headers: chunked,
    });
    expect(answer[0]).toBe(201);
    expect(await as("dash", "/v1/keys/site:2")).toEqual([200, "in pieces"]);
    expect(await put("dash", "site:over", new Uint8Array(20_000_000))).toBe(413);
    const [, first] = await as("dash", "/v1/keys/site:1", { method: "HEAD" });
    expect(first).toBe("");
  });

  test("a watcher is told of changes, and gone when he goes", async () => {
    const own = certificates.get("dash")!;
    const [ca, cert, key] = await Promise.all(
      [authority.caFile, own.cert, own.key].map((path) => Bun.file(path).text()),
    );
    const options = { host: "127.0.0.1", port, path: "/v1/watch?prefix=site:", ca, cert, key };
    let seen = "";
    const asked = request({ ...options, agent: false }, (response) => {
      response.on("data", (piece: Buffer) => (seen += piece.toString()));
      response.on("error", () => {});
    });
    asked.on("error", () => {});
    asked.end();
    await eventually("it is told", async () => {
      await put("dash", "site:watched", "v");
      return seen.includes("site:watched");
    });
    asked.destroy();
    expect(await put("dash", "site:watched", "w")).toBe(204);
  });

  test("what is no request is refused, and the port serves on", async () => {
    const ca = await Bun.file(authority.caFile).text();
    const send = async (text: string): Promise<string> => {
      const { promise, resolve } = Promise.withResolvers<string>();
      let answer = "";
      const socket = connect({ host: "127.0.0.1", port, ca }, () => socket.write(text));
      socket.on("data", (piece) => (answer += piece.toString()));
      socket.on("error", () => {});
      socket.on("close", () => resolve(answer.split("\r\n", 1)[0]));
      return promise;
    };
    const close = "Connection: close\r\n\r\n";
    expect(await send("garbage\r\n\r\n")).toContain("400");
    expect(await send(`GET http://evil/ HTTP/1.1\r\nHost: x\r\n${close}`)).toContain("403");
    expect(await send(`GET / HTTP/1.1\r\nHost: a/b\r\n${close}`)).toContain("400");
    expect(await send(`CONNECT x:1 HTTP/1.1\r\nHost: x\r\n${close}`)).not.toContain("200");
    expect(await send(`TRACE / HTTP/1.1\r\nHost: 127.0.0.1\r\n${close}`)).toMatch(/400|405/);
    expect((await as("dash", "/healthz"))[0]).toBe(200);
  });

  test("and where each needs one, a good one is wanted", async () => {
    const stranger = new Authority();
    certificates.set("stranger", stranger.issue({ name: "dash" }));
    const statusOf = (holder: string | null) =>
      as(holder, "/v1/keys/site:1").then(
        ([status]) => status,
        () => "refused",
      );
    expect([await statusOf(null), await statusOf("stranger")]).toEqual([401, "refused"]);
    const client = await LineClient.connect(node.port);
    await client.send("AUTH eve secret");
    expect(await client.send("CONFIG SET tls.client_certificates require")).toBe("OK");
    await client.close();
    expect([await statusOf(null), await statusOf("stranger")]).toEqual(["refused", "refused"]);
    expect(await statusOf("dash")).toBe(200);
    stranger.remove();
  });
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

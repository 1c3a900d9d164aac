/** Nodes and the tools of the command line that speak TLS to nodes. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { Authority, type CertificateFiles } from "../support/certificates.ts";
import { merklekvBinary } from "../support/binary.ts";
import { eventually } from "../support/eventually.ts";
import { LineClient } from "../support/line-client.ts";
import { secretFileNamed } from "../support/secret-files.ts";
import { NodeOnDisk, type Sections } from "../siege/node-on-disk.ts";

let authority: Authority;
let stranger: Authority;
let shared: CertificateFiles;
const nodes: NodeOnDisk[] = [];

beforeAll(() => {
  authority = new Authority();
  stranger = new Authority("Stranger");
  shared = authority.issue({ name: "member" });
});
afterAll(() => {
  authority.remove();
  stranger.remove();
});

async function startNode(
  id: string,
  { network, tls, anti_entropy, ...rest }: Record<string, Sections[string]> = {},
): Promise<NodeOnDisk> {
  const node = await NodeOnDisk.start(id, {
    network: { bind_port: 0, tls_port: 0, ...network },
    tls: { cert_file: shared.cert, key_file: shared.key, ca_file: authority.caFile, ...tls },
    mqtt: { enabled: false },
    storage: { engine: "memory" },
    anti_entropy: { interval_seconds: 1, ...anti_entropy },
    ...rest,
  });
  nodes.push(node);
  return node;
}

async function stopAll(): Promise<void> {
  for (const node of nodes.splice(0)) await node.remove();
}

/** Runs the executable; its exit code, and all that it prints. */
async function run(...args: string[]): Promise<{ code: number; text: string }> {
  const child = Bun.spawn([await merklekvBinary(), ...args], { stdout: "pipe", stderr: "pipe" });
  const texts = [child.stdout, child.stderr].map((it) => new Response(it).text());
  return { text: (await Promise.all(texts)).join(""), code: await child.exited };
}

function tlsOf(node: NodeOnDisk, more: string[] = ["--cacert", authority.caFile]): string[] {
  return ["-p", `${node.tlsPort}`, "--tls", ...more];
}

describe("nodes", () => {
  test("heal their differences over TLS alone, and know each other by certificate", async () => {
    const strict = { network: { plaintext: "off" }, tls: { client_certificates: "require" } };
    const a = await startNode("a", strict);
    const peer = [`tls://127.0.0.1:${a.tlsPort}`];
    const b = await startNode("b", { ...strict, anti_entropy: { peer_list: peer } });
    const pair = ["--cert", shared.cert, "--key", shared.key, "--cacert", authority.caFile];
    expect((await run("cli", ...tlsOf(a, pair), "SET", "k", "v")).text).toBe("OK\n");
    await eventually("the key is there", async () => {
      return (await run("cli", ...tlsOf(b, pair), "GET", "k")).text === "v\n";
    });
    await stopAll();
  });

  test("seal their sessions with the cluster secret within TLS, and diff looks into both", async () => {
    const secretFile = secretFileNamed("one");
    const strict = { network: { plaintext: "off" }, cluster: { secret_file: secretFile } };
    const a = await startNode("a", strict);
    const peer = [`tls://127.0.0.1:${a.tlsPort}`];
    const b = await startNode("b", { ...strict, anti_entropy: { peer_list: peer } });
    expect((await run("cli", ...tlsOf(a), "SET", "k", "v")).text).toBe("OK\n");
    await eventually("the key is there", async () => {
      return (await run("cli", ...tlsOf(b), "GET", "k")).text === "v\n";
    });
    const places = [a, b].map(({ tlsPort }) => `127.0.0.1:${tlsPort}`);
    const tls = ["--tls", "--cacert", authority.caFile];
    const found = await run("diff", ...places, ...tls, "--secret-file", secretFile);
    expect([found.code, found.text]).toEqual([0, expect.stringContaining("hold the same")]);
    const refused = await run("diff", ...places, ...tls);
    expect([refused.code, refused.text]).toEqual([2, expect.stringContaining("has a secret")]);
    await stopAll();
  });

  test("turn to where presence says that TLS is spoken; those without stay with plain text", async () => {
    const hosting = {
      mqtt: { broker_address: "embedded" },
      "mqtt.embedded": { bind_port: 0, tls_port: 0 },
    };
    const a = await startNode("a", hosting);
    const [, port] = await a.waitFor(/Embedded broker listening address=127\.0\.0\.1:(\d+)/);
    const mqtt = { mqtt: { broker_address: `mqtt://127.0.0.1:${port}` } };
    await startNode("b", mqtt);
    await startNode("old", { ...mqtt, tls: { cert_file: "", key_file: "", ca_file: "" } });
    const client = await LineClient.connect(a.port);
    const facts = async (): Promise<string> => {
      client.sendRaw("INFO\nECHO done\n");
      let text = "";
      for (let line = ""; line !== "done"; line = await client.readLine()) text += `${line}\n`;
      return text;
    };
    await eventually("each has synced, one by TLS", async () => {
      const text = await facts();
      return /tls_handshakes:[1-9]/.test(text) && /sync_completed:([2-9]|\d\d)/.test(text);
    });
    expect(await facts()).toContain("tls_refused_plain_text:0");
    await client.close();
    await stopAll();
  });

  test("do not speak plain text where that is forbidden, nor TLS to just anybody", async () => {
    const a = await startNode("a");
    const b = await startNode("b", { network: { plaintext: "off" } });
    const askB = async (...words: string[]): Promise<string> =>
      (await run("cli", ...tlsOf(b), ...words)).text;
    expect(await askB("SYNC", "127.0.0.1", `${a.port}`)).toContain(
      "plain text is not to be spoken",
    );
    expect(await askB("SYNC", "127.0.0.1", `${a.tlsPort}`, "--tls")).toBe("OK\n");
    const other = stranger.issue();
    const c = await startNode("c", { tls: { cert_file: other.cert, key_file: other.key } });
    expect(await askB("SYNC", "127.0.0.1", `${c.tlsPort}`, "--tls")).toContain(
      "its certificate comes from no authority that is trusted; see tls.ca_file",
    );
    const misnamed = authority.issue({ alternatives: "DNS:elsewhere.example" });
    const d = await startNode("d", { tls: { cert_file: misnamed.cert, key_file: misnamed.key } });
    const refused = await askB("SYNC", "127.0.0.1", `${d.tlsPort}`, "--tls");
    expect(refused).toContain("its certificate is not made for that name");
    expect(refused).toContain("see tls.server_name");
    const named = await startNode("e", { tls: { server_name: "elsewhere.example" } });
    expect(
      (await run("cli", ...tlsOf(named), "SYNC", "127.0.0.1", `${d.tlsPort}`, "--tls")).text,
    ).toBe("OK\n");
    expect(await askB("SYNC", "127.0.0.1", `${a.port}`, "--tls")).toContain("Connection failed");
    await stopAll();
  });
});

describe("tools", () => {
  test("cli, backup and diff, and what they say when it does not work", async () => {
    const a = await startNode("a");
    const b = await startNode("b");
    expect(await run("cli", ...tlsOf(a), "SET", "k", "v")).toEqual({ code: 0, text: "OK\n" });
    const file = join(authority.directory, "fetched.backup");
    const fetched = await run("backup", ...tlsOf(a), "--to", file);
    expect(fetched).toMatchObject({ code: 0, text: expect.stringContaining("1 entries") });
    rmSync(file);
    const places = [`127.0.0.1:${a.tlsPort}`, `127.0.0.1:${b.tlsPort}`];
    const compared = await run("diff", "--tls", "--cacert", authority.caFile, ...places);
    expect(compared).toMatchObject({ code: 1, text: expect.stringContaining("differ in 1 key") });

    const wrong = await run("cli", ...tlsOf(a, ["--cacert", stranger.caFile]), "PING");
    expect(wrong.code).toBe(1);
    expect(wrong.text).toContain("comes from no authority that is trusted; see --cacert");
    const unknown = await run("cli", ...tlsOf(a, []), "PING");
    expect(unknown.text).toContain("see --cacert");
    const misnamed = await run("cli", ...tlsOf(a), "--sni", "other.example", "PING");
    expect(misnamed.text).toContain("is not made for that name, but for DNS:localhost");
    const insecure = await run("cli", ...tlsOf(a, ["--insecure"]), "PING");
    expect(insecure).toEqual({ code: 0, text: "PONG\n" });
    const plain = await run("cli", "-p", `${a.port}`, "--tls", "PING");
    expect(plain).toMatchObject({ code: 1, text: expect.stringContaining("speaks no TLS") });
    const missing = await run("cli", "--tls", "--cacert", "nowhere.crt", "PING");
    expect(missing.text).toContain('cannot read --cacert in "nowhere.crt": there is no such file');
    const lone = await run("cli", "--cacert", authority.caFile, "PING");
    expect(lone).toMatchObject({
      code: 2,
      text: expect.stringContaining("--cacert goes with --tls"),
    });

    const strict = await startNode("c", { tls: { client_certificates: "require" } });
    const shy = await run("cli", ...tlsOf(strict), "PING");
    expect(shy).toMatchObject({ code: 1, text: expect.stringContaining("see --cert") });
    await stopAll();
  });
});

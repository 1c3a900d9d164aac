/** Certificates of a running node: exchanged while clients come and go, and bad from the start. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { chmodSync, copyFileSync, mkdirSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Authority, type CertificateFiles } from "../support/certificates.ts";
import { merklekvBinary } from "../support/binary.ts";
import { eventually } from "../support/eventually.ts";
import { ask, connectTls } from "../support/tls-client.ts";
import { NodeOnDisk } from "../siege/node-on-disk.ts";

let authority: Authority;
beforeAll(() => void (authority = new Authority()));
afterAll(() => authority.remove());

function replace(from: string, to: string): void {
  copyFileSync(from, `${to}.new`);
  renameSync(`${to}.new`, to);
}

test("connections survive, none is refused, and new ones see the new certificate", async () => {
  const first = authority.issue({ name: "first" });
  const directory = join(authority.directory, "node");
  mkdirSync(directory);
  const files = { cert: join(directory, "tls.crt"), key: join(directory, "tls.key") };
  const place = ({ cert, key }: CertificateFiles): void => {
    replace(key, files.key);
    replace(cert, files.cert);
  };
  place(first);
  const node = await NodeOnDisk.start("n", {
    network: { bind_port: 0, tls_port: 0 },
    tls: { cert_file: files.cert, key_file: files.key },
    mqtt: { enabled: false },
    storage: { engine: "memory" },
  });
  const options = { port: node.tlsPort, caFile: authority.caFile };
  const old = await connectTls(options);
  expect(old.getPeerCertificate().subject.CN).toBe("first");

  let isOver = false;
  const seen: string[] = [];
  const refused: string[] = [];
  const comeAndGo = async (): Promise<void> => {
    while (!isOver) {
      try {
        const socket = await connectTls(options);
        seen.push(String(socket.getPeerCertificate().subject.CN));
        if ((await ask(socket, "PING")) !== "PONG") refused.push("no answer");
        socket.destroy();
      } catch (error) {
        refused.push(String(error));
      }
    }
  };
  const clients = Promise.all([comeAndGo(), comeAndGo(), comeAndGo()]);
  for (const name of ["second", "third"]) {
    place(authority.issue({ name }));
    node.hangUp();
    await eventually(`${name} is shown`, () => seen.at(-1) === name);
  }
  // What is bad changes nothing.
  replace(authority.issue({ name: "expired", days: -1 }).cert, files.cert);
  node.hangUp();
  await eventually("it is said", () => node.output().includes("those in use stay"));
  seen.length = 0;
  await eventually("some come", () => seen.length > 20);
  isOver = true;
  await clients;
  expect(new Set(seen)).toEqual(new Set(["third"]));
  expect(refused).toEqual([]);
  expect(await ask(old, "PING still here")).toBe("PONG still here");
  old.destroy();
  await node.remove();
});

/** Starts the executable with these files; its exit code, and what it prints. */
async function start(tls: Record<string, string>): Promise<{ code: number; text: string }> {
  const config = join(authority.directory, "bad.toml");
  const lines = Object.entries(tls).map(([key, value]) => `${key} = ${JSON.stringify(value)}`);
  const rest = '[storage]\nengine = "memory"\n[mqtt]\nenabled = false';
  const network = "[network]\nbind_port = 0\ntls_port = 0";
  writeFileSync(config, `node_id = "n"\n${network}\n[tls]\n${lines.join("\n")}\n${rest}\n`);
  const child = Bun.spawn([await merklekvBinary(), "serve", "--config", config], {
    stdout: "pipe",
    stderr: "pipe",
  });
  const texts = [child.stdout, child.stderr].map((it) => new Response(it).text());
  return { text: (await Promise.all(texts)).join(""), code: await child.exited };
}

test("bad files are one clear line at the start, and an exit code", async () => {
  const { cert, key } = authority.issue();
  const other = authority.issue();
  const late = authority.issue({ days: -1 });
  const good = { cert_file: cert, key_file: key };
  const open = join(authority.directory, "open.key");
  copyFileSync(key, open);
  chmodSync(open, 0o644);
  const cases: [Record<string, string>, string][] = [
    [{ ...good, cert_file: late.cert, key_file: late.key }, "expired at"],
    [{ ...good, key_file: other.key }, "does not belong to the certificate"],
    [{ ...good, cert_file: "/nowhere.crt" }, 'cannot read tls.cert_file in "/nowhere.crt"'],
    [{ ...good, key_file: open }, "can be read or changed by other users (mode 0644)"],
    [{ ...good, cert_file: key }, "holds no certificate in PEM form; it is a private key"],
    [{ ...good, key_file: cert }, "can be read or changed by other users"],
    [{ ...good, ca_file: key }, 'tls.ca_file "'],
    [{ cert_file: cert }, "tls.key_file: missing; allowed: a certificate and its key"],
    [{ ...good, client_certificates: "require" }, "tls.ca_file: missing"],
  ];
  for (const [tls, words] of cases) {
    const { code, text } = await start(tls);
    expect({ code, text }).toEqual({ code: 1, text: expect.stringContaining(words) });
    expect(text.trim().split("\n")).toHaveLength(1);
  }
});

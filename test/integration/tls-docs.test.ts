/** The commands of docs/security.md that make certificates and exchange them, as they stand there. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import TOML from "@iarna/toml";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { merklekvBinary, projectRoot } from "../support/binary.ts";
import { eventually } from "../support/eventually.ts";
import { NodeOnDisk, type Sections } from "../siege/node-on-disk.ts";

let directory: string;
beforeAll(() => void (directory = mkdtempSync(join(tmpdir(), "merklekv-tls-docs-"))));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** What stands in the blocks of a section, by their kind. */
function blocksOf(heading: string, kind: string): string[] {
  const page = readFileSync(join(projectRoot, "docs/security.md"), "utf8");
  const section = page.split(`\n${heading}\n`)[1].split(/\n##/)[0];
  const blocks = section.matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm);
  return Array.from(blocks).flatMap(([, found, text]) => (found === kind ? [text] : []));
}

/** Runs the lines of a block that begin with "$ "; all that they print. */
async function run(block: string): Promise<string> {
  const lines = block.split("\n").filter((line) => line.startsWith("$ "));
  const PATH = `${dirname(await merklekvBinary())}:${process.env["PATH"]}`;
  const script = lines.map((line) => line.slice(2)).join("\n");
  const shell = Bun.spawn(["sh", "-ec", script], {
    cwd: directory,
    env: { PATH },
    stdout: "pipe",
    stderr: "pipe",
  });
  const [output, errors] = await Promise.all(
    [shell.stdout, shell.stderr].map((it) => new Response(it).text()),
  );
  expect({ code: await shell.exited, errors }).toMatchObject({ code: 0 });
  return output;
}

test("certificates are made and exchanged as the documentation says", async () => {
  const [authority, server, client, use] = blocksOf("## TLS", "console");
  for (const block of [authority, server, client]) await run(block);
  expect(statSync(join(directory, "node.key")).mode & 0o077).toBe(0);

  const [toml] = blocksOf("## TLS", "toml");
  const { network, tls } = TOML.parse(toml) as unknown as Sections;
  const absolute = Object.entries(tls).map(([key, value]) =>
    key.endsWith("_file") ? [key, join(directory, String(value))] : [key, value],
  );
  const node = await NodeOnDisk.start("n", {
    network: { ...network, bind_port: 0, tls_port: 0 },
    tls: Object.fromEntries(absolute) as Sections[string],
    mqtt: { enabled: false },
    storage: { engine: "memory" },
  });
  try {
    const atPort = use
      .replaceAll("7380", `${node.tlsPort}`)
      .replaceAll("merklekv cli", `merklekv cli -p ${node.tlsPort}`);
    const hasRedis = Bun.which("redis-cli") !== null;
    const commands = hasRedis ? atPort : atPort.replace(/^\$ redis-cli.*$/m, "");
    expect(await run(commands)).toBe(hasRedis ? "PONG\nPONG\n" : "PONG\n");

    const print = `$ merklekv cli -p ${node.tlsPort} --tls --cacert ca.crt --cert dash.crt --key dash.key INFO`;
    const shown = async (): Promise<string> =>
      /^tls_certificate_fingerprint:(.*)$/m.exec(await run(print))![1];
    const before = await shown();
    await run(blocksOf("### Of certificates", "console")[0]);
    await eventually("the new one is in use", async () => (await shown()) !== before);
    expect(await run("$ openssl x509 -in node.crt -noout -fingerprint -sha256")).toContain(
      await shown(),
    );
  } finally {
    await node.remove();
  }
});

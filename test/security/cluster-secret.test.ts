/** The cluster secret as an operator meets it: made, set, set wrongly, and changed while nodes run. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import TOML from "@iarna/toml";
import { merklekvBinary, projectRoot } from "../support/binary.ts";
import { ClusterNode, type ClusterNodeOptions } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";
import { Mosquitto, mosquittoPath } from "../support/mosquitto.ts";
import { runToEnd, soloConfig } from "../support/process.ts";

let directory: string;
let nodes: ClusterNode[];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "merklekv-secret-"));
  nodes = [];
});
afterEach(async () => {
  await Promise.all(nodes.map((node) => node.process.kill()));
  rmSync(directory, { recursive: true, force: true });
});

const path = (name: string): string => join(directory, name);

async function start(id: string, options: ClusterNodeOptions): Promise<ClusterNode> {
  const node = await ClusterNode.start(id, options);
  nodes.push(node);
  return node;
}

describe("merklekv keygen", () => {
  test("prints a secret, another each time, or writes it for its owner alone", async () => {
    const printed = [await runToEnd(["keygen"]), await runToEnd(["keygen"])];
    for (const { code, output } of printed) {
      expect(code).toBe(0);
      expect(output).toMatch(/^[\w-]{43}\n$/);
    }
    expect(printed[0].output).not.toBe(printed[1].output);
    expect(await runToEnd(["keygen", path("key")])).toEqual({ code: 0, output: "" });
    expect(statSync(path("key")).mode & 0o777).toBe(0o600);
    expect(readFileSync(path("key"), "utf8")).toMatch(/^[\w-]{43}\n$/);
  });

  test("overwrites nothing", async () => {
    writeFileSync(path("key"), "what is there");
    const { code, output } = await runToEnd(["keygen", path("key")]);
    expect(code).toBe(1);
    expect(output).toBe(
      `merklekv: cannot write a secret to "${path("key")}": it is there already; give another name\n`,
    );
    expect(readFileSync(path("key"), "utf8")).toBe("what is there");
  });
});

describe("a secret that is none ends the start with a line that says why", () => {
  const SECRET = "0123456789012345678901234567890123456789";

  async function serve(text: string | null, mode = 0o600): Promise<string[]> {
    if (text !== null) {
      writeFileSync(path("key"), text);
      chmodSync(path("key"), mode);
    }
    const config = `${soloConfig("n")}[cluster]\nsecret_file = "${path("key")}"\n`;
    writeFileSync(path("node.toml"), config);
    const { code, output } = await runToEnd(["serve", "--config", path("node.toml")]);
    expect(code).toBe(1);
    const lines = output.trimEnd().split("\n");
    expect(output).not.toContain(SECRET);
    return lines;
  }

  test.each([
    [
      "missing",
      null,
      0o600,
      /^merklekv: cannot read the cluster secret in "\S+": there is no such/,
    ],
    ["readable by all", SECRET, 0o644, /can be read or changed by other users \(mode 0644\)/],
    ["too short", "hunter2", 0o600, /has 7 bytes, but a secret has at least 32; make one with/],
    ["empty", "\n", 0o600, /is empty, but a secret has at least 32/],
    ["too long", "x".repeat(2_000), 0o600, /has 2000 bytes, but a secret has at most 1024/],
  ])("%s", async (_, text, mode, line) => {
    expect(await serve(text, mode)).toEqual([expect.stringMatching(line)]);
  });
});

test("the secret is shown nowhere", async () => {
  const secret = "shown-nowhere-0123456789012345678901234567890";
  const node = await start("n", { env: { MERKLE_KV_CLUSTER_SECRET: secret } });
  const info = [...(await node.info()).values()].join("\n");
  const list = await runToEnd(["cli", "-p", `${node.process.port}`, "CLIENT", "LIST"]);
  const commandLine = readFileSync(`/proc/${node.process.pid}/cmdline`, "latin1");
  await node.ask("CONFIG GET cluster.secret");
  for (const shown of [info, list.output, commandLine, node.process.output()]) {
    expect(shown).not.toContain("shown-nowhere");
  }
  const config = Bun.connect({
    hostname: "127.0.0.1",
    port: node.process.port,
    socket: {
      data(socket, bytes) {
        reply += bytes.toString();
        if (reply.includes("cluster.name")) socket.end();
      },
    },
  });
  let reply = "";
  (await config).write("CONFIG GET cluster.*\r\n");
  (await config).write("*3\r\n$6\r\nCONFIG\r\n$3\r\nGET\r\n$9\r\ncluster.*\r\n");
  await eventually("it has answered", () => reply.includes("cluster.name"));
  expect(reply).toContain("cluster.secret");
  expect(reply).not.toContain("shown-nowhere");
});

test("a node that is open to the network without a secret says so once", async () => {
  const embedded = { MERKLE_KV_MQTT_EMBEDDED_BIND_ADDRESS: "0.0.0.0" };
  const port = { MERKLE_KV_MQTT_EMBEDDED_BIND_PORT: "0" };
  const env = { ...embedded, ...port };
  const open = await start("open", { broker: "embedded", env });
  await eventually("it is said", () => open.logged(/This cluster has no secret/) === 1);
  await eventually("and where", () => open.logged(/broker 0\.0\.0\.0/) > 0);
  await runToEnd(["keygen", path("key")]);
  const cluster = { secret_file: path("key") };
  const sealed = await start("sealed", { broker: "embedded", env, cluster });
  const local = await start("local", { broker: "embedded", env: port });
  for (const node of [open, sealed, local]) await node.stop();
  expect(open.logged(/This cluster has no secret/)).toBe(1);
  for (const node of [sealed, local]) expect(node.logged(/This cluster has no secret/)).toBe(0);
});

describe.skipIf(mosquittoPath === null)("through mosquitto", () => {
  let broker: Mosquitto;
  beforeAll(async () => {
    if (mosquittoPath !== null) broker = await Mosquitto.start();
  });
  afterAll(async () => {
    if (mosquittoPath !== null) await broker.stop();
  });

  async function arrives(from: ClusterNode, to: ClusterNode, key: string): Promise<void> {
    expect(await from.ask(`SET ${key} of-${from.id}`)).toBe("OK");
    await eventually(`${key} arrives`, async () => {
      return (await to.ask(`GET ${key}`)) === `of-${from.id}`;
    });
  }

  test("packets are as short as they have to be, seal and all", async () => {
    await runToEnd(["keygen", path("key")]);
    const options = {
      broker: broker.address,
      cluster: { secret_file: path("key") },
      mqtt: { max_packet_bytes: 1_024, topic_prefix: "short" },
      network: { advertise_address: "none" },
    };
    const [a, b] = [await start("a", options), await start("b", options)];
    await arrives(a, b, "first");
    for (let bytes = 800; bytes < 1_100; bytes += 10) {
      await a.ask(`SET k${bytes} ${"x".repeat(bytes)}`);
    }
    await eventually("all of it is there", async () => (await b.ask("DBSIZE")) === "31");
    await eventually("and equal", async () => (await a.ask("HASH")) === (await b.ask("HASH")));
    expect(await a.fact("replication_refused_forged")).toBe(0);
  });

  test("two nodes with one id find out, though each takes the other's past", async () => {
    await runToEnd(["keygen", path("key")]);
    const options = (client_id: string): ClusterNodeOptions => ({
      broker: broker.address,
      cluster: { secret_file: path("key") },
      mqtt: { topic_prefix: "twins", client_id },
    });
    await start("same", options("one"));
    await start("same", options("other"));
    for (const node of nodes) {
      await eventually("it has heard of the other", async () => {
        return (await node.fact("replication_duplicate_node_id")) === 1;
      });
    }
  });

  test("the secret is changed as the documentation says, and nobody is left out", async () => {
    const page = readFileSync(join(projectRoot, "docs/security.md"), "utf8");
    const section = page.split("\n### Of the cluster secret\n")[1].split("\n### ")[0];
    const blocks = [...section.matchAll(/^ *```(\w+)\n([\s\S]*?)^ *```$/gm)];
    const commands = blocks.filter(([, kind]) => kind === "console").map(([, , text]) => text);
    const steps = blocks.filter(([, kind]) => kind === "toml").map(([, , text]) => text);
    expect([commands.length, steps.length]).toEqual([2, 3]);
    const run = async (text: string): Promise<void> => {
      const PATH = `${dirname(await merklekvBinary())}:${process.env["PATH"]}`;
      const lines = text.split("\n").map((line) => line.trim().replace(/^\$ /, ""));
      const shell = Bun.spawn(["sh", "-ec", lines.join("\n")], { cwd: directory, env: { PATH } });
      expect(await shell.exited).toBe(0);
    };
    const absolute = (text: string): Record<string, unknown> => {
      const cluster = (TOML.parse(text)["cluster"] ?? {}) as Record<string, unknown>;
      const place = (value: unknown): unknown =>
        Array.isArray(value) ? value.map(place) : path(String(value));
      return Object.fromEntries(Object.entries(cluster).map(([k, v]) => [k, place(v)]));
    };
    const at = (step: string): ClusterNodeOptions => ({
      broker: broker.address,
      cluster: absolute(step),
      mqtt: { topic_prefix: "rotation" },
      network: { advertise_address: "none" },
      storage: { engine: "memory" },
    });

    await runToEnd(["keygen", path("cluster.key")]);
    const first = '[cluster]\nsecret_file = "cluster.key"\n';
    for (const id of ["a", "b"]) await start(id, at(first));
    await arrives(nodes[0], nodes[1], "before");
    await run(commands[0]);
    let key = 0;
    for (const step of steps) {
      for (const [i, node] of nodes.entries()) {
        const changes = await node.fact("cluster_secret_changes");
        node.configure(at(step));
        await eventually("it is in use", async () => {
          return (await node.fact("cluster_secret_changes")) > changes;
        });
        const other = nodes[1 - i];
        await arrives(node, other, `k${key++}`);
        await arrives(other, node, `k${key++}`);
      }
    }
    await run(commands[1]);
    for (const node of nodes) {
      expect(await node.ask("DBSIZE")).toBe(`${key + 1}`);
      const refused = await node.fact("replication_refused_other_secret");
      expect(refused).toBe(0);
    }
  });
});

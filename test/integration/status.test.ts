/** `merklekv status`, `merklekv doctor` and `merklekv config`, of running nodes. */
import { afterEach, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { screenOf } from "../../src/cli/status-screen.ts";
import type { NodeStatus } from "../../src/cli/cluster-view.ts";
import { EmbeddedBroker } from "../../src/replication/embedded-broker.ts";
import { eventLoop } from "../../src/world.ts";
import { merklekvBinary } from "../support/binary.ts";
import { Authority } from "../support/certificates.ts";
import { eventually } from "../support/eventually.ts";
import { runToEnd } from "../support/process.ts";
import { ReloadingNode, type Values } from "../support/reloading-node.ts";
import { usersFile } from "../support/users-node.ts";

// To build it is no part of what has a deadline.
beforeAll(async () => void (await merklekvBinary()));

const nodes: ReloadingNode[] = [];
const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const node of nodes.splice(0)) await node.remove();
  for (const close of closers.splice(0)) await close();
});

async function startPair(values: Values = {}): Promise<[ReloadingNode, ReloadingNode]> {
  const broker = await EmbeddedBroker.start(eventLoop, "127.0.0.1", 0);
  closers.push(() => broker.stop());
  const mqtt = {
    "mqtt.enabled": true,
    "mqtt.broker_address": `mqtt://127.0.0.1:${broker.port}`,
    ...values,
  };
  for (const node_id of ["n1", "n2"]) nodes.push(await ReloadingNode.start({ ...mqtt, node_id }));
  return [nodes[0], nodes[1]];
}

interface Shown {
  readonly ok: boolean;
  readonly nodes: {
    readonly node_id: string;
    readonly asked: boolean;
    readonly equal: boolean | null;
    readonly findings: { readonly severity: string; readonly what: string }[];
    readonly facts: Record<string, string> | null;
  }[];
}

async function statusOf(port: number, ...more: string[]): Promise<[number, Shown]> {
  const { code, output } = await runToEnd(["status", "-p", `${port}`, "--json", ...more]);
  return [code, JSON.parse(output) as Shown];
}

/** Once roots are announced. */
async function untilWell(port: number, ...more: string[]): Promise<Shown> {
  return eventually("all is well", async () => {
    const [code, shown] = await statusOf(port, ...more);
    return code === 0 && shown.nodes.length === 2 ? shown : null;
  });
}

describe("status", () => {
  test("shows every node of the cluster from one, and ends with 0 when all is well", async () => {
    const [one] = await startPair();
    await one.ask("SET k v");
    const shown = await untilWell(one.port);
    expect(shown.ok).toBe(true);
    expect(shown.nodes.map(({ node_id }) => node_id)).toEqual(["n1", "n2"]);
    for (const node of shown.nodes) {
      expect(node).toMatchObject({ asked: true, equal: true, findings: [] });
      expect(node.facts!["total_keys"]).toBe("1");
    }
    const { code, output } = await eventually("it still is", async () => {
      const ended = await runToEnd(["status", "-p", `${one.port}`]);
      return ended.code === 0 ? ended : null;
    });
    expect(output).toMatch(/^NODE +VERSION +BROKER +KEYS +DATA .*\nn1 .*connected +1 +equal/);
    expect(output).toContain("All is well.");
    expect(output).not.toContain("\x1b");
    expect(code).toBe(0);
  });

  test("a node that is away, and what a node warns of, end with 1", async () => {
    const [one, two] = await startPair();
    await untilWell(one.port);
    await one.write("this is no TOML");
    await nodes.splice(nodes.indexOf(two), 1)[0].remove();
    const shown = await eventually("it is known to be away", async () => {
      const [code, now] = await statusOf(one.port);
      expect(code).toBe(1);
      return now.nodes[1].findings[0].what.includes("it is away") ? now : null;
    });
    expect(shown.nodes[0].findings[0].what).toContain("its file of settings is not in effect");
    expect(shown.nodes[1]).toMatchObject({ asked: false, equal: null });
    const { output } = await runToEnd(["status", "-p", `${one.port}`]);
    expect(output).toMatch(/^warning: n2: it is away, last heard of \d+ s ago; start it/m);
  });

  test("peers that are known without a broker are shown, too", async () => {
    const alone = { "mqtt.enabled": false };
    nodes.push(await ReloadingNode.start({ ...alone, node_id: "n2" }));
    const peer_list = [nodes[0].address];
    nodes.push(
      await ReloadingNode.start({ ...alone, node_id: "n1", "anti_entropy.peer_list": peer_list }),
    );
    const { port } = nodes[1];
    expect((await untilWell(port)).nodes[1]).toMatchObject({ node_id: "n2", asked: true });
    for (const node of nodes) await node.change({ "anti_entropy.enabled": false });
    await nodes[1].askAll(["SET a 1", "SET b 2", "SET c 3"]);
    // Trees follow the data with some delay.
    await eventually("it is seen", async () => {
      const { code, output } = await runToEnd(["status", "-p", `${port}`]);
      return code === 1 && /^n2 .* differs in about 3 keys /m.test(output);
    });
  });

  test("with a login and over TLS, at every node", async () => {
    const authority = new Authority();
    closers.push(() => authority.remove());
    const { cert, key } = authority.issue();
    await startPair({
      "tls.cert_file": cert,
      "tls.key_file": key,
      "tls.ca_file": authority.caFile,
      "network.plaintext": "off",
      "auth.acl_file": usersFile(["user default off", "user ops on >secret +info +members"]),
    });
    const secret = join(authority.directory, "password");
    writeFileSync(secret, "secret\n", { mode: 0o600 });
    const login = ["--user", "ops", "--pass-file", secret];
    const port = nodes[0].tlsPort;
    await untilWell(port, "--tls", "--cacert", authority.caFile, ...login);
    const refused = await runToEnd(["status", "-p", `${port}`, "--tls", "--insecure"]);
    expect(refused.code).toBe(2);
  });

  test("a node that cannot be asked ends with 2", async () => {
    const { code, output } = await runToEnd(["status", "-p", "1"]);
    expect(code).toBe(2);
    expect(output).toContain("cannot reach 127.0.0.1:1: connection refused");
  });

  test("says how far a node is that differs, in colours where there are any", () => {
    const member = { node_id: "n\x1b[31m", version: "1", online: true, hears: true, address: "" };
    const node = {
      member: { ...member, tls_address: "", root: null, seen_ms_ago: 0, way: "" },
      facts: new Map([["total_keys", "12345"]]),
      reason: "",
      isEqual: false,
      moreKeys: -20,
      differingKeys: null,
      findings: [],
    } as unknown as NodeStatus;
    const plain = screenOf({ nodes: [node], isWell: false }, false);
    expect(plain).toContain("12,345  differs, -20 keys");
    expect(plain).not.toContain("\x1b");
    expect(screenOf({ nodes: [node], isWell: false }, true)).toContain("\x1b[31mdiffers");
  });
});

describe("doctor", () => {
  test("finds nothing at a node that is well", async () => {
    const [one, two] = await startPair();
    await untilWell(one.port);
    expect(await two.ask(`SYNC 127.0.0.1 ${one.port}`)).toBe("OK");
    const config = join(one.directory, "node.toml");
    const args = ["doctor", "--config", config, "-p", `${one.port}`];
    const { code, output } = await runToEnd(args);
    expect(output).toMatch(/^ok +configuration /m);
    expect(output).toMatch(/^ok +open files /m);
    expect(output).toMatch(/^ok +broker +something answers at/m);
    expect(output).toMatch(/^ok +reachability +n2 reaches it by tcp/m);
    expect(output).not.toContain("warning");
    expect(code).toBe(0);
  });

  test("says what is wrong, and what to do", async () => {
    const directory = mkdtempSync(join(tmpdir(), "merklekv-doctor-"));
    closers.push(() => rmSync(directory, { recursive: true }));
    const config = join(directory, "node.toml");
    writeFileSync(
      config,
      `node_id = "n"\n[network]\nbind_port = 1\nmax_connections = 1000\n` +
        `[mqtt]\nbroker_address = "mqtt://127.0.0.1:1"\n[tls]\ncert_file = "a"\nkey_file = "b"\n` +
        `[storage]\npath = "${directory}/nowhere/data"\n`,
    );
    const binary = await merklekvBinary();
    const command = `ulimit -n 500 && exec ${binary} doctor --config ${config} --json`;
    const { code, output } = await runToEnd([], { command: ["bash", "-c", command] });
    expect(code).toBe(1);
    const { looks } = JSON.parse(output) as { looks: { at: string; result: string }[] };
    const found = looks.filter(({ result }) => result === "warning").map(({ at }) => at);
    expect(found).toEqual(["configuration", "open files", "disk", "broker"]);
    expect(await runToEnd(["doctor", "-p", "1"])).toMatchObject({ code: 2 });
  });
});

describe("config", () => {
  const write = (toml: string): string => {
    const directory = mkdtempSync(join(tmpdir(), "merklekv-config-"));
    closers.push(() => rmSync(directory, { recursive: true }));
    writeFileSync(join(directory, "node.toml"), toml);
    return join(directory, "node.toml");
  };

  test("check says all that is wrong, with the files that are named as well", async () => {
    const good = write('node_id = "n"\nmqtt.enabled = false\n');
    const said = await runToEnd(["config", "check", good]);
    expect(said).toEqual({ code: 0, output: `${good}: good\n` });
    const bad = write('node_id = "n"\nmqtt.enabled = 1\nnetwork.bind_port = -1\n');
    const { code, output } = await runToEnd(["config", "check", bad]);
    expect(code).toBe(1);
    expect(output).toMatch(/mqtt\.enabled: found 1.*\n.*|network\.bind_port: found -1/);
    const files = write(
      'node_id = "n"\nmqtt.enabled = false\nauth.acl_file = "/nowhere/a"\n' +
        'cluster.secret_file = "/nowhere/b"\nstorage.key_file = "/nowhere/c"\n',
    );
    const missing = await runToEnd(["config", "check", files, "--json"]);
    expect(missing.code).toBe(1);
    expect((JSON.parse(missing.output) as { problems: string[] }).problems).toHaveLength(3);
  });

  test("show prints what is in effect and where it comes from, and no secret", async () => {
    const path = write('node_id = "n"\nmqtt.enabled = false\nauth.password = "hunter2"\n');
    const env = { MERKLE_KV_NETWORK_IDLE_TIMEOUT: "7" };
    const { code, output } = await runToEnd(["config", "show", "--config", path], { env });
    expect(code).toBe(0);
    expect(output).toMatch(/^node_id = "n" +# file$/m);
    expect(output).toMatch(/^network\.idle_timeout = 7 +# MERKLE_KV_NETWORK_IDLE_TIMEOUT$/m);
    expect(output).toMatch(/^network\.max_connections = 1000 +# default$/m);
    expect(output).toMatch(/^auth\.password = "\(hidden\)" +# file$/m);
    expect(output).not.toContain("hunter2");
    const changed = await runToEnd(["config", "show", "--config", path, "--changed", "--json"]);
    expect(Object.keys(JSON.parse(changed.output))).toEqual([
      "node_id",
      "auth.password",
      "mqtt.enabled",
    ]);
  });
});

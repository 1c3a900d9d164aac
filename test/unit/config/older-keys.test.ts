import { expect, test } from "bun:test";
import { loadConfig } from "../../../src/config/load.ts";
import { randomHex } from "../../../src/world.ts";

function load(toml: string, env: Record<string, string> = {}) {
  return loadConfig({ randomHex, path: "n.toml", env, readFile: () => toml });
}

function loaded(toml: string, env: Record<string, string> = {}) {
  const result = load(toml, env);
  if (!result.ok) throw new Error(result.problems.join("\n"));
  return result;
}

function problemsOf(toml: string): string[] {
  const result = load(toml);
  return result.ok ? [] : result.problems;
}

const OLDER = `
host = "0.0.0.0"
port = 7400
storage_path = "data"
engine = "rwlock"
sync_interval_seconds = 60

[replication]
enabled = true
mqtt_broker = "localhost"
mqtt_port = 2883
topic_prefix = "merkle_kv"
client_id = "node1"
client_password = "secret"
peer_list = ["10.0.0.2:7379"]
`;

test("the older flat form is understood, with one notice of all the new names", () => {
  const { config, notices } = loaded(OLDER);
  expect(config.node_id).toBe("node1");
  expect(config.network.bind_address).toBe("0.0.0.0");
  expect(config.network.bind_port).toBe(7400);
  expect(config.storage).toMatchObject({ path: "data", engine: "memory" });
  expect(config.anti_entropy).toMatchObject({ interval_seconds: 60, peer_list: ["10.0.0.2:7379"] });
  expect(config.mqtt).toMatchObject({
    enabled: true,
    broker_address: "tcp://localhost:2883",
    topic_prefix: "merkle_kv",
    client_id: "node1",
    username: "node1",
    password: "secret",
  });
  expect(notices).toEqual([
    "n.toml: older names were understood: host is now network.bind_address, port is now network.bind_port, " +
      "storage_path is now storage.path, engine is now storage.engine, " +
      "sync_interval_seconds is now anti_entropy.interval_seconds, replication.enabled is now mqtt.enabled, " +
      "replication.topic_prefix is now mqtt.topic_prefix, replication.client_id is now node_id, " +
      "replication.client_password is now mqtt.password, replication.peer_list is now anti_entropy.peer_list, " +
      'replication.mqtt_broker with mqtt_port is now mqtt.broker_address, engine "rwlock" is now "memory"',
  ]);
});

test("the environment overrides the older form too", () => {
  const { config } = loaded(OLDER, {
    MERKLE_KV_NETWORK_BIND_PORT: "1",
    MERKLE_KV_NODE_ID: "other",
    MERKLE_KV_MQTT_BROKER_ADDRESS: "tcp://b",
  });
  expect(config.network.bind_port).toBe(1);
  expect(config.node_id).toBe("other");
  expect(config.mqtt).toMatchObject({ client_id: "other", broker_address: "tcp://b" });
});

test("host and port of the broker have their older defaults, and IPv6 gets its brackets", () => {
  const broker = (lines: string) =>
    loaded(`[replication]\nclient_id = "a"\n${lines}`).config.mqtt.broker_address;
  expect(broker('mqtt_broker = "b"')).toBe("tcp://b:1883");
  expect(broker("mqtt_port = 99")).toBe("tcp://localhost:99");
  expect(broker('mqtt_broker = "::1"\nmqtt_port = 99')).toBe("tcp://[::1]:99");
});

test("an older file without a replication section does not replicate, unless told where", () => {
  const toml = 'node_id = "a"\nport = 1';
  expect(loaded(toml).config.mqtt.enabled).toBe(false);
  expect(loaded(toml, { MERKLE_KV_MQTT_BROKER_ADDRESS: "tcp://b" }).config.mqtt.enabled).toBe(true);
  expect(problemsOf("port = 1")).toEqual([expect.stringContaining("node_id: missing")]);
});

test("with a node_id of its own, the older client id stays the client id", () => {
  const { config } = loaded('node_id = "a"\n[replication]\nenabled = false\nclient_id = "b"');
  expect([config.node_id, config.mqtt.client_id]).toEqual(["a", "b"]);
});

test("problems name the key as it stands in the file", () => {
  const toml = `
    host = "not a host"
    port = "x"
    sync_interval_seconds = 0
    engine = "slde"
    [replication]
    enabled = "yes"
    mqtt_broker = 5
    mqtt_port = 0
    client_id = "a/b"
    client_password = 24681357
    peer_list = ["node2"]
    mqtt_brokr = "x"`;
  const problems = problemsOf(toml);
  expect(problems.map((line) => line.split("; ")[0])).toEqual([
    "n.toml: unknown key replication.mqtt_brokr",
    "n.toml: replication.mqtt_broker: found 5",
    "n.toml: replication.mqtt_port: found 0",
    'n.toml: replication.client_id: found "a/b"',
    'n.toml: host: found "not a host"',
    'n.toml: port: found "x"',
    'n.toml: replication.enabled: found "yes"',
    "n.toml: replication.client_password: found a value that is not shown, of type number",
    "n.toml: sync_interval_seconds: found 0",
    'n.toml: replication.peer_list: found "node2"',
    'n.toml: engine: found "slde"',
  ]);
  expect(problems.at(-1)).toBe('n.toml: engine: found "slde"; allowed: "log" or "memory"');
  expect(problemsOf("replication = 1\nnode_id = 'a'\nport = 1")).toEqual([
    "n.toml: replication: found 1; allowed: a section [replication]",
  ]);
});

test("older and new name side by side must agree", () => {
  const toml = (port: number) => `node_id = "a"\nport = 1\n[network]\nbind_port = ${port}`;
  expect(problemsOf(toml(2))).toEqual([
    "n.toml: port: set to something else as network.bind_port too; keep only network.bind_port",
  ]);
  expect(loaded(toml(1)).config.network.bind_port).toBe(1);
});

test("older engine names are understood wherever they stand", () => {
  const engine = (name: string) =>
    `node_id = "a"\n[mqtt]\nenabled = false\n[storage]\nengine = "${name}"`;
  for (const [name, today] of Object.entries({ rwlock: "memory", kv: "memory", sled: "log" })) {
    const { config, notices } = loaded(engine(name));
    expect(config.storage.engine as string).toBe(today);
    expect(notices).toEqual([
      `n.toml: older names were understood: engine "${name}" is now "${today}"`,
    ]);
  }
  const fromEnv = loaded(engine("memory"), { MERKLE_KV_STORAGE_ENGINE: "kv" });
  expect(fromEnv.notices).toHaveLength(1);
  for (const name of ["toString", ""]) {
    expect(problemsOf(engine(name))).toEqual([
      `n.toml: storage.engine: found "${name}"; allowed: "log" or "memory"`,
    ]);
  }
});

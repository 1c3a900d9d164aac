/** The ready-made files in configs/ are what they say. */
import { expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { loadConfig } from "../../../src/config/load.ts";
import { randomHex } from "../../../src/world.ts";
import type { Config } from "../../../src/config/schema.ts";

const directory = join(import.meta.dir, "../../../configs");

function config(name: string, env: Record<string, string> = {}): Config {
  const loaded = loadConfig({ randomHex, path: join(directory, name), env });
  if (!loaded.ok) throw new Error(loaded.problems.join("\n"));
  expect(loaded.notices).toEqual([]);
  return loaded.config;
}

test("every TOML file loads without a problem or a notice", () => {
  const names = readdirSync(directory).filter((name) => name.endsWith(".toml"));
  expect(names.sort()).toEqual([
    "docker.toml",
    "node1.toml",
    "node2.toml",
    "node3.toml",
    "quickstart.toml",
  ]);
  for (const name of names) config(name, { MERKLE_KV_NODE_ID: "from-outside" });
});

test("the three nodes share a broker and a topic, and know each other", () => {
  const nodes = [1, 2, 3].map((number) => config(`node${number}.toml`));
  const addressOf = (node: Config) => `${node.network.bind_address}:${node.network.bind_port}`;
  expect(nodes.map((node) => node.node_id)).toEqual(["node1", "node2", "node3"]);
  expect(nodes.map(addressOf)).toEqual(["127.0.0.1:7379", "127.0.0.1:7380", "127.0.0.1:7381"]);
  for (const node of nodes) {
    expect(node.mqtt.broker_address).toBe("tcp://127.0.0.1:1883");
    expect(node.mqtt.topic_prefix).toBe(nodes[0].mqtt.topic_prefix);
    expect(node.anti_entropy.peer_list).toEqual(
      nodes.filter((peer) => peer !== node).map(addressOf),
    );
  }
  expect(new Set(nodes.map((node) => node.storage.path)).size).toBe(3);
});

test("the quickstart hosts the broker, for this machine only", () => {
  const { mqtt, network } = config("quickstart.toml");
  expect(mqtt.broker_address).toBe("embedded");
  expect(mqtt.embedded).toMatchObject({ bind_address: "127.0.0.1", bind_port: 1883 });
  expect(network.bind_address).toBe("127.0.0.1");
});

test("the container file wants its node id from the environment", () => {
  const loaded = loadConfig({ randomHex, path: join(directory, "docker.toml"), env: {} });
  expect(loaded.ok || loaded.problems).toEqual([expect.stringContaining("MERKLE_KV_NODE_ID")]);
  const { mqtt, network } = config("docker.toml", { MERKLE_KV_NODE_ID: "n" });
  expect(network.bind_address).toBe("0.0.0.0");
  expect(mqtt.broker_address).toBe("tcp://mosquitto:1883");
});

test("the compose file starts a broker and three nodes with names and ports of their own", async () => {
  const compose = Bun.YAML.parse(await Bun.file(join(directory, "compose.yaml")).text()) as {
    services: Record<
      string,
      { environment?: { MERKLE_KV_NODE_ID: string }; ports?: string[]; build?: string }
    >;
  };
  const { mosquitto, ...nodes } = compose.services;
  expect(mosquitto).toBeDefined();
  expect(Object.values(nodes).map((node) => node.environment?.MERKLE_KV_NODE_ID)).toEqual([
    "node1",
    "node2",
    "node3",
  ]);
  expect(Object.values(nodes).flatMap((node) => node.ports)).toEqual(
    [7379, 7380, 7381].map((port) => `127.0.0.1:${port}:7379`),
  );
  for (const node of Object.values(nodes)) expect(node.build).toBe("..");
});

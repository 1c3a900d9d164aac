import { expect, test } from "bun:test";
import type { Field } from "../../../src/config/field.ts";
import { loadConfig } from "../../../src/config/load.ts";
import { randomHex } from "../../../src/world.ts";
import {
  type Config,
  environmentName,
  type KeyName,
  keyNames,
  schema,
  sectionNames,
} from "../../../src/config/schema.ts";
import { configTable } from "../../../src/documentation/configuration.ts";

const fields = schema as Record<KeyName, Field<unknown>>;

test("the Config type follows from the table, section by section", () => {
  const loaded = loadConfig({ randomHex, env: {} });
  if (!loaded.ok) throw new Error(loaded.problems.join("\n"));
  const { config } = loaded;
  // These lines are the test: the type check fails when a type is any or too wide.
  const port: number = config.mqtt.embedded.bind_port;
  const dialect: "plain" | "tagged" = config.network.dialect;
  const level: "trace" | "debug" | "info" | "warn" | "error" = config.logging.level;
  const peers: readonly string[] = config.anti_entropy.peer_list;
  const exact: [Config["network"]["dialect"]] extends [string]
    ? string extends Config["network"]["dialect"]
      ? false
      : true
    : false = true;
  // @ts-expect-error a key that is not in the table
  void config.network.no_such_key;
  expect([port, dialect, level, peers, exact]).toEqual([1883, "plain", "info", [], true]);
});

test("every default is a value its own field allows, except the node id, which has none", () => {
  const refused = keyNames.filter((key) => "refused" in fields[key].read(fields[key].fallback));
  expect(refused).toEqual(["node_id"]);
});

test("every integer field allows its bounds and nothing beyond them", () => {
  const integers = keyNames.filter((key) => /^an integer/.test(fields[key].allowed));
  expect(integers.length).toBeGreaterThan(15);
  for (const key of integers) {
    const [, from, to] = /^an integer from (-?\d+) to (\d+)$/
      .exec(fields[key].allowed)!
      .map(Number);
    for (const good of [from, to]) expect(fields[key].read(good)).toEqual({ value: good });
    for (const bad of [from - 1, to + 1, from + 0.5, BigInt(from), NaN, Infinity, `${from}`]) {
      expect(fields[key].read(bad)).toEqual({ refused: bad });
    }
  }
});

test("a fraction is from 0 to 1, also in the environment", () => {
  const field = fields["tracing.sample_ratio"];
  for (const good of [0, 1, 0.01, 1e-9]) expect(field.read(good)).toEqual({ value: good });
  for (const bad of [-0.1, 1.1, NaN, Infinity, "0.5", 1n, true]) {
    expect(field.read(bad)).toEqual({ refused: bad });
  }
  const texts = ["0", "1", " 0.25 ", ".5", "1.0", "+0.5"];
  expect(texts.map((text) => field.fromText(text))).toEqual([0, 1, 0.25, 0.5, 1, 0.5]);
  for (const text of ["", ".", "1e-3", "0x1", "-0", "half"])
    expect(field.fromText(text)).toBe(text);
});

test("a collector is at an address without a user", () => {
  const field = fields["tracing.endpoint"];
  const good = [
    "",
    "http://localhost:4318",
    "https://traces.example/v1/traces?a=b",
    "http://[::1]",
  ];
  for (const url of good) expect(field.read(url)).toEqual({ value: url });
  const bad = [
    "localhost:4318",
    "ftp://a",
    "http://",
    "http://u:p@a",
    "http://a b",
    "grpc://a:4317",
  ];
  for (const url of bad) expect(field.read(url)).toEqual({ refused: url });
});

test("environment names are distinct, and each overrides its key and no other", () => {
  expect(new Set(keyNames.map(environmentName)).size).toBe(keyNames.length);
  expect(environmentName("node_id")).toBe("MERKLE_KV_NODE_ID");
  expect(environmentName("mqtt.broker_address")).toBe("MERKLE_KV_MQTT_BROKER_ADDRESS");
  expect(environmentName("network.bind_port")).toBe("MERKLE_KV_NETWORK_BIND_PORT");
  expect(environmentName("mqtt.embedded.bind_port")).toBe("MERKLE_KV_MQTT_EMBEDDED_BIND_PORT");
  const before = flat(load({}));
  for (const key of keyNames) {
    const other = anotherValue(key);
    const given = { ...NEEDED[key], [environmentName(key)]: String(other) };
    const after = flat(load(given));
    expect([key, after.get(key)]).toEqual([key, other]);
    const changed = keyNames.filter(
      (name) => !Bun.deepEquals(after.get(name), before.get(name)) && !isNeeded(key, name),
    );
    expect(changed).toEqual(ALSO_FOLLOWS[key] ?? [key]);
  }
});

const OF_SEALING: KeyName[] = ["mqtt.client_id", "mqtt.accept_foreign_events"];
/** Keys that others follow when they are not set themselves. */
const ALSO_FOLLOWS: Partial<Record<KeyName, KeyName[]>> = {
  node_id: ["node_id", "mqtt.client_id"],
  "cluster.secret": ["cluster.secret", ...OF_SEALING],
  "cluster.secret_file": ["cluster.secret_file", ...OF_SEALING],
  "mqtt.topic_prefix": ["cluster.name", "mqtt.topic_prefix"],
};

/** What has to be set with a key. */
const PAIR = { MERKLE_KV_TLS_CERT_FILE: "a.crt", MERKLE_KV_TLS_KEY_FILE: "a.key" };
const NEEDED: Partial<Record<KeyName, Record<string, string>>> = {
  "tls.cert_file": { MERKLE_KV_TLS_KEY_FILE: "a.key" },
  "tls.key_file": { MERKLE_KV_TLS_CERT_FILE: "a.crt" },
  "tls.client_certificates": { ...PAIR, MERKLE_KV_TLS_CA_FILE: "ca.crt" },
  "mqtt.tls.cert_file": { MERKLE_KV_MQTT_TLS_KEY_FILE: "a.key" },
  "mqtt.tls.key_file": { MERKLE_KV_MQTT_TLS_CERT_FILE: "a.crt" },
  "cluster.previous_secret_files": {
    MERKLE_KV_CLUSTER_SECRET_FILE: "new.key",
    MERKLE_KV_MQTT_ACCEPT_FOREIGN_EVENTS: "true",
    MERKLE_KV_MQTT_CLIENT_ID: "n1",
  },
};

function isNeeded(key: KeyName, name: KeyName): boolean {
  return Object.hasOwn(NEEDED[key] ?? {}, environmentName(name));
}

/** Values for the keys that not just any other value of their type suits. */
const OTHER: Partial<Record<KeyName, unknown>> = {
  "cluster.previous_secret_files": ["old.key", "keys/older"],
  "storage.previous_key_files": ["old.key", "keys/older"],
  "network.bind_address": "10.1.1.1",
  "network.plaintext": "loopback",
  "network.dialect": "tagged",
  "tls.client_certificates": "require",
  "network.max_output_bytes": 67_108_865,
  "network.tls_port": 7_390,
  "auth.certificate_users": "common_name",
  "mqtt.broker_address": "wss://other",
  "mqtt.protocol_version": "5",
  "mqtt.embedded.bind_address": "::",
  "anti_entropy.peer_list": ["a:1", "[::1]:2"],
  "storage.engine": "memory",
  "storage.fsync": "always",
  "tracing.endpoint": "http://127.0.0.1:4318",
  "tracing.sample_ratio": 0.5,
  "tracing.headers": ["other: one"],
  "logging.level": "trace",
  "logging.format": "json",
};

/** A valid value for the key that is not the default. */
function anotherValue(key: KeyName): unknown {
  const { fallback } = fields[key];
  if (key in OTHER) return OTHER[key];
  if (typeof fallback === "boolean") return !fallback;
  if (Array.isArray(fallback)) return ["other"];
  if (typeof fallback === "number") return fallback === 0 ? 1 : fallback - 1;
  return "other";
}

const BASE =
  'node_id = "n1"\n[mqtt]\nbroker_address = "mqtts://broker"\nusername = "u"\n' +
  '[tls]\ncert_file = "c"\nkey_file = "k"\nca_file = "ca"\nclient_certificates = "request"\n';

function load(env: Record<string, string>): Config {
  const loaded = loadConfig({ randomHex, path: "n.toml", env, readFile: () => BASE });
  if (!loaded.ok) throw new Error(loaded.problems.join("\n"));
  return loaded.config;
}

function flat(table: object, prefix = "", into = new Map<string, unknown>()): Map<string, unknown> {
  for (const [name, value] of Object.entries(table)) {
    if (sectionNames.has(prefix + name)) flat(value as object, `${prefix}${name}.`, into);
    else into.set(prefix + name, value);
  }
  return into;
}

test("the table in the docs has a row for every key and is formatted as the formatter would", async () => {
  const table = configTable();
  const rows = table.split("\n").slice(2);
  expect(rows.map((row) => /^\| `([\w.]+)`/.exec(row)?.[1])).toEqual(keyNames);
  expect(rows[keyNames.indexOf("network.bind_port")]).toMatch(
    /\| `7379` +\| an integer from 0 to 65535 +\|/,
  );
  const formatter = Bun.spawn([process.execPath, "fmt", "--stdin-filepath=t.md"], {
    stdin: new Blob([`${table}\n`]),
    stdout: "pipe",
    stderr: "pipe",
  });
  expect(await new Response(formatter.stdout).text()).toBe(`${table}\n`);
});

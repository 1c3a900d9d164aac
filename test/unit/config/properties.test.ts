/** Laws of the configuration, for any valid and any invalid value. */
import { expect, test } from "bun:test";
import TOML from "@iarna/toml";
import fc from "fast-check";
import type { Field } from "../../../src/config/field.ts";
import { loadConfig } from "../../../src/config/load.ts";
import { randomHex } from "../../../src/world.ts";
import { environmentName, type KeyName, keyNames, schema } from "../../../src/config/schema.ts";

const fields = schema as Record<KeyName, Field<unknown>>;
const host = fc.oneof(fc.domain(), fc.ipV4(), fc.constantFrom("localhost", "my_host"));
const anyHost = fc.oneof(host, fc.ipV6());
const port = fc.integer({ min: 1, max: 65_535 });
const bracketed = fc.oneof(
  host,
  fc.ipV6().map((address) => `[${address}]`),
);
const hostPort = fc.tuple(bracketed, port).map(([name, number]) => `${name}:${number}`);
const printable = (maxLength: number, minLength = 0) =>
  fc
    .string({ unit: "grapheme-composite", minLength, maxLength })
    .map((text) => text.replace(/\p{Cc}/gu, "_"));
const topicSafe = printable(40, 1).map((text) => text.replace(/[/+#$\s]/g, "-"));
const filePath = printable(30, 1).map((path) => path.replace(/\/$/, "x"));
const scheme = fc.constantFrom("tcp", "mqtt", "mqtts", "ws", "wss");

/** Valid values for every key that is neither an integer nor a boolean. */
const TEXTS: {
  [
    Key in KeyName as (typeof schema)[Key] extends Field<infer T>
      ? T extends number | boolean
        ? never
        : Key
      : never
  ]: fc.Arbitrary<unknown>;
} = {
  node_id: topicSafe,
  description: fc.string({ maxLength: 100 }),
  "cluster.name": topicSafe,
  "cluster.secret": fc.constant(""),
  "cluster.secret_file": filePath,
  "cluster.previous_secret_files": fc.array(fc.constantFrom("a.key", "keys/b"), { maxLength: 3 }),
  "network.bind_address": anyHost,
  "network.advertise_address": fc.oneof(fc.constant(""), anyHost),
  "network.plaintext": fc.constantFrom("on", "loopback", "off"),
  "http.bind_address": fc.oneof(fc.constant(""), anyHost),
  "http.host_names": fc.array(fc.constantFrom("kv.example", "10.0.0.1"), { maxLength: 3 }),
  "tls.cert_file": filePath,
  "tls.key_file": filePath,
  "tls.ca_file": filePath,
  "tls.client_certificates": fc.constantFrom("none", "request", "require"),
  "tls.server_name": fc.constantFrom("", "merklekv"),
  "mqtt.tls.ca_file": filePath,
  "mqtt.tls.cert_file": filePath,
  "mqtt.tls.key_file": filePath,
  "mqtt.tls.server_name": fc.constantFrom("", "broker.example"),
  "mqtt.tls.alpn": fc.constantFrom("", "mqtt"),
  "network.dialect": fc.constantFrom("plain", "tagged"),
  "auth.acl_file": printable(30).map((path) => path.replace(/\/$/, "x")),
  "auth.password": fc.string(),
  "auth.certificate_users": fc.constantFrom("off", "common_name"),
  "mqtt.broker_address": fc.oneof(
    fc.constant("embedded"),
    fc.tuple(scheme, fc.oneof(bracketed, hostPort)).map(([name, rest]) => `${name}://${rest}`),
  ),
  "mqtt.topic_prefix": fc
    .array(topicSafe, { minLength: 1, maxLength: 3 })
    .map((parts) => parts.join("/")),
  "mqtt.client_id": printable(30, 1),
  "mqtt.username": printable(30, 1),
  "mqtt.password": fc.string(),
  "mqtt.protocol_version": fc.constantFrom("auto", "5", "3.1.1"),
  "mqtt.embedded.bind_address": anyHost,
  "anti_entropy.peer_list": fc.array(hostPort, { maxLength: 5 }),
  "storage.engine": fc.constantFrom("log", "memory"),
  "storage.fsync": fc.constantFrom("always", "everysec", "never"),
  "storage.backup_path": printable(30),
  "storage.path": printable(30, 1),
  "logging.level": fc.constantFrom("trace", "debug", "info", "warn", "error"),
  "logging.format": fc.constantFrom("text", "json"),
  "logging.file_path": printable(30).map((path) => path.replace(/\/$/, "x")),
  "storage.key_file": printable(30),
  "storage.previous_key_files": fc.array(fc.constantFrom("a.key", "keys/b"), { maxLength: 3 }),
  "tracing.endpoint": fc.constantFrom("", "http://127.0.0.1:4318", "https://traces.example/in"),
  "tracing.headers": fc.array(fc.constantFrom("api-key: a b", "x:"), { maxLength: 2 }),
  "audit.file": printable(30).map((path) => path.replace(/\/$/, "x")),
};

function valid(key: KeyName): fc.Arbitrary<unknown> {
  if (key in TEXTS) return TEXTS[key as keyof typeof TEXTS];
  if (typeof fields[key].fallback === "boolean") return fc.boolean();
  const [from, to] = /from (-?\d+) to (\d+)/.exec(fields[key].allowed)!.slice(1).map(Number);
  return fc.integer({ min: from, max: to });
}

const PORTS = [
  "network.bind_port",
  "network.tls_port",
  "mqtt.embedded.bind_port",
  "mqtt.embedded.tls_port",
];
/** To a broker that does not speak it. */
const WITHOUT_TLS = {
  "mqtt.tls.ca_file": "",
  "mqtt.tls.cert_file": "",
  "mqtt.tls.key_file": "",
  "mqtt.tls.server_name": "",
  "mqtt.tls.alpn": "",
  "mqtt.tls.insecure": false,
};

const validValues = fc
  .record(Object.fromEntries(keyNames.map((key) => [key, valid(key)])))
  .map((values) => {
    // The rules between keys.
    if (values["auth.acl_file"] !== "") values["auth.password"] = "";
    const namesUsers = values["tls.ca_file"] !== "" && values["tls.client_certificates"] !== "none";
    if (!namesUsers) values["auth.certificate_users"] = "off";
    if (values["audit.file"] === values["logging.file_path"]) values["audit.file"] = "";
    if (values["network.plaintext"] !== "on") values["http.tls"] = true;
    const bytes = ["network.max_value_bytes", "network.max_output_bytes"];
    const [least, most] = bytes.map((key) => values[key] as number).sort((a, b) => a - b);
    const rate = values["anti_entropy.broker_bytes_per_second"] as number;
    const ports = PORTS.map((key) => values[key] as number);
    const clash = new Set(ports).size < ports.length;
    const isSecure = /^(mqtts|wss):/.test(String(values["mqtt.broker_address"]));
    return {
      ...values,
      "anti_entropy.broker_bytes_per_second": rate < 4_096 ? 0 : rate,
      "network.max_value_bytes": least,
      "network.max_output_bytes": Math.max(most, 1024),
      ...(clash && Object.fromEntries(PORTS.map((key) => [key, 0]))),
      ...(!isSecure && WITHOUT_TLS),
    };
  });

function nested(values: Record<string, unknown>): TOML.JsonMap {
  const root: TOML.JsonMap = {};
  for (const [name, value] of Object.entries(values)) {
    const path = name.split(".");
    let table = root;
    for (const section of path.slice(0, -1)) table = (table[section] ??= {}) as TOML.JsonMap;
    table[path.at(-1)!] = value as TOML.AnyJson;
  }
  return root;
}

/** The secret itself may stand in the environment only, and beside no file with it. */
function withoutSecret(values: Record<string, unknown>): Record<string, unknown> {
  const { "cluster.secret": _, ...rest } = values;
  return rest;
}

test("any valid configuration comes back as it was written", () => {
  fc.assert(
    fc.property(validValues, (values) => {
      const expected = nested(values);
      const toml = TOML.stringify(nested(withoutSecret(values)));
      const fromFile = loadConfig({ randomHex, path: "n.toml", env: {}, readFile: () => toml });
      expect(fromFile).toMatchObject({ ok: true, config: expected as never });
    }),
  );
});

test("and the same comes from the environment alone", () => {
  fc.assert(
    fc.property(validValues, (values) => {
      const env = Object.fromEntries(
        Object.entries(withoutSecret(values)).map(([key, value]) => [
          environmentName(key as KeyName),
          String(value),
        ]),
      );
      const fromEnv = loadConfig({ randomHex, env });
      expect(fromEnv.ok ? fromEnv.config : fromEnv.problems).toEqual(nested(values) as never);
    }),
  );
});

/** TOML values that no key of the given default's type allows. */
function wrongType(fallback: unknown): fc.Arbitrary<string> {
  const literals = [
    typeof fallback !== "string" && fc.string().map((text) => TOML.stringify.value(text)),
    typeof fallback !== "boolean" && fc.constantFrom("true", "false"),
    typeof fallback !== "number" && fc.maxSafeInteger().map(String),
    !Array.isArray(fallback) && fc.constantFrom("[]", "[1]", '["a:1"]', "[[]]"),
    fc.constantFrom("1.5", "inf", "nan", "1979-05-27", "07:32:00", "1979-05-27T07:32:00Z"),
    fc.constantFrom("{}", "{ x = 1 }", "9007199254740993", "99999999999999999999999", "-2"),
    Array.isArray(fallback) && fc.constantFrom("[1]", '["a"]', "[{}]", '[["a:1"]]', "[true]"),
  ];
  return fc.oneof(...literals.filter((literal) => literal !== false));
}

const wrongValue = fc
  .constantFrom(...keyNames.filter((key) => key !== "cluster.secret"))
  .chain((key) => fc.tuple(fc.constant(key), wrongType(fields[key].fallback)))
  // Which is no address, but the path of a file, or a name.
  .filter(([key, literal]) => !/_(files|names)$/.test(key) || literal !== '["a"]');

/** What the lists of former files are of no use without. */
const COMPANIONS: Readonly<Record<string, string>> = {
  "cluster.previous_secret_files": 'cluster.secret_file = "k"',
  "storage.previous_key_files": 'storage.key_file = "k"',
};

test("a value of the wrong type is always reported, under its key, and never thrown", () => {
  fc.assert(
    fc.property(wrongValue, ([key, literal]) => {
      const others = ['node_id = "n"', 'mqtt.broker_address = "tcp://b"', 'mqtt.username = "u"'];
      const lines = [
        ...others.filter((line) => !line.startsWith(`${key} `)),
        ...(key in COMPANIONS ? [COMPANIONS[key]] : []),
        `${key} = ${literal}`,
      ];
      const loaded = loadConfig({
        randomHex,
        path: "n.toml",
        env: {},
        readFile: () => lines.join("\n"),
      });
      expect(loaded.ok || loaded.problems).toEqual([
        expect.stringMatching(
          new RegExp(`^n\\.toml: ${key.replaceAll(".", "\\.")}: found .*; allowed: `),
        ),
      ]);
    }),
    { numRuns: 500 },
  );
});

test("whatever bytes the file and the environment hold, loading returns", () => {
  const soup = fc.array(
    fc.oneof(
      fc.constantFrom(
        ...keyNames,
        "host",
        "engine",
        "[replication]",
        "[mqtt]",
        "[[network]]",
        "\n",
      ),
      fc.constantFrom("=", '"', "\n", "1", "true", "[", "]", "{", "}", ".", ",", "__proto__"),
      fc.string(),
    ),
  );
  fc.assert(
    fc.property(soup, fc.dictionary(fc.string(), fc.string()), (parts, variables) => {
      const env = Object.fromEntries(
        Object.entries(variables).map(([name, text]) => [`MERKLE_KV_${name}`, text]),
      );
      const loaded = loadConfig({ randomHex, path: "n.toml", env, readFile: () => parts.join("") });
      if (loaded.ok) return;
      expect(loaded.problems.length).toBeGreaterThan(0);
      for (const problem of loaded.problems) expect(problem).not.toMatch(/[\n\r\u001b]/);
    }),
    { numRuns: 500 },
  );
});

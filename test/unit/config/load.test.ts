import { describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ConfigSources, loadConfig } from "../../../src/config/load.ts";
import { randomHex } from "../../../src/world.ts";
import type { Config } from "../../../src/config/schema.ts";

const MINIMAL = 'node_id = "n1"\n[mqtt]\nbroker_address = "tcp://broker"\n';

function load(toml: string, env: ConfigSources["env"] = {}) {
  return loadConfig({ randomHex, path: "n.toml", env, readFile: () => toml });
}

function configOf(toml: string, env: ConfigSources["env"] = {}): Config {
  const loaded = load(toml, env);
  if (!loaded.ok) throw new Error(loaded.problems.join("\n"));
  return loaded.config;
}

function problemsOf(toml: string, env: ConfigSources["env"] = {}): string[] {
  const loaded = load(toml, env);
  return loaded.ok ? [] : loaded.problems;
}

test("a minimal file gets every default, without a notice", () => {
  expect(load(MINIMAL)).toEqual({
    ok: true,
    notices: [],
    passwordsInFile: [],
    origins: new Map([
      ["node_id", "file"],
      ["mqtt.broker_address", "file"],
    ]),
    config: {
      node_id: "n1",
      description: "",
      cluster: {
        name: "merkle-kv",
        secret: "",
        secret_file: "",
        previous_secret_files: [],
      },
      network: {
        bind_address: "127.0.0.1",
        bind_port: 7379,
        tls_port: 7380,
        plaintext: "on",
        advertise_address: "",
        max_connections: 1000,
        idle_timeout: 0,
        max_client_memory_mb: 128,
        connection_timeout: 30,
        dialect: "plain",
        max_line_bytes: 1048576,
        max_value_bytes: 8388608,
        max_output_bytes: 67108864,
        open_administration: false,
      },
      http: { bind_address: "", bind_port: 0, tls: false, api: true, host_names: [] },
      tls: {
        cert_file: "",
        key_file: "",
        ca_file: "",
        client_certificates: "none",
        server_name: "",
      },
      auth: { acl_file: "", password: "", certificate_users: "off" },
      mqtt: {
        enabled: true,
        broker_address: "tcp://broker",
        topic_prefix: "merkle-kv",
        client_id: "n1",
        username: "",
        password: "",
        keep_alive: 60,
        clean_session: true,
        protocol_version: "auto",
        max_packet_bytes: 131_072,
        max_messages_per_second: 0,
        max_event_bytes: 1048576,
        accept_foreign_events: true,
        batch_milliseconds: 5,
        batch_bytes: 65536,
        max_outbox_events: 1000000,
        tls: {
          ca_file: "",
          cert_file: "",
          key_file: "",
          server_name: "",
          alpn: "",
          insecure: false,
        },
        embedded: {
          bind_address: "127.0.0.1",
          bind_port: 1883,
          tls_port: 8883,
          max_clients: 256,
          max_packet_bytes: 4_194_304,
          max_queued_mb: 64,
          max_retained_mb: 16,
        },
      },
      anti_entropy: {
        enabled: true,
        interval_seconds: 300,
        peer_discovery_interval: 600,
        max_concurrent_syncs: 3,
        peer_list: [],
        broker_bytes_per_second: 262_144,
        forget_after_days: 30,
        max_set_aside_mb: 256,
      },
      storage: {
        engine: "log",
        persistence_enabled: true,
        fsync: "everysec",
        backup_interval_hours: 0,
        backup_path: "",
        backup_keep: 7,
        max_backups: 100,
        min_free_mb: 256,
        path: "./data",
        key_file: "",
        previous_key_files: [],
        memory_limit_mb: 0,
        max_clock_skew_ms: 60000,
        tombstone_grace_seconds: 86400,
      },
      slowlog: { log_slower_than: 10_000, max_len: 128 },
      tracing: { endpoint: "", sample_ratio: 0.01, headers: [] },
      logging: { level: "info", format: "text", file_path: "", max_file_mb: 64, keep_files: 3 },
      audit: { file: "", max_file_mb: 64, keep_files: 10 },
    },
  });
});

test("all problems are reported at once, each with place, finding and what is allowed", () => {
  const toml = `
    node_id = "a/b"
    [network]
    bind_port = 70000
    bind_address = "nowhere at all"
    dialect = "fancy"
    [mqtt]
    broker_address = "http://broker"
    topic_prefix = "a/#"
    clean_session = "yes"
    [anti_entropy]
    max_concurrent_syncs = 0
    peer_list = ["a:1", "b"]
    [storage]
    engine = "lgo"`;
  expect(problemsOf(toml, { MERKLE_KV_LOGGING_LEVEL: "loud" })).toEqual([
    'n.toml: node_id: found "a/b"; allowed: 1 to 128 characters without `/`, `+`, `#`, white space or control characters',
    'n.toml: network.bind_address: found "nowhere at all"; allowed: an IP address or a host name',
    "n.toml: network.bind_port: found 70000; allowed: an integer from 0 to 65535",
    'n.toml: network.dialect: found "fancy"; allowed: "plain" or "tagged"',
    'n.toml: mqtt.broker_address: found "http://broker"; allowed: "embedded", or host and port after `tcp://`, `mqtt://`, `mqtts://`, `ws://` or `wss://`, without user name or password',
    'n.toml: mqtt.topic_prefix: found "a/#"; allowed: 1 to 256 characters without `+`, `#`, control characters, a `/` at either end or a `$` at the start',
    'n.toml: mqtt.clean_session: found "yes"; allowed: true or false',
    "n.toml: anti_entropy.max_concurrent_syncs: found 0; allowed: an integer from 1 to 1000",
    'n.toml: anti_entropy.peer_list: found "b"; allowed: a list of `host:port` or `[ipv6]:port`, after `tls://` where TLS is spoken',
    'n.toml: storage.engine: found "lgo"; allowed: "log" or "memory"',
    'environment: MERKLE_KV_LOGGING_LEVEL: found "loud"; allowed: "trace", "debug", "info", "warn" or "error"',
  ]);
});

test("unknown keys, sections and variables are errors that name the nearest known one", () => {
  const toml = `${MINIMAL}
    [network]
    bind_prot = 1
    max_line_bytse = 1
    [mqtt.embeded]
    bind_port = 1
    [netwrok]
    x = 1
    [logging]
    bind_address = "x"`;
  expect(problemsOf(toml, { MERKLE_KV_NODEID: "x", MERKLE_KV_MQTT_BROKER_ADRESS: "x" })).toEqual([
    "n.toml: unknown section mqtt.embeded; the nearest known one is [mqtt.embedded]",
    "n.toml: unknown key network.bind_prot; the nearest known one is network.bind_port",
    "n.toml: unknown key network.max_line_bytse; the nearest known one is network.max_line_bytes",
    "n.toml: unknown section netwrok; the nearest known one is [network]",
    "n.toml: unknown key logging.bind_address; the nearest known one is network.bind_address",
    "environment: unknown MERKLE_KV_NODEID; the nearest known one is MERKLE_KV_NODE_ID",
    "environment: unknown MERKLE_KV_MQTT_BROKER_ADRESS; the nearest known one is MERKLE_KV_MQTT_BROKER_ADDRESS",
  ]);
  expect(problemsOf(`"a\\nb" = 1\n__proto__ = 1\nconstructor = 2\n${MINIMAL}`)).toEqual([
    expect.stringContaining('n.toml: unknown key "a\\nb"; the nearest'),
    expect.stringContaining("n.toml: unknown key __proto__; the nearest"),
    expect.stringContaining("n.toml: unknown key constructor; the nearest"),
  ]);
});

test("a section that is no table, and a key that is one, are errors", () => {
  expect(problemsOf('node_id = "a"\nmqtt = false\n[[network]]\nbind_port = 1')).toEqual([
    "n.toml: mqtt: found false; allowed: a section [mqtt]",
    "n.toml: network: found a list; allowed: a section [network]",
    expect.stringContaining("mqtt.broker_address: missing"),
  ]);
  expect(problemsOf(`${MINIMAL}[network.bind_port]\nx = 1`)).toEqual([
    "n.toml: network.bind_port: found a table; allowed: an integer from 0 to 65535",
  ]);
});

test("integers beyond 2^53 are refused even where the parser wraps them into range", () => {
  // 2^64 + 7379 and 2^63 wrap to 7379 and a negative number at 64 bits.
  for (const big of ["18446744073709558995", "9223372036854775808", "9007199254740992"]) {
    expect(problemsOf(`${MINIMAL}[network]\nbind_port = ${big}`)).toEqual([
      "n.toml: network.bind_port: found an integer beyond 2^53; allowed: an integer from 0 to 65535",
    ]);
    expect(problemsOf(MINIMAL, { MERKLE_KV_NETWORK_BIND_PORT: big })).toHaveLength(1);
  }
});

describe("environment", () => {
  test("overrides the file, each kind of value read in its own way", () => {
    const config = configOf(MINIMAL, {
      MERKLE_KV_NODE_ID: "n2",
      MERKLE_KV_NETWORK_BIND_PORT: " 0 ",
      MERKLE_KV_MQTT_CLEAN_SESSION: "False",
      MERKLE_KV_MQTT_EMBEDDED_BIND_PORT: "2883",
      MERKLE_KV_ANTI_ENTROPY_PEER_LIST: "a:1, [::1]:2",
      MERKLE_KV_MQTT_USERNAME: " spaces stay ",
      HOME: "/ignored",
    });
    expect(config.node_id).toBe("n2");
    expect(config.mqtt.client_id).toBe("n2");
    expect(config.network.bind_port).toBe(0);
    expect(config.mqtt.clean_session).toBe(false);
    expect(config.mqtt.embedded.bind_port).toBe(2883);
    expect(config.anti_entropy.peer_list).toEqual(["a:1", "[::1]:2"]);
    expect(config.mqtt.username).toBe(" spaces stay ");
    expect(configOf(MINIMAL, { MERKLE_KV_MQTT_ENABLED: "0" }).mqtt.enabled).toBe(false);
    expect(
      configOf(MINIMAL, { MERKLE_KV_ANTI_ENTROPY_PEER_LIST: "" }).anti_entropy.peer_list,
    ).toEqual([]);
  });

  test("replaces a bad value of the file", () => {
    expect(
      configOf(`${MINIMAL}[network]\nbind_port = "x"`, { MERKLE_KV_NETWORK_BIND_PORT: "1" }).network
        .bind_port,
    ).toBe(1);
  });

  test("bad values are refused", () => {
    expect(
      problemsOf(MINIMAL, {
        MERKLE_KV_NODE_ID: "",
        MERKLE_KV_NETWORK_BIND_PORT: "12x",
        MERKLE_KV_NETWORK_MAX_CONNECTIONS: "",
        MERKLE_KV_MQTT_ENABLED: "yes",
        MERKLE_KV_MQTT_KEEP_ALIVE: "6.5",
        MERKLE_KV_ANTI_ENTROPY_PEER_LIST: "a:1,,b:2",
      }).map((problem) => /_KV_(\w+): found (.*);/.exec(problem)?.slice(1).join(" ")),
    ).toEqual([
      'NODE_ID ""',
      'NETWORK_BIND_PORT "12x"',
      'NETWORK_MAX_CONNECTIONS ""',
      'MQTT_ENABLED "yes"',
      'MQTT_KEEP_ALIVE "6.5"',
      'ANTI_ENTROPY_PEER_LIST ""',
    ]);
  });

  test("variables that Kubernetes makes for a service called merkle-kv are no mistakes", () => {
    expect(
      problemsOf(MINIMAL, {
        MERKLE_KV_SERVICE_HOST: "10.0.0.1",
        MERKLE_KV_SERVICE_PORT: "7379",
        MERKLE_KV_SERVICE_PORT_CLIENTS: "7379",
        MERKLE_KV_PORT: "tcp://10.0.0.1:7379",
        MERKLE_KV_PORT_7379_TCP: "tcp://10.0.0.1:7379",
        MERKLE_KV_PORT_7379_TCP_ADDR: "10.0.0.1",
        MERKLE_KV_NODE_1_SERVICE_HOST: "10.0.0.1",
      }),
    ).toEqual([]);
    expect(problemsOf(MINIMAL, { MERKLE_KV_NETWORK_PORT: "7379" })).toHaveLength(1);
  });
});

describe("rules between keys", () => {
  test("a config file needs a node id, and a broker unless MQTT is off", () => {
    expect(problemsOf("")).toEqual([
      expect.stringMatching(/^n\.toml: node_id: missing; allowed: .*MERKLE_KV_NODE_ID/),
      expect.stringMatching(/^n\.toml: mqtt\.broker_address: missing; .*mqtt\.enabled = false/),
    ]);
    expect(problemsOf('node_id = "a"\n[mqtt]\nbroker_address = ""')).toHaveLength(1);
    expect(configOf('node_id = "a"\n[mqtt]\nenabled = false').mqtt.broker_address).toBe("");
  });

  test("a password needs a user name", () => {
    expect(problemsOf(`${MINIMAL}password = "x"`)).toEqual([
      expect.stringContaining("mqtt.username: missing"),
    ]);
    expect(problemsOf(`${MINIMAL}username = "u"\npassword = "x"`)).toEqual([]);
  });

  test("the largest value must fit into the output that may wait", () => {
    expect(problemsOf(`${MINIMAL}[network]\nmax_output_bytes = 8388607`)).toEqual([
      expect.stringContaining("network.max_output_bytes: found 8388607; allowed: at least"),
    ]);
  });

  test("what is audited has a file of its own", () => {
    const both = `${MINIMAL}[logging]\nfile_path = "a.log"\n[audit]\nfile = "a.log"`;
    expect(problemsOf(both)).toEqual([
      "n.toml: audit.file: found the path of logging.file_path; allowed: a file of its own",
    ]);
  });

  test("the embedded broker and the clients cannot share one port", () => {
    const toml = (port: number) =>
      `node_id = "a"\n[mqtt]\nbroker_address = "embedded"\n[mqtt.embedded]\nbind_port = ${port}\n[network]\nbind_port = ${port}`;
    expect(problemsOf(toml(7000))).toEqual([
      expect.stringContaining("mqtt.embedded.bind_port: found 7000"),
    ]);
    expect(problemsOf(toml(0))).toEqual([]);
  });
});

describe("the cluster secret", () => {
  const BASE = `${MINIMAL}[cluster]\n`;

  test("closes the door to events that nobody can seal, unless it is said otherwise", () => {
    const accepts = (toml: string, env = {}): boolean | undefined => {
      const loaded = load(toml, env);
      return loaded.ok ? loaded.config.mqtt.accept_foreign_events : undefined;
    };
    expect(accepts(MINIMAL)).toBe(true);
    expect(accepts(`${BASE}secret_file = "k"`)).toBe(false);
    expect(accepts(MINIMAL, { MERKLE_KV_CLUSTER_SECRET: "s".repeat(40) })).toBe(false);
    expect(accepts(`${MINIMAL}accept_foreign_events = true\n[cluster]\nsecret_file = "k"`)).toBe(
      true,
    );
  });

  test("has its place in a file of its own or in the environment, and one of them", () => {
    const found = "n.toml: cluster.secret: found in the file; allowed: cluster.secret_file, or";
    expect(problemsOf(`${BASE}secret = "x"`)).toEqual([
      `${found} MERKLE_KV_CLUSTER_SECRET in the environment`,
    ]);
    const env = { MERKLE_KV_CLUSTER_SECRET: "s".repeat(40) };
    expect(problemsOf(`${BASE}secret_file = "k"`, env)).toEqual([
      "n.toml: cluster.secret_file: found beside MERKLE_KV_CLUSTER_SECRET; allowed: one of the two",
    ]);
  });

  test("is none if it is empty, or only a previous one", () => {
    expect(problemsOf(MINIMAL, { MERKLE_KV_CLUSTER_SECRET: "" })).toEqual([
      'n.toml: MERKLE_KV_CLUSTER_SECRET: found ""; allowed: a secret (merklekv keygen makes one), or no such variable',
    ]);
    expect(problemsOf(`${BASE}previous_secret_files = ["old"]`)).toEqual([
      "n.toml: cluster.secret_file: missing; allowed: the current secret beside cluster.previous_secret_files (or set MERKLE_KV_CLUSTER_SECRET)",
    ]);
  });
});

test("certificates name users only if their authority is given, and clients are asked for them", () => {
  const users = '[auth]\ncertificate_users = "common_name"\n';
  const asks = 'cert_file = "c"\nkey_file = "k"\nclient_certificates = "request"\n';
  const problem = expect.stringMatching(/^n\.toml: auth\.certificate_users: found "common_name"/);
  for (const tls of ["", `[tls]\n${asks}`, '[tls]\nca_file = "ca"\n']) {
    expect(problemsOf(`${MINIMAL}${users}${tls}`)).toContainEqual(problem);
  }
  expect(problemsOf(`${MINIMAL}${users}[tls]\nca_file = "ca"\n${asks}`)).toEqual([]);
  // Not both: the file says what the default user's password is.
  const both = '[auth]\nacl_file = "x"\npassword = "24681357"\n';
  const [one] = problemsOf(`${MINIMAL}${both}`);
  expect(one).toMatch(/^n\.toml: auth\.password: found one beside auth\.acl_file/);
  expect(one).not.toContain("24681357");
});

test("passwords never appear in a problem", () => {
  const problems = problemsOf(
    'node_id = "a"\n[mqtt]\npassword = 24681357\nbroker_address = "mqtt://me:24681357/@x@broker"',
  );
  expect(problems).toHaveLength(2);
  expect(problems.join("\n")).not.toContain("24681357");
});

test("whatever is found, a problem is one line of bounded length", () => {
  const problems = problemsOf(
    `node_id = "a\\n\\u001b[31m${"x".repeat(1000)}"\n[mqtt]\nenabled = false`,
  );
  expect(problems).toHaveLength(1);
  expect(problems[0]).toMatch(/^[\x20-\x7e…]{1,300}$/);
});

test("a grace that clocks may be off by is worth a notice", () => {
  const noticesFor = (graceSeconds: number): readonly string[] => {
    const loaded = loadConfig({
      randomHex,
      env: { MERKLE_KV_NODE_ID: "n", MERKLE_KV_STORAGE_TOMBSTONE_GRACE_SECONDS: `${graceSeconds}` },
    });
    if (!loaded.ok) throw new Error(loaded.problems.join("\n"));
    return loaded.notices.slice(1);
  };
  expect(noticesFor(61)).toEqual([]);
  expect(noticesFor(60)).toEqual([
    "configuration: storage.tombstone_grace_seconds is 60 s, storage.max_clock_skew_ms 60000: " +
      "clocks that are off by as much as the grace make nodes forget deletions too soon",
  ]);
});

describe("without a config file", () => {
  test("the node runs alone, under a name made up for the run, and says so", () => {
    const loaded = loadConfig({
      env: {},
      randomHex: (digits) => "0123456789".slice(0, digits),
    });
    if (!loaded.ok) throw new Error(loaded.problems.join("\n"));
    expect(loaded.config.node_id).toBe("node-01234567");
    expect(loaded.config.mqtt.client_id).toBe("node-01234567");
    expect(loaded.config.mqtt.enabled).toBe(false);
    expect(loaded.config.storage.engine).toBe("memory");
    expect(loaded.notices).toEqual([
      "no config file: node-01234567 (a name for this run only) starts alone with defaults, keeping nothing on disk; give one with --config FILE",
    ]);
  });

  test("names differ from run to run", () => {
    const names = Array.from({ length: 20 }, () => {
      const loaded = loadConfig({ randomHex, env: {} });
      return loaded.ok ? loaded.config.node_id : "";
    });
    expect(new Set(names).size).toBe(20);
    for (const name of names) expect(name).toMatch(/^node-[0-9a-f]{8}$/);
  });

  test("the environment still applies, and a broker in it turns MQTT on", () => {
    const loaded = loadConfig({
      randomHex,
      env: { MERKLE_KV_NODE_ID: "n", MERKLE_KV_MQTT_BROKER_ADDRESS: "tcp://b" },
    });
    if (!loaded.ok) throw new Error(loaded.problems.join("\n"));
    expect(loaded.config.mqtt.enabled).toBe(true);
    expect(loaded.notices).toEqual([
      "no config file: n starts replicating through tcp://b with defaults, keeping nothing on disk; give one with --config FILE",
    ]);
    const off = loadConfig({
      randomHex,
      env: { MERKLE_KV_MQTT_BROKER_ADDRESS: "tcp://b", MERKLE_KV_MQTT_ENABLED: "false" },
    });
    expect(off.ok && off.config.mqtt.enabled).toBe(false);
    const empty = loadConfig({ randomHex, env: { MERKLE_KV_MQTT_BROKER_ADDRESS: "" } });
    expect(empty.ok && empty.config.mqtt.enabled).toBe(false);
    const needed = loadConfig({ randomHex, env: { MERKLE_KV_MQTT_ENABLED: "true" } });
    expect(needed.ok || needed.problems).toEqual([
      expect.stringMatching(/^configuration: mqtt\.broker_address: missing/),
    ]);
  });
});

describe("a file that is none", () => {
  const directory = mkdtempSync(join(tmpdir(), "merklekv-config-"));
  process.on("exit", () => rmSync(directory, { recursive: true, force: true }));
  const fromDisk = (path: string) => {
    const loaded = loadConfig({ randomHex, path, env: {} });
    return loaded.ok ? [] : loaded.problems;
  };

  test("missing, a directory, not UTF-8: one clear line", () => {
    expect(fromDisk(join(directory, "none.toml"))).toEqual([
      `${directory}/none.toml: config file not found`,
    ]);
    expect(fromDisk(directory)).toEqual([`${directory}: is a directory, not a config file`]);
    const binary = join(directory, "binary.toml");
    writeFileSync(binary, new Uint8Array([0x61, 0xff, 0xfe]));
    expect(fromDisk(binary)).toEqual([`${binary}: config file is not UTF-8 text`]);
  });

  test("permission denied by the system: one clear line", () => {
    const readFile = () => {
      throw Object.assign(new Error("EACCES: permission denied, open 'x'"), { code: "EACCES" });
    };
    const loaded = loadConfig({ randomHex, path: "x.toml", env: {}, readFile });
    expect(loaded.ok || loaded.problems).toEqual([
      "x.toml: config file cannot be read: permission denied",
    ]);
  });

  test("a byte order mark is no error", () => {
    const path = join(directory, "bom.toml");
    writeFileSync(path, `\ufeff${MINIMAL}`);
    expect(fromDisk(path)).toEqual([]);
  });

  test("bad TOML: one line that names the line and column", () => {
    for (const [toml, start] of [
      ["a = 1\nb = \n", "n.toml: line 2, column 5: not valid TOML: Unexpected character"],
      ["a = 1\na = 2\n", "n.toml: line 2, column 6: not valid TOML: Can't redefine existing key"],
      ['a = "x', "n.toml: line 1, column"],
    ] as const) {
      const problems = problemsOf(toml);
      expect(problems).toHaveLength(1);
      expect(problems[0]).toStartWith(start);
      expect(problems[0]).not.toMatch(/[\n\r]| at row/);
    }
  });
});

describe("TLS and ports", () => {
  const PAIR = '[tls]\ncert_file = "a.crt"\nkey_file = "a.key"\n';
  test.each([
    ["a certificate without a key", '[tls]\ncert_file = "a.crt"', "tls.key_file: missing"],
    ["a key without a certificate", '[tls]\nkey_file = "a.key"', "tls.cert_file: missing"],
    [
      "no plain text and no TLS",
      '[network]\nplaintext = "off"',
      "tls.cert_file: missing; allowed: a certificate, because without TLS",
    ],
    [
      "client certificates without authorities",
      `${PAIR}client_certificates = "require"`,
      "tls.ca_file: missing",
    ],
    [
      "one port for both",
      `${PAIR}[network]\ntls_port = 7379`,
      "network.tls_port: found 7379; allowed: a port other than network.bind_port",
    ],
    [
      "TLS for a broker that speaks none",
      '[mqtt.tls]\nca_file = "ca.crt"',
      "mqtt.broker_address: does not speak TLS",
    ],
  ])("%s", (_, toml, problem) => {
    const problems = problemsOf(`${MINIMAL}\n${toml}`);
    expect(problems).toHaveLength(1);
    expect(problems[0]).toContain(problem);
  });

  test("to take any certificate of the broker's is remarked on", () => {
    const toml = MINIMAL.replace("tcp:", "mqtts:") + "[mqtt.tls]\ninsecure = true";
    const loaded = load(toml);
    expect(loaded.ok && loaded.notices).toEqual([
      "n.toml: mqtt.tls.insecure takes any certificate: whoever is on the way to the broker can be the broker",
    ]);
  });

  test("a port for TLS without a certificate is remarked on, for nothing listens there", () => {
    const loaded = load(`${MINIMAL}\n[network]\ntls_port = 7390`);
    expect(loaded.ok && loaded.notices).toEqual([
      "n.toml: nothing listens at network.tls_port without a certificate: set tls.cert_file",
    ]);
    const withTls = load(`${MINIMAL}\n${PAIR}[network]\ntls_port = 7390`);
    expect(withTls.ok && withTls.notices).toEqual([]);
  });

  test("without plain text its port is nobody's", () => {
    const toml = `${MINIMAL}\n${PAIR}[network]\nplaintext = "off"\ntls_port = 7379`;
    expect(problemsOf(toml)).toEqual([]);
  });
});

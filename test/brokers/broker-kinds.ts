/**
 * The brokers that a cluster is tried with: how each is installed, and how it is started as it comes,
 * on a port of 127.0.0.1.
 *
 * All come from package registries: Debian, the Go module proxy, Maven Central, crates.io and PyPI.
 * What is not Debian's goes into one directory, `$MERKLEKV_BROKERS`, and is found there again.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { mosquittoPath } from "../support/mosquitto.ts";
import { ARTEMIS, HIVEMQ, MOQUETTE } from "./java-brokers.ts";

const home = process.env["MERKLEKV_BROKERS"] ?? join(homedir(), ".cache", "merklekv-brokers");

/** A process to be started. */
export interface Start {
  readonly command: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

/** One kind of broker. */
export interface BrokerKind {
  readonly name: string;
  /** What is to be known of it, and set. */
  readonly advice: string;
  /** What is installed; null: nothing is. */
  version(): string | null;
  /** Commands that install it, one after the other. */
  install(): readonly (readonly string[])[];
  /** Writes what it needs into a directory of its own, and says what to start. */
  start(port: number, directory: string): readonly Start[];
  /** Where nodes connect besides `port`: two brokers that are joined. */
  secondPort?(port: number): number;
}

const aptGet = (name: string): readonly string[][] => [
  ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-q", "-y", name],
];

const mosquitto: BrokerKind = {
  name: "mosquitto",
  advice: "Nothing. It announces `max_packet_size`; `message_size_limit` is found out.",
  version: () => mosquittoPath && said([mosquittoPath, "-h"], /mosquitto version (\S+)/),
  install: () => aptGet("mosquitto"),
  start: (port) => [{ command: [mosquittoPath!, "-p", `${port}`] }],
};

const bridge: BrokerKind = {
  ...mosquitto,
  name: "two mosquittos, bridged",
  advice: "`topic <topic_prefix>/# both 1` in the bridge.",
  start(port, directory) {
    const second = join(directory, "second.conf");
    const lines = [
      `listener ${port + 1} 127.0.0.1`,
      "allow_anonymous true",
      "connection first",
      `address 127.0.0.1:${port}`,
      "topic # both 1",
      "cleansession true",
    ];
    writeFileSync(second, `${lines.join("\n")}\n`);
    return [...mosquitto.start(port, directory), { command: [mosquittoPath!, "-c", second] }];
  },
  secondPort: (port) => port + 1,
};

const rabbit: BrokerKind = {
  name: "RabbitMQ, MQTT plugin",
  advice: "Nothing. It speaks MQTT 5 from 3.13 on.",
  version: () => said(["dpkg-query", "-W", "rabbitmq-server"], /rabbitmq-server\s+(\S+)/),
  install: () => aptGet("rabbitmq-server"),
  start(port, directory) {
    const plugins = join(directory, "enabled_plugins");
    const config = join(directory, "rabbitmq.conf");
    writeFileSync(plugins, "[rabbitmq_mqtt].\n");
    const lines = [
      `mqtt.listeners.tcp.default = 127.0.0.1:${port}`,
      `listeners.tcp.default = 127.0.0.1:${port + 1}`,
      "mqtt.allow_anonymous = true",
    ];
    writeFileSync(config, `${lines.join("\n")}\n`);
    const env = {
      HOME: directory,
      RABBITMQ_NODENAME: `merklekv${port}@localhost`,
      RABBITMQ_DIST_PORT: `${port + 2}`,
      RABBITMQ_ENABLED_PLUGINS_FILE: plugins,
      RABBITMQ_CONFIG_FILE: config,
      RABBITMQ_MNESIA_BASE: directory,
      RABBITMQ_LOG_BASE: directory,
      RABBITMQ_PID_FILE: join(directory, "pid"),
    };
    return [{ command: ["/usr/lib/rabbitmq/bin/rabbitmq-server"], env }];
  },
};

const nats: BrokerKind = {
  name: "NATS server",
  advice: "Nothing. Its `max_payload` of 1 MiB is found out.",
  ...goModule("nats-server", "github.com/nats-io/nats-server/v2"),
  start(port, directory) {
    const config = join(directory, "nats.conf");
    const jetstream = `jetstream { store_dir: "${directory}/jetstream" }`;
    writeFileSync(
      config,
      `server_name: merklekv\nhost: 127.0.0.1\nport: -1\n${jetstream}\nmqtt { host: 127.0.0.1, port: ${port} }\n`,
    );
    return [{ command: [join(home, "bin", "nats-server"), "-c", config] }];
  },
};

const mochi: BrokerKind = {
  name: "mochi-mqtt",
  advice: "Nothing.",
  ...goModule("cmd", "github.com/mochi-mqtt/server/v2", "/cmd"),
  start: (port) => [
    {
      command: [
        join(home, "bin", "cmd"),
        ...["-tcp", `127.0.0.1:${port}`, "-ws", "127.0.0.1:0", "-info", "127.0.0.1:0"],
      ],
    },
  ],
};

const rumqttd: BrokerKind = {
  name: "rumqttd",
  advice:
    "`max_payload_size` is 20,480 and found out by lost connections: raise it, or set `mqtt.max_packet_bytes`.",
  version: () => said([join(home, "bin", "rumqttd"), "--version"], /rumqttd (\S+)/),
  install: () => [["cargo", "install", "-q", "rumqttd", "--root", home]],
  start(port, directory) {
    const config = join(directory, "rumqttd.toml");
    writeFileSync(config, rumqttdConfig(port));
    return [{ command: [join(home, "bin", "rumqttd"), "-c", config] }];
  },
};

/** That of its own repository, with one listener a version of MQTT. */
function rumqttdConfig(port: number): string {
  const listener = (kind: string, at: number): string => `
[${kind}.1]
name = "${kind}-1"
listen = "127.0.0.1:${at}"
next_connection_delay_ms = 1
[${kind}.1.connections]
connection_timeout_ms = 60000
max_payload_size = 20480
max_inflight_count = 100
dynamic_filters = true
`;
  return `id = 0
[router]
id = 0
max_connections = 10010
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10
${listener("v4", port)}${listener("v5", port + 1)}`;
}

const amqtt: BrokerKind = {
  name: "amqtt",
  advice: 'It does not answer MQTT 5: `mqtt.protocol_version = "3.1.1"` saves the wait.',
  version: () => said([join(home, "amqtt/bin/pip"), "show", "amqtt"], /Version: (\S+)/),
  install: () => [
    ["python3", "-m", "venv", join(home, "amqtt")],
    [join(home, "amqtt/bin/pip"), "install", "-q", "amqtt"],
  ],
  start(port, directory) {
    const config = join(directory, "amqtt.yaml");
    const lines = [
      "listeners:",
      "  default:",
      "    type: tcp",
      `    bind: 127.0.0.1:${port}`,
      "auth:",
      "  allow-anonymous: true",
    ];
    writeFileSync(config, `${lines.join("\n")}\n`);
    return [{ command: [join(home, "amqtt/bin/amqtt"), "-c", config] }];
  },
};

const embedded: BrokerKind = {
  name: "embedded (aedes)",
  advice: "Nothing. It speaks 3.1.1 only.",
  version: () => packageVersion("aedes"),
  install: () => [],
  start: (port) => [{ command: [process.execPath, embeddedProgram, `${port}`] }],
};
const embeddedProgram = join(import.meta.dir, "embedded-broker.ts");

/** All that are tried, in the order of the table. */
export const brokerKinds: readonly BrokerKind[] = [
  mosquitto,
  bridge,
  embedded,
  rabbit,
  nats,
  mochi,
  javaBroker("HiveMQ CE", HIVEMQ),
  javaBroker("Moquette", MOQUETTE),
  javaBroker("Artemis", ARTEMIS),
  rumqttd,
  amqtt,
];

/** A broker made by `go install` of a module. */
function goModule(
  program: string,
  module: string,
  path = "",
): Pick<BrokerKind, "version" | "install"> {
  const file = join(home, "bin", program);
  return {
    version: () =>
      existsSync(file) ? said(["go", "version", "-m", file], /\tmod\t\S+\tv(\S+)/) : null,
    install: () => [
      ["env", `GOBIN=${join(home, "bin")}`, "go", "install", `${module}${path}@latest`],
    ],
  };
}

/** One that runs inside a few lines of Java, and whose jars come from Maven Central. */
function javaBroker(name: string, broker: typeof HIVEMQ): BrokerKind {
  const directory = join(home, name.toLowerCase().replace(" ", "-"));
  const pom = join(directory, "pom.xml");
  const classpath = join(directory, "classpath");
  return {
    name,
    advice: broker.advice,
    version: () => (existsSync(classpath) ? broker.version : null),
    install() {
      mkdirSync(directory, { recursive: true });
      writeFileSync(pom, broker.pom);
      const goal = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:build-classpath";
      return [["mvn", "-q", "-f", pom, goal, `-Dmdep.outputFile=${classpath}`]];
    },
    start(port, at) {
      const source = join(at, "Broker.java");
      writeFileSync(source, broker.program);
      const jars = readFileSync(classpath, "utf8").trim();
      return [{ command: ["java", "-Xmx512m", "-cp", jars, source, `${port}`, at] }];
    },
  };
}

function packageVersion(name: string): string {
  const file = join(dirname(import.meta.dir), "..", "node_modules", name, "package.json");
  return (JSON.parse(readFileSync(file, "utf8")) as { version: string }).version;
}

/** The part of what a program says that matches; null when there is no such program. */
function said(command: readonly string[], pattern: RegExp): string | null {
  try {
    const { stdout, stderr } = Bun.spawnSync([...command]);
    return pattern.exec(`${stdout.toString()}${stderr.toString()}`)?.[1] ?? null;
  } catch {
    return null;
  }
}

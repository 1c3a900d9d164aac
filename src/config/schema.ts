/**
 * Every configuration key, once. Loading, environment overrides, validation, the
 * `Config` type and the documentation's table all follow from this table; to add a key is
 * to add a row. A row's name is its place in the TOML file: `mqtt.embedded.bind_port`
 * is `bind_port` in `[mqtt.embedded]`. Rules between keys are in `load.ts`.
 */
import { CLUSTER_RULE, isClusterName, isNodeId, NODE_ID_RULE } from "../core/data/name.ts";
import { isHost, isWebAddress, parseBrokerAddress, parseNodeAddress } from "./address.ts";
import { boolean, choice, type Field, fraction, integer, list, text } from "./field.ts";

const HOST = { allowed: "an IP address or a host name", accepts: isHost };
/** Whether a text can be the path of a file; empty stands for none. */
function isFilePath(path: string): boolean {
  return !path.includes("\0") && !path.endsWith("/");
}
const FILE = { allowed: "the path of a file, or empty", accepts: isFilePath, isPath: true };
/** What stands for "none" stands for a part that is not there; it comes and goes at a start. */
const SWITCH = { notFromOrTo: [""] };
const SERVER_NAME = {
  allowed: "a host name, or empty",
  accepts: (name: string) => name === "" || isHost(name),
};
const DAY_SECONDS = 86_400;

/** Name of a key → what it is. The order is that of the documentation. */
export const schema = {
  node_id: text({
    fallback: "",
    fallbackText: "(required)",
    allowed: NODE_ID_RULE,
    accepts: isNodeId,
    doc: "Name of this node, unique in the cluster and the same over restarts.",
  }),
  description: text({
    fallback: "",
    allowed: "up to 1024 characters",
    accepts: (text) => [...text].length <= 1024,
    reloads: "at once",
    doc: "A note for people; nothing depends on it.",
  }),

  "cluster.name": text({
    fallback: "",
    fallbackText: "`mqtt.topic_prefix`",
    allowed: `${CLUSTER_RULE}, or empty`,
    accepts: (name) => name === "" || isClusterName(name),
    doc: "Name of the cluster; nodes with another one are refused.",
  }),
  "cluster.secret": text({
    fallback: "",
    allowed: "a text of 32 to 1024 bytes, in the environment only",
    accepts: () => true,
    secret: true,
    reloads: "at once",
    doc: "The cluster's secret itself, only ever set as `MERKLE_KV_CLUSTER_SECRET`; a file is safer.",
  }),
  "cluster.secret_file": text({
    fallback: "",
    ...FILE,
    reloads: "at once",
    doc: "File with the cluster's secret, the same for all nodes (`merklekv keygen` makes one). With it, all that nodes tell each other is sealed.",
  }),
  "cluster.previous_secret_files": list({
    fallback: [],
    allowed: "a list of paths of files",
    accepts: (path) => path !== "" && isFilePath(path),
    isPath: true,
    reloads: "at once",
    doc: "Files with secrets that are understood beside the current one, for as long as it is being changed.",
  }),

  "network.bind_address": text({
    fallback: "127.0.0.1",
    ...HOST,
    doc: "Address to listen on for clients; `0.0.0.0` is every IPv4 and `::` every address.",
  }),
  "network.bind_port": integer({
    fallback: 7379,
    from: 0,
    to: 65_535,
    doc: "Port to listen on for clients; 0 takes a free one.",
  }),
  "network.tls_port": integer({
    fallback: 7380,
    from: 0,
    to: 65_535,
    doc: "Port to listen on for clients that speak TLS, once there is a `tls.cert_file`; 0 takes a free one.",
  }),
  "network.plaintext": choice(["on", "loopback", "off"], {
    fallback: "on",
    doc: "Who may speak without TLS: everybody, this machine, or nobody. It is so for clients, for peers in both directions, and at the embedded broker.",
  }),
  "network.advertise_address": text({
    fallback: "",
    fallbackText: "`bind_address`, or this machine's own",
    allowed: 'an IP address or a host name, "none", or empty',
    accepts: (host) => host === "" || isHost(host),
    reloads: "at once",
    doc: "Where peers are told to reach this node; `none` says that nobody can, so that they come through the broker.",
  }),
  "network.max_connections": integer({
    fallback: 1000,
    from: 1,
    to: 1_000_000,
    reloads: "at once",
    doc: "Clients connected at once; one more gets an error. The limit of open files may allow fewer.",
  }),
  "network.connection_timeout": integer({
    fallback: 30,
    from: 1,
    to: DAY_SECONDS,
    reloads: "at once",
    doc: "Seconds in which a client has to complete a request, its first one included, and to read some of what it is sent.",
  }),
  "network.idle_timeout": integer({
    fallback: 0,
    from: 0,
    to: 30 * DAY_SECONDS,
    reloads: "at once",
    doc: "Seconds of silence after which a client's connection is closed; 0 lets idle ones stay.",
  }),
  "network.dialect": choice(["plain", "tagged"], {
    fallback: "plain",
    reloads: "at once",
    doc: "How replies to text lines are written until a connection says `DIALECT`.",
  }),
  "network.max_line_bytes": integer({
    fallback: 1_048_576,
    from: 64,
    to: 1_073_741_824,
    reloads: "at once",
    doc: "Longest text line; a longer one is skipped and answered with an error.",
  }),
  "network.max_value_bytes": integer({
    fallback: 8_388_608,
    from: 1,
    to: 536_870_912,
    reloads: "at once",
    doc: "Largest value, however it comes in.",
  }),
  "network.max_output_bytes": integer({
    fallback: 67_108_864,
    from: 1024,
    to: 1_073_741_824,
    reloads: "at once",
    doc: "Replies held for a client that does not read; past it the connection is cut.",
  }),
  "network.max_client_memory_mb": integer({
    fallback: 128,
    from: 1,
    to: 1_048_576,
    reloads: "at once",
    doc: "MiB held for all clients together; at least twice the largest reply or request. Past it the greediest is cut.",
  }),

  "network.open_administration": boolean({
    fallback: false,
    reloads: "at once",
    doc: "Whether clients on other machines may administer the node, and peers there sync without a secret, while no user is configured.",
  }),

  "auth.acl_file": text({
    fallback: "",
    fallbackText: "(none)",
    ...FILE,
    reloads: "at once",
    doc: "Users and their rights, in the syntax of Redis' ACL files; mode 0600.",
  }),
  "auth.password": text({
    fallback: "",
    allowed: "up to 4096 bytes",
    accepts: (password) => Buffer.byteLength(password) <= 4_096,
    secret: true,
    reloads: "at once",
    doc: "Password of the default user, who may do everything, when there is no file of users; better set as `MERKLE_KV_AUTH_PASSWORD`.",
  }),
  "auth.certificate_users": choice(["off", "common_name"], {
    fallback: "off",
    reloads: "at once",
    doc: "Whether a client is, without a login, the user that its certificate names.",
  }),

  "http.bind_address": text({
    fallback: "",
    fallbackText: "`127.0.0.1` once there is a `bind_port`",
    allowed: "an IP address or a host name, or empty",
    accepts: (host) => host === "" || isHost(host),
    doc: "Address to listen on for HTTP: `/metrics`, `/healthz`, `/readyz`, `/version` and the API below `/v1/`.",
  }),
  "http.bind_port": integer({
    fallback: 0,
    from: 0,
    to: 65_535,
    doc: "Port for HTTP; 0 takes a free one if there is a `bind_address`, and else serves none.",
  }),
  "http.tls": boolean({
    fallback: false,
    doc: "Whether the port for HTTP speaks TLS, with the certificates of `[tls]`, and nothing else.",
  }),
  "http.api": boolean({
    fallback: true,
    reloads: "at once",
    doc: "Whether keys are served over HTTP, below `/v1/`; see [http.md](http.md).",
  }),
  "http.host_names": list({
    fallback: [],
    allowed: "host names",
    accepts: isHost,
    reloads: "at once",
    doc: "Names by which the API may be called where there are no users; addresses always may.",
  }),

  "tls.cert_file": text({
    fallback: "",
    ...FILE,
    reloads: SWITCH,
    doc: "This node's certificate in PEM, and those between it and its authority. With one the node serves TLS; to peers it shows it, too.",
  }),
  "tls.key_file": text({
    fallback: "",
    ...FILE,
    reloads: SWITCH,
    doc: "The key of that certificate in PEM, which nobody else may read.",
  }),
  "tls.ca_file": text({
    fallback: "",
    ...FILE,
    reloads: "at once",
    doc: "The authorities in PEM that certificates of clients and peers come from; without it, those that everybody trusts.",
  }),
  "tls.client_certificates": choice(["none", "request", "require"], {
    fallback: "none",
    reloads: "at once",
    doc: "Whether clients are asked for certificates, and whether they need one. What is shown has to be valid.",
  }),
  "tls.server_name": text({
    fallback: "",
    fallbackText: "the address it is reached at",
    ...SERVER_NAME,
    reloads: "at once",
    doc: "The name that a peer's certificate has to be made for.",
  }),

  "mqtt.enabled": boolean({
    fallback: true,
    doc: "Whether writes are replicated over MQTT.",
  }),
  "mqtt.broker_address": text({
    fallback: "",
    fallbackText: "(required if enabled)",
    allowed:
      '"embedded", or host and port after `tcp://`, `mqtt://`, `mqtts://`, `ws://` or `wss://`, without user name or password',
    accepts: (address) =>
      address === "" || address === "embedded" || parseBrokerAddress(address) !== undefined,
    reloads: { notFromOrTo: ["", "embedded"] },
    doc: "The MQTT broker; `embedded` makes this node host it.",
  }),
  "mqtt.topic_prefix": text({
    fallback: "merkle-kv",
    allowed: CLUSTER_RULE,
    accepts: isClusterName,
    doc: "First part of every topic; nodes with the same one are a cluster.",
  }),
  "mqtt.client_id": text({
    fallback: "",
    fallbackText: "`node_id`; with a cluster secret, a name that hides it",
    allowed: "up to 256 characters without control characters",
    accepts: (id) => /^\P{Cc}{0,256}$/u.test(id),
    reloads: "at once",
    doc: "Client name at the broker, unique there.",
  }),
  "mqtt.username": text({
    fallback: "",
    allowed: "any text without control characters",
    accepts: (name) => /^\P{Cc}*$/u.test(name),
    reloads: "at once",
    doc: "User name at the broker; empty logs in without one.",
  }),
  "mqtt.password": text({
    fallback: "",
    allowed: "any text",
    accepts: () => true,
    secret: true,
    reloads: "at once",
    doc: "Password at the broker; better set as `MERKLE_KV_MQTT_PASSWORD`.",
  }),
  "mqtt.keep_alive": integer({
    fallback: 60,
    from: 1,
    to: 65_535,
    reloads: "at once",
    doc: "Seconds of silence after which the broker is probed.",
  }),
  "mqtt.clean_session": boolean({
    fallback: true,
    reloads: "at once",
    doc: "Whether the broker forgets this node when it leaves; false makes it queue what is missed.",
  }),
  "mqtt.protocol_version": choice(["auto", "5", "3.1.1"], {
    fallback: "auto",
    reloads: "at once",
    doc: "Version of MQTT; `auto` prefers 5, and settles for 3.1.1 with a broker that has no other.",
  }),
  "mqtt.max_packet_bytes": integer({
    fallback: 131_072,
    from: 1_024,
    to: 268_435_455,
    reloads: "at once",
    doc: "Longest packet sent to the broker, less if it announces less; a larger value travels as a notice that peers fetch it by.",
  }),
  "mqtt.max_messages_per_second": integer({
    fallback: 0,
    from: 0,
    to: 1_000_000,
    reloads: "at once",
    doc: "Messages sent to the broker in a second at most; batches are longer instead. 0: as many as it takes, which is found out when it says that there are too many, drops some, or ends connections.",
  }),
  "mqtt.max_event_bytes": integer({
    fallback: 1_048_576,
    from: 256,
    to: 134_217_728,
    reloads: "at once",
    doc: "Largest value taken from or given to the broker; a larger one is fetched by peers.",
  }),
  "mqtt.accept_foreign_events": boolean({
    fallback: true,
    fallbackText: "`true` without a cluster secret, `false` with one",
    reloads: "at once",
    doc: "Whether single events of other implementations (`<topic_prefix>/events`), which are never sealed, are taken.",
  }),
  "mqtt.batch_milliseconds": integer({
    fallback: 5,
    from: 0,
    to: 10_000,
    reloads: "at once",
    doc: "Longest time a write waits for others to share a message with. A write after a quiet while leaves at once.",
  }),
  "mqtt.batch_bytes": integer({
    fallback: 65_536,
    from: 256,
    to: 134_217_728,
    reloads: "at once",
    doc: "Size at which a batch of events is sent at once.",
  }),
  "mqtt.max_outbox_events": integer({
    fallback: 1_000_000,
    from: 1,
    to: 100_000_000,
    reloads: "at once",
    doc: "Events held while the broker is away; past it peers learn by comparing instead.",
  }),
  "mqtt.tls.ca_file": text({
    fallback: "",
    ...FILE,
    reloads: "at once",
    doc: "The authorities in PEM that the certificate of an `mqtts://` or `wss://` broker comes from; without it, those that everybody trusts.",
  }),
  "mqtt.tls.cert_file": text({
    fallback: "",
    ...FILE,
    reloads: "at once",
    doc: "The certificate in PEM that is shown to the broker.",
  }),
  "mqtt.tls.key_file": text({
    fallback: "",
    ...FILE,
    reloads: "at once",
    doc: "The key of that certificate in PEM, which nobody else may read.",
  }),
  "mqtt.tls.server_name": text({
    fallback: "",
    fallbackText: "the host in `mqtt.broker_address`",
    ...SERVER_NAME,
    reloads: "at once",
    doc: "The name that is asked for, and that the broker's certificate has to be made for.",
  }),
  "mqtt.tls.alpn": text({
    fallback: "",
    allowed: "up to 255 characters of ASCII",
    accepts: (name) => /^[!-~]{0,255}$/.test(name),
    reloads: "at once",
    doc: "The protocol that is asked for by ALPN; AWS IoT Core on port 443 wants `x-amzn-mqtt-ca`.",
  }),
  "mqtt.tls.insecure": boolean({
    fallback: false,
    reloads: "at once",
    doc: "Whether any certificate of the broker's is taken. Then anybody on the way can be the broker.",
  }),
  "mqtt.embedded.bind_address": text({
    fallback: "127.0.0.1",
    ...HOST,
    doc: "Address the embedded broker listens on.",
  }),
  "mqtt.embedded.bind_port": integer({
    fallback: 1883,
    from: 0,
    to: 65_535,
    doc: "Port the embedded broker listens on; 0 takes a free one.",
  }),
  "mqtt.embedded.tls_port": integer({
    fallback: 8883,
    from: 0,
    to: 65_535,
    doc: "Port on which it speaks TLS, once there is a `tls.cert_file`; 0 takes a free one.",
  }),
  "mqtt.embedded.max_clients": integer({
    fallback: 256,
    from: 1,
    to: 100_000,
    reloads: "at once",
    doc: "Clients of the embedded broker; one more is cut off.",
  }),
  "mqtt.embedded.max_packet_bytes": integer({
    fallback: 4_194_304,
    from: 1_024,
    to: 268_435_455,
    reloads: "at once",
    doc: "Longest packet it takes, or as long as this node's own may get; who sends more is cut off.",
  }),
  "mqtt.embedded.max_queued_mb": integer({
    fallback: 64,
    from: 1,
    to: 1_048_576,
    reloads: "at once",
    doc: "MiB it keeps for absent subscribers (a quarter of it for one), and as much half sent.",
  }),
  "mqtt.embedded.max_retained_mb": integer({
    fallback: 16,
    from: 1,
    to: 1_048_576,
    reloads: "at once",
    doc: "MiB of retained messages it keeps; others are delivered and not retained.",
  }),

  "anti_entropy.enabled": boolean({
    fallback: true,
    reloads: "at once",
    doc: "Whether this node compares itself with its peers and heals differences.",
  }),
  "anti_entropy.interval_seconds": integer({
    fallback: 300,
    from: 1,
    to: 30 * DAY_SECONDS,
    reloads: "at once",
    doc: "Seconds between comparisons.",
  }),
  "anti_entropy.peer_discovery_interval": integer({
    fallback: 600,
    from: 1,
    to: 30 * DAY_SECONDS,
    reloads: "at once",
    doc: "Seconds between looks for new peers.",
  }),
  "anti_entropy.max_concurrent_syncs": integer({
    fallback: 3,
    from: 1,
    to: 1000,
    reloads: "at once",
    doc: "Comparisons running at once: so many begun here, and so many begun by peers.",
  }),
  "anti_entropy.broker_bytes_per_second": integer({
    fallback: 262_144,
    from: 0,
    to: 1_073_741_824,
    reloads: { notFromOrTo: [0] },
    doc: "Bytes a second that comparisons may send through the broker, with peers that cannot be reached otherwise; at least 4,096, and 0 is for none.",
  }),
  "anti_entropy.peer_list": list({
    fallback: [],
    allowed: "a list of `host:port` or `[ipv6]:port`, after `tls://` where TLS is spoken",
    accepts: (peer) => parseNodeAddress(peer) !== undefined,
    reloads: "at once",
    doc: "Client addresses of peers, besides those found over MQTT. `tls://host:port` is one at which TLS is spoken.",
  }),
  "anti_entropy.forget_after_days": integer({
    fallback: 30,
    from: 1,
    to: 36_500,
    reloads: "at once",
    doc: "Days without contact after which a member is forgotten; at least eight times the grace.",
  }),
  "anti_entropy.max_set_aside_mb": integer({
    fallback: 256,
    from: 1,
    to: 1_048_576,
    reloads: "at once",
    doc: "MiB of the file for entries that were refused rather than lost (`storage.path`).",
  }),

  "storage.engine": choice(["log", "memory"], {
    fallback: "log",
    doc: "`log` keeps the data in `storage.path`; `memory` starts empty and is filled by its peers.",
  }),
  "storage.persistence_enabled": boolean({
    fallback: true,
    doc: "`false` means the engine `memory`, whatever `storage.engine` says.",
  }),
  "storage.fsync": choice(["always", "everysec", "never"], {
    fallback: "everysec",
    doc: "When a write is safe from a power cut: before it is answered, within a second, or some time.",
  }),
  "storage.backup_interval_hours": integer({
    fallback: 0,
    from: 0,
    to: 8_760,
    reloads: "at once",
    doc: "Hours between backups that are made unasked; 0 makes none.",
  }),
  "storage.backup_path": text({
    fallback: "",
    isPath: true,
    allowed: "a path",
    accepts: (path) => !path.includes("\0"),
    reloads: "at once",
    doc: "Directory for backups; when empty, `backups` in `storage.path`.",
  }),
  "storage.backup_keep": integer({
    fallback: 7,
    from: 0,
    to: 100_000,
    reloads: "at once",
    doc: "How many of the unasked backups are kept; 0 keeps all.",
  }),
  "storage.max_backups": integer({
    fallback: 100,
    from: 1,
    to: 100_000,
    reloads: "at once",
    doc: "Backups that may be there when another is to be made on command.",
  }),
  "storage.min_free_mb": integer({
    fallback: 256,
    from: 0,
    to: 1_048_576,
    reloads: "at once",
    doc: "MiB of the disk that a backup leaves free; one that would take them is refused or given up.",
  }),
  "storage.path": text({
    fallback: "./data",
    allowed: "a path",
    accepts: (path) => path !== "" && !path.includes("\0"),
    doc: "Directory for data; `memory` writes only what was set aside there.",
  }),
  "storage.key_file": text({
    fallback: "",
    fallbackText: "(none)",
    allowed: "the path of a file, or empty",
    accepts: (path) => !path.includes("\0"),
    doc: "File with the key that log, snapshots, backups and what is set aside are sealed with; `merklekv keygen` makes one.",
  }),
  "storage.previous_key_files": list({
    fallback: [],
    allowed: "a list of paths",
    accepts: (path) => path !== "" && !path.includes("\0"),
    doc: "Files with former keys, to read what was sealed with them.",
  }),
  "storage.memory_limit_mb": integer({
    fallback: 0,
    from: 0,
    to: 1_048_576,
    reloads: "at once",
    doc: "MiB of data past which writes answer `Storage full`; 0 sets no limit.",
  }),
  "storage.max_clock_skew_ms": integer({
    fallback: 60_000,
    from: 1,
    to: DAY_SECONDS * 1000,
    doc: "Milliseconds a peer's clock may be ahead before its writes are refused.",
  }),
  "storage.tombstone_grace_seconds": integer({
    fallback: DAY_SECONDS,
    from: 1,
    to: 3650 * DAY_SECONDS,
    doc: "Seconds a deletion is remembered for peers that are away; the same everywhere.",
  }),

  "slowlog.log_slower_than": integer({
    fallback: 10_000,
    from: -1,
    to: 3_600_000_000,
    reloads: "at once",
    doc: "Microseconds a command may take before `SLOWLOG` keeps it; 0 keeps all, -1 none. Below 1000 every command is timed.",
  }),
  "slowlog.max_len": integer({
    fallback: 128,
    from: 0,
    to: 10_000,
    reloads: "at once",
    doc: "Commands that `SLOWLOG` keeps.",
  }),

  "tracing.endpoint": text({
    fallback: "",
    fallbackText: "(none)",
    allowed: "an http:// or https:// URL without a user, or empty",
    accepts: (url) => url === "" || isWebAddress(url),
    reloads: "at once",
    doc: "Where traces are sent, by OTLP over HTTP: a collector, such as `http://127.0.0.1:4318`; without a path `/v1/traces` is meant.",
  }),
  "tracing.sample_ratio": fraction({
    fallback: 0.01,
    reloads: "at once",
    doc: "The part of the commands and syncs that is traced where no client asks for it; of commands never more than 1,000 times this in a second.",
  }),
  "tracing.headers": list({
    fallback: [],
    allowed: 'a list of headers, each as "name: value"',
    accepts: (header) => /^[\w!#$%&'*+.^`|~-]+:[\t\x20-\x7e]*$/.test(header),
    secret: true,
    reloads: "at once",
    doc: "Headers to send with traces, such as a key that the collector asks for.",
  }),

  "logging.level": choice(["trace", "debug", "info", "warn", "error"], {
    fallback: "info",
    reloads: "at once",
    doc: "The least important messages to write.",
  }),
  "logging.format": choice(["text", "json"], {
    fallback: "text",
    reloads: "at once",
    doc: "A line for people, or a JSON object a line.",
  }),
  "logging.file_path": text({
    fallback: "",
    fallbackText: "(standard error)",
    ...FILE,
    reloads: "at once",
    doc: "File to append to; reopened on SIGHUP.",
  }),
  "logging.max_file_mb": integer({
    fallback: 64,
    from: 0,
    to: 1_048_576,
    reloads: "at once",
    doc: "MiB at which the file is renamed to `.1` and another begun; 0 sets no limit.",
  }),
  "logging.keep_files": integer({
    fallback: 3,
    from: 0,
    to: 1000,
    reloads: "at once",
    doc: "How many of the renamed files are kept, `.1` being the newest.",
  }),

  "audit.file": text({
    fallback: "",
    fallbackText: "(none)",
    ...FILE,
    reloads: SWITCH,
    doc: "File to append to who administered the node, changed users, failed to log in or was denied something; reopened on SIGHUP.",
  }),
  "audit.max_file_mb": integer({
    fallback: 64,
    from: 0,
    to: 1_048_576,
    reloads: "at once",
    doc: "MiB at which the file is renamed to `.1` and another begun; 0 sets no limit.",
  }),
  "audit.keep_files": integer({
    fallback: 10,
    from: 0,
    to: 1000,
    reloads: "at once",
    doc: "How many of the renamed files are kept, `.1` being the newest.",
  }),
} satisfies Record<string, Field<unknown>>;

/** What Redis calls settings that are here, too. */
export const REDIS_NAMES: Readonly<Record<string, KeyName>> = {
  "slowlog-log-slower-than": "slowlog.log_slower_than",
  "slowlog-max-len": "slowlog.max_len",
};

/** Full name of a key: `network.bind_port`. */
export type KeyName = keyof typeof schema;

type ValueOf<Row> = Row extends Field<infer Value> ? Value : never;
type HeadOf<Name> = Name extends `${infer Head}.${string}` ? Head : Name;
type Inside<Rows, Section extends PropertyKey> = {
  [
    Name in keyof Rows as Name extends `${Section & string}.${infer Rest}` ? Rest : never
  ]: Rows[Name];
};
type Nested<Rows> = {
  readonly [Head in HeadOf<keyof Rows> & PropertyKey]: Head extends keyof Rows
    ? ValueOf<Rows[Head]>
    : Nested<Inside<Rows, Head>>;
};

/** The configuration of a node: checked, complete, named as in the TOML file. */
export type Config = Nested<typeof schema>;

/** Every key's full name, in table order. */
export const keyNames = Object.keys(schema) as KeyName[];

/** Every section's full name: `network`, `mqtt`, `mqtt.embedded`, … */
export const sectionNames: ReadonlySet<string> = new Set(
  keyNames.map((name) => name.slice(0, Math.max(0, name.lastIndexOf(".")))).filter(Boolean),
);

/** What the names of all environment variables of ours start with. */
export const ENVIRONMENT_PREFIX = "MERKLE_KV_";

/** The environment variable that overrides a key: `MERKLE_KV_NETWORK_BIND_PORT`. */
export function environmentName(key: KeyName): string {
  return ENVIRONMENT_PREFIX + key.replaceAll(".", "_").toUpperCase();
}

/** What a configuration has for a key. */
export function valueOf(config: Config, key: KeyName): unknown {
  let value: unknown = config;
  for (const part of key.split(".")) value = (value as Record<string, unknown>)[part];
  return value;
}

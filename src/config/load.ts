/**
 * From a TOML file and the environment to a checked configuration, or to the list of
 * everything that is wrong with them.
 *
 * The steps: read the file into settings (name → found value and place), turn older
 * names into today's, lay the environment over it, check every key against the schema,
 * then check the rules between keys. Problems are collected on the way, never thrown.
 */
import { readFileSync } from "node:fs";
import TOML from "@iarna/toml";
import { describeFound } from "./field.ts";
import { nearest } from "./nearest.ts";
import { translateOlderKeys, translateOlderEngine, olderNames } from "./older-keys.ts";
import {
  type Config,
  ENVIRONMENT_PREFIX,
  environmentName,
  type KeyName,
  keyNames,
  schema,
  sectionNames,
} from "./schema.ts";
import { type Settings, readSetting } from "./settings.ts";
import { tlsConflicts } from "./tls-conflicts.ts";

/** Where the configuration comes from. */
export interface ConfigSources {
  /** Path of the TOML file; without one the node starts alone with defaults. */
  path?: string | undefined;
  /** The environment: variables of ours override the file, others are ignored. */
  env: Record<string, string | undefined>;
  /** Reads a whole text file; throws a system error when it cannot. For tests. */
  readFile?: (path: string) => string;
  /** So many random hexadecimal digits, for the name of a node that was given none. */
  randomHex: (digits: number) => string;
}

/**
 * A configuration with remarks for the log and the names of the keys whose passwords stand in the
 * file itself; or every problem found, one line each.
 */
export type LoadedConfig =
  | { ok: true; config: Config; notices: string[]; passwordsInFile: string[] }
  | { ok: false; problems: string[] };

/** Loads and checks the configuration. Never throws for anything a user can get wrong. */
export function loadConfig(sources: ConfigSources): LoadedConfig {
  const { path, env, readFile = readUtf8, randomHex } = sources;
  const problems: string[] = [];
  const settings: Settings = new Map();

  let renamed: string[] = [];
  if (path !== undefined) {
    const table = parseFile(path, readFile);
    if (typeof table === "string") return { ok: false, problems: [table] };
    collectTable(table, "", path, settings, problems);
    renamed = translateOlderKeys(settings, problems);
  }
  // A file without the replication section of its time never replicated.
  const olderAlone =
    renamed.length > 0 && ![...settings.keys()].some((key) => key.startsWith("mqtt."));
  const replicates = path !== undefined && !olderAlone;
  collectEnvironment(env, settings, problems);
  renamed.push(...translateOlderEngine(settings));

  const values = new Map<KeyName, unknown>();
  for (const key of keyNames)
    values.set(key, readSetting<unknown>(settings, key, schema[key], problems));
  if (!settings.has("mqtt.enabled")) {
    values.set("mqtt.enabled", replicates || hasBroker(settings));
  }
  // A name for one run has no data to come back to.
  if (path === undefined && !settings.has("storage.engine")) values.set("storage.engine", "memory");
  if (path === undefined && !settings.has("node_id")) values.set("node_id", `node-${randomHex(8)}`);
  follow(values, settings);

  const config = nest(values);
  const where = path ?? "configuration";
  for (const problem of conflicts(config, settings)) problems.push(`${where}: ${problem}`);
  if (problems.length > 0) return { ok: false, problems };

  const notices: string[] = [];
  if (path === undefined) notices.push(withoutFile(config, settings.has("node_id")));
  if (renamed.length > 0)
    notices.push(`${where}: older names were understood: ${renamed.join(", ")}`);
  const { max_clock_skew_ms, tombstone_grace_seconds } = config.storage;
  if (max_clock_skew_ms >= tombstone_grace_seconds * 1000) {
    const values = `${tombstone_grace_seconds} s, storage.max_clock_skew_ms ${max_clock_skew_ms}`;
    notices.push(
      `${where}: storage.tombstone_grace_seconds is ${values}: ` +
        "clocks that are off by as much as the grace make nodes forget deletions too soon",
    );
  }
  if (config.mqtt.tls.insecure) {
    const who = "whoever is on the way to the broker can be the broker";
    notices.push(`${where}: mqtt.tls.insecure takes any certificate: ${who}`);
  }
  for (const key of ["network.tls_port", "mqtt.embedded.tls_port"]) {
    if (config.tls.cert_file !== "" || !settings.has(key)) continue;
    notices.push(`${where}: nothing listens at ${key} without a certificate: set tls.cert_file`);
  }
  const passwordsInFile = keyNames.filter((key) => {
    const isInFile = settings.get(key)?.at.startsWith("environment") === false;
    return isInFile && schema[key].secret === true && values.get(key) !== "";
  });
  return { ok: true, config, notices, passwordsInFile };
}

/** The file as a table, or the one line that says why it cannot be one. */
function parseFile(path: string, readFile: (path: string) => string): object | string {
  let content: string;
  try {
    content = readFile(path);
  } catch (error) {
    return `${path}: ${whyUnreadable(error)}`;
  }
  try {
    return TOML.parse(content);
  } catch (error) {
    const { line, col, message } = error as { line?: number; col?: number; message: string };
    const place = line === undefined ? "" : ` line ${line + 1}, column ${(col ?? 0) + 1}:`;
    return `${path}:${place} not valid TOML: ${message.replace(/( at row \d+.*|\n.*)$/s, "")}`;
  }
}

function whyUnreadable(error: unknown): string {
  const { code, message } = error as { code?: string; message: string };
  if (code === "ENOENT") return "config file not found";
  if (code === "EISDIR") return "is a directory, not a config file";
  if (code === "EACCES" || code === "EPERM") return "config file cannot be read: permission denied";
  if (code === "ERR_ENCODING_INVALID_ENCODED_DATA") return "config file is not UTF-8 text";
  return `config file cannot be read: ${message}`;
}

/** Adds what a TOML table holds, sections and all, to `settings`. */
function collectTable(
  table: object,
  prefix: string,
  path: string,
  settings: Settings,
  problems: string[],
): void {
  for (const [key, found] of Object.entries(table)) {
    const name = prefix + key;
    const at = `${path}: ${name}`;
    if (Object.hasOwn(schema, name) || olderNames.has(name)) {
      settings.set(name, { found, at });
    } else if (sectionNames.has(name) || name === "replication") {
      if (isTable(found)) collectTable(found, `${name}.`, path, settings, problems);
      else problems.push(`${at}: found ${describeFound(found)}; allowed: a section [${name}]`);
    } else if (isTable(found)) {
      const near = nearest(name, [...sectionNames]);
      problems.push(
        `${path}: unknown section ${bounded(name)}; the nearest known one is [${near}]`,
      );
    } else {
      const near = nearest(name, keyNames);
      problems.push(`${path}: unknown key ${bounded(name)}; the nearest known one is ${near}`);
    }
  }
}

function isTable(found: unknown): found is object {
  return (
    typeof found === "object" && found !== null && !Array.isArray(found) && !(found instanceof Date)
  );
}

/** What `merklekv cli` and its like look for, which is not about this node. */
const CLIENT_VARIABLES: ReadonlySet<string> = new Set(["MERKLE_KV_PASSWORD", "MERKLE_KV_USER"]);

/** Lays the environment's variables of ours over `settings`. */
function collectEnvironment(
  env: Record<string, string | undefined>,
  settings: Settings,
  problems: string[],
): void {
  const keyOf = new Map(keyNames.map((key) => [environmentName(key), key]));
  for (const [name, text] of Object.entries(env)) {
    if (text === undefined || !name.startsWith(ENVIRONMENT_PREFIX)) continue;
    if (CLIENT_VARIABLES.has(name)) continue;
    const key = keyOf.get(name);
    if (key !== undefined) {
      settings.set(key, { found: schema[key].fromText(text), at: `environment: ${name}` });
    } else if (!isServiceLink(name, text)) {
      const near = nearest(name, [...keyOf.keys()]);
      problems.push(`environment: unknown ${bounded(name)}; the nearest known one is ${near}`);
    }
  }
}

/**
 * Whether Kubernetes or Docker made the variable up: a service called "merkle-kv" puts
 * MERKLE_KV_SERVICE_HOST, MERKLE_KV_PORT_7379_TCP_ADDR and the like into every container.
 */
function isServiceLink(name: string, text: string): boolean {
  return (
    /_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP)(_(PROTO|PORT|ADDR))?)$/.test(name) ||
    (name.endsWith("_PORT") && /^(tcp|udp):\/\//.test(text))
  );
}

/** Gives keys that were not set what follows from others. */
function follow(values: Map<KeyName, unknown>, settings: Settings): void {
  const isEmpty = (key: KeyName): boolean => values.get(key) === "";
  const isSealed = !isEmpty("cluster.secret") || !isEmpty("cluster.secret_file");
  // What is sealed is not to be seen by whose it is either: the replicator finds a name.
  if (isEmpty("mqtt.client_id") && !isSealed) values.set("mqtt.client_id", values.get("node_id"));
  if (isEmpty("cluster.name")) values.set("cluster.name", values.get("mqtt.topic_prefix"));
  const isForeignSet = settings.has("mqtt.accept_foreign_events");
  if (!isForeignSet) values.set("mqtt.accept_foreign_events", !isSealed);
}

/** The rules between keys: what is wrong although each key is right by itself. */
function* conflicts(config: Config, settings: Settings): Generator<string> {
  const { auth, network, mqtt } = config;
  yield* secretConflicts(config, settings);
  if (config.node_id === "" && !settings.has("node_id")) {
    yield `node_id: missing; allowed: ${schema.node_id.allowed} (or set ${environmentName("node_id")})`;
  }
  if (mqtt.enabled && !hasBroker(settings)) {
    yield `mqtt.broker_address: missing; allowed: ${schema["mqtt.broker_address"].allowed} (or set mqtt.enabled = false)`;
  }
  if (mqtt.password !== "" && mqtt.username === "") {
    yield "mqtt.username: missing; allowed: the user name that goes with mqtt.password";
  }
  if (auth.certificate_users !== "off") {
    const { ca_file, client_certificates } = config.tls;
    if (ca_file === "" || client_certificates === "none") {
      yield 'auth.certificate_users: found "common_name"; allowed: "off", or with tls.ca_file, whose certificates name users, and tls.client_certificates "request" or "require"';
    }
  }
  if (auth.acl_file !== "" && auth.password !== "") {
    yield "auth.password: found one beside auth.acl_file; allowed: one of the two (in the file: user default on #SHA256 ~* +@all)";
  }
  const { audit, logging } = config;
  if (audit.file !== "" && audit.file === logging.file_path) {
    yield "audit.file: found the path of logging.file_path; allowed: a file of its own";
  }
  if (network.max_output_bytes < network.max_value_bytes) {
    yield `network.max_output_bytes: found ${network.max_output_bytes}; allowed: at least network.max_value_bytes (${network.max_value_bytes}), or that value could never be read`;
  }
  const { broker_bytes_per_second } = config.anti_entropy;
  if (broker_bytes_per_second > 0 && broker_bytes_per_second < 4_096) {
    yield `anti_entropy.broker_bytes_per_second: found ${broker_bytes_per_second}; allowed: at least 4096, or 0 for none`;
  }
  yield* tlsConflicts(config);
}

/** A secret that is not where it belongs, or less of one than somebody may count on. */
function* secretConflicts({ cluster }: Config, settings: Settings): Generator<string> {
  const variable = environmentName("cluster.secret");
  const direct = settings.get("cluster.secret");
  if (direct !== undefined && !direct.at.startsWith("environment")) {
    yield `cluster.secret: found in the file; allowed: cluster.secret_file, or ${variable} in the environment`;
  } else if (direct !== undefined && cluster.secret === "") {
    yield `${variable}: found ""; allowed: a secret (merklekv keygen makes one), or no such variable`;
  } else if (direct !== undefined && cluster.secret_file !== "") {
    yield `cluster.secret_file: found beside ${variable}; allowed: one of the two`;
  }
  if (cluster.secret + cluster.secret_file === "" && cluster.previous_secret_files.length > 0) {
    yield `cluster.secret_file: missing; allowed: the current secret beside cluster.previous_secret_files (or set ${variable})`;
  }
}

/** Whether a broker address was given, good or bad; an empty one counts as none. */
function hasBroker(settings: Settings): boolean {
  return (settings.get("mqtt.broker_address")?.found ?? "") !== "";
}

/** Turns `network.bind_port` → 7379 into { network: { bind_port: 7379 } }. */
function nest(values: Map<KeyName, unknown>): Config {
  const root: Record<string, unknown> = {};
  for (const [name, value] of values) {
    const path = name.split(".");
    const key = path.pop()!;
    let table = root;
    for (const section of path) table = (table[section] ??= {}) as Record<string, unknown>;
    table[key] = value;
  }
  return root as unknown as Config; // sound because both follow from `schema`
}

function withoutFile(config: Config, isNamed: boolean): string {
  const name = isNamed ? config.node_id : `${config.node_id} (a name for this run only)`;
  const company = config.mqtt.enabled
    ? `replicating through ${config.mqtt.broker_address}`
    : "alone";
  const memory = config.storage.engine === "memory" ? ", keeping nothing on disk" : "";
  return `no config file: ${name} starts ${company} with defaults${memory}; give one with --config FILE`;
}

/** A name from outside, fit for one line. */
function bounded(name: string): string {
  return /^[\w.-]{1,100}$/.test(name) ? name : describeFound(name);
}

function readUtf8(path: string): string {
  return new TextDecoder("utf-8", { fatal: true }).decode(readFileSync(path));
}

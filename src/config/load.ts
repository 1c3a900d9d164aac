/**
 * From a TOML file and the environment to a checked configuration, or to the list of
 * everything that is wrong with them.
 *
 * The steps: read the file into settings (name → found value and place), turn older
 * names into today's, lay the environment over it, check every key against the schema,
 * then check the rules between keys. Problems are collected on the way, never thrown.
 */
import { closeSync, constants, fstatSync, openSync, readFileSync } from "node:fs";
import TOML from "@iarna/toml";
import { conflicts, hasBroker } from "./conflicts.ts";
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
import { type Origin, type Settings, readSetting } from "./settings.ts";

/** Where the configuration comes from. */
export interface ConfigSources {
  /** Path of the TOML file; without one the node starts alone with defaults. */
  path?: string | undefined;
  /** The environment: variables of ours override the file, others are ignored. */
  env: Record<string, string | undefined>;
  /** Reads a whole text file; throws a system error when it cannot. For tests. */
  readFile?: (path: string) => string;
  /** What was set by CONFIG SET: name → value, as in the environment. It wins over all else. */
  given?: ReadonlyMap<KeyName, string>;
  /** So many random hexadecimal digits, for the name of a node that was given none. */
  randomHex: (digits: number) => string;
}

/**
 * A configuration with remarks for the log and the names of the keys whose passwords stand in the
 * file itself; or every problem found, one line each.
 */
export type LoadedConfig =
  | {
      ok: true;
      config: Config;
      notices: string[];
      passwordsInFile: string[];
      /** Where the values that are no defaults come from. */
      origins: ReadonlyMap<KeyName, Origin>;
    }
  | { ok: false; problems: string[] };

/** Loads and checks the configuration. Never throws for anything a user can get wrong. */
export function loadConfig(sources: ConfigSources): LoadedConfig {
  const { path, env, readFile = readUtf8, given, randomHex } = sources;
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
  for (const [key, text] of given ?? []) {
    const found = schema[key].fromText(text);
    settings.set(key, { found, at: `CONFIG SET: ${key}`, from: "CONFIG SET" });
  }

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

  const notices = noticesOn(config, settings, path, renamed);
  const passwordsInFile = keyNames.filter((key) => {
    const isInFile = settings.get(key)?.from === "file";
    return isInFile && schema[key].secret === true && values.get(key) !== "";
  });
  const found = keyNames.filter((key) => settings.has(key));
  const origins = new Map(found.map((key) => [key, settings.get(key)!.from] as const));
  return { ok: true, config, notices, passwordsInFile, origins };
}

/** What is not wrong, and yet somebody may want to know. */
function noticesOn(
  config: Config,
  settings: Settings,
  path: string | undefined,
  renamed: readonly string[],
): string[] {
  const where = path ?? "configuration";
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
  return notices;
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
      settings.set(name, { found, at, from: "file" });
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
      const found = schema[key].fromText(text);
      settings.set(key, { found, at: `environment: ${name}`, from: "environment" });
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

/** Reads a file of UTF-8. Throws the system error, or a TypeError for other bytes. */
export function readUtf8(path: string): string {
  return new TextDecoder("utf-8", { fatal: true }).decode(readFileSync(path));
}

/**
 * The same for a node that runs: a pipe, for which a start may wait, would hold up everybody, and a
 * device has no end. Throws for what is no file, too, and for one that is too long.
 */
export function readRegularUtf8(path: string): string {
  const file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const about = fstatSync(file);
    if (about.isDirectory()) throw Object.assign(new Error(), { code: "EISDIR" });
    if (!about.isFile()) throw new Error("it is no file");
    if (about.size > MAX_FILE_BYTES) throw new Error(`it has more than ${MAX_FILE_BYTES} bytes`);
    return new TextDecoder("utf-8", { fatal: true }).decode(readFileSync(file));
  } finally {
    closeSync(file);
  }
}

/** More than any configuration has. */
const MAX_FILE_BYTES = 1024 * 1024;

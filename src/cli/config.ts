/** `merklekv config`: checks a configuration without a node, and shows what is in effect. */
import { AccessFileReader } from "../access/access-file.ts";
import { commandTable } from "../commands/table.ts";
import type { Field } from "../config/field.ts";
import { loadConfig, type LoadedConfig } from "../config/load.ts";
import {
  environmentName,
  keyNames,
  schema,
  valueOf,
  type Config,
  type KeyName,
} from "../config/schema.ts";
import { loadDiskKeys } from "../durability/sealing.ts";
import { OperationalError } from "../operational-error.ts";
import { loadClusterSecrets } from "../security/cluster-secrets.ts";
import { readPrivateFile } from "../security/secret-file.ts";
import { readTlsMaterial, tlsKeys } from "../security/tls-material.ts";
import { randomHex, realWorld } from "../world.ts";
import { UsageError, type Arguments, type Subcommand } from "./arguments.ts";
import { environmentFor } from "./service-environment.ts";

/** The subcommand. Exit code 0: good; 1: something is wrong with it. */
export const config: Subcommand = {
  usage: "config check FILE | config show [--config FILE] [--changed] [--json]",
  about:
    "check says everything that is wrong with a configuration, and with the certificates, secrets\n" +
    "and users that it names. show prints what a node started here would run with, and where each\n" +
    "value comes from: default, file, or environment. Secrets are hidden. Exit code 0: all is\n" +
    "well; 1: something is wrong.",
  options: [
    { long: "--config", short: "-c", value: "FILE", about: "The configuration, in TOML." },
    { long: "--changed", about: "Show only what is no default." },
    { long: "--json", about: "Print one JSON object." },
  ],
  acceptsOperands: "anywhere",

  async run(given) {
    const [action, path, ...rest] = given.words;
    if (action === "check" && path !== undefined && rest.length === 0) return check(path, given);
    if (action === "show" && path === undefined) return show(given);
    throw new UsageError(`usage: ${config.usage}`);
  },
};

function load(path: string | undefined): LoadedConfig {
  return loadConfig({ path, env: environmentFor(path, process.env), randomHex });
}

function check(path: string, given: Arguments): number {
  const loaded = load(path);
  const problems = loaded.ok ? [...problemsAround(loaded.config)] : loaded.problems;
  const notices = loaded.ok ? loaded.notices : [];
  if (given.has("--json")) {
    console.log(JSON.stringify({ ok: problems.length === 0, problems, notices }));
    return problems.length === 0 ? 0 : 1;
  }
  for (const problem of problems) console.error(problem);
  for (const notice of notices) console.error(`note: ${notice}`);
  if (problems.length === 0) console.log(`${path}: good`);
  return problems.length === 0 ? 0 : 1;
}

/** What is wrong with the files that a configuration names, as a start would find out. */
export function* problemsAround(found: Config): Generator<string> {
  const { tls, mqtt, auth, cluster, storage } = found;
  const wallMs = realWorld.wallMs();
  const readAll = [
    () => {
      if (tls.cert_file + tls.ca_file !== "") readTlsMaterial(tlsKeys("tls"), tls, wallMs);
    },
    () => {
      const { cert_file, ca_file } = mqtt.tls;
      const isUsed = mqtt.enabled && cert_file + ca_file !== "";
      if (isUsed) readTlsMaterial(tlsKeys("mqtt.tls"), mqtt.tls, wallMs);
    },
    () => readUsers(auth),
    () => loadClusterSecrets(cluster),
    () => loadDiskKeys(storage, realWorld.randomWords),
  ];
  for (const read of readAll) {
    try {
      read();
    } catch (error) {
      if (!(error instanceof OperationalError)) throw error;
      yield error.message;
    }
  }
}

function readUsers({ acl_file, certificate_users }: Config["auth"]): void {
  if (acl_file === "") return;
  const content = readPrivateFile(acl_file, "the file of users (auth.acl_file)");
  const byCertificate = certificate_users === "common_name";
  const reader = new AccessFileReader(content, acl_file, commandTable.permissions, byCertificate);
  while (!reader.step());
  if (!(reader.result instanceof Map)) throw new OperationalError(reader.result.join("\n"));
}

function show(given: Arguments): number {
  const loaded = load(given.get("--config"));
  if (!loaded.ok) {
    for (const problem of loaded.problems) console.error(problem);
    return 1;
  }
  const shown = keyNames
    .map((key) => ({ key, value: shownValue(loaded.config, key), from: originOf(loaded, key) }))
    .filter(({ from }) => !given.has("--changed") || from !== "default");
  if (given.has("--json")) {
    const entries = shown.map(({ key, value, from }) => [key, { value, from }]);
    console.log(JSON.stringify(Object.fromEntries(entries)));
    return 0;
  }
  const lines = shown.map((it) => ({ ...it, text: `${it.key} = ${JSON.stringify(it.value)}` }));
  const width = Math.min(60, Math.max(0, ...lines.map(({ text }) => text.length)));
  for (const { text, from } of lines) console.log(`${text.padEnd(width)}  # ${from}`);
  return 0;
}

function originOf({ origins }: Extract<LoadedConfig, { ok: true }>, key: KeyName): string {
  const origin = origins.get(key);
  return origin === "environment" ? environmentName(key) : (origin ?? "default");
}

/** The value, but for a secret. */
function shownValue(found: Config, key: KeyName): unknown {
  const { secret = false }: Field<unknown> = schema[key];
  const value = valueOf(found, key);
  return secret && value !== "" ? "(hidden)" : value;
}

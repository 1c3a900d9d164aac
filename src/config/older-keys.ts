/**
 * The older, flat form of the configuration file: its names are read and turned into
 * today's. The same goes for older engine names. Nothing else knows of them.
 */
import { formatHostPort, isHost } from "./address.ts";
import { integer, text } from "./field.ts";
import { type Setting, type Settings, readSetting } from "./settings.ts";

/** Older names that are a plain rename; `replication.client_id` is one of two, see below. */
const RENAMED: Record<string, string> = {
  host: "network.bind_address",
  port: "network.bind_port",
  storage_path: "storage.path",
  engine: "storage.engine",
  sync_interval_seconds: "anti_entropy.interval_seconds",
  "replication.enabled": "mqtt.enabled",
  "replication.topic_prefix": "mqtt.topic_prefix",
  "replication.client_id": "node_id",
  "replication.client_password": "mqtt.password",
  "replication.peer_list": "anti_entropy.peer_list",
};

/** Two older keys that make up one of today's. */
const BROKER_HOST = "replication.mqtt_broker";
const BROKER_PORT = "replication.mqtt_port";
const brokerHost = text({
  fallback: "localhost",
  allowed: "an IP address or a host name",
  accepts: isHost,
  doc: "Host of the MQTT broker.",
});
const brokerPort = integer({
  fallback: 1883,
  from: 1,
  to: 65_535,
  doc: "Port of the MQTT broker.",
});

const RENAMED_ENGINES: Record<string, string> = { rwlock: "memory", kv: "memory", sled: "log" };

/** Every key name of the older form. */
export const olderNames: ReadonlySet<string> = new Set([
  ...Object.keys(RENAMED),
  BROKER_HOST,
  BROKER_PORT,
]);

/**
 * Replaces older names in `settings` by today's. Returns what was renamed, one phrase
 * each; conflicts and bad values go to `problems`.
 */
export function translateOlderKeys(settings: Settings, problems: string[]): string[] {
  const renamed: string[] = [];
  const rename = (from: string, to: string, setting: Setting, refers = from): void => {
    settings.delete(from);
    renamed.push(`${refers} is now ${to}`);
    const present = settings.get(to);
    if (present === undefined) settings.set(to, setting);
    else if (!Bun.deepEquals(present.found, setting.found)) {
      problems.push(`${setting.at}: set to something else as ${to} too; keep only ${to}`);
    }
  };

  // A password went with the client id as the user name.
  const clientId = settings.get("replication.client_id");
  const password = settings.get("replication.client_password");
  const hasPassword = password !== undefined && password.found !== "";
  if (hasPassword && typeof clientId?.found === "string" && !settings.has("mqtt.username")) {
    settings.set("mqtt.username", clientId);
  }
  // The client id also named the node, unless the file names it already.
  const identity = settings.has("node_id") ? "mqtt.client_id" : "node_id";
  for (const [from, to] of Object.entries(RENAMED)) {
    const setting = settings.get(from);
    if (setting) rename(from, from === "replication.client_id" ? identity : to, setting);
  }

  const broker = settings.get(BROKER_HOST) ?? settings.get(BROKER_PORT);
  if (broker) {
    const host = readSetting(settings, BROKER_HOST, brokerHost, problems);
    const port = readSetting(settings, BROKER_PORT, brokerPort, problems);
    settings.delete(BROKER_PORT);
    const found = `tcp://${formatHostPort(host, port)}`;
    rename(
      BROKER_HOST,
      "mqtt.broker_address",
      { ...broker, found },
      `${BROKER_HOST} with mqtt_port`,
    );
  }
  return renamed;
}

/** As `modernise`, for an older name of the storage engine, wherever it was set. */
export function translateOlderEngine(settings: Settings): string[] {
  const engine = settings.get("storage.engine");
  if (typeof engine?.found !== "string" || !Object.hasOwn(RENAMED_ENGINES, engine.found)) return [];
  const name = RENAMED_ENGINES[engine.found];
  settings.set("storage.engine", { ...engine, found: name });
  return [`engine "${engine.found}" is now "${name}"`];
}

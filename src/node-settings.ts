/** The settings of a running node: how commands reach them, and what the log says of changes. */
import type { SettingsControl } from "./commands/services.ts";
import type { Field } from "./config/field.ts";
import type { LiveConfig, Outcome } from "./config/live-config.ts";
import {
  keyNames,
  REDIS_NAMES,
  schema,
  valueOf,
  type Config,
  type KeyName,
} from "./config/schema.ts";
import type { Logger } from "./observability/log.ts";
import { activeTrace, inTrace } from "./tracer.ts";

/** What a connection to the broker has, so that another value takes another connection. */
const CONNECTION_KEYS: readonly KeyName[] = [
  "mqtt.broker_address",
  "mqtt.client_id",
  "mqtt.username",
  "mqtt.password",
  "mqtt.keep_alive",
  "mqtt.clean_session",
  "mqtt.protocol_version",
  "mqtt.max_packet_bytes",
  "mqtt.max_messages_per_second",
  "mqtt.max_event_bytes",
  "mqtt.batch_bytes",
  "mqtt.tls.ca_file",
  "mqtt.tls.cert_file",
  "mqtt.tls.key_file",
  "mqtt.tls.server_name",
  "mqtt.tls.alpn",
  "mqtt.tls.insecure",
];

/** Whether a change takes another connection to the broker. */
export function isAboutConnection(changed: ReadonlySet<KeyName>): boolean {
  return CONNECTION_KEYS.some((key) => changed.has(key));
}

/** For the command CONFIG. */
export function settingsControl(live: LiveConfig, logger: Logger): SettingsControl {
  return {
    values: () => settingsOf(live.config),
    set: (values, by) => reportChange(`CONFIG SET by ${by}`, live.set(values), logger),
    unset: (keys, by) => reportChange(`CONFIG UNSET by ${by}`, live.unset(keys), logger),
    reload: (by) => reportChange(`CONFIG RELOAD by ${by}`, live.reload(), logger),
  };
}

/** Says in the log what became of a change of settings, and who wanted it. */
export async function reportChange(
  cause: string,
  change: Promise<Outcome>,
  logger: Logger,
): Promise<Outcome> {
  // Whoever asked for it may be traced, and it is told later.
  const trace = activeTrace();
  const outcome = await change;
  inTrace(trace, () => tellOfChange(cause, outcome, logger));
  return outcome;
}

function tellOfChange(cause: string, outcome: Outcome, logger: Logger): void {
  if (!outcome.ok) {
    const message = "The settings stay as they are; something is wrong with the new ones";
    return logger.warn(message, { cause, problems: outcome.problems.join("; ") });
  }
  const { changed, needRestart, notices } = outcome;
  if (changed.length > 0) {
    logger.info("Settings have changed", { cause, keys: changed.join(",") });
    for (const notice of notices) logger.warn(notice);
  }
  if (needRestart.length > 0) {
    const message = "Settings in the file take a restart, and are as they were until then";
    logger.warn(message, { keys: needRestart.join(",") });
  }
}

/** The settings for CONFIG GET, and those that tools for Redis ask for. */
function settingsOf(config: Config): Map<string, string> {
  const settings = new Map([
    ["save", ""],
    ["appendonly", "no"],
    ["databases", "1"],
  ]);
  for (const [name, key] of Object.entries(REDIS_NAMES)) {
    settings.set(name, String(valueOf(config, key)));
  }
  for (const name of keyNames) {
    const value = valueOf(config, name);
    const { secret = false }: Field<unknown> = schema[name];
    settings.set(name, secret ? "" : String(value));
  }
  return settings;
}

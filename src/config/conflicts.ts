/** The rules between keys. */
import { type Config, environmentName, schema } from "./schema.ts";
import type { Settings } from "./settings.ts";
import { tlsConflicts } from "./tls-conflicts.ts";

/** What is wrong although each key is right by itself. */
export function* conflicts(config: Config, settings: Settings): Generator<string> {
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
  if (direct?.from === "file") {
    yield `cluster.secret: found in the file; allowed: cluster.secret_file, or ${variable} in the environment`;
  } else if (direct?.from === "environment" && cluster.secret === "") {
    yield `${variable}: found ""; allowed: a secret (merklekv keygen makes one), or no such variable`;
  } else if (cluster.secret !== "" && cluster.secret_file !== "") {
    yield `cluster.secret_file: found beside ${variable}; allowed: one of the two`;
  }
  if (cluster.secret + cluster.secret_file === "" && cluster.previous_secret_files.length > 0) {
    yield `cluster.secret_file: missing; allowed: the current secret beside cluster.previous_secret_files (or set ${variable})`;
  }
}

/** Whether a broker address was given, good or bad; an empty one counts as none. */
export function hasBroker(settings: Settings): boolean {
  return (settings.get("mqtt.broker_address")?.found ?? "") !== "";
}

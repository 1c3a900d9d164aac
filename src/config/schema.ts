/**
 * Every configuration key, once. Loading, environment overrides, validation, the
 * `Config` type and the documentation's table all follow from this table; to add a key is
 * to add a row to the file of its section in `keys`. A row's name is its place in the TOML file:
 * `mqtt.embedded.bind_port` is `bind_port` in `[mqtt.embedded]`. Rules between keys are in
 * `conflicts.ts`.
 */
import type { Field } from "./field.ts";
import { clientKeys } from "./keys/clients.ts";
import { dataKeys } from "./keys/data.ts";
import { identityKeys } from "./keys/identity.ts";
import { mqttKeys } from "./keys/mqtt.ts";
import { observationKeys } from "./keys/observation.ts";

/** Name of a key → what it is. The order is that of the documentation. */
export const schema = {
  ...identityKeys,
  ...clientKeys,
  ...mqttKeys,
  ...dataKeys,
  ...observationKeys,
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

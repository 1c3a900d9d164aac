/** What was found in the file and the environment, before it is checked. */
import { describeFound, type Field } from "./field.ts";

/** Where a value may come from, besides the defaults. What comes later wins. */
export type Origin = "file" | "environment" | "CONFIG SET";

/** A value as it was found, of any type. */
export interface Setting {
  readonly found: unknown;
  readonly from: Origin;
  /** Where, as somebody would look for it: "node1.toml: network.bind_port". */
  readonly at: string;
}

/** Full name of a key → what was found for it. */
export type Settings = Map<string, Setting>;

/**
 * The checked value of a key: the field's fallback when nothing was found, and also,
 * with a line in `problems`, when what was found is not allowed.
 */
export function readSetting<T>(
  settings: Settings,
  key: string,
  field: Field<T>,
  problems: string[],
): T {
  const setting = settings.get(key);
  if (setting === undefined) return field.fallback;
  const reading = field.read(setting.found);
  if ("value" in reading) return reading.value;
  const found = describeFound(reading.refused, field.secret);
  problems.push(`${setting.at}: found ${found}; allowed: ${field.allowed}`);
  return field.fallback;
}

/** The documentation's configuration table, written from the schema. */
import { describeReloading, type Field } from "../config/field.ts";
import { type KeyName, keyNames, schema } from "../config/schema.ts";
import { markdownTable } from "./markdown-table.ts";

/** All keys as a Markdown table, without a final newline. */
export function configTable(): string {
  return markdownTable([
    ["Key", "Default", "Allowed", "Changes", "What it does"],
    ...keyNames.map(cells),
  ]);
}

function cells(key: KeyName): string[] {
  const field: Field<unknown> = schema[key];
  const fallback = field.fallbackText ?? `\`${JSON.stringify(field.fallback)}\``;
  return [`\`${key}\``, fallback, field.allowed, describeReloading(field), field.doc];
}

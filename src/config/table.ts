/** The documentation's configuration table, written from the schema. */
import { type KeyName, keyNames, schema } from "./schema.ts";
import type { Field } from "./field.ts";

/**
 * All keys as a Markdown table, aligned as the formatter aligns tables, without a
 * final newline.
 */
export function configTable(): string {
  const rows = [["Key", "Default", "Allowed", "What it does"], ...keyNames.map(cells)];
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  const [head, ...body] = rows.map((row) => line(row.map((cell, i) => cell.padEnd(widths[i]))));
  return [head, line(widths.map((width) => "-".repeat(width))), ...body].join("\n");
}

function cells(key: KeyName): string[] {
  const field: Field<unknown> = schema[key];
  const fallback = field.fallbackText ?? `\`${JSON.stringify(field.fallback)}\``;
  return [`\`${key}\``, fallback, field.allowed, field.doc].map((cell) =>
    cell.replaceAll("|", "\\|"),
  );
}

function line(cells: string[]): string {
  return `| ${cells.join(" | ")} |`;
}

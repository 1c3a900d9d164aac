/** The documentation's tables of facts, written from the rows of the parts. */
import { statsFacts } from "../commands/facts.ts";
import type { Fact } from "../fact.ts";
import { infoTable } from "../node-facts.ts";
import { markdownTable } from "./markdown-table.ts";

/**
 * A heading and a Markdown table for each section of INFO and for STATS, without a final newline.
 */
export function factTables(): string {
  const info = infoTable.map(({ title, facts }) => `### ${title}\n\n${tableOf(facts)}`);
  return ["## INFO", ...info, "## STATS", tableOf(statsFacts)].join("\n\n");
}

function tableOf(facts: readonly Pick<Fact<never>, Column>[]): string {
  return markdownTable([["Fact", "Kind", "Unit", "What it says"], ...facts.map(cells)]);
}

type Column = "name" | "kind" | "unit" | "help" | "only";

function cells({ name, kind, unit, help, only }: Pick<Fact<never>, Column>): string[] {
  const where =
    only === undefined
      ? ""
      : ` (Only ${only === "resp" ? "over RESP" : "in the dialect `tagged`"}.)`;
  return [`\`${name}\``, kind, unit, help + where];
}

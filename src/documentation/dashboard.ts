/** The documentation's table of what the dashboard for Grafana shows. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { markdownTable } from "./markdown-table.ts";

const DASHBOARD = join(import.meta.dir, "../../configs/grafana/merklekv.json");
const METRIC = /\b(?:merklekv_\w+|up)\b/g;

interface Panel {
  readonly type: string;
  readonly title: string;
  readonly description?: string;
  readonly targets?: readonly { readonly expr: string }[];
}

/** A heading and a table of every panel, without a final newline. */
export function dashboardTable(): string {
  const { panels } = JSON.parse(readFileSync(DASHBOARD, "utf8")) as { panels: Panel[] };
  const rows: string[][] = [];
  let part = "";
  for (const { type, title, description = "", targets = [] } of panels) {
    if (type === "row") part = title;
    else rows.push([part, [title, description].filter(Boolean).join(". "), metricsOf(targets)]);
  }
  return `## Panels of the dashboard\n\n${markdownTable([["Part", "Panel", "Made of"], ...rows])}`;
}

function metricsOf(targets: NonNullable<Panel["targets"]>): string {
  const names = targets.flatMap(({ expr }) => expr.match(METRIC) ?? []);
  return [...new Set(names)].map((name) => `\`${name}\``).join(", ");
}

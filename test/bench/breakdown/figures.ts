/** The table of `bun run bench:breakdown`, and its place in docs/figures.md. */
import { readFileSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { markdownTable } from "../../../src/documentation/markdown-table.ts";
import type { Row } from "./steps.ts";

const FIGURES = join(import.meta.dir, "../../../docs/figures.md");
const BEGIN = "<!-- begin: bun run bench:breakdown --update-docs -->";
const END = "<!-- end: bench:breakdown -->";

/** The table in Markdown. */
export function markdownOf(heads: readonly string[], rows: readonly Row[]): string {
  const body = rows.map(({ name, ns }) => [name, ...heads.map((_, i) => shown(ns[i] ?? null))]);
  return markdownTable([["ns a request", ...heads], ...body]);
}

/** Puts the table where the last one was, with the day and the machine. */
export function updateFigures(table: string): void {
  const text = readFileSync(FIGURES, "utf8");
  const from = text.indexOf(BEGIN) + BEGIN.length;
  const to = text.indexOf(END);
  if (from < BEGIN.length || to < from) throw new Error(`${FIGURES} has no place for the table`);
  const day = new Date().toISOString().slice(0, 10);
  const on = `${day}, ${cpus()[0]?.model ?? "unknown"}, ${cpus().length} cores, Bun ${Bun.version}:`;
  writeFileSync(FIGURES, `${text.slice(0, from)}\n\n${on}\n\n${table}\n\n${text.slice(to)}`);
}

function shown(ns: number | null): string {
  return ns === null ? "" : ns.toFixed(ns < 10 ? 1 : 0);
}

/** The tables of docs/figures.md that benchmarks write, each between two marks of its own. */
import { readFileSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";

const FIGURES = join(import.meta.dir, "../../docs/figures.md");

/** When and on what something was measured. */
export function measuredOn(): string {
  const day = new Date().toISOString().slice(0, 10);
  return `${day}, ${cpus()[0]?.model ?? "unknown"}, ${cpus().length} cores, Bun ${Bun.version}`;
}

/**
 * Puts a text in the place of the last one. `name` is the benchmark's: "bun run bench:breakdown".
 * Throws when there is no such place.
 */
export function updateFigures(name: string, text: string): void {
  const begin = `<!-- begin: ${name} -->`;
  const all = readFileSync(FIGURES, "utf8");
  const from = all.indexOf(begin) + begin.length;
  const to = all.indexOf(`<!-- end: ${name} -->`);
  if (from < begin.length || to < from) throw new Error(`${FIGURES} has no place for ${name}`);
  writeFileSync(FIGURES, `${all.slice(0, from)}\n\n${text}\n\n${all.slice(to)}`);
}

/** The one place where a fact about the node becomes a line of a reply. */
import { printable } from "../core/data/name.ts";

/**
 * A fact as INFO, STATS and CONFIG GET print it. Some facts come from outside or from a
 * configuration file, and none of them may add a line of its own.
 */
export function factLine(name: string, value: string | number): string {
  return `${name}:${typeof value === "number" ? value : printable(value, Infinity)}`;
}

/** The one place where a fact about the node becomes a line of a reply. */
import { printable } from "../core/data/name.ts";
import type { Fact } from "../fact.ts";
import { TAGGED, type Reply } from "../protocol/reply.ts";

/**
 * A fact as INFO, STATS and CONFIG GET print it. Some facts come from outside or from a
 * configuration file, and none of them may add a line of its own.
 */
export function factLine(name: string, value: string | number): string {
  return `${name}:${typeof value === "number" ? value : printable(value, Infinity)}`;
}

/** The lines of those facts that have something to say, and are shown in the reply's protocol. */
export function* factLines<Part>(
  facts: readonly Fact<Part>[],
  part: Part,
  { isResp, dialect }: Pick<Reply, "isResp" | "dialect">,
): Iterable<string> {
  for (const { name, only, digits, read } of facts) {
    if (only !== undefined && !(only === "resp" ? isResp : dialect === TAGGED)) continue;
    const value = read(part);
    if (value === null) continue;
    const isNumber = typeof value === "number";
    yield factLine(name, isNumber && digits !== undefined ? value.toFixed(digits) : value);
  }
}

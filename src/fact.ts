/**
 * What a fact about the node is: `INFO` and `STATS` print the facts, and docs/facts.md lists them.
 *
 * Each part of the node says its own, as rows over its own state beside its code. A row is made
 * once and costs nothing until somebody asks. `node-facts.ts` joins the rows of all parts.
 */

/** What a fact says now; null when there is nothing to say, and it is left out. */
export type FactValue = number | string | null;

/**
 * - `gauge`: a number that goes up and down.
 * - `counter`: a number that only goes up, from 0 at the start of the node.
 * - `text`: anything else.
 */
export type FactKind = "gauge" | "counter" | "text";

/** A fact about a `Part` of the node. */
export interface Fact<in Part> {
  /** Its name wherever it is shown: lower case, with underscores. */
  readonly name: string;
  readonly kind: FactKind;
  /** What a number counts, such as `bytes`; `0 or 1` for a no or a yes; empty for a text. */
  readonly unit: string;
  /** One sentence: what it says. */
  readonly help: string;
  /** How many digits are shown behind the point; none unless given. */
  readonly digits?: number;
  /** The only one of the protocols in which it is shown; all unless given. */
  readonly only?: "resp" | "tagged";
  read(part: Part): FactValue;
}

/** Facts that belong together, as Redis shows them below one title. */
export interface FactSection<in Part> {
  readonly title: string;
  readonly facts: readonly Fact<Part>[];
}

type Extra = Pick<Fact<never>, "digits" | "only">;

/** A row for a number that goes up and down. */
export function gauge<Part>(
  name: string,
  unit: string,
  help: string,
  read: (part: Part) => number | null,
  extra: Extra = {},
): Fact<Part> {
  return { name, kind: "gauge", unit, help, read, ...extra };
}

/** A row for a no or a yes, shown as 0 or 1. */
export function flag<Part>(
  name: string,
  help: string,
  read: (part: Part) => boolean | null,
): Fact<Part> {
  const number = (part: Part): number | null => {
    const is = read(part);
    return is === null ? null : Number(is);
  };
  return gauge(name, "0 or 1", help, number);
}

/** A row for a number that only goes up, from 0 at the start of the node. */
export function counter<Part>(
  name: string,
  unit: string,
  help: string,
  read: (part: Part) => number | null,
): Fact<Part> {
  return { name, kind: "counter", unit, help, read };
}

/** A row for a text. What is shown of it is made harmless where it is printed. */
export function text<Part>(
  name: string,
  help: string,
  read: (part: Part) => string | null,
  extra: Extra = {},
): Fact<Part> {
  return { name, kind: "text", unit: "", help, read, ...extra };
}

/** The facts of a part as facts of the whole it belongs to. Without the part they say nothing. */
export function within<Whole, Part>(
  partOf: (whole: Whole) => Part | null,
  facts: readonly Fact<Part>[],
): Fact<Whole>[] {
  return facts.map((fact) => ({
    ...fact,
    read(whole: Whole): FactValue {
      const part = partOf(whole);
      return part === null ? null : fact.read(part);
    },
  }));
}

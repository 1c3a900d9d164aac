/**
 * What a fact about the node is: `INFO` and `STATS` print the facts, and docs/facts.md lists them.
 *
 * Each part of the node says its own, as rows over its own state beside its code. A row is made
 * once and costs nothing until somebody asks. `node-facts.ts` joins the rows of all parts.
 *
 * Numbers among the facts are metrics as well. What only metrics can show, because there are many
 * of a kind (one for each peer, or a count for each length), is a `Series`.
 */
import type { Histogram } from "./histogram.ts";

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
  /** As a metric it is one of several of a kind; else it is one by itself. */
  readonly metric?: SharedMetric;
  /** All that a text may say, if they are few: as a metric each is 0 or 1. */
  readonly states?: readonly string[];
  read(part: Part): FactValue;
}

/** Which of several metrics of one kind a fact is. */
export interface SharedMetric {
  /** What they have in common, named as a fact would be. */
  readonly name: string;
  /** One sentence: what they say. */
  readonly help: string;
  /** What tells them apart: names of labels and their values. */
  readonly labels: Readonly<Record<string, string>>;
}

/** Metrics of one kind about a `Part` of the node, told apart by labels. */
export interface Series<in Part> {
  /** As of a fact. */
  readonly name: string;
  readonly kind: "gauge" | "counter" | "histogram";
  /** As of a fact; of a histogram always `ms`. */
  readonly unit: string;
  readonly help: string;
  /** Names of the labels. */
  readonly labels: readonly string[];
  /** What there is now: values of the labels, and the number or the counts. */
  read(part: Part): Iterable<readonly [labels: readonly string[], value: number | Histogram]>;
}

/** Facts that belong together, as Redis shows them below one title. */
export interface FactSection<in Part> {
  readonly title: string;
  readonly facts: readonly Fact<Part>[];
}

type Extra = Pick<Fact<never>, "digits" | "only" | "metric" | "states">;

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
  extra: Extra = {},
): Fact<Part> {
  return { name, kind: "counter", unit, help, read, ...extra };
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

/** The series of a part as series of the whole it belongs to. Without the part there are none. */
export function seriesWithin<Whole, Part>(
  partOf: (whole: Whole) => Part | null,
  series: readonly Series<Part>[],
): Series<Whole>[] {
  return series.map((each) => ({
    ...each,
    read(whole: Whole) {
      const part = partOf(whole);
      return part === null ? [] : each.read(part);
    },
  }));
}

/** Most peers that metrics name. */
export const MAX_PEERS_NAMED = 32;
/** What stands for all the others; no node id is like that. */
export const OTHERS = "all others";

/**
 * A number for each peer, for a series with the label `peer`: so many by name, in the order of
 * their names, and `join` of two says what all the others come to.
 */
export function byPeer(
  numbers: Iterable<readonly [peer: string, value: number]>,
  join: (one: number, other: number) => number,
): [labels: string[], value: number][] {
  const sorted = [...numbers].sort(([a], [b]) => (a < b ? -1 : 1));
  const named = sorted.slice(0, MAX_PEERS_NAMED);
  const others = sorted.slice(MAX_PEERS_NAMED).map(([, value]) => value);
  if (others.length > 0) named.push([OTHERS, others.reduce((one, other) => join(one, other))]);
  return named.map(([peer, value]) => [[peer], value]);
}

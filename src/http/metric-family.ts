/**
 * Which metrics there are: the numbers among the facts, and the series.
 *
 * Names follow from the facts, by the conventions of Prometheus: `merklekv_` in front, base units
 * (seconds and bytes) and the unit at the end, `_total` behind what only goes up. What is a text
 * stays out, as it would make a new series with every change, unless there are only a few that it
 * may say; `merklekv_info` has those that name the node. Facts that repeat another one, for the
 * clients of Redis, stay out too.
 */
import type { Pieces } from "../core/store/pieces.ts";
import type { Fact, FactSection, Series } from "../fact.ts";

/** Facts that say again what others say, or what only a person makes use of. */
const LEFT_OUT = new Set([
  "tcp_port",
  "tls_port",
  "process_id",
  "loading",
  "uptime",
  "uptime_in_seconds",
  "memory_usage_mb",
  "maxmemory",
  "db_keys",
  "server_time_unix",
]);
/** Texts that name a node. */
const NAMES = ["version", "node_id"];

/** What a unit of facts is in base units: the end of the name, and the factor. */
const UNITS: Readonly<Record<string, readonly [suffix: string, factor: number]>> = {
  bytes: ["bytes", 1],
  seconds: ["seconds", 1],
  ms: ["seconds", 0.001],
  days: ["seconds", 86_400],
  "Unix seconds": ["timestamp_seconds", 1],
};
/** Words in the names of facts that stand for their unit, or for counting. */
const UNIT_WORDS = new Set(["bytes", "seconds", "ms", "days", "unix", "total"]);

/** Names and values of labels. */
export type Labels = readonly (readonly [name: string, value: string])[];

/** A metric, and where its samples come from. */
export interface MetricFamily {
  /** Without `_total` and `_info`. */
  readonly name: string;
  readonly kind: "gauge" | "counter" | "histogram" | "info";
  readonly help: string;
  readonly rows: MetricRow[];
}

/** Where samples of a family come from. What is read times `factor` is in base units. */
export type MetricRow =
  /** One that is always 1. */
  | { readonly labels: Labels }
  /** One, if the fact has something to say. */
  | { readonly fact: Fact<void>; readonly factor: number; readonly labels: Labels }
  /** One for each thing that the fact may say, 1 or 0. */
  | { readonly fact: Fact<void>; readonly states: readonly string[] }
  /** As many as there are now; of histograms, in ms. */
  | { readonly series: Series<void>; readonly factor: number };

/** What a metric is, whatever it says now. */
export interface MetricDescription extends Pick<MetricFamily, "kind" | "help"> {
  /** As Prometheus knows it, with `_total`. */
  readonly name: string;
  readonly labels: readonly string[];
}

type AnyFact = Pick<Fact<never>, "kind" | "name" | "only" | "states">;

/** Whether a fact is a metric. */
function isMetric({ kind, name, only, states }: AnyFact): boolean {
  return (kind !== "text" || states !== undefined) && only !== "tagged" && !LEFT_OUT.has(name);
}

/** The name of a fact or series as a metric, without `_total`. */
function metricName({ name, unit }: Pick<Fact<never>, "name" | "unit">): string {
  const words = name.split("_").filter((word) => !UNIT_WORDS.has(word));
  const [suffix] = UNITS[unit] ?? [];
  return ["merklekv", ...words, ...(suffix === undefined ? [] : [suffix])].join("_");
}

/** All metrics there may be, in the order in which they are told. */
export function* metricFamilies(
  sections: readonly FactSection<void>[],
  series: readonly Series<void>[],
): Pieces<MetricFamily[]> {
  const families = new Map<string, MetricFamily>();
  const add: AddRow = (name, kind, help, row) => {
    const family = families.get(name) ?? { name, kind, help, rows: [] };
    families.set(name, family);
    family.rows.push(row);
  };
  const facts = sections.flatMap((section) => section.facts);
  const names = facts.filter(({ name }) => NAMES.includes(name));
  add("merklekv", "info", INFO_HELP, {
    labels: names.map((it) => [it.name, String(it.read())] as const),
  });
  for (const fact of facts.filter(isMetric)) {
    addFact(fact, add);
    yield;
  }
  for (const each of series) {
    add(metricName(each), each.kind, each.help, { series: each, factor: factorOf(each.unit) });
    yield;
  }
  return [...families.values()];
}

const INFO_HELP = "Which node this is, and its version.";

type AddRow = (name: string, kind: MetricFamily["kind"], help: string, row: MetricRow) => void;

function addFact(fact: Fact<void>, add: AddRow): void {
  const { kind, help, metric, states, unit } = fact;
  if (kind === "text") {
    return add(metricName(fact), "gauge", statesHelp(help), { fact, states: states! });
  }
  const name = metricName({ name: metric?.name ?? fact.name, unit });
  const labels = Object.entries(metric?.labels ?? {});
  add(name, kind, metric?.help ?? help, { fact, factor: factorOf(unit), labels });
}

function statesHelp(help: string): string {
  return `${help} Each is 1 while it is so, else 0.`;
}

function factorOf(unit: string): number {
  return UNITS[unit]?.[1] ?? 1;
}

/** All metrics that there may be, for the documentation and for tests. */
export function describeMetrics(
  facts: readonly Omit<Fact<never>, "read">[],
  series: readonly Omit<Series<never>, "read">[],
): MetricDescription[] {
  const described = new Map<string, MetricDescription>();
  const add = (name: string, kind: MetricFamily["kind"], help: string, labels: string[]): void => {
    const full = kind === "counter" ? `${name}_total` : kind === "info" ? `${name}_info` : name;
    if (!described.has(full)) described.set(full, { name: full, kind, help, labels });
  };
  add("merklekv", "info", INFO_HELP, [...NAMES]);
  for (const fact of facts.filter(isMetric)) {
    const { kind, help, metric, unit } = fact;
    if (kind === "text") add(metricName(fact), "gauge", statesHelp(help), ["state"]);
    else {
      const name = metricName({ name: metric?.name ?? fact.name, unit });
      add(name, kind, metric?.help ?? help, Object.keys(metric?.labels ?? {}));
    }
  }
  for (const each of series) add(metricName(each), each.kind, each.help, [...each.labels]);
  return [...described.values()];
}

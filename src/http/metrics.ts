/**
 * The facts of a node as Prometheus reads them, in its text format 0.0.4 or as OpenMetrics 1.0.
 *
 * Names follow from the facts, by the conventions of Prometheus: `merklekv_` in front, base units
 * (seconds and bytes) and the unit at the end, `_total` behind what only goes up. What is a text
 * stays out, as it would make a new series with every change; `merklekv_info` has the few that name
 * the node. Facts that repeat another one, for the clients of Redis, stay out too.
 */
import type { Fact, FactSection } from "../fact.ts";
import type { LoopDelay } from "./loop-delay.ts";

/** How a text of metrics is written. */
export type MetricsFormat = "prometheus" | "openmetrics";

/** The content type of each format. */
export const CONTENT_TYPES: Readonly<Record<MetricsFormat, string>> = {
  prometheus: "text/plain; version=0.0.4; charset=utf-8",
  openmetrics: "application/openmetrics-text; version=1.0.0; charset=utf-8",
};

/** Facts that say again what others say, or what only a person makes use of. */
const LEFT_OUT = new Set([
  "tcp_port",
  "tls_port",
  "process_id",
  "loading",
  "uptime",
  "uptime_in_seconds",
  "memory_usage_mb",
  "total_keys",
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

/** What the metrics are made of. */
export interface MetricsSource {
  readonly sections: readonly FactSection<void>[];
  /** Commands that were run, by family. */
  readonly commands: ReadonlyMap<string, number>;
  readonly loopDelay: LoopDelay;
}

/** Whether a fact is a metric. */
export function isMetric({
  kind,
  name,
  only,
}: Pick<Fact<never>, "kind" | "name" | "only">): boolean {
  return kind !== "text" && only !== "tagged" && !LEFT_OUT.has(name);
}

/** The name of a numeric fact as a metric, without `_total`. */
export function metricName({ name, unit }: Pick<Fact<never>, "name" | "unit">): string {
  const words = name.split("_").filter((word) => !UNIT_WORDS.has(word));
  const [suffix] = UNITS[unit] ?? [];
  return ["merklekv", ...words, ...(suffix === undefined ? [] : [suffix])].join("_");
}

/** All metrics as text. */
export function metricsText(source: MetricsSource, format: MetricsFormat): string {
  const facts = source.sections.flatMap((section) => section.facts);
  const writer = new MetricsWriter(format);
  const names = facts.filter(({ name }) => NAMES.includes(name));
  writer.head("merklekv", "info", "Which node this is, and its version.");
  writer.sample("merklekv_info", labelsOf(names.map((it) => [it.name, String(it.read())])), 1);
  for (const fact of facts) writeFact(writer, fact);
  writer.head("merklekv_commands", "counter", "Commands that were run, by family.");
  for (const [family, count] of source.commands) {
    writer.sample("merklekv_commands_total", labelsOf([["family", family]]), count);
  }
  writeLoopDelay(writer, source.loopDelay);
  return writer.finish();
}

function writeFact(writer: MetricsWriter, fact: Fact<void>): void {
  const { kind, unit, help } = fact;
  const value = isMetric(fact) ? fact.read() : null;
  if (kind === "text" || typeof value !== "number") return;
  const metric = metricName(fact);
  const [, factor] = UNITS[unit] ?? ["", 1];
  writer.head(metric, kind, help);
  writer.sample(kind === "counter" ? `${metric}_total` : metric, "", value * factor);
}

function writeLoopDelay(writer: MetricsWriter, delay: LoopDelay): void {
  const name = "merklekv_event_loop_delay_seconds";
  writer.head(name, "histogram", "How late the event loop came to what was due, looked at often.");
  let sum = 0;
  for (const [i, count] of delay.counts.entries()) {
    sum += count;
    const bound = delay.boundsMs[i];
    const le = bound === undefined ? "+Inf" : String(bound / 1000);
    writer.sample(`${name}_bucket`, labelsOf([["le", le]]), sum);
  }
  writer.sample(`${name}_sum`, "", delay.sumMs / 1000);
  writer.sample(`${name}_count`, "", sum);
}

/** Lines of one of the two formats, which differ in what a family is called. */
class MetricsWriter {
  private readonly lines: string[] = [];

  constructor(private readonly format: MetricsFormat) {}

  /** Begins a metric; its samples follow. `name` is without `_total` and `_info`. */
  head(name: string, kind: "gauge" | "counter" | "histogram" | "info", help: string): void {
    const isOpen = this.format === "openmetrics";
    const suffix = isOpen
      ? ""
      : { counter: "_total", info: "_info", gauge: "", histogram: "" }[kind];
    const type = kind === "info" && !isOpen ? "gauge" : kind;
    const text = help.replaceAll("\\", "\\\\").replaceAll("\n", "\\n").replaceAll('"', "'");
    this.lines.push(`# HELP ${name}${suffix} ${text}`, `# TYPE ${name}${suffix} ${type}`);
  }

  sample(name: string, labels: string, value: number): void {
    this.lines.push(`${name}${labels} ${value}`);
  }

  finish(): string {
    if (this.format === "openmetrics") this.lines.push("# EOF");
    return `${this.lines.join("\n")}\n`;
  }
}

function labelsOf(labels: readonly (readonly [name: string, value: string])[]): string {
  const texts = labels.map(([name, value]) => {
    const escaped = value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
    return `${name}="${escaped}"`;
  });
  return `{${texts.join(",")}}`;
}

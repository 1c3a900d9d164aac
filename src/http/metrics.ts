/** Metrics as text: Prometheus' own format 0.0.4, or OpenMetrics 1.0. */
import type { FactSection, Series } from "../fact.ts";
import type { Histogram } from "../histogram.ts";
import { metricFamilies, type Labels, type MetricFamily } from "./metric-family.ts";

/** How a text of metrics is written. */
export type MetricsFormat = "prometheus" | "openmetrics";

/** The content type of each format. */
export const CONTENT_TYPES: Readonly<Record<MetricsFormat, string>> = {
  prometheus: "text/plain; version=0.0.4; charset=utf-8",
  openmetrics: "application/openmetrics-text; version=1.0.0; charset=utf-8",
};

/** What the metrics are made of. */
export interface MetricsSource {
  readonly sections: readonly FactSection<void>[];
  readonly series: readonly Series<void>[];
}

/** All metrics as text. */
export function metricsText({ sections, series }: MetricsSource, format: MetricsFormat): string {
  const isOpen = format === "openmetrics";
  let text = "";
  for (const family of metricFamilies(sections, series)) text += familyText(family, isOpen);
  return isOpen ? `${text}# EOF\n` : text;
}

/** The formats differ in what a family is called: OpenMetrics leaves the suffix to its samples. */
function familyText({ name, kind, help, samples }: MetricFamily, isOpen: boolean): string {
  const suffix = { counter: "_total", info: "_info", gauge: "", histogram: "" }[kind];
  const family = isOpen ? name : name + suffix;
  const type = kind === "info" && !isOpen ? "gauge" : kind;
  let text = `# HELP ${family} ${escapedHelp(help)}\n# TYPE ${family} ${type}\n`;
  for (const [labels, value] of samples) {
    if (typeof value === "number") text += sampleText(name + suffix, labels, value);
    else text += histogramText(name, labels, value);
  }
  return text;
}

function histogramText(name: string, labels: Labels, { boundsMs, counts, sumMs }: Histogram) {
  let text = "";
  let sum = 0;
  for (const [i, count] of counts.entries()) {
    sum += count;
    const bound = boundsMs[i];
    // Prometheus takes 1 and 1.0 for the same; OpenMetrics asks for the latter.
    const le = bound === undefined ? "+Inf" : floatText(bound / 1000);
    text += sampleText(`${name}_bucket`, [...labels, ["le", le]], sum);
  }
  return `${text}${sampleText(`${name}_sum`, labels, sumMs / 1000)}${sampleText(`${name}_count`, labels, sum)}`;
}

function floatText(number: number): string {
  return Number.isInteger(number) ? `${number}.0` : String(Number(number.toPrecision(6)));
}

function sampleText(name: string, labels: Labels, value: number): string {
  const number = Number.isFinite(value) ? String(value) : value > 0 ? "+Inf" : "-Inf";
  return `${name}${labelsText(labels)} ${Number.isNaN(value) ? "NaN" : number}\n`;
}

/** A double quote needs no escape in Prometheus' format, and needs one in the other. */
function escapedHelp(help: string): string {
  return help.replaceAll("\\", "\\\\").replaceAll("\n", "\\n").replaceAll('"', "'");
}

function labelsText(labels: Labels): string {
  if (labels.length === 0) return "";
  const texts = labels.map(([name, value]) => {
    const escaped = value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
    return `${name}="${escaped}"`;
  });
  return `{${texts.join(",")}}`;
}

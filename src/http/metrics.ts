/**
 * Metrics as text: Prometheus' own format 0.0.4, or OpenMetrics 1.0.
 *
 * What does not change from one time to the next, names, helps and labels, is made into bytes once.
 * The text is put together in one buffer that is kept, a family at a time, so that others may have
 * their turn between: a node that serves a million requests a second is looked at, too.
 */
import { inOneGo, type Pieces } from "../core/store/pieces.ts";
import type { Fact, FactSection, Series } from "../fact.ts";
import type { Histogram } from "../histogram.ts";
import { metricFamilies, type MetricFamily, type MetricRow } from "./metric-family.ts";
import { TextBuffer } from "./text-buffer.ts";

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

/** Writes the samples of a row that there are now. */
type WriteRow = (into: TextBuffer) => void;

/** A family: what is written in any case, if there are samples at all. */
interface Written {
  readonly head: Uint8Array;
  readonly rows: readonly WriteRow[];
}

/** All metrics of a source, to be told again and again. */
export class MetricsText {
  private families: readonly MetricFamily[] | null = null;
  private readonly writtenFamilies: Written[] = [];
  private readonly buffer = new TextBuffer();
  private underWay: Promise<Uint8Array<ArrayBuffer>> | null = null;

  constructor(
    readonly source: MetricsSource,
    readonly format: MetricsFormat,
  ) {}

  /**
   * All metrics as they are now. `pause` is asked between families whether to wait: for what it
   * returns, if anything. Whoever asks while the text is being written gets the same one.
   */
  text(pause: () => Promise<void> | null): Promise<Uint8Array<ArrayBuffer>> {
    return (this.underWay ??= this.written(pause).finally(() => (this.underWay = null)));
  }

  /** The same in one go. */
  textAtOnce(): Uint8Array {
    return inOneGo(this.write());
  }

  private async written(pause: () => Promise<void> | null): Promise<Uint8Array<ArrayBuffer>> {
    const pieces = this.write();
    for (;;) {
      const { done, value } = pieces.next();
      if (done === true) return value;
      const turn = pause();
      if (turn !== null) await turn;
    }
  }

  private *write(): Pieces<Uint8Array<ArrayBuffer>> {
    const { buffer, source, writtenFamilies } = this;
    const isOpen = this.format === "openmetrics";
    this.families ??= yield* metricFamilies(source.sections, source.series);
    buffer.clear();
    for (const [at, family] of this.families.entries()) {
      const { head, rows } = (writtenFamilies[at] ??= writtenOf(family, isOpen));
      const start = buffer.length;
      buffer.add(head);
      const first = buffer.length;
      for (let i = 0; i < rows.length; i++) rows[i](buffer);
      if (buffer.length === first) buffer.cutTo(start);
      yield;
    }
    if (isOpen) buffer.addText("# EOF\n");
    return buffer.copy();
  }
}

/** The formats differ in what a family is called: OpenMetrics leaves the suffix to its samples. */
function writtenOf({ name, kind, help, rows }: MetricFamily, isOpen: boolean): Written {
  const suffix = { counter: "_total", info: "_info", gauge: "", histogram: "" }[kind];
  const family = isOpen ? name : name + suffix;
  const type = kind === "info" && !isOpen ? "gauge" : kind;
  return {
    head: bytesOf(`# HELP ${family} ${escapedHelp(help)}\n# TYPE ${family} ${type}\n`),
    rows: rows.map((row) => writerOf(name, suffix, row)),
  };
}

function writerOf(name: string, suffix: string, row: MetricRow): WriteRow {
  if ("series" in row) {
    const { series, factor } = row;
    return series.kind === "histogram"
      ? histogramsOf(name, series)
      : numbersOf(name + suffix, series, factor);
  }
  if ("states" in row) return statesOf(name, row.fact, row.states);
  const sample = bytesOf(`${name}${suffix}${labelsText(row.labels)} `);
  if (!("fact" in row)) return (into) => into.addSample(sample, 1);
  const { fact, factor } = row;
  return (into) => {
    const value = fact.read();
    if (value !== null) into.addSample(sample, Number(value) * factor);
  };
}

function statesOf(name: string, fact: Fact<void>, states: readonly string[]): WriteRow {
  const samples = states.map((state) => bytesOf(`${name}${labelsText([["state", state]])} `));
  return (into) => {
    const value = fact.read();
    if (value === null) return;
    for (const [i, state] of states.entries()) into.addSample(samples[i], Number(value === state));
  };
}

function numbersOf(name: string, { labels, read }: Series<void>, factor: number): WriteRow {
  const known = new Map<string, Uint8Array>();
  const sampleOf = (values: readonly string[]): Uint8Array => {
    const key = values.join("\n");
    const sample = known.get(key) ?? bytesOf(`${name}${labelsOf(labels, values)} `);
    if (known.size >= MOST_KNOWN) known.clear();
    known.set(key, sample);
    return sample;
  };
  return (into) => {
    for (const [values, value] of read()) into.addSample(sampleOf(values), Number(value) * factor);
  };
}

/** Of so many values of labels it is kept how they are written: peers come and go. */
const MOST_KNOWN = 256;

/** The lines of a bucket differ from each other by little, which is put behind what they share. */
function histogramsOf(name: string, { labels, read }: Series<void>): WriteRow {
  const ends = new Map<readonly number[], readonly Uint8Array[]>();
  return (into) => {
    for (const [values, value] of read()) {
      const { boundsMs, counts, sumMs } = value as Histogram;
      const own = labelsOf(labels, values);
      if (!ends.has(boundsMs)) ends.set(boundsMs, boundLabels(boundsMs));
      const start = into.length;
      into.addText(`${name}_bucket${own === "" ? "{" : `${own.slice(0, -1)},`}`);
      const shared = into.length - start;
      let sum = 0;
      for (const [i, label] of ends.get(boundsMs)!.entries()) {
        if (i > 0) into.repeat(start, shared);
        sum += counts[i];
        into.addSample(label, sum);
      }
      into.addText(`${name}_sum${own}`);
      into.addSample(SPACE, sumMs / 1000);
      into.addText(`${name}_count${own}`);
      into.addSample(SPACE, sum);
    }
  };
}

/** Prometheus takes 1 and 1.0 for the same; OpenMetrics asks for the latter. */
function boundLabels(boundsMs: readonly number[]): Uint8Array[] {
  const texts = boundsMs.map((bound) => {
    const seconds = bound / 1000;
    return Number.isInteger(seconds) ? `${seconds}.0` : String(Number(seconds.toPrecision(6)));
  });
  return [...texts, "+Inf"].map((it) => bytesOf(`le="${it}"} `));
}

/** A double quote needs no escape in Prometheus' format, and needs one in the other. */
function escapedHelp(help: string): string {
  return help.replaceAll("\\", "\\\\").replaceAll("\n", "\\n").replaceAll('"', "'");
}

function labelsOf(labels: readonly string[], values: readonly string[]): string {
  return labelsText(labels.map((label, i) => [label, values[i] ?? ""]));
}

/** Labels as they stand behind a name; nothing for none. */
function labelsText(labels: readonly (readonly [name: string, value: string])[]): string {
  if (labels.length === 0) return "";
  const texts = labels.map(([name, value]) => {
    const escaped = value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
    return `${name}="${escaped}"`;
  });
  return `{${texts.join(",")}}`;
}

function bytesOf(text: string): Uint8Array {
  return encoder.encode(text);
}

const encoder = new TextEncoder();
const SPACE = bytesOf(" ");

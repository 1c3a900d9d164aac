/**
 * Reads a text of metrics as strictly as its format is written down, and says everything that is
 * wrong with it: https://prometheus.io/docs/instrumenting/exposition_formats/ and
 * https://prometheus.io/docs/specs/om/open_metrics_spec/, with the conventions that
 * `promtool check metrics` asks for.
 */

/** A sample: one line. */
export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** A text, and what is wrong with it. */
export interface ReadMetrics {
  readonly samples: readonly Sample[];
  /** Kind by the name of the family, as the text has it. */
  readonly kinds: ReadonlyMap<string, string>;
  readonly problems: readonly string[];
}

const SAMPLE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/;
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|$)/y;
const NUMBER = /^(NaN|[+-]Inf|[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?)$/;
const ENDINGS: Readonly<Record<string, readonly string[]>> = {
  counter: ["_total"],
  gauge: [""],
  info: ["_info"],
  histogram: ["_bucket", "_sum", "_count"],
};
/** Words in names by which promtool finds units that are no base units. */
const OTHER_UNITS =
  /_(ms|milliseconds|microseconds|us|minutes|hours|days|kb|mb|kilobytes|percent)(_|$)/;

/** See the file header. */
export function readMetrics(text: string, isOpen: boolean): ReadMetrics {
  const problems: string[] = [];
  const samples: Sample[] = [];
  const kinds = new Map<string, string>();
  const helped = new Set<string>();
  const seen = new Set<string>();
  let family = "";
  if (!text.endsWith("\n")) problems.push("the last line does not end");
  const lines = text.split("\n").slice(0, -1);
  if (isOpen && lines.pop() !== "# EOF") problems.push("it does not end with # EOF");
  for (const [i, line] of lines.entries()) {
    const wrong = (what: string): void => void problems.push(`line ${i + 1}: ${what}: ${line}`);
    const help = /^# HELP (\S+) (.+)$/.exec(line);
    const type = /^# TYPE (\S+) (\S+)$/.exec(line);
    if (help !== null) {
      if (helped.has(help[1])) wrong("a second HELP");
      if (/(^|[^\\])(\\\\)*\\[^\\n"]/.test(help[2])) wrong("an escape that there is not");
      helped.add((family = help[1]!));
      continue;
    }
    if (type !== null) {
      const [, name, kind] = type as unknown as [string, string, string];
      if (name !== family) wrong("TYPE does not follow on its HELP");
      if (kinds.has(name)) wrong("a second TYPE");
      if (ENDINGS[kind] === undefined || (kind === "info" && !isOpen)) wrong("an unknown type");
      kinds.set(name, kind);
      problems.push(...namingProblems(name, kind, isOpen));
      continue;
    }
    const sample = readSample(line);
    if (sample === null) {
      wrong("neither comment nor sample");
      continue;
    }
    const kind = kinds.get(family) ?? "none";
    const endings = isOpen || kind === "histogram" ? (ENDINGS[kind] ?? []) : [""];
    if (!endings.some((it) => sample.name === family + it)) wrong(`not of the family ${family}`);
    const key = `${sample.name}${JSON.stringify(Object.entries(sample.labels).sort())}`;
    if (seen.has(key)) wrong("the same once more");
    seen.add(key);
    samples.push(sample);
  }
  for (const name of kinds.keys()) {
    if (kinds.get(name) === "histogram") problems.push(...histogramProblems(name, samples));
  }
  return { samples, kinds, problems };
}

function readSample(line: string): Sample | null {
  const found = SAMPLE.exec(line);
  if (found === null || !NUMBER.test(found[3])) return null;
  const labels: Record<string, string> = {};
  const text = found[2] ?? "";
  LABEL.lastIndex = 0;
  while (LABEL.lastIndex < text.length) {
    const label = LABEL.exec(text);
    if (label === null || label[1] in labels || label[1].startsWith("__")) return null;
    labels[label[1]] = label[2].replace(/\\(.)/g, (_, it) => (it === "n" ? "\n" : it));
  }
  if (text.endsWith(",")) return null;
  const value = found[3] === "+Inf" ? Infinity : found[3] === "-Inf" ? -Infinity : Number(found[3]);
  return { name: found[1], labels, value };
}

/** What `promtool check metrics` would say. */
function namingProblems(name: string, kind: string, isOpen: boolean): string[] {
  const problems: string[] = [];
  const say = (what: string): void => void problems.push(`${name}: ${what}`);
  if (!/^merklekv(_[a-z0-9]+)*$/.test(name)) say("not in lower case with underscores");
  if (!isOpen && kind === "counter" && !name.endsWith("_total")) say("a counter without _total");
  if (kind !== "counter" && name.endsWith("_total")) say("_total, and no counter");
  if (/_(count|sum|bucket)$/.test(name)) say("ends as a part of a histogram");
  if (/_(gauge|counter|histogram|summary)(_|$)/.test(name)) say("names its own type");
  if (OTHER_UNITS.test(name)) say("a unit that is no base unit");
  return problems;
}

function histogramProblems(name: string, samples: readonly Sample[]): string[] {
  const problems: string[] = [];
  const series = new Map<string, Sample[]>();
  for (const sample of samples.filter((it) => it.name.startsWith(`${name}_`))) {
    const { le: _, ...rest } = sample.labels;
    const key = JSON.stringify(rest);
    series.set(key, [...(series.get(key) ?? []), sample]);
  }
  for (const [key, those] of series) {
    const buckets = those.filter((it) => it.name === `${name}_bucket`);
    const bounds = buckets.map(({ labels }) => Number(labels["le"].replace("+Inf", "Infinity")));
    const counts = buckets.map(({ value }) => value);
    const ascends = (it: readonly number[]): boolean =>
      it.every((n, i) => i === 0 || n >= it[i - 1]);
    if (!ascends(bounds) || !ascends(counts)) problems.push(`${name}${key}: does not ascend`);
    if (bounds.at(-1) !== Infinity) problems.push(`${name}${key}: without +Inf`);
    const count = those.find((it) => it.name === `${name}_count`)?.value;
    if (count !== counts.at(-1)) problems.push(`${name}${key}: _count is not the last bucket`);
    if (!those.some((it) => it.name === `${name}_sum`)) problems.push(`${name}${key}: no _sum`);
  }
  return problems;
}

/** What measurements are and how they are printed: medians, ratios, targets, one aligned table. */

import { markdownTable } from "../../src/documentation/markdown-table.ts";

/** Units, as they are printed after a number. */
export type Unit = "/s" | "ms" | "µs" | "ns" | "MB";

/** What a measurement is to reach; `ratio` is ours divided by the other's. */
export interface Target {
  readonly of: "value" | "ratio";
  readonly atLeast?: number;
  readonly atMost?: number;
}

/** One row: the samples of every round, ours and, side by side, those it is compared with. */
export interface Measurement {
  readonly name: string;
  readonly unit: Unit;
  readonly ours: readonly number[];
  /** What `others` are of: "redis". Empty when there is nothing to compare with. */
  readonly otherName?: string;
  readonly others?: readonly number[];
  readonly target?: Target;
  /**
   * What is measured in a round differs from round to round by more than what is looked for: the
   * ratio is the median of those of the rounds, in place of that of the medians, and the spread that
   * of the middle half of them.
   */
  readonly isPaired?: boolean;
}

/** A measurement's numbers, as `--json` writes them. */
export interface Result extends Measurement {
  readonly median: number;
  readonly otherMedian: number | null;
  /** Of the medians, or the median one. */
  readonly ratio: number | null;
  /** Null without a target, or when the other side is missing. */
  readonly isMet: boolean | null;
}

/** The middle one, or the mean of the two in the middle. NaN of none. */
export function median(numbers: readonly number[]): number {
  return (
    (percentile(numbers, 0.5) +
      -percentile(
        numbers.map((n) => -n),
        0.5,
      )) /
    2
  );
}

/** The smallest number that at least this share (0 to 1) of all do not exceed. NaN of none. */
export function percentile(numbers: readonly number[], share: number): number {
  const sorted = numbers.toSorted((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? NaN;
}

/** Works a measurement out. */
export function resultOf(measurement: Measurement): Result {
  const { ours, others = [], target } = measurement;
  const own = median(ours);
  const otherMedian = others.length === 0 ? null : median(others);
  const paired = measurement.isPaired === true ? median(ratiosOf(measurement)) : null;
  const ratio = otherMedian === null ? null : (paired ?? own / otherMedian);
  const judged = target?.of === "ratio" ? ratio : own;
  const isMet =
    target === undefined || judged === null
      ? null
      : judged >= (target.atLeast ?? -Infinity) && judged <= (target.atMost ?? Infinity);
  return { ...measurement, median: own, otherMedian, ratio, isMet };
}

/** The table, with a last line that counts the targets met. */
export function tableOf(results: readonly Result[]): string {
  const rows = [HEADER, ...results.map(cellsOf)];
  const widths = HEADER.map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  const isText = (column: number) => column === 0 || column === HEADER.length - 1;
  const lines = rows.map((row) =>
    row
      .map((cell, i) => (isText(i) ? cell.padEnd(widths[i]) : cell.padStart(widths[i])))
      .join("  ")
      .trimEnd(),
  );
  lines.splice(1, 0, "-".repeat(Math.max(...lines.map((line) => line.length))));
  return [...lines, "", metOf(results)].join("\n");
}

/** The same as Markdown, for the documentation. */
export function markdownOf(results: readonly Result[]): string {
  return `${markdownTable([[...HEADER], ...results.map(cellsOf)])}\n\n${metOf(results)}.`;
}

const HEADER = ["measurement", "merklekv", "compared with", "ratio", "spread", "target", "met"];

function metOf(results: readonly Result[]): string {
  const judged = results.filter((result) => result.isMet !== null);
  const met = judged.filter((result) => result.isMet).length;
  return `${met} of ${judged.length} targets met`;
}

/** Neighbours in time: what slows the whole machine down slows both. */
function ratiosOf({ ours, others = [] }: Measurement): number[] {
  return ours.map((value, i) => value / others[i]).filter((it) => !Number.isNaN(it));
}

function cellsOf(result: Result): string[] {
  const { name, unit, otherName = "", otherMedian, ratio, target } = result;
  const ratios = ratiosOf(result);
  const digits = result.isPaired === true ? 3 : 2;
  const [low, high] = result.isPaired === true ? [0.25, 0.75] : [0, 1];
  const spread = (ratios.length > 1 ? [percentile(ratios, low), percentile(ratios, high)] : [])
    .map((it) => it.toFixed(digits))
    .join("-");
  return [
    name,
    quantity(result.median, unit),
    otherMedian === null ? "" : `${otherName} ${quantity(otherMedian, unit)}`,
    ratio === null ? "" : ratio.toFixed(digits),
    spread,
    target === undefined ? "" : limit(target, unit),
    result.isMet === null ? "" : result.isMet ? "yes" : "NO",
  ];
}

function limit({ of, atLeast, atMost }: Target, unit: Unit): string {
  const [sign, value] = atLeast === undefined ? ["≤", atMost!] : ["≥", atLeast];
  return of === "ratio" ? `${sign} ${value.toFixed(2)}×` : `${sign} ${value} ${unit}`;
}

function quantity(value: number, unit: Unit): string {
  if (unit === "/s") return `${Math.round(value).toLocaleString("en-US")} /s`;
  return `${value.toFixed(unit === "MB" ? 1 : 2)} ${unit}`;
}

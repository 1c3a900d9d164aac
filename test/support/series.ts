/** What a series of metrics says of a part, for tests. */
import type { Series } from "../../src/fact.ts";
import { Histogram } from "../../src/histogram.ts";

/** Numbers by the values of their labels, joined by a space; of a histogram how many were counted. */
export function readSeries<Part>(
  all: readonly Series<Part>[],
  part: Part,
  name: string,
): Record<string, number> {
  const series = all.find((it) => it.name === name);
  if (series === undefined) throw new Error(`there is no series ${name}`);
  const found = Array.from(series.read(part), ([labels, value]) => {
    if (typeof value === "number") return [labels.join(" "), value] as const;
    return [labels.join(" "), countOf(value)] as const;
  });
  return Object.fromEntries(found);
}

function countOf({ counts }: Histogram): number {
  return counts.reduce((sum, it) => sum + it, 0);
}

/** The documentation's tables of metrics and of events in the log. */
import { HttpListener } from "../http/http-listener.ts";
import { LoopDelay } from "../http/loop-delay.ts";
import { describeMetrics } from "../http/metric-family.ts";
import { infoTable, seriesTable } from "../node-facts.ts";
import { EVENTS } from "../observability/events.ts";
import { markdownTable } from "./markdown-table.ts";

/** A heading and a table of every metric, without a final newline. */
export function metricTable(): string {
  const facts = infoTable.flatMap((section) => section.facts);
  const metrics = describeMetrics(facts, [
    ...seriesTable,
    ...LoopDelay.series,
    ...HttpListener.series,
  ]);
  const rows = metrics.map(({ name, kind, labels, help }) => [
    `\`${name}\``,
    kind,
    labels.map((label) => `\`${label}\``).join(", "),
    help,
  ]);
  return `## Metrics\n\n${markdownTable([["Metric", "Kind", "Labels", "What it says"], ...rows])}`;
}

/** A heading and a table of every event, without a final newline. */
export function eventTable(): string {
  const rows = Object.entries(EVENTS).flatMap(([about, events]) =>
    events.map(([event, message]) => [`\`${event}\``, about, message]),
  );
  return `## Events\n\n${markdownTable([["Event", "About", "Message"], ...rows])}`;
}

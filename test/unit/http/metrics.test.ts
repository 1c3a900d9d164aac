/** Facts as metrics: their names, units and the two formats. */
import { expect, test } from "bun:test";
import { counter, gauge, text, type FactSection } from "../../../src/fact.ts";
import { LoopDelay } from "../../../src/http/loop-delay.ts";
import {
  isMetric,
  metricName,
  metricsText,
  type MetricsSource,
} from "../../../src/http/metrics.ts";
import { infoTable } from "../../../src/node-facts.ts";

/** A clock that goes when it is told to, and its one timer. */
function madeLoopDelay(): { loopDelay: LoopDelay; passMs: (ms: number) => void } {
  let nowMs = 0;
  let due = (): void => {};
  const loopDelay = new LoopDelay({
    nowMs: () => nowMs,
    after(_, task) {
      due = task;
      return () => {};
    },
    soon: () => () => {},
  });
  const passMs = (ms: number): void => {
    nowMs += ms;
    due();
  };
  return { loopDelay, passMs };
}

function sourceOf(facts: FactSection<void>["facts"]): MetricsSource {
  const { loopDelay } = madeLoopDelay();
  return { sections: [{ title: "Any", facts }], commands: new Map([["get", 3]]), loopDelay };
}

const FACTS: FactSection<void>["facts"] = [
  text("version", "The version.", () => "1.2"),
  text("node_id", "The id.", () => 'a "b"\\\n'),
  text("clock_state", "How it is.", () => "sure"),
  counter("sync_bytes_sent", "bytes", "Sent.", () => 7),
  counter("total_connections_received", "connections", "Made.", () => 5),
  gauge("clock_ahead_ms", "ms", "Ahead.", () => 1_500),
  gauge("tls_certificate_days_left", "days", "Left.", () => 2),
  gauge("snapshot_unix", "Unix seconds", "When.", () => null),
  gauge("memory_usage_mb", "MiB", "The same again.", () => 3),
];

test("values are in base units, and what only counts up ends with _total", () => {
  const lines = metricsText(sourceOf(FACTS), "prometheus").split("\n");
  expect(lines.filter((line) => !line.startsWith("#")).slice(0, 6)).toEqual([
    'merklekv_info{version="1.2",node_id="a \\"b\\"\\\\\\n"} 1',
    "merklekv_sync_sent_bytes_total 7",
    "merklekv_connections_received_total 5",
    "merklekv_clock_ahead_seconds 1.5",
    "merklekv_tls_certificate_left_seconds 172800",
    'merklekv_commands_total{family="get"} 3',
  ]);
  expect(lines).toContain("# TYPE merklekv_sync_sent_bytes_total counter");
  expect(lines).not.toContain("# EOF");
});

test("OpenMetrics names families without their suffix, and has an end", () => {
  const lines = metricsText(sourceOf(FACTS), "openmetrics").split("\n");
  expect(lines).toContain("# TYPE merklekv_sync_sent_bytes counter");
  expect(lines).toContain("merklekv_sync_sent_bytes_total 7");
  expect(lines).toContain("# TYPE merklekv info");
  expect(lines.slice(-2)).toEqual(["# EOF", ""]);
});

test("every fact of a node has a name of its own by the conventions", () => {
  const names = infoTable
    .flatMap(({ facts }) => facts)
    .filter(isMetric)
    .map(metricName);
  expect(names.filter((name, at) => names.indexOf(name) !== at)).toEqual([]);
  for (const name of names) {
    expect(name).toMatch(/^merklekv(_[a-z0-9]+)+$/);
    expect(name).not.toMatch(/_(total|count|sum|bucket|info|ms|mb|kb|days|unix)$/);
  }
});

test("delays of the event loop are counted by length", () => {
  const { loopDelay, passMs } = madeLoopDelay();
  passMs(100);
  passMs(103);
  passMs(5_100);
  const text = metricsText({ sections: [], commands: new Map(), loopDelay }, "prometheus");
  const name = "merklekv_event_loop_delay_seconds";
  expect(text).toContain(`${name}_bucket{le="0.001"} 1\n`);
  expect(text).toContain(`${name}_bucket{le="0.005"} 2\n`);
  expect(text).toContain(`${name}_bucket{le="2.5"} 2\n`);
  expect(text).toContain(`${name}_bucket{le="+Inf"} 3\n`);
  expect(text).toContain(`${name}_sum 5.003\n`);
  expect(text).toContain(`${name}_count 3\n`);
});

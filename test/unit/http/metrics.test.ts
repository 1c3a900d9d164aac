/** Facts and series as metrics: their names, units and the two formats. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { byPeer, counter, gauge, text, type FactSection, type Series } from "../../../src/fact.ts";
import { Histogram } from "../../../src/histogram.ts";
import { LoopDelay } from "../../../src/http/loop-delay.ts";
import { describeMetrics } from "../../../src/http/metric-family.ts";
import { MetricsText, type MetricsFormat, type MetricsSource } from "../../../src/http/metrics.ts";
import { TextBuffer } from "../../../src/http/text-buffer.ts";
import { infoTable, seriesTable } from "../../../src/node-facts.ts";
import { readMetrics } from "../../support/metrics-text.ts";

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

const metricsText = (source: MetricsSource, format: MetricsFormat): string =>
  new TextDecoder().decode(new MetricsText(source, format).textAtOnce());

function sourceOf(
  facts: FactSection<void>["facts"],
  series: readonly Series<void>[] = [],
): MetricsSource {
  return { sections: [{ title: "Any", facts }], series };
}

const FACTS: FactSection<void>["facts"] = [
  text("version", "The version.", () => "1.2"),
  text("node_id", "The id.", () => 'a "b"\\\n'),
  text("motto", "What it says.", () => "sure"),
  text("clock_state", "How it is.", () => "held", { states: ["trusted", "held"] }),
  counter("sync_bytes_sent", "bytes", "Sent.", () => 7),
  counter("total_connections_received", "connections", "Made.", () => 5),
  gauge("clock_ahead_ms", "ms", "Ahead.", () => 1_500),
  gauge("tls_certificate_days_left", "days", "Left.", () => 2),
  gauge("snapshot_unix", "Unix seconds", "When.", () => null),
  gauge("memory_usage_mb", "MiB", "The same again.", () => 3),
  ...["late", "failed"].map((reason, i) =>
    counter(`refused_${reason}`, "", `Refused: ${reason}.`, () => i, {
      metric: { name: "refused", help: "Refused, by reason.", labels: { reason } },
    }),
  ),
];

const durations = new Histogram([1, 50, 1_000]);
for (const ms of [0.5, 1, 2, 1_500, -3]) durations.note(ms);

const SERIES: readonly Series<void>[] = [
  {
    name: "peer_age_ms",
    kind: "gauge",
    unit: "ms",
    help: "How old.",
    labels: ["peer"],
    read: () =>
      byPeer(
        [
          ["n2", 2_000],
          ["n1", 10],
        ],
        Math.max,
      ),
  },
  {
    name: "wait_ms",
    kind: "histogram",
    unit: "ms",
    help: "How long.",
    labels: ["family"],
    read: () => [[["get"], durations]],
  },
  { name: "nothing", kind: "gauge", unit: "", help: "None.", labels: ["peer"], read: () => [] },
];

test("values are in base units, and what only counts up ends with _total", () => {
  const lines = metricsText(sourceOf(FACTS, SERIES), "prometheus").split("\n");
  expect(lines.filter((line) => !line.startsWith("#")).slice(0, -1)).toEqual([
    'merklekv_info{version="1.2",node_id="a \\"b\\"\\\\\\n"} 1',
    'merklekv_clock_state{state="trusted"} 0',
    'merklekv_clock_state{state="held"} 1',
    "merklekv_sync_sent_bytes_total 7",
    "merklekv_connections_received_total 5",
    "merklekv_clock_ahead_seconds 1.5",
    "merklekv_tls_certificate_left_seconds 172800",
    'merklekv_refused_total{reason="late"} 0',
    'merklekv_refused_total{reason="failed"} 1',
    'merklekv_peer_age_seconds{peer="n1"} 0.01',
    'merklekv_peer_age_seconds{peer="n2"} 2',
    'merklekv_wait_seconds_bucket{family="get",le="0.001"} 3',
    'merklekv_wait_seconds_bucket{family="get",le="0.05"} 4',
    'merklekv_wait_seconds_bucket{family="get",le="1.0"} 4',
    'merklekv_wait_seconds_bucket{family="get",le="+Inf"} 5',
    'merklekv_wait_seconds_sum{family="get"} 1.5035',
    'merklekv_wait_seconds_count{family="get"} 5',
  ]);
  expect(lines).toContain("# TYPE merklekv_sync_sent_bytes_total counter");
  expect(lines).toContain("# HELP merklekv_refused_total Refused, by reason.");
  expect(lines).not.toContain("# EOF");
});

test("OpenMetrics names families without their suffix, and has an end", () => {
  const lines = metricsText(sourceOf(FACTS), "openmetrics").split("\n");
  expect(lines).toContain("# TYPE merklekv_sync_sent_bytes counter");
  expect(lines).toContain("merklekv_sync_sent_bytes_total 7");
  expect(lines).toContain("# TYPE merklekv info");
  expect(lines.slice(-2)).toEqual(["# EOF", ""]);
});

test.each(["prometheus", "openmetrics"] as const)(
  "nothing is wrong with the text: %s",
  (format) => {
    const text = metricsText(sourceOf(FACTS, SERIES), format);
    expect(readMetrics(text, format === "openmetrics").problems).toEqual([]);
  },
);

describe("a text that is told again", () => {
  const change = { value: 7, peers: ["n1"], says: "held" as string | null };
  const source = sourceOf(
    [
      text("version", "The version.", () => "1.2"),
      counter("sync_bytes_sent", "bytes", "Sent.", () => change.value),
      text("clock_state", "How it is.", () => change.says, { states: ["trusted", "held"] }),
    ],
    [
      {
        name: "peer_age_ms",
        kind: "gauge",
        unit: "ms",
        help: "How old.",
        labels: ["peer"],
        read: () => change.peers.map((peer, i) => [[peer], i * 1_000]),
      },
    ],
  );

  test("is that of a new one, whatever has changed", () => {
    const again = new MetricsText(source, "prometheus");
    const many = Array.from({ length: 2_000 }, (_, i) => `peer "${i}" \u{1f511}`);
    for (const peers of [["n1"], ["n1", "n2"], many, [], ["n2", 'a "b"']]) {
      for (const says of ["held", "trusted", null]) {
        Object.assign(change, { value: change.value * 11, peers, says });
        const told = new TextDecoder().decode(again.textAtOnce());
        expect(told).toBe(metricsText(source, "prometheus"));
        expect(told).toContain(`merklekv_sync_sent_bytes_total ${change.value}\n`);
      }
    }
  });

  test("is one for all who ask while it is written, and makes pauses", async () => {
    const again = new MetricsText(source, "prometheus");
    const { promise, resolve } = Promise.withResolvers<void>();
    let pauses = 0;
    const pause = (): Promise<void> | null => (++pauses === 2 ? promise : null);
    const [one, other] = [again.text(pause), again.text(pause)];
    expect(pauses).toBe(2);
    change.value = 12;
    resolve();
    expect(await one).toBe(await other);
    const told = new TextDecoder().decode(await again.text(() => null));
    expect(told).toBe(metricsText(source, "prometheus"));
  });

  test("is whole again after a pause that failed", async () => {
    const again = new MetricsText(source, "prometheus");
    const fails = again.text(() => Promise.reject(new Error("stopped")));
    expect(fails).rejects.toThrow("stopped");
    await fails.catch(() => {});
    const told = new TextDecoder().decode(await again.text(() => null));
    expect(told).toBe(metricsText(source, "prometheus"));
  });
});

test("numbers are written as String does", () => {
  const parts = [fc.integer(), fc.double(), fc.maxSafeInteger(), fc.constantFrom(-0, 2 ** 31)];
  fc.assert(
    fc.property(fc.array(fc.oneof(...parts)), (numbers) => {
      const buffer = new TextBuffer();
      for (const number of numbers) buffer.addSample(new Uint8Array(0), number);
      const lines = new TextDecoder().decode(buffer.copy()).split("\n").slice(0, -1);
      expect(lines).toEqual(numbers.map((it) => String(it).replace(/^(-?)Inf.*/, inf)));
    }),
  );
});

const inf = (_: string, sign: string): string => `${sign || "+"}Inf`;

describe("every metric of a node", () => {
  const facts = infoTable.flatMap((section) => section.facts);
  const metrics = describeMetrics(facts, seriesTable);

  test("has a name of its own by the conventions", () => {
    const names = metrics.map(({ name }) => name);
    expect(names.filter((name, at) => names.indexOf(name) !== at)).toEqual([]);
    for (const { name, kind } of metrics) {
      expect(name).toMatch(/^merklekv(_[a-z0-9]+)+$/);
      expect(name.endsWith("_total")).toBe(kind === "counter");
      expect(name).not.toMatch(/_(count|sum|bucket|ms|mb|kb|days|unix)(_total)?$/);
    }
  });

  test("is one of a kind with others only by labels", () => {
    const series = seriesTable.map(({ name }) => name);
    expect(facts.filter(({ name }) => series.includes(name))).toEqual([]);
    const shared = facts.flatMap(({ metric, kind, unit }) =>
      metric ? [{ metric, kind, unit }] : [],
    );
    const sets = new Map<string, string>();
    for (const { metric, kind, unit } of shared) {
      const set = JSON.stringify([kind, unit, metric.help, Object.keys(metric.labels)]);
      expect(sets.get(metric.name) ?? set).toBe(set);
      sets.set(metric.name, set);
    }
    const labels = shared.map(({ metric }) => JSON.stringify([metric.name, metric.labels]));
    expect(labels.filter((it, at) => labels.indexOf(it) !== at)).toEqual([]);
  });

  test("says in one sentence what it is", () => {
    for (const { help } of metrics) expect(help).toMatch(/^[A-Z`][^\n]*\.$/);
  });
});

test("of more peers than a metric names, the others are one", () => {
  const peers = Array.from({ length: 40 }, (_, i): [string, number] => [`n${100 + i}`, i]);
  const named = byPeer(peers.reverse(), Math.max);
  expect(named).toHaveLength(33);
  expect(named[0]).toEqual([["n100"], 0]);
  expect(named.at(-1)).toEqual([["all others"], 39]);
});

test("delays of the event loop are counted by length", () => {
  const { loopDelay, passMs } = madeLoopDelay();
  passMs(100);
  passMs(103);
  passMs(5_100);
  const [series] = LoopDelay.series;
  const [[, histogram]] = [...series.read(loopDelay)] as [[string[], Histogram]];
  expect(histogram.sumMs).toBe(5_003);
  expect([...histogram.counts]).toEqual([1, 0, 0, 0, 1, ...Array(8).fill(0), 1]);
});

/**
 * What configs/ has for Prometheus and Grafana, against two real nodes: whatever an alert or a
 * picture names is among what they say of themselves, and Prometheus' own tool agrees with all.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { describeMetrics } from "../../src/http/metric-family.ts";
import { HttpListener } from "../../src/http/http-listener.ts";
import { LoopDelay } from "../../src/http/loop-delay.ts";
import { infoTable, seriesTable } from "../../src/node-facts.ts";
import { Authority } from "../support/certificates.ts";
import { endProcess } from "../support/end-process.ts";
import { eventually } from "../support/eventually.ts";
import { LineClient } from "../support/line-client.ts";
import { readMetrics, type Sample } from "../support/metrics-text.ts";
import { freePort } from "../support/mosquitto.ts";
import { startNodeProcess, type NodeProcess } from "../support/process.ts";

const CONFIGS = join(import.meta.dir, "../../configs");
const ALERTS = join(CONFIGS, "prometheus/alerts.yml");
const DASHBOARD = join(CONFIGS, "grafana/merklekv.json");

const promtool = process.env["PROMTOOL"] ?? Bun.which("promtool");
if (promtool === null) console.warn("skipped: promtool is not installed (Debian: prometheus)");

interface Rule {
  readonly alert: string;
  readonly expr: string;
  readonly labels: { readonly severity: string };
  readonly annotations: { readonly summary: string; readonly description: string };
}
const { groups } = Bun.YAML.parse(readFileSync(ALERTS, "utf8")) as {
  groups: { rules: Rule[] }[];
};
const rules = groups.flatMap((group) => group.rules);

interface Panel {
  readonly title: string;
  readonly type: string;
  readonly fieldConfig?: { readonly defaults: { readonly thresholds?: unknown } };
  readonly targets?: { readonly expr: string }[];
}
const { panels } = JSON.parse(readFileSync(DASHBOARD, "utf8")) as { panels: Panel[] };
const queries = panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr));

/** Selectors in an expression: a name, and the labels that it asks for by name. */
function selectorsOf(expr: string): { name: string; labels: string[] }[] {
  const found = expr.matchAll(/\b(merklekv(?:_[a-z0-9]+)+)\s*(?:\{([^}]*)\})?/g);
  return Array.from(found, ([, name, inside = ""]) => ({
    name,
    labels: Array.from(inside.matchAll(/([a-z_]+)\s*(?:=~|!~|!=|=)/g), ([, label]) => label),
  }));
}

const authority = new Authority();
const own = authority.issue({ name: "node" });
/** All metrics that a node may say, by name. */
const described = new Map(
  describeMetrics(
    infoTable.flatMap((section) => section.facts),
    [...seriesTable, ...LoopDelay.series, ...HttpListener.series],
  ).map((it) => [it.name, it]),
);
/** What is said of what happens rarely, and not here. */
const RARE = /^merklekv_(sync_last_heal|clock_ahead_of_peer|relay_)/;

/** What has not been said yet. */
function unsaid(): string[] {
  const said = new Set(samples.map(({ name }) => name.replace(/_(bucket|sum|count)$/, "")));
  return [...described.keys()].filter((name) => !said.has(name) && !RARE.test(name));
}

let nodes: NodeProcess[];
let samples: Sample[];
let text: string;

const common = (id: string, broker: string): string => `
node_id = "${id}"
[network]
bind_port = 0
tls_port = 0
[http]
bind_address = "127.0.0.1"
[tls]
cert_file = "${own.cert}"
key_file = "${own.key}"
ca_file = "${authority.caFile}"
[mqtt]
broker_address = "${broker}"
[storage]
engine = "log"
[audit]
file = "audit.jsonl"
`;

function httpOf(node: NodeProcess): string {
  return `http://${/HTTP on (\S+)/.exec(node.output())![1]}`;
}

beforeAll(async () => {
  const embedded = "[mqtt.embedded]\nbind_port = 0\ntls_port = 0\n";
  const one = await startNodeProcess({ config: common("n1", "embedded") + embedded });
  const [, port] = await one.waitFor(/Embedded broker listening.* tls=\S+:(\d+)/);
  const client = `[mqtt.tls]\nca_file = "${authority.caFile}"\ncert_file = "${own.cert}"\nkey_file = "${own.key}"\n`;
  const two = await startNodeProcess({
    config: common("n2", `mqtts://127.0.0.1:${port}`) + client,
  });
  nodes = [one, two];
  const clients = await Promise.all(nodes.map((it) => LineClient.connect(it.port)));
  await clients[0].send("SET k v");
  await eventually("it has come", async () => (await clients[1].send("GET k")) === "v");
  await clients[0].send(`SYNC 127.0.0.1 ${two.port}`);
  for (const client of clients) await client.close();
  const scrapes = (): Promise<string[]> =>
    Promise.all(nodes.map(async (it) => (await fetch(`${httpOf(it)}/metrics`)).text()));
  // The root is computed, presence has come, the log was synced.
  await eventually("all has been said", async () => {
    const texts = await scrapes();
    text = texts[0]!;
    samples = texts.flatMap((it) => [...readMetrics(it, false).samples]);
    const names = new Set(samples.map(({ name }) => name));
    if (unsaid().length > 0) return false;
    return queries
      .concat(rules.map((it) => it.expr))
      .every((expr) => selectorsOf(expr).every(({ name }) => names.has(name)));
  }).catch(() => {});
});
afterAll(async () => {
  for (const node of nodes ?? []) await node.stop();
  authority.remove();
});

describe("what is named is said by a node", () => {
  const expectKnown = (expr: string): void => {
    for (const { name, labels } of selectorsOf(expr)) {
      const named = samples.filter((it) => it.name === name);
      expect(`${name}: ${named.length > 0}`).toBe(`${name}: true`);
      // Prometheus adds where it has scraped.
      const own = labels.filter((label) => label !== "job" && label !== "instance");
      for (const label of own) expect(named.some((it) => label in it.labels)).toBe(true);
    }
  };

  test.each(rules.map(({ alert, expr }) => [alert, expr]))("%s", (_, expr) => expectKnown(expr));
  test.each(panels.map((it) => [it.title, it] as const))("%s", (_, { targets = [] }) => {
    for (const { expr } of targets) expectKnown(expr);
  });

  test("grouped by labels that there are", () => {
    for (const expr of [...queries, ...rules.map((it) => it.expr)]) {
      const known = new Set(["le", "job", "instance"]);
      for (const { name } of selectorsOf(expr)) {
        for (const it of samples)
          if (it.name === name) Object.keys(it.labels).map((l) => known.add(l));
      }
      for (const [, labels] of expr.matchAll(/\b(?:by|on) \(([^)]*)\)/g)) {
        for (const label of labels.split(/, ?/)) expect([...known]).toContain(label);
      }
    }
  });

  test("all that is said is described, and the other way round", () => {
    for (const { name, labels } of samples) {
      const found = described.get(name) ?? described.get(name.replace(/_(bucket|sum|count)$/, ""));
      expect([name, found?.labels.filter((it) => !(it in labels))]).toEqual([name, []]);
    }
    expect(unsaid()).toEqual([]);
  });
});

test("every alert has a test of its own, says what is wrong and how bad it is", () => {
  const tests = readFileSync(ALERTS.replace(".yml", ".test.yml"), "utf8");
  for (const { alert, labels, annotations } of rules) {
    expect(alert).toMatch(/^MerkleKV[A-Z][A-Za-z]+$/);
    expect(["warning", "critical"]).toContain(labels.severity);
    expect(annotations.summary.length * annotations.description.length).toBeGreaterThan(0);
    for (const kind of ["fires", "is silent"]) {
      expect([alert, kind, tests.includes(`"${alert} ${kind}"`)]).toEqual([alert, kind, true]);
    }
  }
});

test("every number of the dashboard says itself when it is bad: Grafana would take 80 for it", () => {
  const numbers = panels.filter(({ type }) => type === "stat");
  expect(numbers.length).toBeGreaterThan(0);
  const silent = numbers.filter(({ fieldConfig }) => !fieldConfig?.defaults.thresholds);
  expect(silent.map(({ title }) => title)).toEqual([]);
});

describe.skipIf(promtool === null)("Prometheus' tool agrees with", () => {
  const run = (directory: string, args: string[], input = ""): string => {
    const { status, stdout, stderr } = spawnSync(promtool!, args, {
      cwd: directory,
      input,
      encoding: "utf8",
    });
    return status === 0 ? "" : `${stdout}${stderr}`;
  };
  const prometheus = dirname(ALERTS);

  test("the metrics of a node", () => {
    expect(run(prometheus, ["check", "metrics"], text)).toBe("");
  });

  test("the example configuration and the rules", () => {
    expect(run(prometheus, ["check", "config", "prometheus.yml"])).toBe("");
    expect(run(prometheus, ["check", "rules", "alerts.yml"])).toBe("");
  });

  test("the tests of the rules", () => {
    expect(run(prometheus, ["test", "rules", "alerts.test.yml"])).toBe("");
  });

  test("every query of the dashboard", () => {
    const directory = mkdtempSync(join(tmpdir(), "merklekv-queries-"));
    const records = queries.map((expr, i) => ({
      record: `query_${i}`,
      expr: expr.replaceAll("$job", "j").replaceAll("$instance", "i"),
    }));
    const file = JSON.stringify({ groups: [{ name: "queries", rules: records }] });
    writeFileSync(join(directory, "queries.yml"), file);
    expect(run(directory, ["check", "rules", "queries.yml"])).toBe("");
    rmSync(directory, { recursive: true });
  });
});

/** Prometheus itself comes in the same package as its tool. */
const server = promtool === null ? null : join(dirname(promtool), "prometheus");

describe.skipIf(server === null || !existsSync(server))("Prometheus itself", () => {
  test("has an answer to every query of the dashboard, and takes every alert", async () => {
    const directory = mkdtempSync(join(tmpdir(), "merklekv-prometheus-"));
    const targets = nodes.map((it) => httpOf(it).slice("http://".length));
    const jobs = [{ job_name: "merklekv", static_configs: [{ targets }] }];
    const global = { scrape_interval: "1s", evaluation_interval: "1s" };
    const config = { global, rule_files: [ALERTS], scrape_configs: jobs };
    writeFileSync(join(directory, "prometheus.yml"), JSON.stringify(config));
    const address = `127.0.0.1:${await freePort()}`;
    const child = Bun.spawn(
      [
        server!,
        `--config.file=${join(directory, "prometheus.yml")}`,
        `--storage.tsdb.path=${join(directory, "data")}`,
        `--web.listen-address=${address}`,
      ],
      { stdout: "ignore", stderr: "ignore" },
    );
    try {
      const get = async (path: string): Promise<Answer> =>
        (await (await fetch(`http://${address}/api/v1/${path}`)).json()) as Answer;
      const ask = (query: string): Promise<Answer> =>
        get(`query?query=${encodeURIComponent(query)}`);
      await eventually("both nodes were scraped three times", async () => {
        const answer = await ask("count_over_time(up{job='merklekv'}[1m]) > 2").catch(() => null);
        return answer?.data.result?.length === nodes.length;
      });
      const empty: string[] = [];
      for (const query of queries) {
        const expr = query.replaceAll("$job", "merklekv").replaceAll("$instance", ".*");
        const { status, error, data } = await ask(expr);
        expect([expr, status, error]).toEqual([expr, "success", undefined]);
        // What asks for more than nothing may find none.
        if (data.result!.length === 0 && !expr.includes("> 0")) empty.push(expr);
      }
      expect(empty).toEqual([]);
      const { data } = await get("rules");
      const taken = data.groups!.flatMap((group) => group.rules);
      expect(taken.map(({ name }) => name).sort()).toEqual(rules.map((it) => it.alert).sort());
      expect(taken.filter(({ state }) => state === "firing").map(({ name }) => name)).toEqual([]);
    } finally {
      await endProcess(child);
      rmSync(directory, { recursive: true });
    }
  });
});

/** What Prometheus' HTTP API answers. */
interface Answer {
  readonly status: string;
  readonly error?: string;
  readonly data: {
    readonly result?: readonly unknown[];
    readonly groups?: readonly { readonly rules: readonly { name: string; state: string }[] }[];
  };
}

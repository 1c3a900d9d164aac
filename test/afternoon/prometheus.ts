/**
 * A real Prometheus that watches the three nodes with the project's rules, in a hurry: every time in
 * them is divided, so that what is told of after ten minutes is told of after a few seconds.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { projectRoot } from "../support/binary.ts";
import { eventually } from "../support/eventually.ts";
import type { Machine } from "./machine.ts";
import type { Logins } from "./sight.ts";

const RULES = join(projectRoot, "configs/prometheus/alerts.yml");
const SECONDS = { s: 1, m: 60, h: 3_600 };
const INTERVAL_MS = 500;
/** An alert is to fire within this; machines that test are busy. */
const WITHIN_MS = 30_000;

/** Prometheus, where it is installed: beside its tool, if PROMTOOL names that. Null where it is not. */
export function findPrometheus(): string | null {
  const tool = process.env["PROMTOOL"];
  const beside = tool === undefined ? null : join(dirname(tool), "prometheus");
  return beside !== null && existsSync(beside) ? beside : Bun.which("prometheus");
}

interface Rule {
  readonly alert: string;
  expr: string;
  for?: string;
}

/** The rules in a hurry, and with what Prometheus reads them: YAML has JSON in it. */
export function hastened(text: string, haste: number): string {
  const faster = (seconds: number): string => `${Math.ceil((seconds * 1_000) / haste)}ms`;
  const inUnits = (_: string, count: string, unit: keyof typeof SECONDS): string =>
    faster(Number(count) * SECONDS[unit]);
  const { groups } = Bun.YAML.parse(text) as { groups: { rules: Rule[] }[] };
  for (const rule of groups.flatMap((group) => group.rules)) {
    rule.expr = rule.expr
      .replace(
        /\[(\d+)([smh])\]/g,
        (...found) => `[${inUnits(...(found as [string, string, "s"]))}]`,
      )
      // Times that stand there as numbers: since the last sync, until the disk is full, of a delay.
      .replace(/< 1800\b/, `< ${1_800 / haste}`)
      .replace(/4 \* 3600\b/, `${(4 * 3_600) / haste}`)
      .replace(/(replication_delay_seconds_bucket.*) > 30$/, "$1 > 2");
    if (rule.for !== undefined) rule.for = rule.for.replace(/^(\d+)([smh])$/, inUnits);
  }
  return JSON.stringify({ groups });
}

/** The names of all alerts. */
export function alertNames(): string[] {
  const { groups } = Bun.YAML.parse(readFileSync(RULES, "utf8")) as { groups: { rules: Rule[] }[] };
  return groups.flatMap((group) => group.rules.map(({ alert }) => alert));
}

interface Alert {
  readonly labels: { readonly alertname: string; readonly instance?: string };
  readonly state: "pending" | "firing";
  readonly annotations: { readonly summary: string };
}

/** See the file header. */
export class Prometheus {
  private constructor(
    private readonly address: string,
    private readonly child: Bun.Subprocess,
    private readonly directory: string,
  ) {}

  /** Starts it; every time in the rules is divided by `haste`. */
  static start(
    executable: string,
    machines: readonly Machine[],
    logins: Logins,
    haste: number,
    port: number,
  ): Prometheus {
    const directory = mkdtempSync(join(tmpdir(), "merklekv-prometheus-"));
    const interval = `${INTERVAL_MS}ms`;
    writeFileSync(join(directory, "alerts.yml"), hastened(readFileSync(RULES, "utf8"), haste));
    const config = {
      global: {
        scrape_interval: interval,
        scrape_timeout: interval,
        evaluation_interval: interval,
      },
      rule_files: ["alerts.yml"],
      scrape_configs: [
        {
          job_name: "merklekv",
          basic_auth: { username: "watch", password: logins.watch },
          static_configs: machines.map(({ name, address, httpPort }) => ({
            targets: [`${address}:${httpPort}`],
            labels: { instance: name },
          })),
        },
      ],
    };
    writeFileSync(join(directory, "prometheus.yml"), JSON.stringify(config));
    const address = `127.0.0.1:${port}`;
    const options = [
      `--config.file=${join(directory, "prometheus.yml")}`,
      `--storage.tsdb.path=${join(directory, "data")}`,
      `--web.listen-address=${address}`,
    ];
    const log = Bun.file(join(directory, "log"));
    const child = Bun.spawn([executable, ...options], { stdout: log, stderr: log });
    return new Prometheus(address, child, directory);
  }

  /** Waits until it has heard of that many nodes. */
  async untilScraped(nodes: number): Promise<void> {
    await eventually("Prometheus has scraped all nodes", async () => {
      const log = join(this.directory, "log");
      if (this.child.exitCode !== null) {
        throw new Error(`Prometheus ended:\n${readFileSync(log, "utf8")}`);
      }
      const up = (await this.get("query?query=up%3D%3D1")) as { result: unknown[] };
      return up.result.length === nodes;
    });
  }

  /** Waits until it has scraped that machine once more. */
  async untilScrapedAnew({ name }: Machine): Promise<void> {
    const at = async (): Promise<number> => {
      const query = `timestamp(up{instance="${name}"}==1)`;
      const { result } = (await this.get(`query?query=${encodeURIComponent(query)}`)) as {
        result: { value: [number, string] }[];
      };
      return Number(result[0]?.value[1] ?? NaN);
    };
    const fromMs = Date.now();
    await eventually(`Prometheus scrapes ${name}`, async () => (await at()) * 1_000 > fromMs);
  }

  private async get(path: string): Promise<unknown> {
    const response = await fetch(`http://${this.address}/api/v1/${path}`);
    return ((await response.json()) as { data: unknown }).data;
  }

  /** What it alerts of now, or is about to: `MerkleKVNodeDown north`, with what that says. */
  async inState(wanted: Alert["state"]): Promise<Map<string, string>> {
    const { alerts } = (await this.get("alerts")) as { alerts: Alert[] };
    const those = alerts.filter(({ state }) => state === wanted);
    return new Map(
      those.map(({ labels, annotations }) => [
        `${labels.alertname} ${labels.instance}`,
        annotations.summary,
      ]),
    );
  }

  /**
   * Waits until an alert of that name fires, of whatever node; what it says. One that has fired since
   * `sinceMs` (of `performance.now`), and is over, counts as well.
   */
  untilFires(name: string, sinceMs = performance.now()): Promise<string> {
    const isIt = (key: string): boolean => key.startsWith(`${name} `);
    return eventually(
      `the alert ${name}`,
      async () => {
        const firing = await this.inState("firing");
        const found = [...firing].find(([key]) => isIt(key));
        if (found !== undefined) return `"${found[1]}"`;
        const former = [...(await this.fired(performance.now() - sinceMs))].find(isIt);
        if (former !== undefined) return `${former}, for a while`;
        throw new Error(`there fire ${[...firing.keys()].join(", ") || "none"}`);
      },
      WITHIN_MS,
    );
  }

  /** All that fired within the last so many milliseconds, in the same words. */
  async fired(withinMs: number): Promise<Set<string>> {
    const query = `max_over_time(ALERTS{alertstate="firing"}[${Math.ceil(withinMs)}ms])`;
    const { result } = (await this.get(`query?query=${encodeURIComponent(query)}`)) as {
      result: { metric: { alertname: string; instance: string } }[];
    };
    return new Set(result.map(({ metric }) => `${metric.alertname} ${metric.instance}`));
  }

  /** Ends it, and removes its directory. */
  async close(): Promise<void> {
    this.child.kill("SIGKILL");
    await this.child.exited;
    rmSync(this.directory, { recursive: true, force: true });
  }
}

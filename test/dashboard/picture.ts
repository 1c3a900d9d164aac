/**
 * Takes the picture of Grafana's dashboard that docs/monitoring.md shows: three nodes are used for
 * some minutes, Prometheus looks at them, and the panels are drawn from configs/grafana with what it
 * answers. Grafana itself is in no package registry, but its panels are (`@grafana/ui`); they are
 * installed into a temporary directory, or into PANELS if that is set:
 *
 *     PROMETHEUS=/usr/bin/prometheus bun test/dashboard/picture.ts
 */
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium as playwright } from "playwright-core";
import { projectRoot } from "../support/binary.ts";
import { chromium } from "../support/chromium.ts";
import { eventually } from "../support/eventually.ts";
import { LineClient } from "../support/line-client.ts";
import { freePort, Mosquitto } from "../support/mosquitto.ts";
import { startNodeProcess } from "../support/process.ts";

const MINUTES = Number(process.env["MINUTES"] ?? 10);
const PACKAGES = ["@grafana/ui@11", "@grafana/data@11", "react@18", "react-dom@18"];
const FROM = join(projectRoot, "configs/grafana/merklekv.json");
const TO = join(projectRoot, "docs/images/dashboard.png");

interface Target {
  readonly expr: string;
  answer: unknown;
}
interface Dashboard {
  readonly panels: { readonly targets?: Target[] }[];
}

const folder = mkdtempSync(join(tmpdir(), "merklekv-dashboard-"));

async function run(command: string[], cwd: string): Promise<void> {
  const child = Bun.spawn(command, { cwd, stdout: "ignore", stderr: "inherit" });
  if ((await child.exited) !== 0) throw new Error(`${command.join(" ")} failed`);
}

/** The page's script and style: the panels with all that they need. */
async function buildPage(): Promise<{ script: string; style: string }> {
  const panels = process.env["PANELS"] ?? join(folder, "panels");
  mkdirSync(panels, { recursive: true });
  if (!existsSync(join(panels, "node_modules/@grafana/ui"))) {
    writeFileSync(join(panels, "package.json"), '{ "private": true }');
    await run(["npm", "install", "--silent", "--legacy-peer-deps", ...PACKAGES], panels);
  }
  const source = join(panels, "panels.jsx");
  copyFileSync(join(import.meta.dir, "panels.jsx"), source);
  const { outputs } = await Bun.build({
    entrypoints: [source],
    target: "browser",
    define: { "process.env.NODE_ENV": '"production"' },
  });
  const built = (kind: string) => outputs.find(({ path }) => path.endsWith(kind))!.text();
  return { script: await built(".js"), style: await built(".css") };
}

/** Three nodes over one broker, in use until `stop`. */
async function startCluster(): Promise<{ targets: string[]; stop: () => Promise<void> }> {
  const broker = await Mosquitto.start();
  const settings = (name: string): string => `
node_id = "${name}"
[network]
bind_port = 0
[http]
bind_address = "127.0.0.1"
[storage]
engine = "log"
[anti_entropy]
interval_seconds = 10
[mqtt]
broker_address = "${broker.address}"
`;
  const nodes = await Promise.all(
    ["oven", "packing", "press"].map((name) => startNodeProcess({ config: settings(name) })),
  );
  const clients = await Promise.all(nodes.map((node) => LineClient.connect(node.port)));
  let turn = 0;
  const use = setInterval(() => {
    const client = clients[turn++ % clients.length];
    const busy = 4 + Math.floor(12 * (1 + Math.sin(turn / 900)));
    for (let i = 0; i < busy; i++) {
      const key = `line:${(turn * 7 + i) % 40}:motor:${(turn * 31 + i * 17) % 9_000}`;
      if (i % 5 === 0) void client.send(`SET ${key} running at ${turn % 3_000} turns`);
      else if (i % 7 === 0) void client.send(`INC ${key.replace("motor", "count")}`);
      else if (i % 11 === 0) void client.send(`DEL ${key}`);
      else void client.send(`GET ${key}`);
    }
    if (turn % 211 === 0) void client.send(`INC recipe:name`);
    if (turn % 37 === 0) void client.send(`SET recipe:name bread`);
    if (turn % 50 === 0) void client.send(`SETEX session:${turn} 60 open`);
  }, 20);
  return {
    targets: nodes.map((node) =>
      /HTTP on http:\/\/(\S+)|HTTP on (\S+)/.exec(node.output())!.at(-1)!,
    ),
    stop: async () => {
      clearInterval(use);
      for (const client of clients) await client.close();
      for (const node of nodes) await node.stop();
      await broker.stop();
    },
  };
}

const { targets, stop } = await startCluster();
const port = await freePort();
const prometheusFile = join(folder, "prometheus.yml");
writeFileSync(
  prometheusFile,
  Bun.YAML.stringify({
    global: { scrape_interval: "5s" },
    scrape_configs: [{ job_name: "merklekv", static_configs: [{ targets }] }],
  }),
);
const prometheus = Bun.spawn(
  [
    process.env["PROMETHEUS"] ?? "prometheus",
    `--config.file=${prometheusFile}`,
    `--storage.tsdb.path=${join(folder, "data")}`,
    `--web.listen-address=127.0.0.1:${port}`,
  ],
  { stdout: "ignore", stderr: "ignore" },
);
const fromMs = Date.now();
const { script, style } = await buildPage();
await Bun.sleep(Math.max(0, fromMs + MINUTES * 60_000 - Date.now()));
const toMs = Date.now();

const dashboard = JSON.parse(readFileSync(FROM, "utf8")) as Dashboard;
for (const target of dashboard.panels.flatMap((panel) => panel.targets ?? [])) {
  const query = target.expr.replaceAll("$job", "merklekv").replaceAll("$instance", ".*");
  const asked = new URLSearchParams({
    query,
    start: `${fromMs / 1000}`,
    end: `${toMs / 1000}`,
    step: "5",
  });
  const answer = await fetch(`http://127.0.0.1:${port}/api/v1/query_range?${asked}`);
  const { data } = (await answer.json()) as { data: { result: unknown } };
  target.answer = data.result;
}
prometheus.kill();
await stop();

const browser = await playwright.launch({
  executablePath: chromium!,
  args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
});
const page = await browser.newPage({ viewport: { width: 1500, height: 1000 } });
page.on("pageerror", (error) => console.error(error));
// A page with an origin: the panels look for what the browser has stored.
const empty = { contentType: "text/html", body: "<!doctype html><body></body>" };
await page.route("**/*", (route) => route.fulfill(empty));
await page.goto("http://dashboard.test/");
await page.evaluate((given) => Object.assign(globalThis, given), {
  dashboard,
  range: { fromMs, toMs },
});
await page.addStyleTag({ content: style });
await page.addScriptTag({ content: script, type: "module" });
await eventually("the graphs are drawn", () => page.locator("canvas").count());
await page.waitForTimeout(3_000);
await page.screenshot({ path: TO, fullPage: true });
await browser.close();

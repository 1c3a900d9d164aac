/**
 * Takes the pictures of the console that docs/http.md shows, of three nodes of which one is behind:
 *
 *     bun test/console/pictures.ts
 */
import { join } from "node:path";
import { chromium as playwright } from "playwright-core";
import { projectRoot } from "../support/binary.ts";
import { chromium } from "../support/chromium.ts";
import { LineClient } from "../support/line-client.ts";
import { startNodeProcess, type NodeProcess } from "../support/process.ts";

const FOLDER = join(projectRoot, "docs/images");

function settings(name: string, broker: string, more = ""): string {
  return `node_id = "${name}"\n[network]\nbind_port = 0\n[storage]\nengine = "memory"\n[mqtt]\nbroker_address = "${broker}"\n${more}`;
}

const http = '[http]\nbind_address = "127.0.0.1"';
const own = await startNodeProcess({
  config: settings("press-1", "embedded", `[mqtt.embedded]\nbind_port = 0\n${http}`),
});
const broker = /(?:broker|MQTT)[^\n]*?(127\.0\.0\.1:\d+)/.exec(own.output())![1];
const others: NodeProcess[] = [];
for (const name of ["press-2", "oven", "packing"]) {
  others.push(await startNodeProcess({ config: settings(name, `tcp://${broker}`) }));
}
const client = await LineClient.connect(own.port);
for (let i = 0; i < 3_000; i++) await client.send(`SET line:${i % 7}:motor:${i} running`);
for (let i = 0; i < 40; i++) await client.send(`SET recipe:${i} ${i * 3} minutes at 180 degrees`);
await others[2].kill();
const browser = await playwright.launch({
  executablePath: chromium!,
  args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
});
const base = `http://${/HTTP on (\S+)/.exec(own.output())![1]}`;
const page = await browser.newPage({ viewport: { width: 1100, height: 900 } });
await page.goto(base);
await page.getByRole("img", { name: /packing: silent/ }).waitFor({ timeout: 120_000 });
let written = 0;
const load = setInterval(
  () => void client.send(`SET line:${written % 7}:motor:${written++} x`),
  15,
);
await page.waitForTimeout(20_000);
await page.setViewportSize({ width: 1100, height: 1060 });
await page.screenshot({ path: join(FOLDER, "console-overview.png") });
await page.setViewportSize({ width: 1100, height: 720 });
await page.goto(`${base}/#keys`);
await page.getByRole("button", { name: /^recipe:/ }).click();
await page.getByRole("button", { name: "recipe:7", exact: true }).click();
await page.getByLabel("Value", { exact: true }).waitFor();
await page.screenshot({ path: join(FOLDER, "console-keys.png") });
await page.getByRole("button", { name: "Dark" }).click();
await page.goto(`${base}/#tree`);
await page.getByText(/ 0 differ from a peer/).waitFor();
// A node that was away for long comes back with what the others have not.
const returned = await startNodeProcess({
  config: settings("returned", "", 'enabled = false\n[cluster]\nname = "merkle-kv"'),
});
const writer = await LineClient.connect(returned.port);
for (let i = 0; i < 500; i++) await writer.send(`SET found:${i} x`);
await writer.send(`SYNC 127.0.0.1 ${own.port}`);
await page.getByText(/[1-9]\d* healed in the last/).waitFor();
// It has all now, and a few of its own.
await page.getByText(/ 0 healed in the last/).waitFor({ timeout: 60_000 });
for (let i = 0; i < 300; i++) await writer.send(`SET more:${i} x`);
await writer.send(`SYNC 127.0.0.1 ${own.port}`);
await page.setViewportSize({ width: 1100, height: 900 });
await page.getByText(/[1-9]\d* healed in the last/).waitFor();
await page.screenshot({ path: join(FOLDER, "console-tree.png") });
clearInterval(load);
await browser.close();
for (const each of [returned, own, ...others.slice(0, 2)]) await each.stop();
await writer.close();
await client.close();
process.exit(0);

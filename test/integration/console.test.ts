/** The console in a real browser: sign in, look, write, watch a heal. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { chromium as playwright, type Browser, type Page } from "playwright-core";
import { projectRoot } from "../support/binary.ts";
import { chromium } from "../support/chromium.ts";
import { eventually } from "../support/eventually.ts";
import { LineClient } from "../support/line-client.ts";
import { startNodeProcess, type NodeProcess } from "../support/process.ts";
import { settings, startWithUsers, usersFile } from "../support/users-node.ts";

const HTTP = '[http]\nbind_address = "127.0.0.1"';
/** What the page fetched that is not the node's, and what went wrong in it. */
const foreign: string[] = [];
const problems: string[] = [];
let browser: Browser;
let node: NodeProcess;
let other: NodeProcess;

function baseOf(it: NodeProcess): string {
  return `http://${/HTTP on (\S+)/.exec(it.output())![1]}`;
}

async function open(base: string, view: string, width = 1100): Promise<Page> {
  const page = await browser.newPage({ viewport: { width, height: 800 } });
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(base) && !url.startsWith("data:")) foreign.push(url);
  });
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("console", (message) => {
    // The browser notes each answer that is no success; of those the page tells by itself.
    const isRefusal = message.text().includes("Failed to load resource");
    if (message.type() === "error" && !isRefusal) problems.push(message.text());
  });
  await page.goto(`${base}/#${view}`);
  return page;
}

test("the facts that the console shows are there", async () => {
  const script = await Bun.file(join(projectRoot, "src/http/console/overview.js")).text();
  const names = Array.from(script.matchAll(/\bfact\("(\w+)"\)/g), ([, name]) => name);
  expect(names.length).toBeGreaterThan(4);
  const facts = await Bun.file(join(projectRoot, "docs/facts.md")).text();
  for (const name of names) expect(facts).toContain(`| \`${name}\` `);
});

describe.skipIf(chromium === null)("the console", () => {
  beforeAll(async () => {
    const launching = playwright.launch({
      executablePath: chromium!,
      args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
    });
    node = await startNodeProcess({ config: settings(HTTP) });
    other = await startNodeProcess({ config: settings("").replace('"n"', '"n2"') });
    browser = await launching;
  });
  afterAll(async () => {
    await browser?.close();
    await node?.stop();
    await other?.stop();
    expect([foreign, problems]).toEqual([[], []]);
  });

  test("shows the cluster, and how the node does", async () => {
    const page = await open(baseOf(node), "");
    await page.getByRole("img", { name: "Nodes. n: equal" }).waitFor();
    await page.getByRole("cell", { name: "n (this one)" }).waitFor();
    await page.getByRole("img", { name: /^Commands: now \d/ }).waitFor();
    await page.close();
  });

  test("keys are added, read, changed by others, saved and deleted", async () => {
    const page = await open(baseOf(node), "keys");
    await page.getByLabel("New key").fill("motor:1");
    await page.getByLabel("Its value").fill("on");
    await page.getByRole("button", { name: "Add" }).click();
    const value = page.getByLabel("Value", { exact: true });
    await value.waitFor();
    expect(await value.inputValue()).toBe("on");
    const client = await LineClient.connect(node.port);
    await client.send("SET motor:1 off");
    await eventually("it shows the new one", async () => (await value.inputValue()) === "off");
    await value.fill("mine");
    await client.send("SET motor:1 theirs");
    await page.getByText("saving will be refused").waitFor();
    await page.getByRole("button", { name: "Save" }).click();
    await page.getByText("not, or no longer, what it was to be").waitFor();
    expect(await client.send("GET motor:1")).toBe("theirs");
    await page.getByRole("button", { name: "Look again" }).last().click();
    await eventually("it shows theirs", async () => (await value.inputValue()) === "theirs");
    await value.fill("mine");
    await page.getByRole("button", { name: "Save" }).click();
    await page.getByText("Saved").waitFor();
    expect(await client.send("GET motor:1")).toBe("mine");
    await page.getByRole("button", { name: "Delete" }).click();
    await page.getByText("Choose a key").waitFor();
    expect(await client.send("GET motor:1")).toBe("(null)");
    await client.close();
    await page.close();
  });

  test("keys that begin alike are one line, however many there are", async () => {
    const client = await LineClient.connect(node.port);
    for (let i = 0; i < 450; i++) await client.send(`SET many:${i} x`);
    await client.send("SET other:1 x");
    await client.send("SET zulu x");
    const page = await open(baseOf(node), "keys");
    await page.getByRole("button", { name: "other: 1 …" }).waitFor();
    await page.getByRole("button", { name: "zulu" }).waitFor();
    await page.getByRole("button", { name: "many: 200 or more …" }).click();
    await page.getByRole("button", { name: "many:0", exact: true }).waitFor();
    // In the order of their bytes: many:379 is on the second page, many:99 on the third.
    await page.getByRole("button", { name: "More" }).click();
    await page.getByRole("button", { name: "many:379", exact: true }).waitFor();
    await page.getByRole("button", { name: "More" }).click();
    await page.getByRole("button", { name: "many:99", exact: true }).waitFor();
    await client.send("FLUSH");
    await Promise.all([client.close(), page.close()]);
  });

  test("commands are completed and run, and a heal lights up the tree", async () => {
    const client = await LineClient.connect(other.port);
    for (let i = 0; i < 50; i++) await client.send(`SET healed:${i} x`);
    await client.close();
    const base = baseOf(node);
    const tree = await open(base, "tree");
    await tree.getByText(/^\d+ of 4096 cells hold keys; 0 differ from a peer; 0 healed/).waitFor();
    // What is written is no difference.
    const own = await LineClient.connect(node.port);
    for (let i = 0; i < 20; i++) await own.send(`SET own:${i} x`);
    await own.close();
    await tree.getByText(/^2\d of 4096 cells hold keys; 0 differ from a peer; 0 healed/).waitFor();
    const page = await open(base, "commands");
    const line = page.getByLabel("Command");
    await page.getByText("Tab completes").waitFor();
    await eventually("the commands are known", async () => {
      await line.fill("DBS");
      return page.getByText("DBSIZE").isVisible();
    });
    await line.press("Tab");
    expect(await line.inputValue()).toBe("DBSIZE ");
    await line.fill(`SYNC 127.0.0.1 ${other.port}`);
    await line.press("Enter");
    await page.getByText("OK", { exact: true }).waitFor();
    await tree.getByText(/ 0 differ from a peer; [67]\d healed in the last seconds/).waitFor();
    await tree.getByRole("img", { name: /healed in the last seconds/ }).waitFor();
    await tree.getByRole("list", { name: "What the cells mean" }).waitFor();
    await line.fill('SET "a key" "\\xff\\n"');
    await line.press("Enter");
    await line.fill('GET "a key"');
    await line.press("Enter");
    await page.getByText('"\\\\xff\\\\x0a"').waitFor();
    await line.fill("NONSENSE");
    await line.press("Enter");
    await page.getByText("(error) ERR unknown command").waitFor();
    await Promise.all([page.close(), tree.close()]);
  });

  test("fits a phone, by keyboard and in the dark", async () => {
    const page = await open(baseOf(node), "", 360);
    await page.getByRole("img", { name: /^Nodes/ }).waitFor();
    const overflow = (): Promise<number> =>
      page.evaluate("document.documentElement.scrollWidth - innerWidth");
    expect(await overflow()).toBeLessThanOrEqual(0);
    await page.keyboard.press("Tab");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await page.getByLabel("New key").waitFor();
    expect(await overflow()).toBeLessThanOrEqual(0);
    await page.getByRole("button", { name: "Dark" }).click();
    await page.getByRole("button", { name: "Light" }).waitFor();
    await page.close();
  });

  test("asks who it is where there are users, and shows what that one may see", async () => {
    const users = usersFile(["user default off", "user reader on >p %R~own:* +get +scan"]);
    const guarded = await startWithUsers(users, HTTP);
    const page = await open(baseOf(guarded), "keys");
    await page.getByLabel("Name").fill("reader");
    await page.getByLabel("Password").fill("wrong");
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.getByText("Name or password is wrong").waitFor();
    await page.getByLabel("Password").fill("p");
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.getByText("There are none.").waitFor();
    await page.getByLabel("New key").fill("own:1");
    await page.getByRole("button", { name: "Add" }).click();
    await page.getByText("no permissions to run the 'set' command").waitFor();
    await page.getByRole("button", { name: "Overview" }).click();
    await page.getByText("This is for users who may say INFO").waitFor();
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.getByLabel("Password").waitFor();
    await page.close();
    await guarded.stop();
  });
});

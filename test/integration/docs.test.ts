/** What README.md and docs/ show is what happens. */
import { describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { generatedPages, withGenerated } from "../../src/documentation/pages.ts";
import { projectRoot } from "../support/binary.ts";
import { LineClient } from "../support/line-client.ts";
import { startNodeProcess } from "../support/process.ts";

const names = [
  "README.md",
  "CHANGELOG.md",
  ...readdirSync(join(projectRoot, "docs")).map((name) => `docs/${name}`),
].filter((name) => name.endsWith(".md"));
const pages = new Map<string, string>();
for (const name of names) pages.set(name, await Bun.file(join(projectRoot, name)).text());

test("the front door is short", () => {
  expect(pages.get("README.md")!.split("\n").length).toBeLessThanOrEqual(200);
});

test.each(Object.entries(generatedPages))(
  "what is generated of %s is as it was",
  (name, generate) => {
    const page = pages.get(`docs/${name}`)!;
    // If not: bun run docs
    expect(page).toBe(withGenerated(page, generate()));
  },
);

test("the facts to watch are there", () => {
  const watched = /## What to watch\n([\s\S]*?)\n## /.exec(pages.get("docs/operating.md")!)![1];
  const names = Array.from(
    watched.matchAll(/^\| (.*?) \|/gm),
    ([, cell]) => cell.match(/`\w+`/g) ?? [],
  );
  expect(names.flat().length).toBeGreaterThan(8);
  for (const name of names.flat()) expect(pages.get("docs/facts.md")).toContain(`| ${name} `);
});

describe("links lead somewhere", () => {
  const links = [...pages].flatMap(([name, text]) =>
    Array.from(text.matchAll(/\]\((?!https?:)([^)\s]+)\)/g), (match) => [name, match[1]] as const),
  );

  test.each(links)("%s: %s", (name, link) => {
    const [path, anchor] = link.split("#");
    const target = path === "" ? name : join(dirname(name), path);
    expect(existsSync(join(projectRoot, target))).toBe(true);
    if (anchor === undefined) return;
    const headings = pages.get(target)!.matchAll(/^#+ (.*)$/gm);
    const anchors = Array.from(headings, ([, title]) =>
      title
        .toLowerCase()
        .replace(/[^\w -]/g, "")
        .replaceAll(" ", "-"),
    );
    expect(anchors).toContain(anchor);
  });
});

describe("troubleshooting names what the program prints", () => {
  const texts = readdirSync(join(projectRoot, "src"), { recursive: true })
    .map(String)
    .filter((name) => name.endsWith(".ts"))
    .map((name) => readFileSync(join(projectRoot, "src", name), "utf8"));
  const page = pages.get("docs/troubleshooting.md")!;
  const tables = page.matchAll(/^\| it prints .*\n\|[-| ]+\n((?:\|.*\n)+)/gm);
  const messages = Array.from(tables, ([, rows]) => rows.trimEnd().split("\n"))
    .flat()
    .map((row) => /`([^`]+)`/.exec(row)![1]);

  test("there are messages", () => expect(messages.length).toBeGreaterThan(10));
  test.each(messages)("%s", (message) => {
    expect(texts.some((text) => text.includes(message))).toBe(true);
  });
});

describe("sessions print what they show", () => {
  const sessions = [...pages].flatMap(([name, text]) =>
    Array.from(text.matchAll(/```merklekv\n([\s\S]*?)```/g), (match, i) => [
      `${name}, ${i + 1}`,
      match[1],
    ]),
  );

  test("there are sessions to check", () => expect(sessions.length).toBeGreaterThan(2));
  test.each(sessions)("%s", async (_name, session) => {
    const node = await startNodeProcess();
    const client = await LineClient.connect(node.port);
    for (const line of session.trimEnd().split("\n")) {
      if (line.startsWith("> ")) client.sendRaw(`${line.slice(2)}\n`);
      else expect(await client.readLine()).toBe(line);
    }
    // Nothing more than what is shown was answered.
    expect(await client.send("PING")).toBe("PONG");
    await client.close();
    await node.stop();
  });
});

/** What the README shows is what happens. */
import { expect, test } from "bun:test";
import { configTable } from "../../src/config/table.ts";
import { LineClient } from "../support/line-client.ts";
import { startNodeProcess } from "../support/process.ts";

const readme = await Bun.file(new URL("../../README.md", import.meta.url)).text();

test("the configuration table is the schema's", () => {
  const marks = /<!-- configuration: [^>]*-->\n\n([\s\S]*?)\n\n<!-- end of configuration -->/;
  expect(readme.match(marks)?.[1]).toBe(configTable());
});

const sessions = Array.from(readme.matchAll(/```merklekv\n([\s\S]*?)```/g), (match) => match[1]!);

test("there are sessions to check", () => {
  expect(sessions.length).toBeGreaterThan(1);
});

test.each(sessions.map((session, i) => [i + 1, session] as const))(
  "session %d prints what it shows",
  async (_number, session) => {
    const node = await startNodeProcess();
    const client = await LineClient.connect(node.port);
    for (const line of session.trimEnd().split("\n")) {
      if (line.startsWith("> ")) client.sendRaw(`${line.slice(2)}\n`);
      else expect(await client.readLine()).toBe(line);
    }
    // Nothing more than what is shown was answered.
    expect(await client.send("PING")).toBe("PONG");
    client.close();
    await node.stop();
  },
);

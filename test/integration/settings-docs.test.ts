/** What docs/configuration.md and docs/operating.md show on a terminal is run, and compared. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { merklekvBinary, projectRoot } from "../support/binary.ts";
import { runToEnd, soloConfig, startNodeProcess, type NodeProcess } from "../support/process.ts";

interface Shown {
  readonly command: string;
  readonly output: string;
}

/** The commands of a section with what they print. */
function shownIn(page: string, heading: string): Shown[] {
  const text = readFileSync(join(projectRoot, "docs", page), "utf8");
  const section = `\n${text}`.split(`\n${heading}\n`)[1].split(/\n## /)[0];
  const blocks = Array.from(section.matchAll(/^```console\n([\s\S]*?)^```$/gm), ([, it]) => it);
  return blocks
    .join("")
    .split(/^\$ /m)
    .slice(1)
    .map((it) => ({
      command: it.slice(0, it.indexOf("\n")),
      output: it.slice(it.indexOf("\n") + 1),
    }));
}

let directory = "";
let node: NodeProcess;
beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), "merklekv-settings-docs-"));
  mkdirSync(join(directory, "bin"));
  symlinkSync(await merklekvBinary(), join(directory, "bin/merklekv"));
  node = await startNodeProcess({ config: soloConfig("n1") });
});
afterEach(async () => {
  await node.stop();
  rmSync(directory, { recursive: true, force: true });
});

/** As it is typed, but for the port. */
async function run(command: string): Promise<{ code: number; output: string }> {
  const typed = command.replace(/merklekv (cli|status|doctor)\b/, `$& -p ${node.port}`);
  const env = { PATH: `${join(directory, "bin")}:${process.env["PATH"]}` };
  return runToEnd([], { command: ["bash", "-c", typed], cwd: directory, env });
}

test("a configuration is checked and shown", async () => {
  const page = readFileSync(join(projectRoot, "docs/configuration.md"), "utf8");
  writeFileSync(join(directory, "node.toml"), /```toml\n([\s\S]*?)```/.exec(page)![1]);
  const shown = shownIn("configuration.md", "# Configuration");
  expect(shown.map(({ command }) => command.split(" ")[2])).toEqual(["check", "show"]);
  for (const { command, output } of shown) {
    expect(await run(command)).toEqual({ code: 0, output: `${output.trimEnd()}\n` });
  }
});

test("settings of a running node change", async () => {
  const shown = shownIn("configuration.md", "## Changing a running node");
  expect(shown.length).toBeGreaterThan(2);
  for (const { command, output } of shown) {
    expect((await run(command)).output.trimEnd()).toBe(output.trimEnd());
  }
});

describe("at a glance", () => {
  const shown = shownIn("operating.md", "## At a glance");

  test.each(shown.map(({ command, output }) => [command, output]))(
    "%s",
    async (command, output) => {
      // How fast this machine's disk is does not matter here.
      const config = `${soloConfig("n1")}[storage]\nengine = "memory"\n`;
      writeFileSync(join(directory, "node.toml"), config);
      const said = await run(command);
      expect(said.code).toBe(0);
      // Of each line the first words: the figures are another cluster's.
      const headOf = (line: string): string => line.split(/ {2,}/).slice(0, 2).join(" ");
      const heads = new Set(output.trimEnd().split("\n").map(headOf));
      const known = new Set(said.output.trimEnd().split("\n").map(headOf));
      const isOther = /^(n\d|ok reachability|ok (broker|node|clock))/;
      for (const head of heads) if (!isOther.test(head)) expect(known).toContain(head);
    },
  );
});

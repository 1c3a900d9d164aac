/** Manual pages and completions know what the program understands; shells and man read them. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { subcommands } from "../../../src/cli/subcommands.ts";
import { keyNames } from "../../../src/config/schema.ts";
import { commandLines, type CommandLine } from "../../../src/documentation/command-line.ts";
import {
  bashCompletion,
  fishCompletion,
  zshCompletion,
} from "../../../src/documentation/completions.ts";
import { manualPages } from "../../../src/documentation/manual.ts";

let directory: string;
let lines: CommandLine[];
let pages: Map<string, string>;
beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "merklekv-manual-"));
  lines = await commandLines();
  pages = manualPages(lines, "2026-01-31");
  writeFileSync(join(directory, "bash"), bashCompletion(lines));
  writeFileSync(join(directory, "_merklekv"), zshCompletion(lines));
  writeFileSync(join(directory, "merklekv.fish"), fishCompletion(lines));
  for (const [name, page] of pages) writeFileSync(join(directory, name), page);
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** What a program prints, and what it complains of. */
async function run(...command: string[]): Promise<{ output: string; errors: string }> {
  const child = Bun.spawn(command, { cwd: directory, stdout: "pipe", stderr: "pipe" });
  const [output, errors] = await Promise.all([child.stdout.text(), child.stderr.text()]);
  await child.exited;
  return { output, errors };
}

describe("manual pages", () => {
  test("there is one for the program, each subcommand and the configuration", () => {
    const names = Object.keys(subcommands).map((name) => `merklekv-${name}.1`);
    expect([...pages.keys()].sort()).toEqual(["merklekv.1", "merklekv.toml.5", ...names].sort());
  });

  test("each says every option and every key", () => {
    const said = (page: string): string => pages.get(page)!.replaceAll("\\-", "-");
    for (const { name, options, about } of lines) {
      for (const { long } of options)
        expect(said(`merklekv-${name}.1`)).toContain(`\\fB${long}\\fR`);
      expect(said("merklekv.1")).toContain(about);
    }
    for (const key of keyNames) expect(said("merklekv.toml.5")).toContain(`\\fB${key}\\fR`);
  });

  const CHECKERS = [
    ["man", "--warnings", "-Tutf8", "-Z", "-l"],
    ["mandoc", "-T", "lint", "-W", "warning"],
  ].filter(([name]) => Bun.which(name) !== null);

  test.each(CHECKERS)("%s has nothing against them", async (...checker) => {
    const isMan = checker[0] === "man";
    const { output, errors } = await run(...checker, ...pages.keys());
    expect(isMan ? errors : output + errors).toBe("");
  });
});

/** Words as somebody has typed them, the last perhaps in part → what the shell proposes. */
const TYPED: [string[], string[]][] = [
  [["se"], ["serve"]],
  [["ba"], ["backup"]],
  [["--v"], ["--version"]],
  [["serve", "--c"], ["--config"]],
  [["serve", "--config", "merklekv-se"], ["merklekv-serve.1"]],
  [["restore", "merklekv-ser"], ["merklekv-serve.1"]],
  [["restore", "--node-id", "merklekv-ser"], []],
  [["backup", "merklekv-ser"], []],
  [["config", "ch"], ["check"]],
  [["config", "check", "merklekv-se"], ["merklekv-serve.1"]],
  [["cli", "DBS"], ["DBSIZE"]],
  [["cli", "--askp"], ["--askpass"]],
];

const bash = Bun.which("bash");
describe.skipIf(bash === null)("bash", () => {
  test.each(TYPED)("completes %j", async (words, expected) => {
    const script = `. ./bash; COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)); _merklekv; printf '%s\\n' "\${COMPREPLY[@]}"`;
    const { output, errors } = await run(bash!, "-c", script, "bash", "merklekv", ...words);
    expect(errors).toBe("");
    expect(output.trim().split("\n")).toEqual(expected.length === 0 ? [""] : expected);
  });
});

const fish = Bun.which("fish");
describe.skipIf(fish === null)("fish", () => {
  test.each(TYPED)("completes %j", async (words, expected) => {
    const typed = ["merklekv", ...words].join(" ");
    const script = `source merklekv.fish; complete -C '${typed}'`;
    const { output, errors } = await run(fish!, "--no-config", "-c", script);
    expect(errors).toBe("");
    const proposed = output.split("\n").filter((line) => line !== "");
    expect(proposed.map((line) => line.split("\t")[0])).toEqual(expected);
  });
});

const zsh = Bun.which("zsh");
test.skipIf(zsh === null)("zsh reads its completion", async () => {
  expect(await run(zsh!, "-f", "-n", "_merklekv")).toEqual({ output: "", errors: "" });
});

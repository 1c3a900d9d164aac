/** What lies in the place of a configuration when it is read again by a node that runs. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { LiveConfig } from "../../../src/config/live-config.ts";
import { randomHex } from "../../../src/world.ts";

let directory: string;
let path: string;
let live: LiveConfig;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "merklekv-config-"));
  path = join(directory, "node.toml");
  writeFileSync(path, 'node_id = "n"\n[mqtt]\nenabled = false\n');
  const loaded = LiveConfig.load({ path, env: {}, randomHex });
  if (!("live" in loaded)) throw new Error(loaded.join("\n"));
  ({ live } = loaded);
  rmSync(path);
});
afterEach(() => rmSync(directory, { recursive: true }));

test.each<[what: string, place: () => void, problem: RegExp]>([
  ["a pipe that nobody writes to", () => Bun.spawnSync(["mkfifo", path]), /it is no file/],
  ["a device without end", () => symlinkSync("/dev/zero", path), /it is no file/],
  ["a directory", () => mkdirSync(path), /is a directory/],
  ["nothing", () => {}, /not found/],
  ["a link that leads to itself", () => symlinkSync(path, path), /ELOOP/],
  [
    "a very long file",
    () => {
      writeFileSync(path, "");
      truncateSync(path, 10 ** 10);
    },
    /more than \d+ bytes/,
  ],
])("%s is refused at once, and what was in effect stays", async (_what, place, problem) => {
  place();
  const outcome = await live.reload();
  if (outcome.ok) throw new Error("it was taken");
  expect(outcome.problems.join("\n")).toMatch(problem);
  expect(live.config.node_id).toBe("n");
});

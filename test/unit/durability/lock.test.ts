/** One process a directory, and a dead one holds nothing. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { lockDirectory } from "../../../src/durability/lock.ts";

const MODULE = join(import.meta.dir, "../../../src/durability/lock.ts");
let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "merklekv-lock-"));
});
afterEach(() => rmSync(directory, { recursive: true }));

/** Another process that takes the lock and holds it. */
async function holder(): Promise<Bun.Subprocess<"ignore", "pipe", "inherit">> {
  const script =
    `const { lockDirectory } = await import(${JSON.stringify(MODULE)});` +
    `globalThis.held = await lockDirectory(${JSON.stringify(directory)});` +
    `console.log("held"); setInterval(() => {}, 1000);`;
  const child = Bun.spawn([process.execPath, "-e", script], { stdin: "ignore", stdout: "pipe" });
  const reader = child.stdout.getReader();
  expect(new TextDecoder().decode((await reader.read()).value)).toBe("held\n");
  return child;
}

test("a second holder is refused, in the same process and in another, until the first lets go", async () => {
  const lock = await lockDirectory(directory);
  await expect(lockDirectory(directory)).rejects.toThrow("is in use by another merklekv process");
  lock.release();
  const child = await holder();
  await expect(lockDirectory(directory)).rejects.toThrow("is in use by another merklekv process");
  child.kill("SIGKILL");
  await child.exited;
  (await lockDirectory(directory)).release();
  expect(readdirSync(directory)).toEqual(["lock"]);
});

test("a directory that is not there, or a loop, is one clear line", async () => {
  const nowhere = join(directory, "nowhere");
  await expect(lockDirectory(nowhere)).rejects.toThrow(
    `cannot write to ${nowhere}: there is no such`,
  );
});

test("a lock file that is something else is one clear line", async () => {
  const path = join(directory, "lock");
  writeFileSync(path, "not made by MerkleKV");
  await expect(lockDirectory(directory)).rejects.toThrow(`cannot lock ${path}: file is not a data`);
  rmSync(path);
  mkdirSync(path);
  await expect(lockDirectory(directory)).rejects.toThrow(`cannot lock ${path}: unable to open`);
});

/** One process a directory, and a dead one holds nothing. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import {
  chmodSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
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

test("nobody else on the machine can open the lock file, and so hold it", async () => {
  const path = join(directory, "lock");
  (await lockDirectory(directory)).release();
  expect(statSync(path).mode & 0o777).toBe(0o600);
  // As earlier versions left it.
  chmodSync(path, 0o644);
  const lock = await lockDirectory(directory);
  expect(statSync(path).mode & 0o777).toBe(0o600);
  await expect(lockDirectory(directory)).rejects.toThrow("is in use by another merklekv process");
  lock.release();
});

test.each(["link", "hard link"])("a lock file that is a %s to another is refused", async (kind) => {
  const path = join(directory, "lock");
  const elsewhere = join(directory, "elsewhere");
  writeFileSync(elsewhere, "");
  if (kind === "link") symlinkSync(elsewhere, path);
  else linkSync(elsewhere, path);
  await expect(lockDirectory(directory)).rejects.toThrow(`cannot lock ${path}: it `);
  rmSync(path);
  (await lockDirectory(directory)).release();
});

test.skipIf(process.getuid?.() !== 0)("a lock file of another user is refused", async () => {
  writeFileSync(join(directory, "lock"), "", { mode: 0o666 });
  chmodSync(directory, 0o777);
  const script =
    `process.setgid(65534); process.setuid(65534);` +
    `const { lockDirectory } = await import(${JSON.stringify(MODULE)});` +
    `try { await lockDirectory(${JSON.stringify(directory)}); console.log("held"); }` +
    `catch (error) { console.log(error.message); }`;
  const child = Bun.spawn([process.execPath, "-e", script], { stdin: "ignore", stdout: "pipe" });
  expect(await child.stdout.text()).toContain("it belongs to another user (0)");
});

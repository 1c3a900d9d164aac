/** What is read is counted, and nothing else changes. */
import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bytesOf, watchReads } from "../../../src/cli/watched-files.ts";

test("bytes that are read are told of", async () => {
  const directory = mkdtempSync(join(tmpdir(), "merklekv-watched-"));
  const path = join(directory, "file");
  writeFileSync(path, "0123456789");
  let told = 0;
  const files = watchReads((bytes) => (told += bytes));
  const file = await files.open(path, "change");
  const into = new Uint8Array(8);
  expect(await file.read(into, 4)).toBe(6);
  await file.write(Buffer.from("xy"), 0);
  expect(await file.size()).toBe(10);
  await file.close();
  expect(told).toBe(6);
  expect(await files.sizeOf(path)).toBe(10);
  expect(await bytesOf([path, join(directory, "none")])).toBe(10);
  rmSync(directory, { recursive: true });
});

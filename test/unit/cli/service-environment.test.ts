/** What the package keeps beside a configuration counts wherever that is named. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { environmentFor } from "../../../src/cli/service-environment.ts";

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "merklekv-service-"));
  for (const name of ["merklekv", "default"])
    mkdirSync(join(root, "etc", name), { recursive: true });
});
afterEach(() => rmSync(root, { recursive: true }));

const configOf = (name: string): string => join(root, "etc/merklekv", `${name}.toml`);
const save = (name: string, text: string): void =>
  writeFileSync(join(root, "etc/default", name), text);

test("each node's own file, as systemd reads it, and only what is of ours", () => {
  save("merklekv", "# MERKLE_KV_NODE_ID=not\nPATH=/nowhere\n MERKLE_KV_NODE_ID=one \n");
  save("merklekv-left", "MERKLE_KV_NODE_ID=\"two words\"\nMERKLE_KV_DESCRIPTION='a=b'\n");
  expect(environmentFor(configOf("node"), {})).toEqual({ MERKLE_KV_NODE_ID: "one" });
  expect(environmentFor(configOf("left"), {})).toEqual({
    MERKLE_KV_NODE_ID: "two words",
    MERKLE_KV_DESCRIPTION: "a=b",
  });
  expect(environmentFor(configOf("right"), {})).toEqual({});
});

test("the process's own environment counts more", () => {
  save("merklekv", "MERKLE_KV_NODE_ID=one\n");
  const own = { MERKLE_KV_NODE_ID: "another", HOME: "/" };
  expect(environmentFor(configOf("node"), own)).toEqual(own);
});

test("a configuration elsewhere has none", () => {
  save("merklekv", "MERKLE_KV_NODE_ID=one\n");
  expect(environmentFor(join(root, "node.toml"), {})).toEqual({});
  expect(environmentFor(undefined, { HOME: "/" })).toEqual({ HOME: "/" });
});

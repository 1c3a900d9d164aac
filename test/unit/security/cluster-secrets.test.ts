/** The secrets that a node is configured with. */
import { expect, test } from "bun:test";
import { chmodSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadClusterSecrets, type ClusterSettings } from "../../../src/security/cluster-secrets.ts";

const directory = mkdtempSync(join(tmpdir(), "merklekv-secrets-"));
const NONE: ClusterSettings = {
  name: "fleet",
  secret: "",
  secret_file: "",
  previous_secret_files: [],
};

function fileWith(name: string, text: string, mode = 0o600): string {
  const path = join(directory, name);
  writeFileSync(path, text);
  chmodSync(path, mode);
  return path;
}

function problemOf(settings: Partial<ClusterSettings>): string {
  try {
    loadClusterSecrets({ ...NONE, ...settings });
  } catch (error) {
    return (error as Error).message;
  }
  return "none";
}

const ONE = "a".repeat(43);
const OTHER = "b".repeat(43);

test("a cluster has none unless it is given one", () => {
  expect(loadClusterSecrets(NONE)).toBeNull();
});

test("a file and the environment give the same secret", () => {
  const fromFile = loadClusterSecrets({ ...NONE, secret_file: fileWith("one", `${ONE}\n`) });
  const direct = loadClusterSecrets({ ...NONE, secret: ONE });
  expect(fromFile).toEqual(direct);
  expect(fromFile).toMatchObject({ name: "fleet", previous: [] });
});

test("previous ones are understood besides, each once, and the current one is none of them", () => {
  const one = fileWith("one", ONE);
  const other = fileWith("other", OTHER);
  const found = loadClusterSecrets({
    ...NONE,
    secret_file: one,
    previous_secret_files: [other, one, other],
  });
  const former = loadClusterSecrets({ ...NONE, secret: OTHER })!.current;
  expect(found!.previous).toEqual([former]);
});

test("each mistake is one line that says which file, and what to do", () => {
  const make = "make one with: merklekv keygen";
  expect(problemOf({ secret_file: join(directory, "none") })).toBe(
    `cannot read the cluster secret in "${join(directory, "none")}": there is no such file`,
  );
  const short = fileWith("short", "hunter2");
  expect(problemOf({ secret_file: short })).toBe(
    `the cluster secret in "${short}" has 7 bytes, but a secret has at least 32; ${make}`,
  );
  const open = fileWith("open", ONE, 0o644);
  expect(problemOf({ secret_file: open })).toContain(
    `the cluster secret in "${open}" can be read or changed by other users (mode 0644)`,
  );
  expect(problemOf({ secret: ONE, previous_secret_files: [short] })).toBe(
    `a previous cluster secret in "${short}" has 7 bytes, but a secret has at least 32; ${make}`,
  );
  expect(problemOf({ secret: "hunter2" })).toBe(
    `the cluster secret in MERKLE_KV_CLUSTER_SECRET has 7 bytes, but a secret has at least 32; ${make}`,
  );
});

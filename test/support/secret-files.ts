/** Files with secrets of clusters, in a directory that goes with the test process. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { secretOf } from "../../src/security/keys.ts";

let directory: string | null = null;

/** The path of a file with a secret of that name: the same secret for the same name. */
export function secretFileNamed(name: string): string {
  if (directory === null) {
    const made = (directory = mkdtempSync(join(tmpdir(), "merklekv-secrets-")));
    process.on("exit", () => rmSync(made, { recursive: true, force: true }));
  }
  const path = join(directory, name);
  writeFileSync(path, secretText(name), { mode: 0o600 });
  return path;
}

/** The secret of that name itself. */
export function secretText(name: string): string {
  return `the-secret-${name}-of-a-test`.padEnd(40, "-");
}

/** The id of the secret of that name, as facts show it. */
export function secretIdOf(name: string): string {
  const secret = secretOf(Buffer.from(secretText(name)));
  if ("problem" in secret) throw new Error(secret.problem);
  return secret.id;
}

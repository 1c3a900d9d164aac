/** A node of the real binary with a file of users. */
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runToEnd, startNodeProcess, type NodeProcess } from "./process.ts";

const made: string[] = [];
process.on("exit", () => made.forEach((it) => rmSync(it, { recursive: true, force: true })));

/** Writes a file of users; its path. */
export function usersFile(lines: readonly string[], mode = 0o600): string {
  const directory = mkdtempSync(join(tmpdir(), "merklekv-users-"));
  made.push(directory);
  const path = join(directory, "users.acl");
  writeFileSync(path, lines.map((line) => `${line}\n`).join(""));
  chmodSync(path, mode);
  return path;
}

/** Settings of a node as TOML: alone, on a free port, with what is given. */
export function settings(more: string, network = ""): string {
  return `node_id = "n"\n[network]\nbind_port = 0\n${network}\n[mqtt]\nenabled = false\n${more}\n`;
}

/** Starts a node with that file. */
export function startWithUsers(path: string, more = "", network = ""): Promise<NodeProcess> {
  return startNodeProcess({ config: settings(`[auth]\nacl_file = "${path}"\n${more}`, network) });
}

/** What the program says, and its exit code, when it cannot start with that configuration. */
export function failToStart(toml: string): Promise<{ code: number; output: string }> {
  const directory = mkdtempSync(join(tmpdir(), "merklekv-users-"));
  made.push(directory);
  const path = join(directory, "node.toml");
  writeFileSync(path, toml);
  return runToEnd(["serve", "--config", path], { cwd: directory });
}

/** A file's text, and its mode in octal. */
export function inspect(path: string): { text: string; mode: string } {
  return { text: readFileSync(path, "latin1"), mode: (statSync(path).mode & 0o777).toString(8) };
}

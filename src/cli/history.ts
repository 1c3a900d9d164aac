/** The lines typed at earlier prompts, newest first, in a file of the user's. */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";

/** Lines kept. */
export const HISTORY_LINES = 1000;

/** Where they are kept: under XDG_STATE_HOME, or its usual place. */
export function historyPath(env: Record<string, string | undefined>): string {
  const stateHome = env["XDG_STATE_HOME"] || join(env["HOME"] || homedir(), ".local/state");
  return join(stateHome, "merklekv/history");
}

/** Reads the lines; none when there are none or they cannot be read. */
export function loadHistory(path: string): string[] {
  try {
    return readFileSync(path, "utf8").split("\n").filter(Boolean).slice(0, HISTORY_LINES);
  } catch {
    return [];
  }
}

/**
 * Writes the lines, for the user's eyes only. A line with a password (AUTH, ACL SETUSER) is left
 * out, and so is one that starts with a space. That the file cannot be written is no reason to stop
 * anybody.
 */
export function saveHistory(path: string, lines: readonly string[]): void {
  const kept = lines
    .filter((line) => !/^\s|\bAUTH\b|\bSETUSER\b/i.test(line))
    .slice(0, HISTORY_LINES);
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    writeFileSync(path, kept.map((line) => `${line}\n`).join(""), { mode: 0o600 });
  } catch {
    // A read-only home, say.
  }
}

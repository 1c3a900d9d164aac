/**
 * How many files this process may hold open, sockets among them. Linux; elsewhere nothing is known.
 */
import { readdirSync, readFileSync } from "node:fs";

/** The limit and what is open now; null where the system does not tell. */
export function openFiles(): { limit: number; open: number } | null {
  try {
    // The runtime has raised the soft limit to the hard one at its start.
    const found = /^Max open files +(\d+)/m.exec(readFileSync("/proc/self/limits", "latin1"));
    if (found === null) return null;
    return { limit: Number(found[1]), open: readdirSync("/proc/self/fd").length };
  } catch {
    return null;
  }
}

/**
 * How many clients there can be: what was asked for, or less when so many files cannot be opened
 * beside `reserved` ones. At least one, for a node that serves nobody is none.
 */
export function affordableConnections(
  wanted: number,
  reserved: number,
  files: ReturnType<typeof openFiles>,
): number {
  if (files === null) return wanted;
  return Math.max(1, Math.min(wanted, files.limit - files.open - reserved));
}

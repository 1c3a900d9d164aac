/**
 * Files that other users of the machine may read, from before this program made its own for their
 * owner alone, or because somebody has changed their modes. They are left as they are, as there may
 * be a reason; whoever looks after the node is told.
 */
import { lstat, readdir } from "node:fs/promises";
import { join } from "node:path";

/** What anybody but the owner may do. */
const OTHERS = 0o077;
/** Names in a directory that are looked at; there are no more in a healthy one. */
const MAX_NAMES = 10_000;

/** A file or directory whose mode is too loose. */
export interface LooseFile {
  readonly path: string;
  /** As `chmod` takes it: `0644`. */
  readonly mode: string;
}

/** What was found. */
export interface LooseFiles {
  readonly first: LooseFile;
  readonly count: number;
  /** What puts it right, for a shell. */
  readonly remedy: string;
}

/**
 * What is too loose of those paths and of what is directly in them; null for nothing. A directory
 * that others may not enter protects what is in it. What cannot be looked at is left out: whoever
 * needs it finds out.
 */
export async function findLooseFiles(paths: readonly string[]): Promise<LooseFiles | null> {
  const loose: LooseFile[] = [];
  const roots: string[] = [];
  for (const path of paths) {
    const mode = await looseModeOf(path);
    if (mode === null) continue;
    loose.push({ path, mode });
    roots.push(path);
    const names = await readdir(path).catch(() => []);
    for (const name of names.slice(0, MAX_NAMES)) {
      const inside = await looseModeOf(join(path, name));
      if (inside !== null) loose.push({ path: join(path, name), mode: inside });
    }
  }
  if (loose.length === 0) return null;
  const remedy = ["chmod -R go=", ...roots.map(quoted)].join(" ");
  return { first: loose[0], count: loose.length, remedy };
}

/** As one word of a shell. */
function quoted(path: string): string {
  return /^[\w./][\w./-]*$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`;
}

/** Null when others may do nothing, or there is no such file; a link has no mode of its own. */
async function looseModeOf(path: string): Promise<string | null> {
  const found = await lstat(path).catch(() => null);
  if (found === null || !(found.isFile() || found.isDirectory())) return null;
  if ((found.mode & OTHERS) === 0) return null;
  return (found.mode & 0o777).toString(8).padStart(4, "0");
}

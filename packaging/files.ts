/** What every package holds beside the executable, and how files are laid down. */
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { gzipSync } from "node:zlib";
import { commandLines } from "../src/documentation/command-line.ts";
import { bashCompletion, fishCompletion, zshCompletion } from "../src/documentation/completions.ts";
import { manualPages } from "../src/documentation/manual.ts";
import { projectRoot } from "./project.ts";

/** A file of a package. */
export interface PackagedFile {
  /** Relative to the root of the package. */
  readonly path: string;
  /** A text, bytes, or the path of a file to copy. */
  readonly content: string | Uint8Array | { readonly from: string };
  /** 0644 unless given. */
  readonly mode?: number;
}

const DAY_LENGTH = "2026-01-31".length;

/** Manual pages and completions, each by its bare name. */
export async function generatedTexts(epoch: number): Promise<Map<string, string>> {
  const lines = await commandLines();
  const date = new Date(epoch * 1_000).toISOString().slice(0, DAY_LENGTH);
  return new Map([
    ...manualPages(lines, date),
    ["merklekv", bashCompletion(lines)],
    ["_merklekv", zshCompletion(lines)],
    ["merklekv.fish", fishCompletion(lines)],
  ]);
}

/** Where below share/ a manual page or a completion goes; pages are compressed there. */
export function shareFile(name: string, text: string): PackagedFile {
  if (name === "_merklekv") return { path: `zsh/vendor-completions/${name}`, content: text };
  if (name === "merklekv") return { path: `bash-completion/completions/${name}`, content: text };
  if (name.endsWith(".fish")) return { path: `fish/vendor_completions.d/${name}`, content: text };
  return { path: `man/man${name.at(-1)!}/${name}.gz`, content: compressed(text) };
}

/** With the same bytes whenever it is done. */
export function compressed(content: string | Uint8Array): Uint8Array {
  return gzipSync(content, { level: 9 });
}

/** Every file below a folder of the project, at the same place below `to`. */
export function folder(name: string, to: string): PackagedFile[] {
  const entries = readdirSync(join(projectRoot, name), { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name: file }) => join(parentPath, file))
    .sort()
    .map((from) => ({
      path: join(to, from.slice(join(projectRoot, name).length)),
      content: { from },
    }));
}

/** A file of the project as it is. */
export function projectFile(name: string, path: string): PackagedFile {
  return { path, content: readFileSync(join(projectRoot, name)) };
}

/** Writes the files below `root`, with modes that the umask has no say in. */
export function layDown(files: readonly PackagedFile[], root: string): void {
  for (const { path, content, mode = 0o644 } of files) {
    const target = join(root, path);
    makeDirectories(root, dirname(path));
    if (typeof content === "object" && "from" in content) copyFileSync(content.from, target);
    else writeFileSync(target, content);
    chmodSync(target, mode);
  }
}

function makeDirectories(root: string, path: string): void {
  let directory = root;
  for (const name of ["", ...path.split("/")]) {
    directory = join(directory, name);
    mkdirSync(directory, { recursive: true });
    chmodSync(directory, 0o755);
  }
}

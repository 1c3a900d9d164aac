/**
 * Files that hold something secret. One that other users of the machine may read is refused, as
 * ssh and PostgreSQL do: the mistake is then found at the start and not by a thief.
 */
import { closeSync, constants, fstatSync, openSync, readSync, type Stats } from "node:fs";
import { OperationalError } from "../operational-error.ts";
import { secretOf, type Secret } from "./keys.ts";

/** More than any secret, list of users or certificate has, in bytes. */
const MAX_BYTES = 16 * 1024 * 1024;
const ROOT = 0;

/**
 * The bytes of a file that nobody else may read. `what` names it in errors: "the cluster secret".
 * Of a file that belongs to root its group may read it too, as secrets that are mounted into
 * services are made so. Throws an OperationalError.
 */
export function readPrivateFile(path: string, what: string): Buffer {
  return readWhole(path, what, privacyProblemOf);
}

/** The bytes of a file that anybody may read. Throws an OperationalError. */
export function readPublicFile(path: string, what: string): Buffer {
  return readWhole(path, what, () => null);
}

function readWhole(
  path: string,
  what: string,
  problemOf: (about: Stats, path: string) => string | null,
): Buffer {
  let file: number;
  try {
    // Without O_NONBLOCK a named pipe would wait for a writer for ever.
    file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    throw new OperationalError(`cannot read ${what} in "${path}": ${reasonOf(error)}`, {
      cause: error,
    });
  }
  try {
    const about = fstatSync(file);
    const problem = sizeProblemOf(about) ?? problemOf(about, path);
    if (problem !== null) throw new OperationalError(`${what} in "${path}" ${problem}`);
    const bytes = Buffer.alloc(about.size);
    return bytes.subarray(0, readSync(file, bytes, 0, about.size, 0));
  } finally {
    closeSync(file);
  }
}

/** The secret in a file. Throws an OperationalError that says what to do. */
export function readSecretFile(path: string, what: string): Secret {
  const secret = secretOf(readPrivateFile(path, what));
  if (!("problem" in secret)) return secret;
  throw new OperationalError(
    `${what} in "${path}" ${secret.problem}; make one with: merklekv keygen`,
  );
}

function sizeProblemOf(about: Stats): string | null {
  if (!about.isFile()) return "is not a file";
  return about.size > MAX_BYTES ? `has ${about.size} bytes; at most ${MAX_BYTES} are read` : null;
}

/** What is wrong with a file as the place of a secret, and what to do; null if nothing is. */
function privacyProblemOf(about: Stats, path: string): string | null {
  const forbidden = about.uid === ROOT ? 0o037 : 0o077;
  if ((about.mode & forbidden) === 0) return null;
  const mode = (about.mode & 0o777).toString(8).padStart(4, "0");
  return `can be read or changed by other users (mode ${mode}); forbid it with: chmod 600 ${path}`;
}

function reasonOf(error: unknown): string {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  if (code === "ENOENT") return "there is no such file";
  if (code === "EACCES" || code === "EPERM") return "this user may not read it";
  return error instanceof Error ? error.message : String(error);
}

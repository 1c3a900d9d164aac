/**
 * The access file: a line for each user, `user NAME RULE…`, as Redis writes its own
 * (https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl). Empty lines and
 * lines that begin with `#` say nothing.
 */
import { printable } from "../core/data/name.ts";
import { UserDefinition } from "./definition.ts";
import type { Permissions } from "./permission.ts";
import { applyRules } from "./rules.ts";

/** What a user may be called, in words. */
export const USER_NAME_RULE = "up to 256 bytes without white space or control characters";
/** Most users of one node. */
export const MAX_USERS = 10_000;
const MAX_NAME_BYTES = 256;

/** Users by their names. */
export type Definitions = Map<string, UserDefinition>;

/** Whether a user may be called that. */
export function isUserName(name: string): boolean {
  return /^[^\s\p{Cc}\p{Cs}\ufffd]+$/u.test(name) && Buffer.byteLength(name) <= MAX_NAME_BYTES;
}

/**
 * The users in the text of an access file, or everything that is wrong with it, a line each.
 * `path` is named in those. With `byCertificate`, a user may have no password.
 */
export function readAccessFile(
  content: Uint8Array,
  path: string,
  permissions: Permissions,
  byCertificate: boolean,
): Definitions | readonly string[] {
  const users: Definitions = new Map();
  const problems: string[] = [];
  const lines = Buffer.from(content).toString("latin1").split("\n");
  for (const [i, line] of lines.entries()) {
    const words = line.trim().split(/[ \t]+/);
    if (words[0] === "" || words[0].startsWith("#")) continue;
    const problem = readUser(words, users, permissions, byCertificate);
    if (problem !== null) problems.push(`${path}:${i + 1}: ${printable(problem, 300)}`);
    if (problems.length >= MAX_PROBLEMS) break;
  }
  if (users.size > MAX_USERS) problems.push(`${path}: more than ${MAX_USERS} users`);
  return problems.length > 0 ? problems : users;
}

/** More are not told of. */
const MAX_PROBLEMS = 100;

/** Adds the user that a line defines; what is wrong with it if it does not. */
function readUser(
  [first, given = "", ...rules]: readonly string[],
  users: Definitions,
  permissions: Permissions,
  byCertificate: boolean,
): string | null {
  if (first !== "user") return 'a line begins with "user", a name and its rules';
  const name = Buffer.from(given, "latin1").toString();
  if (!isUserName(name)) return `after "user" comes a name: ${USER_NAME_RULE}`;
  if (users.has(name)) return `the user "${name}" is defined twice`;
  const definition = new UserDefinition(permissions);
  const problem = applyRules(definition, rules);
  if (problem !== null) {
    const hint = problem.hint === "" ? "" : `; ${problem.hint}`;
    return `user "${name}", rule ${placeOf(problem.rule, rules)}: ${problem.text}${hint}`;
  }
  if (definition.lacksPassword && !byCertificate) return lackOf(name);
  users.set(name, definition);
  return null;
}

/** What is wrong with a user that is on and whom nobody can be. */
export function lackOf(name: string): string {
  return (
    `the user "${name}" is on and has no password: give it #SHA256 (printf %s PASSWORD | ` +
    "sha256sum), or write off, or nopass if anybody may be this user"
  );
}

/** What may be a password, its > forgotten or a # in its place, is told by its number only. */
function placeOf(rule: string, rules: readonly string[]): string {
  if (/^[-+~%&(]/.test(rule)) return `"${rule}"`;
  const at = rules.indexOf(rule);
  return at < 0 ? `"${rule}"` : `${at + 1}`;
}

/** The text of an access file with these users. */
export function formatAccessFile(users: ReadonlyMap<string, UserDefinition>): Buffer {
  const lines = Array.from(users, ([name, definition]) => formatUser(name, definition));
  return Buffer.concat(lines.sort(Buffer.compare).flatMap((line) => [line, NEWLINE]));
}

/** A user's line, without its end. */
export function formatUser(name: string, definition: UserDefinition): Buffer {
  const rules = Buffer.from(definition.describe(), "latin1");
  return Buffer.concat([Buffer.from(`user ${name} `), rules]);
}

const NEWLINE = Buffer.from("\n");

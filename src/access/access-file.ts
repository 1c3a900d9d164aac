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
const USER_NAME_RULE = "up to 256 bytes without white space or control characters";
/** Most users of one node. */
export const MAX_USERS = 10_000;
const MAX_NAME_BYTES = 256;

/** Users by their names. */
export type Definitions = Map<string, UserDefinition>;

/** Whether a user may be called that. */
export function isUserName(name: string): boolean {
  return /^[^\s\p{Cc}\p{Cs}\ufffd]+$/u.test(name) && Buffer.byteLength(name) <= MAX_NAME_BYTES;
}

/** Reads an access file, some lines at a time: it may have thousands. */
export class AccessFileReader {
  private readonly users: Definitions = new Map();
  private readonly problems: string[] = [];
  private readonly lines: readonly string[];
  private next = 0;

  /** `path` is named in problems. With `byCertificate`, a user may have no password. */
  constructor(
    content: Uint8Array,
    private readonly path: string,
    private readonly permissions: Permissions,
    private readonly byCertificate: boolean,
  ) {
    this.lines = Buffer.from(content).toString("latin1").split("\n");
  }

  /** Reads on; true when all is read. */
  step(): boolean {
    const { lines, problems, users, path } = this;
    const end = Math.min(this.next + LINES_A_STEP, lines.length);
    for (; this.next < end && problems.length < MAX_PROBLEMS; this.next++) {
      const words = lines[this.next].trim().split(/[ \t]+/);
      if (words[0] === "" || words[0].startsWith("#")) continue;
      const problem = readUser(words, users, this.permissions, this.byCertificate);
      if (problem !== null) problems.push(`${path}:${this.next + 1}: ${printable(problem, 300)}`);
    }
    if (users.size > MAX_USERS) problems.push(`${path}: more than ${MAX_USERS} users`);
    return this.next >= lines.length || problems.length >= MAX_PROBLEMS || users.size > MAX_USERS;
  }

  /** The users, or everything that is wrong with the file, a line each. */
  get result(): Definitions | readonly string[] {
    return this.problems.length > 0 ? this.problems : this.users;
  }
}

/** The same in one go. */
export function readAccessFile(
  ...given: ConstructorParameters<typeof AccessFileReader>
): Definitions | readonly string[] {
  const reader = new AccessFileReader(...given);
  while (!reader.step());
  return reader.result;
}

const LINES_A_STEP = 2;
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

/** Writes the text of an access file, some users at a time. */
export class AccessFileWriter {
  private readonly lines: Buffer[] = [];
  private readonly users: readonly (readonly [string, UserDefinition])[];

  constructor(users: ReadonlyMap<string, UserDefinition>) {
    this.users = [...users];
  }

  /** Writes on; true when all is written. */
  step(): boolean {
    for (let i = 0; i < LINES_A_STEP && this.lines.length < this.users.length; i++) {
      const [name, definition] = this.users[this.lines.length];
      this.lines.push(Buffer.concat([formatUser(name, definition), NEWLINE]));
    }
    return this.lines.length === this.users.length;
  }

  /** The text, once all is written: in the order of names. */
  get text(): Buffer {
    return Buffer.concat(this.lines.sort(Buffer.compare));
  }
}

/** The same in one go. */
export function formatAccessFile(users: ReadonlyMap<string, UserDefinition>): Buffer {
  const writer = new AccessFileWriter(users);
  while (!writer.step());
  return writer.text;
}

/** A user's line, without its end. */
export function formatUser(name: string, definition: UserDefinition): Buffer {
  const rules = Buffer.from(definition.describe(), "latin1");
  return Buffer.concat([Buffer.from(`user ${name} `), rules]);
}

const NEWLINE = Buffer.from("\n");

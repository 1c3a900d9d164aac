/**
 * The rules of Redis' access control lists: words such as `on`, `>password`, `~key:*`, `+@read`,
 * each of which changes what a user may do. All texts here hold a byte a character, for patterns of
 * keys are bytes.
 */
import { nearest } from "../config/nearest.ts";
import type { UserDefinition } from "./definition.ts";
import { KeyPattern, MAX_KEY_PATTERN_BYTES } from "./key-pattern.ts";
import { isArgon2id, isSame, isSha256, sha256Of } from "./password.ts";
import { CATEGORIES, READ, READ_WRITE, WRITE, type KeyAccess } from "./permission.ts";
import { Selector } from "./selector.ts";

/** Why a rule cannot be followed. */
export interface RuleProblem {
  /** The rule, without its password in clear, if it has one. */
  readonly rule: string;
  /** In Redis' words. */
  readonly text: string;
  /** What else there is to say to a person; may be empty. */
  readonly hint: string;
}

const UNKNOWN = "Unknown command or category name in ACL";
const SYNTAX = "Syntax error";
const AFTER_ALL =
  "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any effect. Try 'resetkeys' to start with an empty list of patterns";
const NO_SUCH_PASSWORD = "The password you are trying to remove from the user does not exist";
const NO_HASH =
  "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters";
const FIRST_OF_PART = "Allowing first-arg of a subcommand is not supported";

/** A user has no more of each. */
const MAX_PASSWORDS = 64;
const MAX_SELECTORS = 64;
/** Longer passwords are not taken, here or at a login. */
export const MAX_PASSWORD_BYTES = 4_096;

/** A problem without its rule. */
type Trouble = Omit<RuleProblem, "rule"> | null;

/** Changes the definition by the rules, in their order; the first one that cannot be followed. */
export function applyRules(
  definition: UserDefinition,
  rules: readonly string[],
): RuleProblem | null {
  const words = joinSelectors(rules);
  if (!Array.isArray(words)) return words;
  for (const rule of words) {
    const trouble = applyRule(definition, rule);
    if (trouble !== null) return { rule: shown(rule), ...trouble };
  }
  return null;
}

/** What is between two parentheses is one rule, spaces and all. */
function joinSelectors(rules: readonly string[]): string[] | RuleProblem {
  const joined: string[] = [];
  for (let i = 0; i < rules.length; i++) {
    let rule = rules[i];
    if (rule.startsWith("(")) {
      const first = i;
      while (!rule.endsWith(")") && i + 1 < rules.length) rule += ` ${rules[++i]}`;
      if (!rule.endsWith(")")) return { rule: rules[first], text: UNMATCHED, hint: "" };
    }
    joined.push(rule);
  }
  return joined;
}

/** Redis says this in a sentence of its own. */
export const UNMATCHED = "Unmatched parenthesis in acl selector starting at";

function applyRule(user: UserDefinition, rule: string): Trouble {
  switch (rule.toLowerCase()) {
    case "":
    // Commands here have no channels, and values are not unpacked.
    case "sanitize-payload":
    case "skip-sanitize-payload":
      return null;
    case "on":
      user.isOn = true;
      return null;
    case "off":
      user.isOn = false;
      return null;
    case "nopass":
      user.hasNoPassword = true;
      user.passwords = [];
      return null;
    case "resetpass":
      user.hasNoPassword = false;
      user.passwords = [];
      return null;
    case "clearselectors":
      user.selectors = [user.selectors[0]];
      return null;
    case "reset":
      user.isOn = user.hasNoPassword = false;
      user.passwords = [];
      user.selectors = [new Selector(user.permissions)];
      return null;
  }
  switch (rule[0]) {
    case ">":
      if (rule.length > 1 + MAX_PASSWORD_BYTES) {
        return { text: SYNTAX, hint: `a password has at most ${MAX_PASSWORD_BYTES} bytes` };
      }
      return addPassword(user, sha256Of(Buffer.from(rule.slice(1), "latin1")));
    case "#":
    case "$": {
      const kept = rule[0] === "$" ? rule : rule.slice(1);
      return isKept(kept) ? addPassword(user, kept) : notKept(kept);
    }
    case "<":
      return removePassword(user, sha256Of(Buffer.from(rule.slice(1), "latin1")));
    case "!":
      return isKept(rule.slice(1)) ? removePassword(user, rule.slice(1)) : notKept(rule.slice(1));
    case "(":
      return addSelector(user, rule.slice(1, -1));
    default:
      return applySelectorRule(user.selectors[0], user, rule);
  }
}

function isKept(text: string): boolean {
  return isSha256(text) || isArgon2id(text);
}

function notKept(text: string): Trouble {
  const isOther = text.startsWith("$");
  const hint = isOther
    ? "of argon2, argon2id of version 19 with at most 1 GiB and 64 passes is taken"
    : "sha256sum prints one: printf %s PASSWORD | sha256sum";
  return { text: NO_HASH, hint };
}

function addPassword(user: UserDefinition, kept: string): Trouble {
  user.hasNoPassword = false;
  if (user.passwords.some((it) => isSame(it, kept))) return null;
  if (user.passwords.length >= MAX_PASSWORDS) {
    return { text: SYNTAX, hint: `a user has at most ${MAX_PASSWORDS} passwords` };
  }
  user.passwords = [...user.passwords, kept];
  return null;
}

function removePassword(user: UserDefinition, kept: string): Trouble {
  const left = user.passwords.filter((it) => !isSame(it, kept));
  if (left.length === user.passwords.length) return { text: NO_SUCH_PASSWORD, hint: "" };
  user.passwords = left;
  return null;
}

function addSelector(user: UserDefinition, rules: string): Trouble {
  if (user.selectors.length > MAX_SELECTORS) {
    return { text: SYNTAX, hint: `a user has at most ${MAX_SELECTORS} selectors` };
  }
  const selector = new Selector(user.permissions);
  for (const rule of rules.split(" ").filter((word) => word !== "")) {
    const trouble = applySelectorRule(selector, user, rule);
    if (trouble !== null) return trouble;
  }
  user.selectors = [...user.selectors, selector];
  return null;
}

/** A rule on commands or keys. */
function applySelectorRule(selector: Selector, user: UserDefinition, rule: string): Trouble {
  switch (rule.toLowerCase()) {
    case "allkeys":
    case "~*":
      selector.addAllKeys();
      return null;
    case "resetkeys":
      selector.clearKeys();
      return null;
    case "allchannels":
    case "resetchannels":
      return null;
    case "allcommands":
    case "+@all":
      selector.setAll(true);
      return null;
    case "nocommands":
    case "-@all":
      selector.setAll(false);
      return null;
  }
  switch (rule[0]) {
    case "~":
      return addKeys(selector, rule.slice(1), READ_WRITE);
    case "%":
      return addKeysWith(selector, rule);
    case "&":
      return null;
    case "+":
    case "-":
      if (rule[1] === "@") return setCategory(selector, user, rule);
      return setCommand(selector, user, rule);
    default:
      return { text: SYNTAX, hint: "a password begins with > and a pattern of keys with ~" };
  }
}

function addKeys(selector: Selector, pattern: string, access: KeyAccess): Trouble {
  if (/[\s\0\x01-\x1f\x7f]/.test(pattern)) {
    return { text: SYNTAX, hint: "a pattern holds no white space; ? stands for any byte" };
  }
  if (pattern.length > MAX_KEY_PATTERN_BYTES) {
    return { text: SYNTAX, hint: `a pattern has at most ${MAX_KEY_PATTERN_BYTES} bytes` };
  }
  const isAdded = selector.addKeys(new KeyPattern(pattern, access));
  return isAdded ? null : { text: AFTER_ALL, hint: "" };
}

/** `%R~pattern`, `%W~pattern`, `%RW~pattern`. */
function addKeysWith(selector: Selector, rule: string): Trouble {
  const [, letters, pattern] = /^%([rw]+)~([^]*)$/i.exec(rule) ?? [];
  const isTwice = letters !== undefined && /(.).*\1/i.test(letters);
  if (letters === undefined || isTwice) {
    return { text: SYNTAX, hint: "%R~pattern is to read, %W~pattern to write, ~pattern for both" };
  }
  const canRead = /r/i.test(letters);
  const canWrite = /w/i.test(letters);
  return addKeys(selector, pattern, canRead && canWrite ? READ_WRITE : canRead ? READ : WRITE);
}

function setCategory(selector: Selector, user: UserDefinition, rule: string): Trouble {
  const name = rule.slice(2).toLowerCase();
  const those = user.permissions.inCategory(name);
  if (those === undefined) {
    return { text: UNKNOWN, hint: `the nearest known one is @${nearest(name, CATEGORIES)}` };
  }
  selector.setCategory(name, those, rule[0] === "+");
  return null;
}

function setCommand(selector: Selector, user: UserDefinition, rule: string): Trouble {
  const name = rule.slice(1).toLowerCase();
  const { permissions } = user;
  const permission = permissions.find(name);
  if (permission !== undefined) {
    selector.setOne(permission, rule[0] === "+");
    return null;
  }
  const cut = name.lastIndexOf("|");
  const command = cut < 0 ? undefined : permissions.find(name.slice(0, cut));
  if (command === undefined || rule[0] === "-") {
    return { text: UNKNOWN, hint: `the nearest known one is ${nearest(name, permissions.names)}` };
  }
  const word = name.slice(cut + 1);
  if (command.name.includes("|")) return { text: FIRST_OF_PART, hint: "" };
  if (word === "" || /[\s\0-\x1f\x7f()]/.test(word)) return { text: SYNTAX, hint: "" };
  if (command.parts.length > 0) {
    const known = command.parts.map(([, part]) => part.name);
    return { text: UNKNOWN, hint: `the nearest known one is ${nearest(name, known)}` };
  }
  selector.addFirst(command, word);
  return null;
}

/** Nobody is shown a password in the line that says what is wrong with it. */
function shown(rule: string): string {
  return rule.replace(/(^|[( ])([<>])[^ )]*/g, "$1$2***");
}

/**
 * A set of commands and a set of keys on which they may be used: what Redis calls a selector. It is
 * built up rule by rule, and not changed any more once a user has it.
 */
import { KeyPattern } from "./key-pattern.ts";
import { READ_WRITE, type KeyAccess, type Permission, type Permissions } from "./permission.ts";

/** See the file header. */
export class Selector {
  /** Which permissions are given, by their numbers. */
  private readonly given: Uint8Array;
  /** Commands that are permitted with these first arguments only, in lower case. */
  private readonly firstArguments = new Map<number, Set<string>>();
  /** The rules on commands that matter, in the order they were given: `+@read`, `-ttl`. */
  private rules: string[] = [];
  private startsWithAll = false;
  private patterns: KeyPattern[] = [];
  private hasAllKeys = false;

  constructor(private readonly permissions: Permissions) {
    this.given = new Uint8Array(permissions.all.length);
  }

  /** The same, to be changed apart from this one. */
  copy(): Selector {
    const copy = new Selector(this.permissions);
    copy.given.set(this.given);
    for (const [id, words] of this.firstArguments) copy.firstArguments.set(id, new Set(words));
    copy.rules = [...this.rules];
    copy.startsWithAll = this.startsWithAll;
    copy.patterns = [...this.patterns];
    copy.hasAllKeys = this.hasAllKeys;
    return copy;
  }

  /** Whether it permits every command on every key. */
  get isUnlimited(): boolean {
    return this.hasAllKeys && this.given.every((bit) => bit === 1);
  }

  /** Whether the command or subcommand is permitted, whatever its arguments. */
  permits(permission: Permission): boolean {
    return this.given[permission.id] === 1;
  }

  /** Whether the command is permitted with a first argument that is `isWord`. */
  permitsFirst(permission: Permission, isWord: (lowerCase: string) => boolean): boolean {
    const words = this.firstArguments.get(permission.id);
    return words !== undefined && [...words].some(isWord);
  }

  /** Whether this may be done to all keys there can be. */
  hasAll(access: KeyAccess): boolean {
    return this.hasAllKeys || this.patterns.some((it) => it.isOfAll && allows(it, access));
  }

  /** Whether this may be done to the key. */
  hasKey(key: Uint8Array, offset: number, length: number, access: KeyAccess): boolean {
    if (this.hasAllKeys) return true;
    for (const pattern of this.patterns) {
      if (allows(pattern, access) && pattern.matches(key, offset, length)) return true;
    }
    return false;
  }

  /** Permits every command, or none. */
  setAll(isGiven: boolean): void {
    this.given.fill(isGiven ? 1 : 0);
    this.firstArguments.clear();
    this.rules = [];
    this.startsWithAll = isGiven;
  }

  /** Permits a command and all its subcommands, or one of those; or no longer. */
  setOne(permission: Permission, isGiven: boolean): void {
    this.mark([permission, ...permission.parts.map(([, part]) => part)], isGiven);
    this.note(permission.name, isGiven);
  }

  /** The same for those that are in a category, and no others. */
  setCategory(name: string, those: readonly Permission[], isGiven: boolean): void {
    this.mark(those, isGiven);
    this.note(`@${name}`, isGiven);
  }

  /** Permits a command with one first argument. */
  addFirst(permission: Permission, word: string): void {
    const words = this.firstArguments.get(permission.id) ?? new Set<string>();
    this.firstArguments.set(permission.id, words.add(word.toLowerCase()));
    this.note(`${permission.name}|${word.toLowerCase()}`, true);
  }

  /** Permits all keys. */
  addAllKeys(): void {
    this.hasAllKeys = true;
    this.patterns = [];
  }

  /** Permits no keys. */
  clearKeys(): void {
    this.hasAllKeys = false;
    this.patterns = [];
  }

  /** Permits more keys; false if all are permitted already. */
  addKeys(pattern: KeyPattern): boolean {
    if (this.hasAllKeys) return false;
    const at = this.patterns.findIndex(({ text }) => text === pattern.text);
    if (at < 0) this.patterns.push(pattern);
    else {
      const access = (this.patterns[at].access | pattern.access) as KeyAccess;
      this.patterns[at] = new KeyPattern(pattern.text, access);
    }
    return true;
  }

  /** The rules on commands, as they would be given to a new user. */
  get commandRules(): string {
    return [this.startsWithAll ? "+@all" : "-@all", ...this.rules].join(" ");
  }

  /** The rules on keys. */
  get keyRules(): string {
    return this.hasAllKeys ? "~*" : this.patterns.join(" ");
  }

  private mark(permissions: readonly Permission[], isGiven: boolean): void {
    for (const { id } of permissions) {
      this.given[id] = isGiven ? 1 : 0;
      this.firstArguments.delete(id);
    }
  }

  /** A later rule on the same makes an earlier one void. */
  private note(name: string, isGiven: boolean): void {
    const isSame = (rule: string): boolean => {
      const other = rule.slice(1);
      return other === name || (!name.startsWith("@") && other.startsWith(`${name}|`));
    };
    this.rules = this.rules.filter((rule) => !isSame(rule));
    this.rules.push((isGiven ? "+" : "-") + name);
  }
}

function allows(pattern: KeyPattern, access: KeyAccess): boolean {
  return pattern.access === READ_WRITE || (pattern.access & access) === access;
}

/**
 * What is known of a user: whether and how it may log in, and what it may do. Definitions are not
 * changed: a change makes another one (`rules.ts`).
 */
import {
  READ,
  READ_WRITE,
  type Category,
  type Permission,
  type Permissions,
} from "./permission.ts";
import { Selector } from "./selector.ts";

/** Whether a key may be shown. */
export type KeyFilter = (key: Uint8Array, offset: number, length: number) => boolean;

/** See the file header. */
export class UserDefinition {
  /** Whether it may log in. */
  isOn = false;
  /** Whether it is logged in with any password, and the default user without one. */
  hasNoPassword = false;
  /** As they are kept; see `password.ts`. */
  passwords: readonly string[] = [];
  /** Any of them may permit a command; the first is made by the rules outside of parentheses. */
  selectors: readonly Selector[];
  private passed: Uint8Array | undefined;

  constructor(readonly permissions: Permissions) {
    this.selectors = [new Selector(permissions)];
  }

  /** One that may do everything without a password. */
  static unlimited(permissions: Permissions): UserDefinition {
    const definition = new UserDefinition(permissions);
    definition.isOn = definition.hasNoPassword = true;
    definition.selectors[0].setAll(true);
    definition.selectors[0].addAllKeys();
    return definition;
  }

  /** The same, to be changed before anybody uses it. */
  copy(): UserDefinition {
    const copy = new UserDefinition(this.permissions);
    copy.isOn = this.isOn;
    copy.hasNoPassword = this.hasNoPassword;
    copy.passwords = this.passwords;
    copy.selectors = this.selectors.map((selector) => selector.copy());
    return copy;
  }

  /**
   * By the numbers of permissions, 1 for commands about which there is nothing to ask: they are
   * permitted on all keys, have no subcommands, and nobody writes down that they are used.
   * Requested first when nobody changes the definition any more.
   */
  get passes(): Uint8Array {
    if (this.passed !== undefined) return this.passed;
    const { all } = this.permissions;
    const passed = Uint8Array.from(all, (permission) => {
      if (permission.parts.length > 0 || permission.isAudited) return 0;
      return this.selectors.some((it) => it.permits(permission) && it.hasAll(READ_WRITE)) ? 1 : 0;
    });
    return (this.passed = passed);
  }

  /** Whether everything is permitted. */
  get isUnlimited(): boolean {
    return this.selectors.some((selector) => selector.isUnlimited);
  }

  /** Whether every command of that category is permitted. */
  mayAll(category: Category): boolean {
    const all = this.permissions.all.filter(({ categories }) => categories.has(category));
    return this.selectors.some((selector) => all.every((each) => selector.permits(each)));
  }

  /** Whether nobody can log in with a password, though the user is on. */
  get lacksPassword(): boolean {
    return this.isOn && !this.hasNoPassword && this.passwords.length === 0;
  }

  /** The SHA-256 among the passwords. */
  get sha256s(): readonly string[] {
    return this.passwords.filter((kept) => !kept.startsWith("$"));
  }

  /** The argon2id among them. */
  get argon2ids(): readonly string[] {
    return this.passwords.filter((kept) => kept.startsWith("$"));
  }

  /**
   * Which keys a listing may show: null for all of them. Those are shown that the same selector
   * lets be read that permits the command.
   */
  readableBy(permission: Permission): KeyFilter | null {
    const those = this.selectors.filter((selector) => selector.permits(permission));
    if (those.some((selector) => selector.hasAll(READ))) return null;
    return (key, offset, length) => those.some((it) => it.hasKey(key, offset, length, READ));
  }

  /** The rules that make this definition of a new user, as they stand in an access file. */
  describe(): string {
    const [root, ...others] = this.selectors;
    const words = [this.isOn ? "on" : "off"];
    if (this.hasNoPassword) words.push("nopass");
    words.push(...this.passwords.map((kept) => `#${kept}`), rulesOf(root));
    words.push(...others.map((selector) => `(${rulesOf(selector)})`));
    return words.join(" ");
  }
}

function rulesOf({ keyRules, commandRules }: Selector): string {
  return keyRules === "" ? commandRules : `${keyRules} ${commandRules}`;
}

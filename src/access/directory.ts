/**
 * The users of this node: who a client is when it connects, who it becomes by logging in, and how
 * users change while the node runs.
 *
 * With neither an access file nor a password there are no users to speak of: clients on this
 * machine may do everything, and those elsewhere what `openRules` says. That ends as soon as
 * somebody changes the default user.
 */
import { OperationalError } from "../operational-error.ts";
import { delay, type Timing } from "../timing.ts";
import {
  AccessFileReader,
  AccessFileWriter,
  isUserName,
  lackOf,
  MAX_USERS,
  type Definitions,
} from "./access-file.ts";
import { UserDefinition } from "./definition.ts";
import { isLocal } from "./host.ts";
import { LoginDelays } from "./login-delays.ts";
import { Logins, type LoginResult } from "./logins.ts";
import type { Permissions } from "./permission.ts";
import { applyRules, type RuleProblem } from "./rules.ts";
import { User } from "./user.ts";

/** The name of the user that everybody is who has not logged in. */
export const DEFAULT_USER = "default";

/** Where the users are from, and what is done when they change. */
export interface UserSource {
  /** The access file's path, for people; empty if there is none. */
  readonly path: string;
  /** Reads it. Throws an OperationalError when it cannot be read, or others can. */
  read(): Uint8Array;
  /** Puts another in its place, at once and for good. Rejects with an OperationalError. */
  write(content: Uint8Array): Promise<void>;
}

/** What a directory is made with. */
export interface DirectoryOptions {
  readonly permissions: Permissions;
  readonly timing: Timing;
  /** 32 bytes that nobody can guess. */
  readonly key: Uint8Array;
  readonly file: UserSource;
  /** Of the default user, where that is all there is; empty if there is none. */
  readonly password: string;
  /** The name in a client's certificate is the name of its user. */
  readonly byCertificate: boolean;
  /** What clients elsewhere may do while there are no users; null for everything. */
  readonly openRules: readonly string[] | null;
}

/** What of it may change meanwhile. */
export type UserOptions = Partial<
  Pick<DirectoryOptions, "file" | "password" | "byCertificate" | "openRules">
>;

/** Why a user cannot be changed: by which rule, or in a sentence. */
export type ChangeProblem = RuleProblem | string;

/** See the file header. */
export class UserDirectory {
  /** Nobody yet: what a client is before it has logged in, if it has to. */
  readonly nobody: User;
  /** Told of a user whose connections are to be closed. */
  onGone: (user: User) => void = () => {};
  private readonly users = new Map<string, User>();
  /** The default user as clients elsewhere are it that came while there were no users. */
  private remote: User | null = null;
  private hasUsers = true;
  /** Some argon2id password, to be checked where there is none; undefined until looked for. */
  private decoy: string | null | undefined;
  private readonly logins: Logins;
  private readonly delays: LoginDelays;
  private isBusy = false;

  /** Throws an OperationalError that says all that is wrong with the access file. */
  constructor(private options: DirectoryOptions) {
    const { permissions, file, timing } = options;
    this.logins = new Logins(options.key);
    this.delays = new LoginDelays(timing.nowMs);
    this.nobody = new User("", new UserDefinition(permissions), false);
    let definitions: Definitions | null = null;
    if (file.path !== "") {
      const reader = this.beginLoad();
      while (!reader.step());
      definitions = definitionsIn(reader);
    }
    this.take(options, definitions);
  }

  /**
   * Reads the users that there are with other options; `run` does what takes long, by steps until
   * one is true. Resolves with what makes it so; rejects with an OperationalError.
   */
  async prepare(
    change: UserOptions,
    run: (step: () => boolean) => Promise<void>,
  ): Promise<() => void> {
    const options = { ...this.options, ...change };
    if (options.file.path === "") return () => this.take(options, null);
    const reader = readerOf(options);
    await run(() => reader.step());
    const definitions = definitionsIn(reader);
    return () => this.take(options, definitions);
  }

  /** From now on these users; null where all there is follows from the options. */
  private take(options: DirectoryOptions, definitions: Definitions | null): void {
    const neededNoLogin = isOpen(this.options) && this.users.size > 0;
    this.options = options;
    this.replace(definitions ?? new Map([[DEFAULT_USER, defaultUser(options)]]));
    const { permissions, openRules } = options;
    this.hasUsers = !isOpen(options) || openRules === null;
    if (this.hasUsers) {
      // Whoever came without a login may have to have one now.
      if (neededNoLogin && !isOpen(options)) this.onGone(this.find(DEFAULT_USER)!);
      return;
    }
    const restricted = UserDefinition.unlimited(permissions);
    applyAll(restricted, openRules!);
    this.remote ??= new User(DEFAULT_USER, restricted);
    this.remote.definition = restricted;
  }

  /** What users can be permitted. */
  get permissions(): Permissions {
    return this.options.permissions;
  }

  /** Whether there are no users, so that those elsewhere may do what needs no administrator. */
  get isOpen(): boolean {
    return !this.hasUsers;
  }

  /** Whether whoever is on this machine may do everything without a login. */
  get trustsMachine(): boolean {
    const { definition } = this.find(DEFAULT_USER)!;
    return definition.isOn && definition.hasNoPassword && definition.isUnlimited;
  }

  /** Who a client is when it has connected from there, or has shown a certificate. */
  arrive(address: string, certificateName: string | null): User {
    const named = certificateName === null ? undefined : this.users.get(certificateName);
    if (this.options.byCertificate && named?.definition.isOn) return named;
    const user = this.defaultFor(address);
    const { isOn, hasNoPassword } = user.definition;
    return isOn && hasNoPassword ? user : this.nobody;
  }

  /** The default user, as a client from there may be it. */
  private defaultFor(address: string): User {
    if (!this.hasUsers && this.remote !== null && !isLocal(address)) return this.remote;
    return this.find(DEFAULT_USER)!;
  }

  /** Whether what that one is denied is so because there are no users. */
  isRestricted(user: User): boolean {
    return user === this.remote && !this.hasUsers;
  }

  /**
   * Logs in the user of that name who comes from there. Resolves after a while if others from there
   * have failed of late; or if this one has, where it has logged in from there before. The user, or
   * why not; `isOver` tells whether the client has gone.
   */
  async logIn(
    name: string,
    password: Uint8Array,
    address: string,
    isOver: () => boolean,
  ): Promise<User | Exclude<LoginResult, "right">> {
    const waitMs = this.delays.delayMs(address, name);
    if (waitMs > 0) await delay(this.options.timing, waitMs);
    if (isOver()) return "busy";
    const [user, result] = await this.checkInTurn(name, password, address, waitMs > 0);
    if (result === "right" && user?.definition.isOn) {
      this.delays.noteSuccess(address, name);
      // While there are no users any password will do, so it must give nothing.
      return name === DEFAULT_USER ? this.defaultFor(address) : user;
    }
    if (result === "busy") return "busy";
    this.delays.noteFailure(address, name);
    return "wrong";
  }

  /** Checks that take long have few places, of which those that failed get a part only. */
  private async checkInTurn(
    name: string,
    password: Uint8Array,
    address: string,
    hasFailed: boolean,
  ): Promise<[User | null, LoginResult]> {
    if (!hasFailed || this.findDecoy() === null) return this.check(name, password);
    if (!this.delays.beginCheck(address)) return [null, "busy"];
    try {
      return await this.check(name, password);
    } finally {
      this.delays.endCheck(address);
    }
  }

  /** Once more if the user was changed meanwhile: an old password is worth nothing. */
  private async check(name: string, password: Uint8Array): Promise<[User | null, LoginResult]> {
    for (;;) {
      const user = this.users.get(name) ?? null;
      const definition = user?.definition;
      const result = await this.logins.check(user, password, this.findDecoy());
      const now = this.users.get(name) ?? null;
      if (now === user && now?.definition === definition) return [user, result];
    }
  }

  /** The user of that name. */
  find(name: string): User | undefined {
    return this.users.get(name);
  }

  /** Every user, by name. */
  list(): readonly User[] {
    return [...this.users.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** Changes a user, who is made if there is none: by all of the rules, or not at all. */
  change(name: string, rules: readonly string[]): ChangeProblem | null {
    const { permissions } = this.options;
    if (!isUserName(name)) return "Usernames can't contain spaces or null characters";
    const user = this.users.get(name);
    if (user === undefined && this.users.size >= MAX_USERS) return `there are ${MAX_USERS} users`;
    const definition = user?.definition.copy() ?? new UserDefinition(permissions);
    const problem = applyRules(definition, rules);
    if (problem !== null) return problem;
    this.define(name, definition);
    return null;
  }

  /** Removes a user and closes its connections; false if there is none of that name. */
  remove(name: string): boolean {
    const user = this.users.get(name);
    if (user === undefined) return false;
    this.decoy = undefined;
    this.users.delete(name);
    user.definition = this.nobody.definition;
    this.onGone(user);
    return true;
  }

  /** Begins to read the file. Throws an OperationalError. */
  beginLoad(): AccessFileReader {
    return readerOf(this.options);
  }

  /** Takes the users that were read. Throws an OperationalError and changes nothing. */
  finishLoad(reader: AccessFileReader): void {
    this.replace(definitionsIn(reader));
  }

  /**
   * Writes the users into the file; `run` does what takes long, by steps until one is true. Rejects
   * with an OperationalError.
   */
  async save(run: (step: () => boolean) => Promise<void>): Promise<void> {
    if (this.isBusy) throw new OperationalError("the access file is being written");
    const definitions: Definitions = new Map();
    for (const { name, definition } of this.users.values()) {
      if (definition.lacksPassword && !this.options.byCertificate) {
        throw new OperationalError(`${lackOf(name)}; nothing was written`);
      }
      definitions.set(name, definition);
    }
    this.isBusy = true;
    try {
      const writer = new AccessFileWriter(definitions);
      await run(() => writer.step());
      await this.options.file.write(writer.text);
    } finally {
      this.isBusy = false;
    }
  }

  /** How many addresses have to wait before they log in. */
  get delayedAddresses(): number {
    return this.delays.addresses;
  }

  /** Whether there is a file to load from and save to. */
  get hasFile(): boolean {
    return this.options.file.path !== "";
  }

  /** These are the users from now on. Without a default user among them that one is off. */
  private replace(definitions: Definitions): void {
    if (!definitions.has(DEFAULT_USER)) {
      definitions.set(DEFAULT_USER, new UserDefinition(this.options.permissions));
    }
    for (const name of this.users.keys()) if (!definitions.has(name)) this.remove(name);
    for (const [name, definition] of definitions) this.define(name, definition);
  }

  private define(name: string, definition: UserDefinition): void {
    this.decoy = undefined;
    const user = this.users.get(name);
    if (user === undefined) {
      this.users.set(name, new User(name, definition));
      return;
    }
    const { remote } = this;
    const those = name === DEFAULT_USER && remote !== null ? [user, remote] : [user];
    if (name === DEFAULT_USER) this.hasUsers = true;
    for (const each of those) {
      each.definition = definition;
      if (!definition.isOn) this.onGone(each);
    }
  }

  private findDecoy(): string | null {
    if (this.decoy !== undefined) return this.decoy;
    const all = [...this.users.values()];
    const found = all.find(({ definition }) => definition.argon2ids.length > 0);
    this.decoy = found?.definition.argon2ids[0] ?? null;
    return this.decoy;
  }
}

/** Whether nobody needs a login. */
function isOpen({ file, password }: DirectoryOptions): boolean {
  return file.path === "" && password === "";
}

/** The only user, where there is no file with others. */
function defaultUser({ permissions, password }: DirectoryOptions): UserDefinition {
  const all = UserDefinition.unlimited(permissions);
  if (password !== "") applyAll(all, [`>${Buffer.from(password).toString("latin1")}`]);
  return all;
}

function readerOf({ file, permissions, byCertificate }: DirectoryOptions): AccessFileReader {
  return new AccessFileReader(file.read(), file.path, permissions, byCertificate);
}

/** Throws an OperationalError that says all that is wrong. */
function definitionsIn({ result }: AccessFileReader): Definitions {
  if (result instanceof Map) return result;
  throw new OperationalError(result.join("; "));
}

/** Rules that are ours. */
function applyAll(definition: UserDefinition, rules: readonly string[]): void {
  const problem = applyRules(definition, rules);
  if (problem !== null) throw new Error(`${problem.rule}: ${problem.text}`);
}

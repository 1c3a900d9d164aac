/** The users of a node: what the configuration says of them, and the file that they are in. */
import { createHash } from "node:crypto";
import { resolve } from "node:path";
import { UserDirectory, type UserOptions, type UserSource } from "./access/directory.ts";
import { finish } from "./commands/slices.ts";
import { commandTable } from "./commands/table.ts";
import type { Change, Commit } from "./config/live-config.ts";
import type { Config, KeyName } from "./config/schema.ts";
import { placeFile, withExplanation, type FileSystem } from "./durability/file-system.ts";
import type { Logger } from "./observability/log.ts";
import { OperationalError } from "./operational-error.ts";
import { readPrivateFile } from "./security/secret-file.ts";
import { SettledWatch } from "./security/settled-watch.ts";
import { RunQueue } from "./timing.ts";
import type { World } from "./world.ts";

/**
 * What clients elsewhere may do while there are no users: whatever needs no administrator. Which
 * clients there are they may know, as they always did.
 */
const OPEN_RULES = ["-@admin", "-flushall", "-flushdb", "-acl", "+client", "-client|kill"];

/** What of a change is about users. */
const KEYS: readonly KeyName[] = [
  "auth.acl_file",
  "auth.password",
  "auth.certificate_users",
  "network.open_administration",
];

/** The users of a node, from its start to its stop. */
export class NodeUsers {
  readonly directory: UserDirectory;
  private file: UsersFile;
  private readonly watch: SettledWatch;
  private readonly runQueue: RunQueue;
  /** What was wrong when it was looked at last, so that it is said once. */
  private problem = "";

  /** Throws an OperationalError that says all that is wrong with the file of users. */
  constructor(
    config: Config,
    private readonly logger: Logger,
    private readonly world: World,
  ) {
    const { timing, files } = world;
    this.runQueue = new RunQueue(timing);
    this.file = new UsersFile(config.auth.acl_file, files);
    this.directory = new UserDirectory({
      permissions: commandTable.permissions,
      timing,
      key: new Uint8Array(world.randomWords(8).buffer),
      ...optionsIn(config),
      file: this.file,
    });
    this.watch = new SettledWatch(timing, () => void this.load(false));
    this.startWatch();
  }

  /** Takes users from elsewhere, once it is known that they are good. */
  async prepare({ next, changed }: Change): Promise<Commit | void> {
    if (!KEYS.some((key) => changed.has(key))) return;
    const isOther = changed.has("auth.acl_file");
    const file = isOther ? new UsersFile(next.auth.acl_file, this.world.files) : this.file;
    const take = await this.directory.prepare({ ...optionsIn(next), file }, this.inSlices);
    const apply = (): void => {
      this.file = file;
      take();
      if (isOther) this.startWatch();
    };
    return { apply };
  }

  /** Reads the file if it is another than it was when it was read or written last. */
  reopen(): void {
    void this.load(true);
  }

  /** Looks at the file no more. */
  stop(): void {
    this.watch.stop();
  }

  private startWatch(): void {
    const { path } = this.file;
    if (path === "") this.watch.stop();
    else this.watch.start([path]);
  }

  private readonly inSlices = (step: () => boolean): Promise<void> => finish(step, this.runQueue);

  private async load(isAsked: boolean): Promise<void> {
    const { file, directory, logger } = this;
    if (file.path === "") return;
    try {
      if (!file.isOther()) return;
      const reader = directory.beginLoad();
      await this.inSlices(() => reader.step());
      directory.finishLoad(reader);
      this.problem = "";
      logger.info("The users are those of the file again", { users: directory.list().length });
    } catch (error) {
      if (!(error instanceof OperationalError)) throw error;
      const isNews = error.message !== this.problem;
      this.problem = error.message;
      if (!isNews && !isAsked) return;
      logger.warn("The file of users is not used; the users stay as they are", { error });
    }
  }
}

function optionsIn({ auth, network }: Config): Required<Omit<UserOptions, "file">> {
  return {
    password: auth.password,
    byCertificate: auth.certificate_users === "common_name",
    openRules: network.open_administration ? null : OPEN_RULES,
  };
}

/** The file, and whether it has changed. */
class UsersFile implements UserSource {
  private digest = "";

  constructor(
    readonly path: string,
    private readonly files: FileSystem,
  ) {}

  /** Whether it holds something else than when it was read or written last. */
  isOther(): boolean {
    return digestOf(this.readNow()) !== this.digest;
  }

  read(): Uint8Array {
    const content = this.readNow();
    this.digest = digestOf(content);
    return content;
  }

  async write(content: Uint8Array): Promise<void> {
    const { path, files } = this;
    const unfinished = `${path}.tmp`;
    await withExplanation(`write ${unfinished}`, writeFile(files, unfinished, content));
    this.digest = digestOf(content);
    await withExplanation(`write ${path}`, placeFile(files, unfinished, resolve(path)));
  }

  private readNow(): Uint8Array {
    return readPrivateFile(this.path, "the file of users (auth.acl_file)");
  }
}

function digestOf(content: Uint8Array): string {
  return createHash("sha256").update(content).digest("hex");
}

async function writeFile(files: FileSystem, path: string, content: Uint8Array): Promise<void> {
  // What was left of an attempt may be readable by others.
  await files.remove(path);
  const file = await files.open(path, "create");
  try {
    await file.write(content, 0);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Says in one line who may do what, and what to do if that is not what was meant. */
export function announceUsers(config: Config, users: UserDirectory, logger: Logger): void {
  const { network, auth } = config;
  if (users.isOpen) {
    const message =
      "There are no users: clients on this machine may do everything, others may read and write " +
      "all data but not administer";
    logger.info(message, { set: "auth.acl_file or auth.password; network.open_administration" });
  } else if (auth.acl_file === "" && auth.password === "") {
    const message = "There are no users: every client that reaches the port may do everything";
    logger.warn(message, { address: network.bind_address, set: "auth.acl_file or auth.password" });
  } else {
    const all = users.list();
    const file = auth.acl_file;
    logger.info("Clients have the rights of their users", { users: all.length, file });
    if (all.some(({ definition }) => definition.isOn)) return;
    const set = "user admin on #SHA256 ~* +@all";
    logger.warn("Nobody can log in: no user of the file is on", { file, set });
  }
}

/**
 * Lines of access files and rules of `ACL SETUSER` that nobody in his right mind would write. Each
 * is followed as a whole or refused in a line that tells why, and then nothing has changed; what is
 * followed is written down as something that means the same.
 */
import { formatAccessFile, readAccessFile } from "../../src/access/access-file.ts";
import type { UserDirectory } from "../../src/access/directory.ts";
import { commandTable } from "../../src/commands/table.ts";
import { OperationalError } from "../../src/operational-error.ts";
import { Dice, type Fuzzer } from "./dice.ts";
import { seeded } from "./random.ts";
import { testUsers } from "./users.ts";

const SHA = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
const ARGON =
  "$argon2id$v=19$m=64,t=1,p=1$MKfhI5Q1dOLPduBhY6nfMDZUbyFkqctPHCaBW9LNSbQ$cbvQpuxCPIMQq17+JfZ+gqMHECZFHygHKyxqc5VK/FQ";
const LINES = [
  `user dash on #${SHA} ~site:*:temp +@read`,
  `user a on ${ARGON} %R~x* %W~y* -@all +get +config|get`,
  `user b off reset nopass allkeys allcommands -@dangerous`,
  `user c on #${SHA} !${SHA} >pass <pass >other (~z* +get +@write) (%RW~[a-z]? -@all +select|0)`,
  `user default on nopass ~* &* sanitize-payload +@all -flushall clearselectors`,
];
const PIECES = [
  ...[" ", "\t", "\n", "\r\n", "\0", "\x1b[31m", "\xff", "(", ")", "|", "@", "~", "%R~", "+", "-"],
  ...["#", "$argon2id$", ">", "<", "!", "*", "[", "\\", "user ", "on", "nopass", "+@all", "~*"],
  ...["+acl|setuser", "reset", "x".repeat(1_200)],
];
const KEEPER = "keeper";

/** See the file header. */
export class UsersFuzzer implements Fuzzer {
  readonly name = "access rules";
  private readonly dice: Dice;
  private content: Uint8Array = Buffer.from(LINES.join("\n"));
  private readonly users: UserDirectory;

  constructor(seed: number) {
    this.dice = new Dice(seeded(seed));
    const file = { path: "users.acl", read: () => this.content, write: async () => {} };
    this.users = testUsers({ file });
    this.users.change(KEEPER, ["on", ">kept", "~k*", "+get"]);
  }

  async step(): Promise<void> {
    const { dice } = this;
    const lines = Array.from({ length: 1 + dice.below(3) }, () => dice.one(LINES));
    const text = dice.chance(0.05)
      ? dice.bytes(200)
      : dice.mutate(Buffer.from(lines.join("\n"), "latin1"), PIECES);
    if (dice.chance(0.5)) this.setUser(text.toString("latin1"));
    else if (dice.chance(0.1)) this.load(text);
    else this.read(text);
  }

  check(): void {
    const keeper = this.users.find(KEEPER)?.definition.describe() ?? "";
    if (!/^on #[0-9a-f]{64} ~k\* -@all \+get$/.test(keeper))
      throw new Error(`the keeper: ${keeper}`);
  }

  private read(text: Buffer): void {
    const { permissions } = commandTable;
    const found = readAccessFile(text, "users.acl", permissions, true);
    if (!(found instanceof Map)) return found.forEach(checkProblem);
    const written = formatAccessFile(found);
    const again = readAccessFile(written, "users.acl", permissions, true);
    if (!(again instanceof Map)) throw new Error(`${written} is refused: ${again.join()}`);
    if (!formatAccessFile(again).equals(written))
      throw new Error(`${written} means something else`);
  }

  private setUser(text: string): void {
    const { users } = this;
    const [, name = "x", ...rules] = text.split(" ");
    if (name === KEEPER) return;
    const before = this.state();
    const problem = users.change(name, rules);
    // Not so many that the work is looking at them.
    if (problem === null && users.list().length > 12) users.remove(name);
    if (problem === null) return;
    if (typeof problem === "string") checkProblem(problem);
    if (this.state() !== before) throw new Error(`${text} was refused and changed something`);
  }

  private load(text: Buffer): void {
    const before = this.state();
    const kept = this.users.find(KEEPER)!.definition;
    this.content = text;
    try {
      const reader = this.users.beginLoad();
      while (!reader.step());
      this.users.finishLoad(reader);
    } catch (error) {
      if (!(error instanceof OperationalError)) throw error;
      checkProblem(error.message);
      if (this.state() !== before) throw new Error(`${text} was refused and changed something`);
      return;
    }
    if (this.users.find(KEEPER)?.definition === kept) throw new Error("LOAD left a user behind");
    this.users.change(KEEPER, ["reset", "on", ">kept", "~k*", "+get"]);
  }

  private state(): string {
    return this.users
      .list()
      .map(({ name, definition }) => name + definition.describe())
      .join();
  }
}

function checkProblem(problem: string): void {
  if (problem === "" || /[\x00-\x1f\x7f]/.test(problem)) {
    throw new Error(`no line for people: ${JSON.stringify(problem)}`);
  }
}

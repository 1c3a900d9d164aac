/**
 * The options with which a subcommand logs in at a node, named as redis-cli names them. A password
 * on the command line is seen by everybody who lists processes; there are three better ways.
 */
import { OperationalError } from "../operational-error.ts";
import { readPrivateFile } from "../security/secret-file.ts";
import { UsageError, type Arguments, type Option } from "./arguments.ts";

/** As whom to log in at a node. */
export interface Login {
  readonly user: string;
  readonly password: string;
}

const DEFAULT_USER = "default";
/** As in redis-cli the password may come from the environment; the user may, too. */
const USER_VARIABLE = "MERKLE_KV_USER";
const PASSWORD_VARIABLE = "MERKLE_KV_PASSWORD";

/** Rows for a subcommand's table. */
export const loginOptions: readonly Option[] = [
  {
    long: "--user",
    value: "NAME",
    about: `Who to log in as (${USER_VARIABLE}, or ${DEFAULT_USER}).`,
  },
  {
    long: "--pass",
    value: "PASSWORD",
    about: `Its password, for all to see; better set ${PASSWORD_VARIABLE}.`,
  },
  {
    long: "--pass-file",
    value: "FILE",
    about: "A file with the password, which nobody else may read.",
  },
  { long: "--askpass", about: "Ask for the password, or read it as a line." },
];

/** The login that the options ask for; null for none. Throws what the user is to be told. */
export async function loginGiven(given: Arguments): Promise<Login | null> {
  const ways = ["--pass", "--pass-file", "--askpass"].filter((long) => given.has(long));
  if (ways.length > 1) throw new UsageError(`${ways.join(" and ")}: give one of them`);
  const user = given.get("--user") ?? process.env[USER_VARIABLE] ?? "";
  const password = await passwordGiven(given);
  if (password === undefined) {
    if (!given.has("--user")) return null;
    throw new UsageError(
      `--user needs a password: --askpass, --pass-file, or ${PASSWORD_VARIABLE}`,
    );
  }
  if (/[\s\p{Cc}]/u.test(user)) throw new UsageError("--user: a name holds no white space");
  return { user: user === "" ? DEFAULT_USER : user, password };
}

async function passwordGiven(given: Arguments): Promise<string | undefined> {
  const typed = given.get("--pass");
  if (typed !== undefined) {
    const better = `--askpass, --pass-file or ${PASSWORD_VARIABLE}`;
    console.error(`merklekv: others can see a password on the command line; better use ${better}`);
    return typed;
  }
  const path = given.get("--pass-file");
  if (path !== undefined) {
    return readPrivateFile(path, "the password (--pass-file)")
      .toString()
      .replace(/\r?\n$/, "");
  }
  if (given.has("--askpass")) return askForPassword();
  return process.env[PASSWORD_VARIABLE] || undefined;
}

/** A line from the terminal that nobody sees; without a terminal, a line of standard input. */
async function askForPassword(): Promise<string> {
  const { stdin, stderr } = process;
  stderr.write("Password: ");
  if (stdin.isTTY) stdin.setRawMode(true);
  let typed = "";
  try {
    for await (const chunk of stdin.iterator({ destroyOnReturn: false })) {
      for (const character of String(chunk)) {
        if (character === "\n" || character === "\r") return typed;
        if (character === "\x03" || character === "\x04") throw new OperationalError("no password");
        if (character === "\x7f" || character === "\b") typed = typed.slice(0, -1);
        else typed += character;
      }
    }
    return typed;
  } finally {
    if (stdin.isTTY) stdin.setRawMode(false);
    stderr.write("\n");
    stdin.pause();
  }
}

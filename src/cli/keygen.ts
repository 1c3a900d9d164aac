/** `merklekv keygen`: makes a secret. */
import { randomBytes } from "node:crypto";
import { open } from "node:fs/promises";
import { OperationalError } from "../operational-error.ts";
import { MIN_SECRET_BYTES, secretText } from "../security/keys.ts";
import type { Subcommand } from "./arguments.ts";

const OWNER_ONLY = 0o600;

/** The subcommand. A file that is there already is left as it is. */
export const keygen: Subcommand = {
  usage: "keygen [FILE]",
  about:
    "Makes a secret, for `cluster.secret_file` or another of the keys that name a file with one.\n" +
    "Prints it, or writes it to a new file that only its owner may read.",
  options: [],
  acceptsOperands: true,

  async run(given) {
    const [path, ...rest] = given.words;
    if (rest.length > 0)
      throw new OperationalError(`keygen makes one file, found "${rest[0]}" too`);
    const line = `${secretText(randomBytes(MIN_SECRET_BYTES))}\n`;
    if (path === undefined) process.stdout.write(line);
    else await writeNew(path, line);
    return 0;
  },
};

/** Whoever may read the file while it is written has the secret: its mode comes first. */
async function writeNew(path: string, line: string): Promise<void> {
  try {
    const file = await open(path, "wx", OWNER_ONLY);
    await file.write(line);
    await file.sync();
    await file.close();
  } catch (error) {
    const { code, message } = error as { code?: string; message: string };
    const why = code === "EEXIST" ? "it is there already; give another name" : message;
    throw new OperationalError(`cannot write a secret to "${path}": ${why}`);
  }
}

/** `merklekv unseal`: prints a file of sealed lines, which a node set entries aside in. */
import { createReadStream } from "node:fs";
import { explainError } from "../durability/file-system.ts";
import { unsealedLine } from "../durability/sealed-lines.ts";
import { OperationalError } from "../operational-error.ts";
import { UsageError, type Subcommand } from "./arguments.ts";
import { diskKeysOf, keyFile } from "./disk-keys.ts";

const LINE_END = 0x0a;

/** The subcommand. Exit code 0: all could be read; 1: some lines could not. */
export const unseal: Subcommand = {
  usage: "unseal --key-file FILE[,FILE…] FILE",
  about:
    "Prints a file of entries that were set aside by a node with storage.key_file, as it would be\n" +
    "without one. Lines that are not sealed are printed as they are.",
  options: [keyFile],
  acceptsOperands: true,

  async run(given) {
    const [path, ...rest] = given.words;
    if (path === undefined || rest.length > 0) throw new UsageError(`usage: ${unseal.usage}`);
    const keys = diskKeysOf(given);
    let position = 0;
    let wrong = 0;
    for await (const line of linesOf(path)) {
      const text = unsealedLine(line.toString(), position, path, keys);
      if (text !== null) process.stdout.write(`${text}\n`);
      else {
        wrong++;
        console.error(`merklekv: ${path}: the line at byte ${position} is not as it was written`);
      }
      position += line.length + 1;
    }
    return wrong === 0 ? 0 : 1;
  },
};

async function* linesOf(path: string): AsyncGenerator<Buffer> {
  let rest = Buffer.alloc(0);
  try {
    for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
      let bytes = Buffer.concat([rest, chunk]);
      for (let end: number; (end = bytes.indexOf(LINE_END)) >= 0;) {
        yield bytes.subarray(0, end);
        bytes = bytes.subarray(end + 1);
      }
      rest = bytes;
    }
  } catch (error) {
    if (error instanceof OperationalError) throw error;
    throw new OperationalError(`cannot read ${path}: ${explainError(error)}`);
  }
  if (rest.length > 0) yield rest;
}

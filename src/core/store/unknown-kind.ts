/** What is thrown when the value of a key is of a kind that only later versions know. */
import type { Entry } from "../data/entry.ts";

/** See the file header. The message is for the client who asked. */
export class UnknownKind extends Error {
  constructor({ value, valueOffset }: Entry) {
    super(
      `the key holds a value of kind ${value[valueOffset]}, which this version of the program ` +
        "does not know; ask a node that does, or upgrade this one",
    );
  }
}

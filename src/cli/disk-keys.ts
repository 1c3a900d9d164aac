/** The keys of sealed files, as tools that read them are given them. */
import { loadDiskKeys, type DiskKeys } from "../durability/sealing.ts";
import { realWorld } from "../world.ts";
import type { Arguments, Option } from "./arguments.ts";

/** The option of every such tool. */
export const keyFile: Option = {
  long: "--key-file",
  value: "FILE[,FILE…]",
  about: "Keys of sealed files (storage.key_file). What is written is sealed with the first.",
};

/** The keys in the files that were named. Throws an OperationalError when one cannot be read. */
export function diskKeysOf(given: Arguments): DiskKeys {
  const [current = "", ...previous] = (given.get(keyFile.long) ?? "").split(",");
  const files = { key_file: current, previous_key_files: previous };
  return loadDiskKeys(files, (count) => realWorld.randomWords(count));
}

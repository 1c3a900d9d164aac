/** All commands, found by name whatever its case, without making a string of it. */
import { Permissions } from "../access/permission.ts";
import type { Command, CommandLookup, Row } from "./command.ts";
import { FAMILY_NAMES } from "./statistics.ts";

/** The table: open addressing over the names, with twice as many slots as names at least. */
export class CommandTable implements CommandLookup {
  /** Every command once. */
  readonly commands: readonly Command[];
  /** What users can be permitted of them. */
  readonly permissions: Permissions;
  private readonly slots: (Row | undefined)[];

  constructor(commands: readonly Command[]) {
    this.commands = commands;
    this.permissions = new Permissions(commands);
    this.slots = new Array<Row | undefined>(SLOTS).fill(undefined);
    for (const each of commands) {
      for (const name of each.names) this.insert(name, each);
    }
  }

  /** The command with the name in these bytes, or undefined. */
  find(bytes: Uint8Array, start: number, length: number): Command | undefined {
    return this.row(bytes, start, length)?.command;
  }

  /** The same with the number of its family in FAMILY_NAMES. */
  row(bytes: Uint8Array, start: number, length: number): Row | undefined {
    if (length > LONGEST_NAME) return undefined;
    let slot = hashName(bytes, start, length);
    for (;;) {
      const row = this.slots[slot];
      if (row === undefined) return undefined;
      if (isName(row.name, bytes, start, length)) return row;
      slot = (slot + 1) & (SLOTS - 1);
    }
  }

  private insert(name: string, each: Command): void {
    const bytes = new TextEncoder().encode(name);
    let slot = hashName(bytes, 0, bytes.length);
    while (this.slots[slot] !== undefined) slot = (slot + 1) & (SLOTS - 1);
    const permission = this.permissions.find(name)!;
    const family = FAMILY_NAMES.indexOf(each.family);
    this.slots[slot] = {
      name: bytes,
      text: name,
      command: each,
      family,
      permission,
    };
  }
}

const SLOTS = 512;
/** Whatever is longer is no command, and not worth hashing. */
const LONGEST_NAME = 64;

/** Clears the case bit, which is all that is needed to tell the names in the table apart. */
function hashName(bytes: Uint8Array, start: number, length: number): number {
  let hash = length;
  for (let i = 0; i < length; i++) hash = (Math.imul(hash, 31) + (bytes[start + i] & 0x5f)) | 0;
  return (hash ^ (hash >>> 9)) & (SLOTS - 1);
}

function isName(name: Uint8Array, bytes: Uint8Array, start: number, length: number): boolean {
  if (name.length !== length) return false;
  for (let i = 0; i < length; i++) {
    let byte = bytes[start + i];
    if (byte >= 0x61 && byte <= 0x7a) byte -= 32;
    if (byte !== name[i]) return false;
  }
  return true;
}

/** All commands, found by name whatever its case, without making a string of it. */
import { SHAPE_WORDS } from "../protocol/line-parser.ts";
import type { Reply } from "../protocol/reply.ts";
import { backupCommands } from "./backup.ts";
import { bulkCommands } from "./bulk.ts";
import { FAMILIES, command, type Command, type Run } from "./command.ts";
import { connectionCommands } from "./connection.ts";
import { expiryCommands } from "./expiry.ts";
import { hashCommands } from "./hash.ts";
import { keyspaceCommands } from "./keyspace.ts";
import { numberCommands } from "./numbers.ts";
import { replicationCommands } from "./replication.ts";
import { serverCommands } from "./server.ts";
import { stringCommands } from "./strings.ts";
import { synchronizationCommands } from "./synchronization.ts";

/** `COMMAND`: the table itself, as clients ask for it. */
const commandCommand: Run = (request, reply) => {
  const all = commandTable.commands;
  if (!reply.isResp) {
    reply.simple(all.map((each) => each.names[0]).join(" "));
  } else if (request.count === 0) {
    reply.array(all.length);
    for (const each of all) describe(each, reply);
  } else if (request.is(0, "COUNT")) {
    reply.count(all.length, "");
  } else if (request.is(0, "LIST")) {
    reply.array(all.length);
    for (const each of all) reply.bulkText(each.names[0]!.toLowerCase());
  } else if (request.is(0, "INFO")) {
    reply.array(request.count - 1);
    for (let i = 1; i < request.count; i++) {
      const found = commandTable.find(request.bytes, request.start(i), request.length(i));
      if (found === undefined) reply.missing();
      else describe(found, reply);
    }
  } else {
    // DOCS: there are none here, which clients take well.
    reply.map(0);
  }
};

function describe(each: Command, reply: Reply): void {
  const least = each.respLeast ?? each.least;
  const most = each.respMost ?? each.most;
  const [first, last, step] = each.keys ?? [0, 0, 0];
  reply.array(6);
  reply.bulkText(each.names[0]!.toLowerCase());
  // Arity counts the name; negative means "at least".
  reply.raw(`:${least === most ? least + 1 : -(least + 1)}\r\n`);
  reply.array(1);
  reply.simple(each.isWrite ? "write" : "readonly");
  for (const number of [first, last, step]) reply.raw(`:${number}\r\n`);
}

/** Open addressing over the names; twice as many slots as names at least. */
class CommandTable {
  /** Every command once. */
  readonly commands: readonly Command[];
  private readonly slots: (Row | undefined)[];

  constructor(commands: readonly Command[]) {
    this.commands = commands;
    this.slots = new Array<Row | undefined>(SLOTS).fill(undefined);
    for (const each of commands) {
      for (const name of each.names) this.insert(name, each);
    }
  }

  /** The command with the name in these bytes, or undefined. */
  find(bytes: Uint8Array, start: number, length: number): Command | undefined {
    return this.row(bytes, start, length)?.command;
  }

  /** The same with the number of its family in FAMILIES. */
  row(bytes: Uint8Array, start: number, length: number): Row | undefined {
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
    this.slots[slot] = { name: bytes, command: each, family: FAMILIES.indexOf(each.family) };
  }
}

/** A name in the table. */
export interface Row {
  readonly name: Uint8Array;
  readonly command: Command;
  /** Number of the command's family in FAMILIES. */
  readonly family: number;
}

const SLOTS = 512;

/** Clears the case bit, which is all that is needed to tell the names in the table apart. */
function hashName(bytes: Uint8Array, start: number, length: number): number {
  let hash = length;
  for (let i = 0; i < length; i++) hash = (Math.imul(hash, 31) + (bytes[start + i]! & 0x5f)) | 0;
  return (hash ^ (hash >>> 9)) & (SLOTS - 1);
}

function isName(name: Uint8Array, bytes: Uint8Array, start: number, length: number): boolean {
  if (name.length !== length) return false;
  for (let i = 0; i < length; i++) {
    let byte = bytes[start + i]!;
    if (byte >= 0x61 && byte <= 0x7a) byte -= 32;
    if (byte !== name[i]) return false;
  }
  return true;
}

/** Every command there is. */
export const commandTable = new CommandTable([
  ...stringCommands,
  ...numberCommands,
  ...bulkCommands,
  ...keyspaceCommands,
  ...hashCommands,
  ...expiryCommands,
  ...connectionCommands,
  ...serverCommands,
  ...backupCommands,
  ...replicationCommands,
  ...synchronizationCommands,
  command("COMMAND", "management", SHAPE_WORDS, 0, -1, commandCommand),
]);

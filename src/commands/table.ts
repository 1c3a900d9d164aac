/** All commands, found by name whatever its case, without making a string of it. */
import { SHAPE_WORDS } from "../protocol/line-parser.ts";
import type { Reply } from "../protocol/reply.ts";
import type { Request } from "../protocol/request.ts";
import { backupCommands } from "./backup.ts";
import { bulkCommands } from "./bulk.ts";
import { command, unknownSubcommand, type Command, type Context, type Run } from "./command.ts";
import { connectionCommands } from "./connection.ts";
import { expiryCommands } from "./expiry.ts";
import { hashCommands } from "./hash.ts";
import { keyspaceCommands } from "./keyspace.ts";
import { scanCommands } from "./scan.ts";
import { numberCommands } from "./numbers.ts";
import { ListReply } from "./list-reply.ts";
import { replicationCommands } from "./replication.ts";
import { serverCommands } from "./server.ts";
import { FAMILY_NAMES } from "./statistics.ts";
import { stringCommands } from "./strings.ts";
import { answerInSlices } from "./slices.ts";
import { synchronizationCommands } from "./synchronization.ts";

/** `COMMAND`: the table itself, as clients ask for it. */
const commandCommand: Run = (request, reply, context): ReturnType<Run> => {
  const all = commandTable.commands;
  if (!reply.isResp) {
    reply.simple(all.map((each) => each.names[0]).join(" "));
  } else if (request.count === 0 || (request.count === 1 && request.is(0, "INFO"))) {
    reply.array(all.length);
    for (const each of all) describe(each, reply);
  } else if (request.is(0, "COUNT") && request.count === 1) {
    reply.count(all.length, "");
  } else if (request.is(0, "LIST")) {
    reply.array(all.length);
    for (const each of all) reply.bulkText(each.names[0].toLowerCase());
  } else if (request.is(0, "INFO")) {
    return describeMany(request, reply, context);
  } else if (request.is(0, "DOCS")) {
    // There are none here, which clients take well.
    reply.map(0);
  } else {
    const known = "COMMAND COUNT, LIST, INFO and DOCS are what there is";
    unknownSubcommand(request, reply, known);
  }
};

/** `COMMAND INFO name …`: as many as are asked for, however often. */
function describeMany(given: Request, reply: Reply, context: Context): ReturnType<Run> {
  const request = given.detach();
  const described = new ListReply(
    reply.dialect,
    context.services.limits.maxReplyBytes,
    context.session,
  );
  const step = (): boolean => {
    for (let i = 0; i < NAMES_A_STEP; i++) {
      const next = described.count + 1;
      if (next >= request.count) return true;
      const { bytes } = request;
      const found = commandTable.find(bytes, request.start(next), request.length(next));
      if (found === undefined) described.part.missing();
      else describe(found, described.part);
      if (!described.add()) return true;
    }
    return false;
  };
  const write = described.after((late) => {
    if (!described.isFull) return late.array(described.count);
    described.drop();
    late.error("Value too large", "the reply exceeds network.max_output_bytes; ask for fewer");
  });
  return answerInSlices(step, write, reply, context);
}

/** Names that COMMAND INFO looks up in a step. */
const NAMES_A_STEP = 32;

function describe(each: Command, reply: Reply): void {
  const least = each.respLeast ?? each.least;
  const most = each.respMost ?? each.most;
  const [first, last, step] = each.keys ?? [0, 0, 0];
  reply.array(6);
  reply.bulkText(each.names[0].toLowerCase());
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
    this.slots[slot] = { name: bytes, command: each, family: FAMILY_NAMES.indexOf(each.family) };
  }
}

/** A name in the table. */
export interface Row {
  readonly name: Uint8Array;
  readonly command: Command;
  /** Number of the command's family in FAMILY_NAMES. */
  readonly family: number;
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

/** Every command there is. */
export const commandTable = new CommandTable([
  ...stringCommands,
  ...numberCommands,
  ...bulkCommands,
  ...keyspaceCommands,
  ...scanCommands,
  ...hashCommands,
  ...expiryCommands,
  ...connectionCommands,
  ...serverCommands,
  ...backupCommands,
  ...replicationCommands,
  ...synchronizationCommands,
  command("COMMAND", "management", SHAPE_WORDS, 0, -1, commandCommand),
]);

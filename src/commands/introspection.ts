/** `COMMAND`: the table of commands, as clients ask for it. */
import { READ, WRITE } from "../access/permission.ts";
import { Glob } from "../core/glob.ts";
import type { Reply } from "../protocol/reply.ts";
import type { Request } from "../protocol/request.ts";
import { SHAPE_WORDS } from "../protocol/line-parser.ts";
import { requestWithin, takesSoMany } from "./acl-dry-run.ts";
import {
  command,
  unknownSubcommand,
  type Command,
  type Context,
  type Row,
  type Run,
} from "./command.ts";
import { ListReply } from "./list-reply.ts";
import { accessOf } from "./rights.ts";
import { answerInSlices } from "./slices.ts";

/** `COMMAND`: the table itself, as clients ask for it. */
const commandCommand: Run = (request, reply, context): ReturnType<Run> => {
  const all = context.commands.commands;
  if (!reply.isResp) {
    reply.simple(all.map((each) => each.names[0]).join(" "));
  } else if (request.count === 0 || (request.count === 1 && request.is(0, "INFO"))) {
    reply.array(all.length);
    for (const each of all) describe(each, reply);
  } else if (request.is(0, "COUNT") && request.count === 1) {
    reply.count(all.length, "");
  } else if (request.is(0, "LIST")) {
    listNames(request, reply, context);
  } else if (request.is(0, "GETKEYS") && request.count >= 2) {
    return listKeys(request, reply, context, false);
  } else if (request.is(0, "GETKEYSANDFLAGS") && request.count >= 2) {
    return listKeys(request, reply, context, true);
  } else if (request.is(0, "INFO")) {
    return describeMany(request, reply, context);
  } else if (request.is(0, "DOCS")) {
    // There are none here, which clients take well.
    reply.map(0);
  } else {
    const known = "COMMAND COUNT, LIST, INFO, DOCS, GETKEYS and GETKEYSANDFLAGS are what there is";
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
      const found = context.commands.row(bytes, request.start(next), request.length(next));
      if (found === undefined) described.part.missing();
      else describe(found.command, described.part);
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
  reply.array(7);
  reply.bulkText(each.names[0].toLowerCase());
  // Arity counts the name; negative means "at least".
  reply.raw(`:${least === most ? least + 1 : -(least + 1)}\r\n`);
  const categories = each.categories.split(" ");
  const flags = [
    each.isWrite ? "write" : "readonly",
    ...["admin", "fast"].filter((it) => categories.includes(it)),
    ...(each.isFree === undefined ? [] : ["no_auth"]),
  ];
  reply.array(flags.length);
  for (const flag of flags) reply.simple(flag);
  for (const number of [first, last, step]) reply.raw(`:${number}\r\n`);
  reply.array(categories.length);
  for (const category of categories) reply.simple(`@${category}`);
}

/** `COMMAND LIST [FILTERBY ACLCAT category | PATTERN pattern]`. */
function listNames(request: Request, reply: Reply, { commands, services }: Context): void {
  const all = commands.commands.map(({ names }) => names[0].toLowerCase());
  let shown: readonly string[] = all;
  if (request.count > 1) {
    if (request.count !== 4 || !request.is(1, "FILTERBY")) return reply.respError(SYNTAX);
    if (request.is(2, "ACLCAT")) {
      const those = services.users.permissions.inCategory(request.text(3)) ?? [];
      shown = those.map(({ name }) => name);
    } else if (request.is(2, "PATTERN")) {
      const glob = new Glob(new TextEncoder().encode(request.text(3).toLowerCase()));
      shown = all.filter((name) => glob.matches(Buffer.from(name), 0, name.length));
    } else return reply.respError(SYNTAX);
  }
  reply.array(shown.length);
  for (const name of shown) reply.bulkText(name);
}

const SYNTAX = "ERR syntax error";

/** `COMMAND GETKEYS command …`: which of its arguments are keys, and what is done to them. */
function listKeys(
  given: Request,
  reply: Reply,
  context: Context,
  withAccess: boolean,
): ReturnType<Run> {
  const request = requestWithin(given.detach(), 1);
  const { bytes } = request;
  const row = context.commands.row(bytes, request.start(-1), request.length(-1));
  if (row === undefined) return reply.respError("ERR Invalid command specified");
  const { keys } = row.command;
  if (keys === undefined) return reply.respError("ERR The command has no key arguments");
  if (!takesSoMany(row.command, request)) {
    return reply.respError("ERR Invalid number of arguments specified for command");
  }
  const { services, session } = context;
  const list = new ListReply(reply.dialect, services.limits.maxReplyBytes, session);
  const [first, last, step] = keys;
  const end = last < 0 ? request.count : last;
  let next = first - 1;
  const work = (): boolean => {
    for (let i = 0; i < NAMES_A_STEP && next < end; i++, next += step) {
      if (withAccess) describeAccess(row, request, next, list.part);
      else list.part.bulk(bytes, request.start(next), request.length(next));
      if (!list.add()) return true;
    }
    return next >= end;
  };
  const write = list.after((late) => {
    if (!list.isFull) return late.array(list.count);
    list.drop();
    late.error("Value too large", "the reply exceeds network.max_output_bytes; ask for fewer");
  });
  return answerInSlices(work, write, reply, context);
}

function describeAccess({ command }: Row, request: Request, i: number, reply: Reply): void {
  const access = accessOf(command, request, i);
  const flags = [
    command.isWrite ? (access === WRITE ? "OW" : "RW") : "RO",
    ...((access & READ) === 0 ? [] : ["access"]),
    ...((access & WRITE) === 0 ? [] : ["update"]),
  ];
  reply.array(2);
  reply.bulk(request.bytes, request.start(i), request.length(i));
  reply.array(flags.length);
  for (const flag of flags) reply.simple(flag);
}

/** Commands on commands. */
export const introspectionCommands: readonly Command[] = [
  command("COMMAND", "management", "connection slow", SHAPE_WORDS, 0, -1, commandCommand, {
    subcommands: {
      COUNT: "connection slow",
      DOCS: "connection slow",
      INFO: "connection slow",
      LIST: "connection slow",
      GETKEYS: "connection slow",
      GETKEYSANDFLAGS: "connection slow",
    },
  }),
];

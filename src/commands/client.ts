/** `CLIENT`: what clients say and ask of themselves, and what is asked and done about others. */
import { SHAPE_WORDS } from "../protocol/line-parser.ts";
import { TAGGED, type Reply } from "../protocol/reply.ts";
import type { Request } from "../protocol/request.ts";
import { TRACEPARENT_FORM } from "../trace-context.ts";
import {
  command,
  shown,
  unknownSubcommand,
  type Command,
  type Context,
  type Run,
} from "./command.ts";
import { readInteger } from "./expiry-options.ts";
import { ListReply } from "./list-reply.ts";
import { answerInSlices } from "./slices.ts";
import { contextIn, wantedTrace } from "./trace-prefix.ts";

/** Clients that CLIENT LIST describes in a step. */
const CLIENTS_A_STEP = 16;
/** The longest name that a client may give itself, or its library. */
const MOST_NAME_BYTES = 256;

/** Takes argument `i` as a name. Answers the error if it is none. */
export function setName(
  request: Request,
  i: number,
  reply: Reply,
  set: (name: string) => void,
): boolean {
  if (request.length(i) > MOST_NAME_BYTES) {
    reply.error("Invalid command", `a name is at most ${MOST_NAME_BYTES} bytes long`);
    return false;
  }
  const name = request.text(i);
  if (!/^[!-~]*$/.test(name)) {
    if (!reply.isResp) {
      reply.error("Invalid command", "names hold printable characters without spaces");
    } else {
      reply.respError("ERR Client names cannot contain spaces, newlines or special characters.");
    }
    return false;
  }
  set(name);
  return true;
}

/** A line for each client: with thousands of them that takes a while. */
function listClients(reply: Reply, context: Context): ReturnType<Run> {
  const { services, session } = context;
  const clients = services.clientList()[Symbol.iterator]();
  const lines = new ListReply(reply.dialect, services.limits.maxReplyBytes, session);
  const { part } = lines;
  const addLine = (text: string): boolean => {
    if (part.isResp) part.text(`${text}\n`);
    else part.line(text);
    return lines.add();
  };
  const step = (): boolean => {
    for (let i = 0; i < CLIENTS_A_STEP; i++) {
      const { done, value } = clients.next();
      if (done) return true;
      if (!addLine(value)) return true;
    }
    return false;
  };
  const write = lines.after((late) => {
    if (lines.isFull) {
      lines.drop();
      return late.error("Value too large", "the list exceeds network.max_output_bytes");
    }
    if (late.isResp) {
      late.bulkHeader(lines.bytes);
      part.raw("\r\n");
    } else {
      if (late.dialect === TAGGED) late.line("CLIENT LIST");
      part.line(late.dialect === TAGGED ? "END" : "");
    }
  });
  return answerInSlices(step, write, reply, context);
}

/** Tells a client its own name. */
const getName: Run = (_request, reply, { session }) => {
  const name = new TextEncoder().encode(session.name);
  if (name.length === 0) reply.missing();
  else reply.value(name, 0, name.length);
};

const describeItself: Run = (_request, reply, { session, runQueue }) => {
  const line = session.describe(runQueue.timing.nowMs(), 0);
  if (reply.isResp) reply.bulkText(`${line}\n`);
  else reply.line(line);
};

const nameItself: Run = (request, reply, { session }) => {
  if (setName(request, 1, reply, (name) => (session.name = name))) reply.ok();
};

/** Of what a library says of itself only its name is kept. */
const nameLibrary: Run = (request, reply, { session }) => {
  const isName = request.is(1, "LIB-NAME");
  if (isName && !setName(request, 2, reply, (name) => (session.library = name))) return;
  reply.ok();
};

/** Says which replies are wanted from now on. Only ON is answered itself. */
const wantReplies: Run = (request, reply, { session }) => {
  if (request.count !== 2) {
    return reply.respError("ERR wrong number of arguments for 'client|reply' command");
  }
  if (request.is(1, "ON")) {
    session.wantedReplies = "all";
    return reply.ok();
  }
  if (request.is(1, "OFF")) session.wantedReplies = "none";
  else if (!request.is(1, "SKIP")) return reply.respError("ERR syntax error");
  else if (session.wantedReplies !== "none") session.wantedReplies = "all but the next";
};

/** What the client says from now on belongs to that trace, or to none. */
const trace: Run = (request, reply, { session }) => {
  const isOff = request.is(1, "OFF");
  const given = isOff ? null : contextIn(request, 1);
  if (given === null && !isOff) {
    const use = `CLIENT TRACE takes a traceparent, ${TRACEPARENT_FORM}, or OFF`;
    return reply.isResp ? reply.respError(`ERR ${use}`) : reply.error("Invalid command", use);
  }
  session.trace = given === null ? null : wantedTrace(given, session);
  reply.ok();
};

/** Nothing is ever evicted here, and no key knows when it was read. */
const nothingToSwitch: Run = (request, reply) => {
  if (request.is(1, "ON") || request.is(1, "OFF")) reply.ok();
  else reply.respError("ERR syntax error");
};

/** The old form: an address. */
const killAt: Run = (request, reply, { services }) => {
  if (services.killClients(request.text(1)) > 0) reply.ok();
  else reply.respError("ERR No such client");
};

/** The new form: filters, of which ID, ADDR and USER are known. */
const killBy: Run = (request, reply, { services }) => {
  if (request.is(1, "USER")) {
    const user = services.users.find(request.text(2));
    if (user === undefined) return reply.respError(`ERR No such user '${shown(request, 2)}'`);
    return reply.count(services.killUser(user), "VALUE ");
  }
  const isId = request.is(1, "ID");
  if (!isId && !request.is(1, "ADDR")) return reply.respError("ERR syntax error");
  if (isId && !((readInteger(request, 2) ?? 0) > 0)) {
    return reply.respError("ERR client-id should be greater than 0");
  }
  reply.count(services.killClients(request.text(2)), "VALUE ");
};

const ABOUT_ITSELF = "connection slow";
const ABOUT_OTHERS = "admin connection slow dangerous";

/**
 * A subcommand, how many words it takes after its name (null: it says so itself), its categories,
 * and what it does.
 */
type Subcommand = readonly [name: string, words: number | null, categories: string, run: Run];

const subcommands: readonly Subcommand[] = [
  ["LIST", 0, ABOUT_OTHERS, (_request, reply, context) => listClients(reply, context)],
  ["KILL", 1, ABOUT_OTHERS, killAt],
  ["KILL", 2, ABOUT_OTHERS, killBy],
  ["ID", 0, ABOUT_ITSELF, (_request, reply, { session }) => reply.count(session.id, "VALUE ")],
  ["INFO", 0, ABOUT_ITSELF, describeItself],
  ["GETNAME", 0, ABOUT_ITSELF, getName],
  ["SETNAME", 1, ABOUT_ITSELF, nameItself],
  ["SETINFO", 2, ABOUT_ITSELF, nameLibrary],
  ["REPLY", null, ABOUT_ITSELF, wantReplies],
  ["TRACE", 1, ABOUT_ITSELF, trace],
  ["NO-EVICT", 1, ABOUT_OTHERS, nothingToSwitch],
  ["NO-TOUCH", 1, ABOUT_ITSELF, nothingToSwitch],
];

const client: Run = (request, reply, context) => {
  for (const [name, words, , run] of subcommands) {
    const isIt = (words === null || words === request.count - 1) && request.is(0, name);
    if (isIt) return run(request, reply, context);
  }
  const known =
    "CLIENT LIST, ID, GETNAME, INFO, SETNAME name, REPLY, TRACE and KILL are what there is";
  unknownSubcommand(request, reply, known);
};

/** The command. */
export const clientCommand: Command = command(
  "CLIENT",
  "management",
  ABOUT_OTHERS,
  SHAPE_WORDS,
  1,
  -1,
  client,
  {
    subcommands: Object.fromEntries(
      subcommands.map(([name, , categories]) => [name, categories] as const),
    ),
  },
);

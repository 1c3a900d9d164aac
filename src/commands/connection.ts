/** Commands on the connection itself. */
import { SHAPE_VALUE, SHAPE_WORDS } from "../protocol/line-parser.ts";
import { PLAIN, TAGGED, type Reply } from "../protocol/reply.ts";
import type { Request } from "../protocol/request.ts";
import { TRACEPARENT_FORM } from "../trace-context.ts";
import type { ClientSession } from "./client-session.ts";
import {
  FREE,
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

const ping: Run = (request, reply) => {
  if (request.count === 0) return reply.simple("PONG");
  if (reply.isResp) return reply.bulk(request.bytes, request.start(0), request.length(0));
  reply.raw("PONG ");
  reply.value(request.bytes, request.start(0), request.length(0), "");
};

const echo: Run = (request, reply) => {
  reply.value(request.bytes, request.start(0), request.length(0), "ECHO ");
};

const quit: Run = (_request, reply, context) => {
  context.session.isClosing = true;
  reply.ok();
};

const select: Run = (request, reply, { session }) => {
  if (readInteger(request, 0) === 0) return reply.ok();
  // What follows is meant for another database, and must not reach this one.
  session.isClosing = true;
  reply.error("Invalid command", "there is one database, number 0; closing the connection");
};

const dialect: Run = (request, reply, context) => {
  if (request.is(0, "PLAIN")) context.session.lineDialect = PLAIN;
  else if (request.is(0, "TAGGED")) context.session.lineDialect = TAGGED;
  else return reply.error("Invalid command", "DIALECT plain or DIALECT tagged");
  if (!request.isResp) reply.dialect = context.session.lineDialect;
  reply.ok();
};

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

/** Clients that CLIENT LIST describes in a step. */
const CLIENTS_A_STEP = 16;
/** The longest name that a client may give itself, or its library. */
const MOST_NAME_BYTES = 256;

/** Only ON is answered itself. */
function setReplies(request: Request, reply: Reply, session: ClientSession): void {
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
}

const client: Run = (request, reply, context): ReturnType<Run> => {
  const { session, services } = context;
  const words = request.count - 1;
  if (request.is(0, "LIST") && words === 0) return listClients(reply, context);
  if (request.is(0, "ID") && words === 0) return reply.count(session.id, "VALUE ");
  if (request.is(0, "GETNAME") && words === 0) {
    const name = new TextEncoder().encode(session.name);
    return name.length === 0 ? reply.missing() : reply.value(name, 0, name.length);
  }
  if (request.is(0, "INFO") && words === 0) {
    const line = session.describe(context.runQueue.timing.nowMs(), 0);
    return reply.isResp ? reply.bulkText(`${line}\n`) : reply.line(line);
  }
  if (request.is(0, "SETNAME") && words === 1) {
    if (setName(request, 1, reply, (name) => (session.name = name))) reply.ok();
    return;
  }
  if (request.is(0, "SETINFO") && words === 2) {
    if (request.is(1, "LIB-NAME") && !setName(request, 2, reply, (n) => (session.library = n)))
      return;
    return reply.ok();
  }
  if (request.is(0, "TRACE") && words === 1) {
    const isOff = request.is(1, "OFF");
    const trace = isOff ? null : contextIn(request, 1);
    if (trace === null && !isOff) {
      const use = `CLIENT TRACE takes a traceparent, ${TRACEPARENT_FORM}, or OFF`;
      return reply.isResp ? reply.respError(`ERR ${use}`) : reply.error("Invalid command", use);
    }
    session.trace = trace === null ? null : wantedTrace(trace, session);
    return reply.ok();
  }
  if (request.is(0, "REPLY")) return setReplies(request, reply, session);
  if ((request.is(0, "NO-EVICT") || request.is(0, "NO-TOUCH")) && words === 1) {
    if (request.is(1, "ON") || request.is(1, "OFF")) return reply.ok();
    return reply.respError("ERR syntax error");
  }
  // Old form: an address. New form: filters, of which ID, ADDR and USER are known.
  if (request.is(0, "KILL") && words === 1) {
    if (services.killClients(request.text(1)) > 0) return reply.ok();
    return reply.respError("ERR No such client");
  }
  if (request.is(0, "KILL") && words === 2) {
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
    return reply.count(services.killClients(request.text(2)), "VALUE ");
  }
  const known =
    "CLIENT LIST, ID, GETNAME, INFO, SETNAME name, REPLY, TRACE and KILL are what there is";
  unknownSubcommand(request, reply, known);
};

const ABOUT_ITSELF = "connection slow";
const ABOUT_OTHERS = "admin connection slow dangerous";
const CLIENT_SUBCOMMANDS = {
  LIST: ABOUT_OTHERS,
  KILL: ABOUT_OTHERS,
  ID: ABOUT_ITSELF,
  INFO: ABOUT_ITSELF,
  GETNAME: ABOUT_ITSELF,
  SETNAME: ABOUT_ITSELF,
  SETINFO: ABOUT_ITSELF,
  REPLY: ABOUT_ITSELF,
  TRACE: ABOUT_ITSELF,
  "NO-EVICT": ABOUT_OTHERS,
  "NO-TOUCH": ABOUT_ITSELF,
} as const;

/** Commands on the connection itself. */
export const connectionCommands: readonly Command[] = [
  command("PING", "ping", "connection fast", SHAPE_VALUE, 0, 1, ping),
  command("ECHO", "echo", "connection fast", SHAPE_VALUE, 1, 1, echo),
  command("QUIT EXIT", "management", "connection fast", SHAPE_WORDS, 0, 0, quit, FREE),
  command("SELECT", "management", "connection fast", SHAPE_WORDS, 1, 1, select),
  command("DIALECT", "management", "connection fast", SHAPE_WORDS, 1, 1, dialect, FREE),
  command("CLIENT", "management", "admin connection slow dangerous", SHAPE_WORDS, 1, -1, client, {
    subcommands: CLIENT_SUBCOMMANDS,
  }),
];

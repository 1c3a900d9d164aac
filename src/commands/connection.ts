/** Commands on the connection itself. */
import { SHAPE_VALUE, SHAPE_WORDS } from "../protocol/line-parser.ts";
import { PLAIN, TAGGED } from "../protocol/reply.ts";
import { clientCommand } from "./client.ts";
import { FREE, command, type Command, type Run } from "./command.ts";
import { readInteger } from "./expiry-options.ts";

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

/** Commands on the connection itself. */
export const connectionCommands: readonly Command[] = [
  command("PING", "ping", "connection fast", SHAPE_VALUE, 0, 1, ping),
  command("ECHO", "echo", "connection fast", SHAPE_VALUE, 1, 1, echo),
  command("QUIT EXIT", "management", "connection fast", SHAPE_WORDS, 0, 0, quit, FREE),
  command("SELECT", "management", "connection fast", SHAPE_WORDS, 1, 1, select),
  command("DIALECT", "management", "connection fast", SHAPE_WORDS, 1, 1, dialect, FREE),
  clientCommand,
];

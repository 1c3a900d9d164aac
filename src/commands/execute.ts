/** From a parsed request to a reply: find the command, check its arguments, count it, run it. */
import { parseArguments, parseName } from "../protocol/line-parser.ts";
import { PLAIN, ReplyTooLarge, type Reply } from "../protocol/reply.ts";
import type { Request } from "../protocol/request.ts";
import { UnknownKind } from "../core/store/unknown-kind.ts";
import { isoTimeOf } from "../timing.ts";
import type { TraceContext } from "../trace-context.ts";
import type { ClientSession } from "./client-session.ts";
import {
  answerClock,
  answerFailure,
  shown,
  type Command,
  type Context,
  type ReplyContinuation,
  type Row,
} from "./command.ts";
import type { LateRequest } from "./command-watch.ts";
import { isDenied } from "./rights.ts";
import { contextIn, isTracePrefix, TRACE_USE, wantedTrace } from "./trace-prefix.ts";

/** What running a request comes to: the reply is written, or will be later. */
export type Execution = void | Promise<ReplyContinuation>;

/** Runs a RESP request. The reply's dialect is the session's. */
export function executeArray(request: Request, reply: Reply, context: Context): Execution {
  reply.dialect = context.session.respDialect;
  const row = context.commands.row(request.bytes, request.start(-1), request.length(-1));
  if (row === undefined) {
    if (isTracePrefix(request)) return executeTracedArray(request, reply, context);
    return reply.respError(`ERR ${unknown(request, context)}`);
  }
  const { command } = row;
  const least = command.respLeast ?? command.least;
  const most = command.respMost ?? command.most;
  if (request.count < least || (most >= 0 && request.count > most)) {
    const name = request.text(-1).toLowerCase();
    return reply.respError(`ERR wrong number of arguments for '${name}' command`);
  }
  return run(row, request, reply, context);
}

/** Runs the line `start` to `end` of `bytes`, its terminator not included. */
export function executeLine(
  request: Request,
  bytes: Uint8Array,
  start: number,
  end: number,
  reply: Reply,
  context: Context,
): Execution {
  reply.dialect = context.session.lineDialect;
  const isPlain = reply.dialect === PLAIN;
  const at = parseName(request, bytes, start, end, isPlain);
  if (at < 0) return reply.error("Invalid command");
  const row = context.commands.row(bytes, request.start(-1), request.length(-1));
  if (row === undefined) {
    if (isTracePrefix(request)) return executeTracedLine(request, at, end, reply, context);
    return reply.error("Invalid command", unknown(request, context));
  }
  const { command } = row;
  parseArguments(request, command.shape, isPlain, at, end);
  if (request.count < command.least) {
    return reply.error("Missing arguments", `${command.names[0]} takes ${takes(row)}`);
  }
  if (command.most >= 0 && request.count > command.most) {
    return reply.error("Too many arguments", `${command.names[0]} takes ${takes(row)}`);
  }
  return run(row, request, reply, context);
}

/** The command of a RESP request behind TRACE and its argument. */
function executeTracedArray(request: Request, reply: Reply, context: Context): Execution {
  const trace = request.count >= 2 ? contextIn(request, 0) : null;
  // Another one behind it would be the next word of a request of a million.
  if (trace === null || request.is(1, "TRACE")) return reply.respError(`ERR ${TRACE_USE}`);
  request.drop(2);
  return asPartOf(trace, context.session, () => executeArray(request, reply, context));
}

/** The same of a line, where TRACE's arguments lie in `at` to `end`. */
function executeTracedLine(
  request: Request,
  at: number,
  end: number,
  reply: Reply,
  context: Context,
): Execution {
  const { bytes } = request;
  const isPlain = reply.dialect === PLAIN;
  request.reset();
  const next = parseName(request, bytes, at, end, isPlain);
  const trace = next < 0 ? null : contextIn(request, -1);
  request.reset();
  const isFollowed = trace !== null && parseName(request, bytes, next, end, isPlain) >= 0;
  if (!isFollowed || isTracePrefix(request)) return reply.error("Invalid command", TRACE_USE);
  request.reset();
  const execute = (): Execution => executeLine(request, bytes, next, end, reply, context);
  return asPartOf(trace, context.session, execute);
}

/** Runs one command of a client as a part of that trace. */
function asPartOf(
  trace: TraceContext,
  session: ClientSession,
  execute: () => Execution,
): Execution {
  const before = session.trace;
  const during = wantedTrace(trace, session);
  session.trace = during;
  try {
    return execute();
  } finally {
    // Unless the command was CLIENT TRACE.
    if (session.trace === during) session.trace = before;
  }
}

/**
 * Commands that change what those behind them mean; not being there, they must not be passed over.
 */
const TRANSACTIONS = new Set(["MULTI", "EXEC", "DISCARD", "WATCH", "UNWATCH"]);

function unknown(request: Request, { session, services }: Context): string {
  services.statistics.unknownCommands++;
  const name = shown(request, -1);
  if (!TRANSACTIONS.has(name.toUpperCase())) return `unknown command '${name}'`;
  session.isClosing = true;
  return `unknown command '${name}': there are no transactions; closing the connection`;
}

function run(row: Row, request: Request, reply: Reply, context: Context): Execution {
  if (context.services.tracing.isDue(context.session)) {
    return runTraced(row, request, reply, context);
  }
  return runCounted(row, request, reply, context);
}

/** Apart from `run`, which would keep all that it is given in memory for this closure. */
function runTraced(row: Row, request: Request, reply: Reply, context: Context): Execution {
  const execute = (): Execution => runCounted(row, request, reply, context);
  return context.services.tracing.run(row, reply, context, execute);
}

function runCounted(row: Row, request: Request, reply: Reply, context: Context): Execution {
  const { statistics } = context.services;
  const { errors } = reply;
  statistics.countCommand(row.family);
  const execution = runPermitted(row, request, reply, context);
  if (reply.errors !== errors) statistics.countError(row.family);
  return execution;
}

function runPermitted(row: Row, request: Request, reply: Reply, context: Context): Execution {
  const mustAsk = context.session.user.definition.passes[row.permission.id] === 0;
  if (mustAsk && isDenied(row, request, reply, context)) return;
  if (row.command.isWrite && isRefusedNow(row.command, request, reply, context)) return;
  const { watch } = context.services;
  const start = reply.length;
  const beganMs = watch.isDue(request) ? watch.begin(row, request, context) : NOT_WATCHED;
  let execution: Execution = undefined;
  try {
    execution = row.command.run(request, reply, context);
  } catch (error) {
    fail(error, reply, start, context);
  } finally {
    if (mustAsk) context.rights = null;
  }
  if (execution !== undefined) {
    return guarded(execution, watch.goOn(row, request, context, beganMs), context);
  }
  if (beganMs !== NOT_WATCHED) watch.end(row, request, context, beganMs);
}

const NOT_WATCHED = -1;

/** Whether no such write is taken now, whatever it is. Answers the error if so. */
function isRefusedNow(
  command: Command,
  request: Request,
  reply: Reply,
  { services, store }: Context,
): boolean {
  const { durability, time } = services;
  // Its time may just have been set back.
  store.clock.settle();
  if (durability.failure !== null) answerFailure(durability.failure, reply);
  else if (time.writeRefusal !== null) answerClock(reply, time.writeRefusal);
  else if (store.clock.isOutrun && time.hasPeers()) {
    return isDatedAhead(command, request, reply, { services, store });
  } else return false;
  return true;
}

const AGAIN = "try again in a few seconds, when a peer or time has told which is right";

/**
 * Whether the command writes over what was written while this node's clock was ahead: peers would
 * not take it either until its time has come. Answers the error if so.
 */
function isDatedAhead(
  { keys }: Command,
  request: Request,
  reply: Reply,
  { services, store }: Pick<Context, "services" | "store">,
): boolean {
  let untilMs = keys === undefined ? store.aheadUntilMs() : 0;
  const [first, last, step] = keys ?? [1, 0, 1];
  const end = last < 0 ? request.count : last;
  for (let i = first - 1; i < end && untilMs === 0; i += step) {
    untilMs = store.aheadUntilMs(request.bytes, request.start(i), request.length(i));
  }
  if (untilMs === 0) return false;
  const what = keys === undefined ? "some keys were" : "the key was";
  const detail = `${what} written while this node's clock was ahead; no peer takes that before`;
  const inDoubt = `${what} written later than it is now by this machine's clock; ${AGAIN}`;
  const isInDoubt = services.time.state === "doubtful";
  answerClock(reply, isInDoubt ? inDoubt : `${detail} ${isoTimeOf(untilMs)}`);
  return true;
}

/** A later reply that cannot fail: neither while it is awaited nor while it is written. */
async function guarded(
  execution: Promise<ReplyContinuation>,
  late: LateRequest,
  context: Context,
): Promise<ReplyContinuation> {
  const { watch, statistics } = context.services;
  const write = await execution.catch((error) => () => {
    throw error;
  });
  watch.endLate(late, context);
  return (reply) => {
    const { errors, length: start } = reply;
    try {
      return write(reply);
    } catch (error) {
      fail(error, reply, start, context);
    } finally {
      if (reply.errors !== errors) statistics.countError(late.family);
    }
  };
}

/** Puts an error in place of what a command has written from `start` on. */
function fail(error: unknown, reply: Reply, start: number, context: Context): void {
  reply.length = start;
  if (error instanceof ReplyTooLarge) {
    return reply.error("Value too large", "the reply exceeds network.max_output_bytes");
  }
  if (error instanceof UnknownKind) return reply.respError(`WRONGTYPE ${error.message}`);
  // A command that throws is a bug of ours. Its client is told; everybody else is served on.
  context.services.reportBug(error);
  reply.error("Internal error", "see the node's log");
}

function takes({ command }: Row): string {
  const { least, most } = command;
  if (most < 0) return `${least} or more`;
  return least === most ? `${least}` : `${least} to ${most}`;
}

/** Logging in: `AUTH`, and `HELLO`, which may do it on the way. */
import { DEFAULT_USER } from "../access/directory.ts";
import { MAX_PASSWORD_BYTES } from "../access/rules.ts";
import { SHAPE_PAIRS, SHAPE_WORDS } from "../protocol/line-parser.ts";
import { RESP2, RESP3, type Reply } from "../protocol/reply.ts";
import type { Request } from "../protocol/request.ts";
import type { ClientSession } from "./client-session.ts";
import {
  FREE,
  command,
  shown,
  type Command,
  type Context,
  type ReplyContinuation,
  type Run,
} from "./command.ts";
import { setName } from "./client.ts";
import { readInteger } from "./expiry-options.ts";
import type { Services } from "./services.ts";

/** HELLO takes at most this many words. */
const MOST_HELLO_WORDS = 16;

/** `AUTH password` or `AUTH user password`. */
const authenticate: Run = (request, reply, context) => {
  if (request.count > 2) return reply.respError("ERR syntax error");
  const { users } = context.services;
  if (request.count === 1 && users.find(DEFAULT_USER)?.definition.hasNoPassword) {
    return reply.respError(`ERR AUTH <password> ${NO_PASSWORD}`);
  }
  return logIn(request, request.count - 2, request.count - 1, "AUTH", context, (late) => late.ok());
};

/** Client libraries know these words. */
const NO_PASSWORD =
  "called without any password configured for the default user. " +
  "Are you sure your configuration is correct?";

/**
 * Logs in the user named in argument `nameAt` (-1: the default one) by the password in argument
 * `passwordAt`, then answers with `then`; or with an error.
 */
async function logIn(
  request: Request,
  nameAt: number,
  passwordAt: number,
  commandName: string,
  { session, services, runQueue }: Context,
  then: ReplyContinuation,
): Promise<ReplyContinuation> {
  const name = nameAt < 0 ? DEFAULT_USER : textOf(request, nameAt);
  const password = bytesOf(request, passwordAt);
  const isOver = (): boolean => session.isOver;
  const result = await services.users.logIn(name, password, session.address, isOver);
  if (typeof result === "object") {
    session.user = result;
    return then;
  }
  if (result === "busy") {
    return (late) => late.respError("ERR too many logins are being checked; try again in a moment");
  }
  noteFailure(name, commandName, session, services, runQueue.timing.nowMs());
  return (late) => {
    if (late.isResp) return late.respError(`WRONGPASS ${WRONG}.`);
    late.error("Not authenticated", WRONG);
  };
}

const WRONG = "invalid username-password pair or user is disabled";

function noteFailure(
  name: string,
  commandName: string,
  session: ClientSession,
  { audit, denials, log, users }: Services,
  nowMs: number,
): void {
  const { address, certificateName: certificate } = session;
  denials.note("auth", commandName, name, session.describe(nowMs, 0), nowMs);
  const about = { user: name, address, certificate, command: commandName, key: null };
  audit.record({ event: "login_failed", ...about });
  // A name that nobody has may be a password in the wrong place.
  const isKnown = users.find(name) !== undefined;
  log.warn("A login failed", { user: isKnown ? name : undefined, address });
}

/** Longer names and passwords are wrong, and not worth hashing. */
function bytesOf(request: Request, i: number): Uint8Array {
  const start = request.start(i);
  return request.bytes.slice(start, start + Math.min(request.length(i), MAX_PASSWORD_BYTES + 1));
}

function textOf(request: Request, i: number): string {
  return Buffer.from(bytesOf(request, i)).toString();
}

/** `HELLO [2|3 [AUTH user password] [SETNAME name]]`. */
const hello: Run = (request, reply, context): ReturnType<Run> => {
  const { session } = context;
  if (!request.isResp) return reply.error("Invalid command", "HELLO is for RESP; see DIALECT");
  let version = session.respDialect === RESP3 ? 3 : 2;
  if (request.count > 0) {
    const asked = readInteger(request, 0);
    if (asked === undefined) {
      return reply.respError("ERR Protocol version is not an integer or out of range");
    }
    if (asked !== 2 && asked !== 3) {
      return reply.respError("NOPROTO unsupported protocol version");
    }
    version = asked;
  }
  let newName: string | null = null;
  let authAt = -1;
  for (let i = 1; i < request.count; i++) {
    if (i > MOST_HELLO_WORDS) return reply.respError("ERR syntax error");
    if (request.is(i, "SETNAME") && i + 1 < request.count) {
      if (!setName(request, ++i, reply, (name) => (newName = name))) return;
    } else if (request.is(i, "AUTH") && i + 2 < request.count) {
      authAt = i + 1;
      i += 2;
    } else {
      return reply.respError(`ERR Syntax error in HELLO option '${shown(request, i)}'`);
    }
  }
  const greet = (late: Reply): void => {
    if (!session.user.isSomebody) return late.respError(`NOAUTH ${NO_LOGIN}`);
    if (newName !== null) session.name = newName;
    session.respDialect = version === 3 ? RESP3 : RESP2;
    late.dialect = session.respDialect;
    describeServer(version, late, session, context.services);
  };
  if (authAt < 0) return greet(reply);
  return logIn(request, authAt, authAt + 1, "HELLO", context, greet);
};

/** Redis' words, markup and all. */
const NO_LOGIN =
  "HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> " +
  "<pass> option can be used to authenticate the client and select the RESP protocol version at " +
  "the same time";

function describeServer(
  version: number,
  reply: Reply,
  session: ClientSession,
  services: Services,
): void {
  reply.map(7);
  reply.bulkText("server");
  reply.bulkText("merklekv");
  reply.bulkText("version");
  reply.bulkText(services.version);
  reply.bulkText("proto");
  reply.count(version, "");
  reply.bulkText("id");
  reply.count(session.id, "");
  reply.bulkText("mode");
  reply.bulkText("standalone");
  reply.bulkText("role");
  reply.bulkText("master");
  reply.bulkText("modules");
  reply.array(0);
}

/** Commands by which a client says who it is. */
export const authenticationCommands: readonly Command[] = [
  command("AUTH", "management", "connection fast", SHAPE_PAIRS, 1, 2, authenticate, {
    ...FREE,
    respMost: -1,
  }),
  command("HELLO", "management", "connection fast", SHAPE_WORDS, 0, -1, hello, FREE),
];

/** Commands on the connection itself. */
import { SHAPE_VALUE, SHAPE_WORDS } from "../protocol/line-parser.ts";
import { PLAIN, RESP2, RESP3, TAGGED, type Reply } from "../protocol/reply.ts";
import { command, type Command, type Run } from "./command.ts";
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

const select: Run = (request, reply) => {
  if (readInteger(request, 0) === 0) return reply.ok();
  reply.error("Invalid command", "there is one database, number 0");
};

const dialect: Run = (request, reply, context) => {
  if (request.is(0, "PLAIN")) context.session.lineDialect = PLAIN;
  else if (request.is(0, "TAGGED")) context.session.lineDialect = TAGGED;
  else return reply.error("Invalid command", "DIALECT plain or DIALECT tagged");
  if (!request.isResp) reply.dialect = context.session.lineDialect;
  reply.ok();
};

const authenticate: Run = (_request, reply) => {
  reply.respError(
    "ERR AUTH called without any password configured. Are you sure your configuration is correct?",
  );
};

/** `HELLO [2|3 [AUTH user password] [SETNAME name]]`. */
const hello: Run = (request, reply, context) => {
  const { session, services } = context;
  if (!request.isResp) return reply.error("Invalid command", "HELLO is for RESP; see DIALECT");
  let version = session.respDialect === RESP3 ? 3 : 2;
  if (request.count > 0) {
    const asked = readInteger(request, 0);
    if (asked !== 2 && asked !== 3) {
      return reply.respError("NOPROTO unsupported protocol version");
    }
    version = asked;
  }
  for (let i = 1; i < request.count; i++) {
    if (request.is(i, "SETNAME") && i + 1 < request.count) {
      if (!setName(request.text(++i), reply, (name) => (session.name = name))) return;
    } else if (request.is(i, "AUTH") && i + 2 < request.count) {
      // Redis without a password accepts its default user with any password.
      if (!request.is(i + 1, "DEFAULT")) {
        return reply.respError("WRONGPASS invalid username-password pair or user is disabled.");
      }
      i += 2;
    } else {
      return reply.respError(`ERR Syntax error in HELLO option '${request.text(i)}'`);
    }
  }
  session.respDialect = version === 3 ? RESP3 : RESP2;
  reply.dialect = session.respDialect;
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
};

function setName(name: string, reply: Reply, set: (name: string) => void): boolean {
  if (!/^[!-~]*$/.test(name)) {
    reply.error("Invalid command", "names hold printable characters without spaces");
    return false;
  }
  set(name);
  return true;
}

const client: Run = (request, reply, context) => {
  const { session, services } = context;
  if (request.is(0, "LIST")) {
    const lines = services.clientList();
    if (reply.isResp) return reply.bulkText(lines.map((line) => line + "\n").join(""));
    if (reply.dialect === TAGGED) reply.line("CLIENT LIST");
    for (const line of lines) reply.line(line);
    return reply.line(reply.dialect === TAGGED ? "END" : "");
  }
  if (request.is(0, "ID")) return reply.count(session.id, "VALUE ");
  if (request.is(0, "GETNAME")) {
    const name = new TextEncoder().encode(session.name);
    return name.length === 0 ? reply.missing() : reply.value(name, 0, name.length);
  }
  if (request.is(0, "INFO")) {
    const now = Date.now();
    if (reply.isResp) return reply.bulkText(session.describe(now, 0) + "\n");
    return reply.line(session.describe(now, 0));
  }
  if (request.is(0, "SETNAME") && request.count === 2) {
    if (setName(request.text(1), reply, (name) => (session.name = name))) reply.ok();
    return;
  }
  if (request.is(0, "SETINFO") && request.count === 3) {
    if (request.is(1, "LIB-NAME") && !setName(request.text(2), reply, (n) => (session.library = n)))
      return;
    return reply.ok();
  }
  if (request.is(0, "NO-EVICT") || request.is(0, "NO-TOUCH")) return reply.ok();
  if (request.is(0, "KILL") && request.count >= 2) {
    // Old form: an address. New form: filters, of which ID and ADDR are known.
    if (request.count === 2) {
      if (services.killClients(request.text(1)) > 0) return reply.ok();
      return reply.error("Invalid command", "No such client");
    }
    if (request.count === 3 && (request.is(1, "ID") || request.is(1, "ADDR"))) {
      return reply.count(services.killClients(request.text(2)), "VALUE ");
    }
  }
  reply.error("Invalid command", `unknown subcommand or wrong number of arguments for CLIENT`);
};

/** Commands on the connection itself. */
export const connectionCommands: readonly Command[] = [
  command("PING", "ping", SHAPE_VALUE, 0, 1, ping),
  command("ECHO", "echo", SHAPE_VALUE, 1, 1, echo),
  command("QUIT EXIT", "management", SHAPE_WORDS, 0, 0, quit),
  command("SELECT", "management", SHAPE_WORDS, 1, 1, select),
  command("DIALECT", "management", SHAPE_WORDS, 1, 1, dialect),
  command("AUTH", "management", SHAPE_WORDS, 1, 2, authenticate),
  command("HELLO", "management", SHAPE_WORDS, 0, -1, hello),
  command("CLIENT", "management", SHAPE_WORDS, 1, -1, client),
];

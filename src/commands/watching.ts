/** Commands for who watches what clients do: `SLOWLOG` and `MONITOR`, as Redis has them. */
import { SHAPE_WORDS } from "../protocol/line-parser.ts";
import { TAGGED, type Reply } from "../protocol/reply.ts";
import { command, shown, unknownSubcommand, type Command, type Run } from "./command.ts";
import { readInteger } from "./expiry-options.ts";
import { quotedPart } from "./shown-request.ts";
import { MOST_MONITORS } from "./monitors.ts";
import type { SlowRequest } from "./slow-log.ts";

const DEFAULT_COUNT = 10;

const HELP = [
  "SLOWLOG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
  "GET [<count>]",
  "    Return top <count> entries from the slowlog (default: 10, -1 mean all).",
  "    Entries are made of:",
  "    id, timestamp, time in microseconds, arguments array, client IP and port,",
  "    client name",
  "LEN",
  "    Return the length of the slowlog.",
  "RESET",
  "    Reset the slowlog.",
  "HELP",
  "    Prints this help.",
];

const slowlog: Run = (request, reply, { services }) => {
  const { slowLog } = services.watch;
  const words = request.count - 1;
  const name = ["GET", "LEN", "RESET", "HELP"].find((it) => request.is(0, it));
  if (name === undefined) {
    return reply.respError(`ERR unknown subcommand '${shown(request, 0)}'. Try SLOWLOG HELP.`);
  }
  if (name === "GET" && words > 1) {
    const what = "unknown subcommand or wrong number of arguments";
    return reply.respError(`ERR ${what} for '${shown(request, 0)}'. Try SLOWLOG HELP.`);
  }
  if (name !== "GET" && words > 0) {
    const called = `slowlog|${name.toLowerCase()}`;
    return reply.respError(`ERR wrong number of arguments for '${called}' command`);
  }
  if (name === "LEN") return reply.count(slowLog.length, "VALUE ");
  if (name === "HELP") return answerHelp(reply);
  if (name === "GET") {
    const count = words === 0 ? DEFAULT_COUNT : (readInteger(request, 1) ?? NaN);
    if (!(count >= -1)) return reply.respError("ERR count should be greater than or equal to -1");
    return answerRequests(slowLog.newest(count < 0 ? Infinity : count), reply);
  }
  slowLog.clear();
  reply.ok();
};

function answerHelp(reply: Reply): void {
  if (reply.isResp) reply.array(HELP.length);
  for (const line of HELP) {
    if (reply.isResp) reply.simple(line);
    else reply.line(line);
  }
  if (!reply.isResp) reply.line(reply.dialect === TAGGED ? "END" : "");
}

function answerRequests(requests: readonly SlowRequest[], reply: Reply): void {
  if (reply.isResp) reply.array(requests.length);
  else if (reply.dialect === TAGGED) reply.line("SLOWLOG");
  for (const { id, atSeconds, microseconds, parts, address, clientName } of requests) {
    if (!reply.isResp) {
      const asked = parts.map(quotedPart).join(" ");
      reply.line(`id=${id} time=${atSeconds} us=${microseconds} addr=${address} ${asked}`);
      continue;
    }
    reply.array(6);
    reply.count(id, "");
    reply.count(atSeconds, "");
    reply.count(microseconds, "");
    reply.array(parts.length);
    for (const part of parts) reply.bulk(part, 0, part.length);
    reply.bulkText(address);
    reply.bulkText(clientName);
  }
  if (!reply.isResp) reply.line(reply.dialect === TAGGED ? "END" : "");
}

const MANY = `${MOST_MONITORS} may monitor`;

const monitor: Run = (_request, reply, { services, session }) => {
  if (!services.watch.monitors.add(session)) return reply.error("Too many connections", MANY);
  session.speaksResp = reply.isResp;
  reply.ok();
};

/**
 * What Redis answers as long as it is not told to watch for latencies, which tools ask for: here
 * histograms among the metrics tell more.
 */
const latency: Run = (request, reply) => {
  if (request.is(0, "RESET")) return reply.count(0, "VALUE ");
  const isList =
    (request.is(0, "LATEST") && request.count === 1) ||
    (request.is(0, "HISTORY") && request.count === 2);
  if (isList && reply.isResp) return reply.array(0);
  if (request.is(0, "HISTOGRAM") && reply.isResp) return reply.map(0);
  const known = "LATENCY LATEST, HISTORY event, HISTOGRAM and RESET are what there is, over RESP";
  unknownSubcommand(request, reply, known);
};

const ADMINISTRATION = "admin slow dangerous";

/** See the file header. */
export const watchingCommands: readonly Command[] = [
  command("SLOWLOG", "management", ADMINISTRATION, SHAPE_WORDS, 1, -1, slowlog, {
    subcommands: {
      GET: ADMINISTRATION,
      LEN: ADMINISTRATION,
      RESET: ADMINISTRATION,
      HELP: "slow",
    },
  }),
  command("LATENCY", "management", ADMINISTRATION, SHAPE_WORDS, 1, -1, latency, {
    subcommands: {
      LATEST: ADMINISTRATION,
      HISTORY: ADMINISTRATION,
      HISTOGRAM: ADMINISTRATION,
      RESET: ADMINISTRATION,
    },
  }),
  command("MONITOR", "management", ADMINISTRATION, SHAPE_WORDS, 0, 0, monitor, {
    needsConnection: true,
  }),
];

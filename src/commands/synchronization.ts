/** Commands by which nodes heal their differences. */
import { isHost } from "../config/address.ts";
import { SHAPE_WORDS } from "../protocol/line-parser.ts";
import { command, type Command, type Run } from "./command.ts";

const USAGE = "SYNC host port [--full] [--verify]";

const sync: Run = (request, reply, context) => {
  const host = request.text(0).replace(/^\[(.*)\]$/, "$1");
  if (!isHost(host)) return reply.error("Invalid command", `not a host; ${USAGE}`);
  const port = request.text(1);
  if (!/^\d{1,5}$/.test(port) || Number(port) < 1 || Number(port) > 65_535) {
    return reply.error("Value is not a valid number", "a port is from 1 to 65535");
  }
  let isFull = false;
  let isVerified = false;
  for (let i = 2; i < request.count; i++) {
    if (request.is(i, "--FULL")) isFull = true;
    else if (request.is(i, "--VERIFY")) isVerified = true;
    else return reply.error("Invalid command", `unknown option; ${USAGE}`);
  }
  const { synchronization } = context.services;
  return synchronization.sync(host, Number(port), isFull, isVerified).then((report) => (reply) => {
    if (!report.ok) return reply.error("Connection failed", report.reason);
    if (report.rootsEqual !== false) return reply.ok();
    const because = report.hasSetAside
      ? "for entries that a node would not take; it set them aside in a file"
      : "though nothing else wrote";
    reply.error("Internal error", `the roots differ after the sync, ${because}`);
  });
};

/** `PEER`, from another node: what follows on this connection is the sync protocol. */
const peer: Run = (request, reply, context) => {
  if (request.count === 1 && !request.is(0, "ROUND")) {
    return reply.error("Invalid command", "PEER [ROUND]");
  }
  const accepted = context.services.synchronization.accept(request.count === 1);
  const { session } = context;
  if (typeof accepted === "string") {
    reply.error("Connection failed", accepted);
    // What the peer has already sent after this line are no requests.
    session.isClosing = true;
  } else session.upgrade = accepted;
};

/** Commands by which nodes heal their differences. */
export const synchronizationCommands: readonly Command[] = [
  command("SYNC", "sync", SHAPE_WORDS, 2, 4, sync),
  command("PEER", "sync", SHAPE_WORDS, 0, 1, peer),
];

/** Commands by which nodes heal their differences. */
import { READ_WRITE } from "../access/permission.ts";
import { isHost, type NodeAddress } from "../config/address.ts";
import { isNodeId } from "../core/data/name.ts";
import { SHAPE_WORDS } from "../protocol/line-parser.ts";
import type { Request } from "../protocol/request.ts";
import { command, type Command, type Context, type Run } from "./command.ts";

const USAGE = "SYNC host port [--tls] [--full] [--verify], or SYNC node_id [--full] [--verify]";

const sync: Run = (request, reply, context) => {
  const isByNodeId = request.count === 1 || request.text(1).startsWith("--");
  let peer: NodeAddress | string = request.text(0);
  if (isByNodeId && !isNodeId(peer)) {
    return reply.error("Invalid command", `not a node id; ${USAGE}`);
  }
  if (!isByNodeId) {
    const host = peer.replace(/^\[(.*)\]$/, "$1");
    if (!isHost(host)) return reply.error("Invalid command", `not a host; ${USAGE}`);
    const port = request.text(1);
    if (!/^\d{1,5}$/.test(port) || Number(port) < 1 || Number(port) > 65_535) {
      return reply.error("Value is not a valid number", "a port is from 1 to 65535");
    }
    peer = { host, port: Number(port), isSecure: false };
  }
  let isFull = false;
  let isVerified = false;
  for (let i = isByNodeId ? 1 : 2; i < request.count; i++) {
    if (request.is(i, "--FULL")) isFull = true;
    else if (request.is(i, "--VERIFY")) isVerified = true;
    else if (request.is(i, "--TLS") && typeof peer === "object") peer = { ...peer, isSecure: true };
    else return reply.error("Invalid command", `unknown option; ${USAGE}`);
  }
  const { synchronization } = context.services;
  // Who administers the node may have it call anywhere, and learn what is there.
  const isTrusted = context.session.user.definition.mayAll("admin");
  if (!isTrusted && typeof peer === "object" && !synchronization.isPeer(peer)) {
    return reply.error("Permission denied", "only @admin may name an address where no peer is");
  }
  return synchronization.sync(peer, isFull, isVerified).then((report) => (reply) => {
    if (!report.ok) {
      return reply.error("Connection failed", isTrusted ? report.reason : UNTOLD);
    }
    if (report.rootsEqual !== false) return reply.ok();
    const because = report.hasSetAside
      ? "for entries that a node would not take; it set them aside in a file"
      : "though nothing else wrote";
    reply.error("Internal error", `the roots differ after the sync, ${because}`);
  });
};

const UNTOLD = "the sync did not succeed; the node tells @admin why";

/** `FORGET node_id`: a member that is gone for good counts no longer, on any node. */
const forget: Run = (request, reply, context) => {
  const nodeId = request.text(0);
  if (!isNodeId(nodeId)) return reply.error("Invalid command", "not a node id; FORGET node_id");
  const refusal = context.services.synchronization.forget(nodeId);
  if (refusal === null) reply.ok();
  else reply.error("Invalid command", refusal);
};

/**
 * `PEER`, from another node: what follows on this connection is the sync protocol. With `VIA` it is
 * spoken with the node of that id, which this one reaches in whatever way.
 */
const peer: Run = (request, reply, context) => {
  const isPassedOn = request.count === 2 && request.is(0, "VIA") && isNodeId(request.text(1));
  const isRound = request.count === 1 && request.is(0, "ROUND");
  if (request.count > 0 && !isRound && !isPassedOn) {
    return reply.error("Invalid command", "PEER [ROUND | VIA node_id]");
  }
  const { synchronization } = context.services;
  const accepted = isPassedOn
    ? synchronization.passOn(request.text(1))
    : synchronization.accept(isRound);
  const { session } = context;
  if (typeof accepted === "string") {
    reply.error("Connection failed", accepted);
    // What the peer has already sent after this line are no requests.
    session.isClosing = true;
  } else session.upgrade = accepted;
};

/** Where there is a cluster secret, whoever comes proves in what follows that he has it. */
function provesItself(_request: Request, { services }: Context): boolean {
  return services.peersProveThemselves();
}

/** Commands by which nodes heal their differences. */
export const synchronizationCommands: readonly Command[] = [
  command("SYNC", "sync", "admin slow dangerous", SHAPE_WORDS, 1, 5, sync, {
    wholeAccess: READ_WRITE,
  }),
  command("FORGET", "sync", "admin slow dangerous", SHAPE_WORDS, 1, 1, forget),
  command("PEER", "sync", "admin slow dangerous", SHAPE_WORDS, 0, 2, peer, {
    wholeAccess: READ_WRITE,
    needsConnection: true,
    isFree: provesItself,
  }),
];

/** Connections of the command line's tools to a node, in plain text or over TLS. */
import { connect as connectPlain, isIP, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import type { PeerSecurity } from "../anti-entropy/peer-security.ts";
import type { Login } from "./login.ts";
import { formatHostPort, type HostPort } from "../config/address.ts";
import { OperationalError } from "../operational-error.ts";
import { strangersContext } from "../security/tls-material.ts";
import { explainTlsProblem, formatTlsProblem } from "../security/tls-problems.ts";

/** Where a node is, and how it is spoken to: `security` is null for plain text. */
export interface NodePlace extends HostPort {
  readonly security: PeerSecurity | null;
  /** The login there; none unless given. */
  readonly login?: Login | null;
}

const NAMES = { authorities: "--cacert", certificate: "--cert", serverName: "--sni" };

/** Connects. Throws an OperationalError when that does not come about within the time. */
export async function connectToNode(place: NodePlace, withinMs: number): Promise<Socket> {
  const { host, port, security } = place;
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const common = { host, port, noDelay: true, timeout: withinMs };
  const socket = security === null ? connectPlain(common) : startTls(common, security);
  socket.once(security === null ? "connect" : "secureConnect", resolve).once("error", reject);
  socket.once("timeout", () => reject(new Error(`no answer within ${withinMs / 1000} s`)));
  socket.once("close", () => reject(new Error("it hung up")));
  try {
    await promise;
  } catch (error) {
    socket.destroy();
    const reason = reasonOf(error as NodeJS.ErrnoException, security !== null);
    throw new OperationalError(`cannot reach ${formatHostPort(host, port)}: ${reason}`);
  }
  socket.setTimeout(0);
  return socket;
}

/** What an error of a connection means, in words. */
export function reasonOf(error: NodeJS.ErrnoException, isTls: boolean): string {
  if (error.code === "ECONNREFUSED") return "connection refused; is a node running there?";
  const problem = isTls ? explainTlsProblem(error, NAMES) : null;
  return problem === null ? error.message : formatTlsProblem(problem);
}

function startTls(
  common: { host: string; port: number; noDelay: boolean; timeout: number },
  { material, serverName, isInsecure }: PeerSecurity,
): Socket {
  const context = material()?.context;
  const servername = serverName || (isIP(common.host) === 0 ? common.host : "");
  return connectTls({
    ...common,
    secureContext: context ?? strangersContext(),
    ...(servername && { servername }),
    rejectUnauthorized: !isInsecure,
  });
}

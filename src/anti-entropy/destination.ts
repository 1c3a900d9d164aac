/**
 * Where a peer is reached: at its client port, or by its node id through the broker, or both. As
 * text the former is `host:port`, or `tls://host:port`, and the latter `broker/NODE_ID`, which no
 * host can be called.
 */
import { formatNodeAddress, parseNodeAddress, type NodeAddress } from "../config/address.ts";
import { isNodeId } from "../core/data/name.ts";

/** See the file header. */
export interface Destination {
  /** Its client port; null if nobody reaches it there. */
  readonly hostPort: NodeAddress | null;
  /** The id by which it can be reached through the broker; empty if it cannot. */
  readonly relayTo: string;
}

const RELAYED = "broker/";

/** A node that is reached through the broker only. */
export function relayed(nodeId: string): Destination {
  return { hostPort: null, relayTo: nodeId };
}

/** How a peer that is reached through the broker is written where an address is expected. */
export function relayAddress(nodeId: string): string {
  return RELAYED + nodeId;
}

/** A destination as text, which tells of one way only. */
export function formatDestination({ hostPort, relayTo }: Destination): string {
  return hostPort === null ? relayAddress(relayTo) : formatNodeAddress(hostPort);
}

/** The opposite; undefined when the text is none. */
export function parseDestination(text: string): Destination | undefined {
  if (text.startsWith(RELAYED)) {
    const nodeId = text.slice(RELAYED.length);
    return isNodeId(nodeId) ? relayed(nodeId) : undefined;
  }
  const hostPort = parseNodeAddress(text);
  return hostPort && { hostPort, relayTo: "" };
}

/** Whether that is the address of a link through the broker. */
export function isRelayAddress(address: string): boolean {
  return address.startsWith(RELAYED);
}

/**
 * What of an address its holder cannot choose freely: the host, whatever the port. All who come
 * through the broker share one, for there anybody may take any name.
 */
export function hostOf(address: string): string {
  if (isRelayAddress(address)) return RELAYED;
  return address.slice(0, address.lastIndexOf(":")).replace(/^tls:\/\//, "");
}

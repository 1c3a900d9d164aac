/** A node as its HTTP API tells of it: who is there, and the tree as a map. */
import type { MetPeer } from "./anti-entropy/anti-entropy.ts";
import { formatHostPort } from "./config/address.ts";
import { DIGEST_WORDS } from "./core/tree/digest-list.ts";
import { BUCKET_LEVEL, BUCKETS, FANOUT } from "./core/tree/digest-tree.ts";
import type { MemberView } from "./ports.ts";
import type { Replica } from "./replica.ts";
import type { PeerPresence } from "./replication/presence.ts";
import { version } from "./version.ts";

/** The nodes that are known, this one first, the others by their ids. */
export function membersOf(
  { antiEntropy, replicator }: Replica,
  nodeId: string,
  { host, port, tlsPort }: { host: string; port: number; tlsPort: number | null },
  nowMs: number,
): MemberView[] {
  const own: MemberView = {
    node_id: nodeId,
    address: formatHostPort(host, port),
    tls_address: tlsPort === null ? "" : formatHostPort(host, tlsPort),
    version,
    online: true,
    root: antiEntropy.rootHex,
    hears: replicator?.presence().connected ?? false,
    seen_ms_ago: 0,
    last_sync_ms_ago: null,
    way: "",
  };
  const met = antiEntropy.peersMet();
  const heard = replicator?.peers() ?? [];
  const others = heard.map((peer) => memberOf(peer, nowMs, met.get(peer.nodeId)?.way ?? ""));
  const known = new Set([nodeId, ...heard.map((peer) => peer.nodeId)]);
  // Without a broker nobody says anything of himself.
  for (const [id, peer] of met) if (!known.has(id)) others.push(memberMet(id, peer));
  others.sort((a, b) => (a.node_id < b.node_id ? -1 : 1));
  return [own, ...others];
}

function memberOf(peer: PeerPresence, nowMs: number, way: string): MemberView {
  const { nodeId, address, online, root, hears, lastSeenMs } = peer;
  return {
    node_id: nodeId,
    address,
    tls_address: peer.tlsAddress,
    version: peer.version,
    online,
    root,
    hears,
    seen_ms_ago: Math.max(0, Math.round(nowMs - lastSeenMs)),
    last_sync_ms_ago: null,
    way,
  };
}

function memberMet(node_id: string, { hostPort, way, isThere }: MetPeer): MemberView {
  const address = hostPort === null ? "" : formatHostPort(hostPort.host, hostPort.port);
  return {
    node_id,
    address: hostPort?.isSecure === true ? "" : address,
    tls_address: hostPort?.isSecure === true ? address : "",
    version: "",
    online: isThere,
    root: null,
    hears: false,
    seen_ms_ago: 0,
    last_sync_ms_ago: null,
    way,
  };
}

/** The first 4 bytes of each digest one level above the buckets, 4,096 of them. */
export function treeCellsOf({ antiEntropy }: Replica): Uint8Array {
  const { levels } = antiEntropy.tree;
  const count = BUCKETS / FANOUT;
  const cells = new Uint32Array(count);
  const start = levels.offsetOf(BUCKET_LEVEL - 1, 0);
  for (let i = 0; i < count; i++) cells[i] = levels.words[start + i * DIGEST_WORDS];
  return new Uint8Array(cells.buffer);
}

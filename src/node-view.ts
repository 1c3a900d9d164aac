/** A node as its HTTP API tells of it: who is there, and the tree as a map. */
import { formatHostPort } from "./config/address.ts";
import { DIGEST_WORDS } from "./core/tree/digest-list.ts";
import { BUCKET_LEVEL, BUCKETS, FANOUT } from "./core/tree/digest-tree.ts";
import type { MemberView } from "./http/api-node.ts";
import type { Replica } from "./replica.ts";
import type { PeerPresence } from "./replication/presence.ts";
import { version } from "./version.ts";

/** The nodes that are known, this one first, the others by their ids. */
export function membersOf(
  { antiEntropy, replicator }: Replica,
  nodeId: string,
  address: { readonly host: string; readonly port: number },
  nowMs: number,
): MemberView[] {
  const own: MemberView = {
    node_id: nodeId,
    address: formatHostPort(address.host, address.port),
    version,
    online: true,
    root: antiEntropy.rootHex,
    hears: replicator?.presence().connected ?? false,
    seen_ms_ago: 0,
  };
  const others = (replicator?.peers() ?? []).map((peer) => memberOf(peer, nowMs));
  others.sort((a, b) => (a.node_id < b.node_id ? -1 : 1));
  return [own, ...others];
}

function memberOf(peer: PeerPresence, nowMs: number): MemberView {
  const { nodeId, address, online, root, hears, lastSeenMs } = peer;
  return {
    node_id: nodeId,
    address,
    version: peer.version,
    online,
    root,
    hears,
    seen_ms_ago: Math.max(0, Math.round(nowMs - lastSeenMs)),
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

/** A node as its HTTP API tells of it: who is there, and the tree as a map. */
import { AntiEntropy, type MetPeer } from "./anti-entropy/anti-entropy.ts";
import { ClockWatch } from "./clock-watch.ts";
import { formatHostPort } from "./config/address.ts";
import { DIGEST_WORDS } from "./core/tree/digest-list.ts";
import { BUCKET_LEVEL, BUCKETS, FANOUT } from "./core/tree/digest-tree.ts";
import type { Series } from "./fact.ts";
import type { MemberView } from "./ports.ts";
import type { Replica } from "./replica.ts";
import type { PeerPresence } from "./replication/presence.ts";
import { Replicator } from "./replication/replicator.ts";
import { version } from "./version.ts";

/** The nodes that are known, this one first, the others by their ids. */
export function membersOf(
  replica: Replica,
  nodeId: string,
  { host, port, tlsPort }: { host: string; port: number; tlsPort: number | null },
  nowMs: number,
): MemberView[] {
  const { antiEntropy, replicator } = replica;
  const own: MemberView = {
    node_id: nodeId,
    address: formatHostPort(host, port),
    tls_address: tlsPort === null ? "" : formatHostPort(host, tlsPort),
    version,
    online: true,
    root: antiEntropy.rootHex,
    hears: replicator?.presence().connected ?? false,
    seen_ms_ago: 0,
    way: "",
    ...UNKNOWN,
  };
  const met = antiEntropy.peersMet();
  const heard = replicator?.peers() ?? [];
  const others = heard.map((peer) => memberOf(peer, nowMs, met.get(peer.nodeId)?.way ?? ""));
  const known = new Set([nodeId, ...heard.map((peer) => peer.nodeId)]);
  // Without a broker nobody says anything of himself.
  for (const [id, peer] of met) if (!known.has(id)) others.push(memberMet(id, peer));
  others.sort((a, b) => (a.node_id < b.node_id ? -1 : 1));
  return [own, ...withFigures(others, replica)];
}

const UNKNOWN = {
  last_sync_ms_ago: null,
  newest_write_seconds_ago: null,
  clock_ahead_ms: null,
} as const;

/** With what metrics tell of each. */
function withFigures(members: readonly MemberView[], replica: Replica): MemberView[] {
  const { antiEntropy, replicator, clockWatch } = replica;
  const syncs = byPeerIn("peer_last_sync_unix", AntiEntropy.series, antiEntropy);
  const lags = byPeerIn("replication_lag_seconds", Replicator.series, replicator);
  const clocks = byPeerIn("clock_ahead_of_peer_ms", ClockWatch.series, clockWatch);
  const nowMs = clockWatch.clock.nowMs();
  return members.map((member) => {
    const { node_id } = member;
    const lastSync = syncs.get(node_id);
    return {
      ...member,
      last_sync_ms_ago: lastSync === undefined ? null : Math.max(0, nowMs - lastSync * 1_000),
      newest_write_seconds_ago: lags.get(node_id) ?? null,
      clock_ahead_ms: clocks.get(node_id) ?? null,
    };
  });
}

/** What a series says of each peer. */
function byPeerIn<Part>(
  name: string,
  series: readonly Series<Part>[],
  part: Part | null,
): Map<string, number> {
  const found = series.find((it) => it.name === name);
  if (found === undefined) throw new Error(`there is no series ${name}`);
  const values = part === null ? [] : Array.from(found.read(part));
  return new Map(values.map(([labels, value]) => [labels[0], value as number]));
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
    way,
    ...UNKNOWN,
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
    way,
    ...UNKNOWN,
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

/** What anti-entropy says of itself, for INFO and for metrics. */
import {
  byPeer,
  counter,
  gauge,
  seriesWithin,
  text,
  within,
  type Fact,
  type Series,
} from "../fact.ts";
import type { AntiEntropyOptions } from "./anti-entropy-options.ts";
import { longestSliceFacts, type LongestSlice } from "./longest-slice.ts";
import { Members } from "./members.ts";
import { PeerSeal } from "./peer-seal.ts";
import { Relay } from "./relay.ts";
import type { Scheduler } from "./scheduler.ts";
import type { Sessions } from "./sessions.ts";
import { SyncStatistics } from "./sync-statistics.ts";
import type { Ways } from "./ways.ts";

/** The parts of anti-entropy that facts are about. */
export interface AntiEntropyParts extends Pick<
  AntiEntropyOptions,
  "clock" | "members" | "setAside"
> {
  readonly scheduler: Scheduler;
  readonly statistics: SyncStatistics;
  readonly sessions: Sessions;
  /** Null when nothing goes through the broker. */
  readonly relay: Relay | null;
  readonly ways: Ways;
  readonly seal: PeerSeal;
  readonly sessionSlices: LongestSlice;
  readonly treeSlices: LongestSlice;
}

/** For INFO, in its order. */
export const antiEntropyFacts: readonly Fact<AntiEntropyParts>[] = [
  gauge("sync_active", "sessions", "Comparisons under way.", (it) => it.sessions.active),
  gauge(
    "sync_limit",
    "sessions",
    "Comparisons that this node begins at once, at most.",
    (it) => it.sessions.limit,
  ),
  gauge("sync_discovery_in_seconds", "seconds", "Until it is learned anew where peers are.", (it) =>
    Math.ceil(it.scheduler.discoveryInMs / 1_000),
  ),
  gauge(
    "sync_forget_after_seconds",
    "seconds",
    "Without contact, after which a member is forgotten.",
    (it) => it.members.forgetAfterMs / 1_000,
  ),
  gauge(
    "sync_peers",
    "nodes",
    "Peers that this node compares itself with.",
    (it) => it.scheduler.peerCount,
  ),
  counter(
    "sync_peers_crowded_out",
    "nodes",
    "Peers that were forgotten, as there are too many.",
    (it) => it.scheduler.crowdedOut,
  ),
  text(
    "sync_ways",
    "By which way peers are reached: `NODE_ID=tcp`, `=tls`, `=broker` or `=untried`, of 32 at most.",
    (it) => it.ways.describe(it.scheduler.distinctPeers()),
  ),
  ...within((it: AntiEntropyParts) => it.members, Members.facts),
  ...within((it: AntiEntropyParts) => it.relay, Relay.facts),
  ...within((it: AntiEntropyParts) => it.statistics, SyncStatistics.facts),
  ...within((it: AntiEntropyParts) => it.seal, PeerSeal.facts),
  ...within((it: AntiEntropyParts) => it.sessionSlices, longestSliceFacts("sync", "comparing")),
  ...within(
    (it: AntiEntropyParts) => it.treeSlices,
    longestSliceFacts("tree", "keeping the Merkle tree"),
  ),
  gauge(
    "set_aside_limit_bytes",
    "bytes",
    "Largest file of entries that were set aside.",
    (it) => it.setAside.limitBytes,
  ),
  gauge(
    "set_aside_entries",
    "entries",
    "Entries kept in a file, neither applied nor dropped, until somebody moves it away.",
    (it) => it.setAside.entries,
  ),
];

/** For metrics. */
export const antiEntropySeries: readonly Series<AntiEntropyParts>[] = [
  {
    name: "peer_last_sync_unix",
    kind: "gauge",
    unit: "Unix seconds",
    help: "When a comparison with a peer came to its end last, after which both have what either had.",
    labels: ["peer"],
    read: (it) => byPeer(lastSyncsOf(it), Math.min),
  },
  ...seriesWithin((it: AntiEntropyParts) => it.statistics, SyncStatistics.series),
];

function* lastSyncsOf({
  clock,
  members,
  statistics,
}: AntiEntropyParts): Iterable<[peer: string, unixSeconds: number]> {
  const nowMs = clock.nowMs();
  for (const [peer, agoMs] of statistics.sinceSuccess()) {
    if (!members.isGone(peer)) yield [peer, (nowMs - agoMs) / 1000];
  }
}

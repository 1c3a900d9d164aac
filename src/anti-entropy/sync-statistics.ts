/** How sessions ended: counted for INFO, and told in the log, each in one line. */
import type { SyncResult } from "../core/sync/result.ts";
import { PeerTraffic } from "../peer-traffic.ts";
import { isRelayAddress } from "./destination.ts";
import { counter, flag, gauge, text, type Fact, type Series } from "../fact.ts";
import { Histogram, TRAVEL_BOUNDS_MS } from "../histogram.ts";
import type { Logger } from "../observability/log.ts";

/** How a session ended. Where the other node could not be reached there are no figures. */
export type SessionSummary = Partial<Omit<SyncResult, "failure">> & {
  readonly ok: boolean;
  readonly failure: string | null;
  readonly reason: string;
  readonly peerNodeId: string;
};

type Figure =
  | "bytesSent"
  | "bytesReceived"
  | "entriesSent"
  | "entriesReceived"
  | "entriesApplied"
  | "entriesSetAside"
  | "entriesPostponed"
  | "entriesWithheld";

/**
 * What is added up over all sessions: the field, its name in INFO, what it counts, what it says.
 */
const SUMS: readonly [Figure, name: string, unit: string, help: string][] = [
  ["bytesSent", "bytes_sent", "bytes", "Sent to peers"],
  ["bytesReceived", "bytes_received", "bytes", "Received from peers"],
  ["entriesSent", "entries_sent", "entries", "Sent to peers"],
  ["entriesReceived", "entries_received", "entries", "Received from peers"],
  ["entriesApplied", "entries_applied", "entries", "Received and new to this node"],
  ["entriesSetAside", "entries_set_aside", "entries", "Refused by peers as stale, and set aside"],
  ["entriesPostponed", "entries_postponed", "entries", "Dated too far ahead to be taken yet"],
  ["entriesWithheld", "entries_withheld", "entries", "Not sent, as the peer takes no new ones"],
];

/** The same of one session, with what is worth knowing of one alone. */
const LAST: readonly [Figure | "roundTrips" | "keysCompared", ...[string, string, string]][] = [
  ["roundTrips", "round_trips", "", "How often the word went to the peer and back"],
  ["keysCompared", "keys_compared", "entries", "Compared one by one, or sent without comparing"],
  ...SUMS,
];

/** Most peers of whom it is remembered when there was a session. */
const MAX_PEERS = 4_096;
/** Most addresses whose troubles are remembered; the one that began its own first is forgotten. */
const MAX_TROUBLES = 1_000;
/** A trouble that goes on is told again after this time, and then after twice as long each time. */
const FIRST_REPEAT_MS = 60_000;
const MOST_REPEAT_MS = 3_600_000;

/** Another node with this one's id is met again within this time: a few rounds, usually. */
const DUPLICATE_EXPIRY_MS = 900_000;

/** What keeps syncs with one address from succeeding. */
interface Trouble {
  reason: string;
  /** Failures in a row. */
  failures: number;
  repeatMs: number;
  /** When it is told again. */
  nextMs: number;
}

/** What is known of the sessions of one node. */
export class SyncStatistics {
  /** Peers that came when there was no room for them. */
  private turnedAway = 0;
  private completed = 0;
  private failed = 0;
  private busy = 0;
  /** When a session met another node with this one's id last. */
  private duplicateSeenMs = -Infinity;
  private readonly sums: Record<Figure, number> = {
    bytesSent: 0,
    bytesReceived: 0,
    entriesSent: 0,
    entriesReceived: 0,
    entriesApplied: 0,
    entriesSetAside: 0,
    entriesPostponed: 0,
    entriesWithheld: 0,
  };
  /** The last session that brought this node something new, or went only the other way. */
  private lastHeal: SessionSummary | null = null;
  private readonly troubles = new Map<string, Trouble>();
  /** When a session with each peer came to its end last, the latest at the end. */
  private readonly succeededMs = new Map<string, number>();
  private readonly durations = new Histogram(TRAVEL_BOUNDS_MS);

  /** For INFO. */
  static readonly facts: readonly Fact<SyncStatistics>[] = [
    counter(
      "sync_completed",
      "sessions",
      "Comparisons that came to their end.",
      (it) => it.completed,
    ),
    counter("sync_failed", "sessions", "Comparisons that did not.", (it) => it.failed),
    counter(
      "sync_peer_busy",
      "sessions",
      "Comparisons put off because the peer had enough of them.",
      (it) => it.busy,
    ),
    counter(
      "sync_turned_away",
      "sessions",
      "Comparisons put off because this node had enough of them.",
      (it) => it.turnedAway,
    ),
    flag(
      "sync_duplicate_node_id",
      "Whether another live node was met with this one's id in the last 15 minutes.",
      (it) => it.hasDuplicate(),
    ),
    ...SUMS.map(([figure, name, unit, help]) =>
      counter(`sync_${name}`, unit, `${help}.`, (it: SyncStatistics) => it.sums[figure]),
    ),
    text(
      "sync_last_heal_peer",
      "With whom the last session was that brought something new, or sent without receiving.",
      (it) => it.lastHeal?.peerNodeId ?? null,
    ),
    ...LAST.map(([figure, name, unit, help]) =>
      gauge(`sync_last_heal_${name}`, unit, `${help}, in that session.`, (it: SyncStatistics) =>
        it.lastHeal === null ? null : (it.lastHeal[figure] ?? 0),
      ),
    ),
  ];

  /** For metrics. */
  static readonly series: readonly Series<SyncStatistics>[] = [
    {
      name: "sync_duration_ms",
      kind: "histogram",
      unit: "ms",
      help: "How long comparisons with peers took that came to their end.",
      labels: [],
      read: (it) => [[[], it.durations]],
    },
  ];

  constructor(
    private readonly nodeId: string,
    private readonly logger: Logger,
    /** Milliseconds of a monotonic clock. */
    private readonly nowMs: () => number,
    private readonly traffic = new PeerTraffic(),
  ) {}

  /** Counts and logs a session that ended after `tookMs`. `address` is the other side's. */
  record(
    session: SessionSummary,
    address: string,
    role: "initiator" | "responder",
    tookMs: number,
  ): void {
    this.addUp(session, address);
    if (session.failure === "duplicate") return this.noteDuplicate(address);
    if (session.failure === "busy") return this.noteBusy(session, address, role);
    // A list of peers that all nodes share names this one too.
    if (session.failure === "self") {
      return this.logger.debug("An address of a peer is this node's own", { address });
    }
    if (!session.ok) return this.noteFailure(session, address, role);
    this.completed++;
    this.noteSuccess(session);
    this.durations.note(tookMs);
    if (role === "initiator") this.noteRecovery(session, address);
    this.tell(session, address, tookMs);
  }

  private addUp(session: SessionSummary, address: string): void {
    for (const [figure] of SUMS) this.sums[figure] += session[figure] ?? 0;
    const { bytesSent = 0, bytesReceived = 0, isFetch = false } = session;
    const purpose = isFetch ? "values" : isRelayAddress(address) ? "sync_broker" : "sync_tcp";
    this.traffic.note(session.peerNodeId, purpose, bytesSent, bytesReceived);
    const { entriesSent = 0, entriesReceived = 0, entriesApplied = 0 } = session;
    if (entriesApplied > 0 || (entriesReceived === 0 && entriesSent > 0)) this.lastHeal = session;
  }

  private tell(session: SessionSummary, address: string, tookMs: number): void {
    const { entriesSent = 0, entriesReceived = 0, bytesSent = 0, bytesReceived = 0 } = session;
    const hasMoved = entriesSent + entriesReceived > 0;
    const log = hasMoved ? this.logger.info : this.logger.debug;
    log(hasMoved ? "Synced with a peer" : "Compared with a peer: nothing differs", {
      peer: session.peerNodeId,
      address,
      sent: session.entriesSent,
      received: session.entriesReceived,
      applied: session.entriesApplied,
      set_aside: session.entriesSetAside || undefined,
      round_trips: session.roundTrips,
      bytes_sent: bytesSent,
      bytes_received: bytesReceived,
      ms: Math.round(tookMs),
    });
  }

  /** Of two that want to compare, one had enough of it. */
  private noteBusy(
    { peerNodeId: peer, reason }: SessionSummary,
    address: string,
    role: string,
  ): void {
    if (role === "responder") {
      this.turnedAway++;
      this.logger.debug("A peer is to come again", { address, peer, reason });
    } else {
      this.busy++;
      this.logger.debug("A peer is busy with other syncs", { address });
    }
  }

  /** How long ago a session with each peer came to its end, in ms. */
  *sinceSuccess(): Iterable<[peer: string, ms: number]> {
    const nowMs = this.nowMs();
    for (const [peer, atMs] of this.succeededMs) yield [peer, nowMs - atMs];
  }

  private noteSuccess({ peerNodeId }: SessionSummary): void {
    const { succeededMs } = this;
    succeededMs.delete(peerNodeId);
    succeededMs.set(peerNodeId, this.nowMs());
    if (succeededMs.size > MAX_PEERS) succeededMs.delete(succeededMs.keys().next().value!);
  }

  /** A connection was to be passed on to another node, and was not. */
  noteNotPassedOn(address: string, reason: string): void {
    this.logger.warn("A connection was not passed on to another node", { address, reason });
  }

  private noteFailure(session: SessionSummary, address: string, role: string): void {
    const { reason, peerNodeId } = session;
    this.failed++;
    const fields = { address, peer: peerNodeId || undefined, reason };
    if (role === "responder") return this.logger.warn("A sync that a peer began failed", fields);
    const trouble = this.troubles.get(address) ?? this.beginTrouble(address);
    trouble.failures++;
    const isTold = trouble.reason === reason && this.nowMs() < trouble.nextMs;
    if (isTold) return this.logger.debug("A sync failed", fields);
    // Another reason is news, and the first of a row of its own.
    trouble.repeatMs =
      trouble.reason === reason ? Math.min(2 * trouble.repeatMs, MOST_REPEAT_MS) : FIRST_REPEAT_MS;
    trouble.reason = reason;
    trouble.nextMs = this.nowMs() + trouble.repeatMs;
    const { failures } = trouble;
    this.logger.warn("A sync failed", failures === 1 ? fields : { ...fields, failures });
  }

  private beginTrouble(address: string): Trouble {
    if (this.troubles.size >= MAX_TROUBLES) {
      this.troubles.delete(this.troubles.keys().next().value!);
    }
    const trouble = { reason: "", failures: 0, repeatMs: 0, nextMs: 0 };
    this.troubles.set(address, trouble);
    return trouble;
  }

  private noteRecovery({ peerNodeId: peer }: SessionSummary, address: string): void {
    const trouble = this.troubles.get(address);
    if (trouble === undefined) return;
    this.troubles.delete(address);
    const { failures } = trouble;
    this.logger.info("Syncs with a peer succeed again", { address, peer, failures });
  }

  private hasDuplicate(): boolean {
    return this.nowMs() - this.duplicateSeenMs < DUPLICATE_EXPIRY_MS;
  }

  private noteDuplicate(address: string): void {
    this.failed++;
    const fields = { node_id: this.nodeId, address };
    const log = this.hasDuplicate() ? this.logger.debug : this.logger.error;
    log("Another live node uses this node's id; give each node a node_id of its own", fields);
    this.duplicateSeenMs = this.nowMs();
  }
}

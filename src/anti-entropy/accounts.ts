/** What sessions came to: the counters for INFO and one line in the log for each. */
import type { SyncResult } from "../core/sync/tally.ts";
import type { Logger } from "../observability/log.ts";

/** As much of a result as there is: a node that cannot be reached has no figures. */
export type Account = Partial<Omit<SyncResult, "failure">> & {
  readonly ok: boolean;
  readonly failure: string | null;
  readonly reason: string;
  readonly peerNodeId: string;
};

const FIGURES = [
  "bytesSent",
  "bytesReceived",
  "entriesSent",
  "entriesReceived",
  "entriesApplied",
  "entriesSetAside",
  "entriesPostponed",
  "entriesWithheld",
] as const;
const LAST_FIGURES = ["roundTrips", "keysCompared", ...FIGURES] as const;

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

/** The accounts of one node. */
export class SyncAccounts {
  /** Peers that came when there was no room for them. */
  private turnedAway = 0;
  private completed = 0;
  private failed = 0;
  private busy = 0;
  /** When a session met another node with this one's id last. */
  private duplicateSeenMs = -Infinity;
  private readonly sums = Object.fromEntries(FIGURES.map((name) => [name, 0])) as Record<
    (typeof FIGURES)[number],
    number
  >;
  /** The last session that brought this node something new, or went only the other way. */
  private lastHeal: Account | null = null;
  private readonly troubles = new Map<string, Trouble>();

  constructor(
    private readonly nodeId: string,
    private readonly logger: Logger,
    /** Milliseconds of a monotonic clock. */
    private readonly nowMs: () => number,
  ) {}

  /** Takes a session into account. `address` is the other side's. */
  note(account: Account, address: string, role: "initiator" | "responder"): void {
    for (const name of FIGURES) this.sums[name] += account[name] ?? 0;
    const { entriesSent = 0, entriesReceived = 0, entriesApplied = 0 } = account;
    const moved = entriesSent + entriesReceived;
    if (entriesApplied > 0 || (entriesReceived === 0 && entriesSent > 0)) this.lastHeal = account;
    if (account.failure === "duplicate") return this.noteDuplicate(address);
    if (account.failure === "busy" && role === "responder") {
      this.turnedAway++;
      const { peerNodeId: peer, reason } = account;
      return this.logger.debug("A peer is to come again", { address, peer, reason });
    }
    if (account.failure === "busy") {
      this.busy++;
      return this.logger.debug("A peer is busy with other syncs", { address });
    }
    // A list of peers that all nodes share names this one too.
    if (account.failure === "self") {
      return this.logger.debug("An address of a peer is this node's own", { address });
    }
    if (!account.ok) return this.noteFailure(account, address, role);
    this.completed++;
    if (role === "initiator") this.noteRecovery(account, address);
    const log = moved > 0 ? this.logger.info : this.logger.debug;
    log(moved > 0 ? "Synced with a peer" : "Compared with a peer: nothing differs", {
      peer: account.peerNodeId,
      address,
      sent: account.entriesSent,
      received: account.entriesReceived,
      applied: account.entriesApplied,
      bytes: (account.bytesSent ?? 0) + (account.bytesReceived ?? 0),
    });
  }

  /** Facts for INFO. */
  facts(): Record<string, string | number> {
    const facts: Record<string, string | number> = {
      sync_completed: this.completed,
      sync_failed: this.failed,
      sync_peer_busy: this.busy,
      sync_turned_away: this.turnedAway,
      sync_duplicate_node_id: this.hasDuplicate() ? 1 : 0,
    };
    for (const name of FIGURES) facts[`sync_${snakeCase(name)}`] = this.sums[name];
    if (this.lastHeal !== null) {
      facts["sync_last_heal_peer"] = this.lastHeal.peerNodeId;
      for (const name of LAST_FIGURES) {
        facts[`sync_last_heal_${snakeCase(name)}`] = this.lastHeal[name] ?? 0;
      }
    }
    return facts;
  }

  private noteFailure(account: Account, address: string, role: string): void {
    const { reason, peerNodeId } = account;
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

  private noteRecovery({ peerNodeId: peer }: Account, address: string): void {
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

function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** What a session counts, and how it ended. */

/**
 * Why a session failed, for whoever decides when to try again.
 *
 * - "busy": the peer holds enough sessions already.
 * - "self": the address leads back to this node.
 * - "duplicate": another running node has this node_id.
 * - "incompatible": another cluster, another version of the protocol, or a flush from the future.
 * - "protocol": what came does not follow the protocol.
 * - "closed": the connection was lost, timed out, or this node ended the session.
 * - "incomplete": it ran to its end, but some entries could not be accepted or sent.
 * - "untrue": it claims what cannot be, such as that deletions were forgotten within their grace.
 */
export type SyncFailure =
  "busy" | "self" | "duplicate" | "incompatible" | "protocol" | "closed" | "incomplete" | "untrue";

/** The codes of a FAIL item: index into this. */
export const FAILURES: readonly SyncFailure[] = [
  "protocol",
  "busy",
  "self",
  "duplicate",
  "incompatible",
  "closed",
  "incomplete",
  "untrue",
];

/** How a session ended. */
export interface SyncResult {
  readonly ok: boolean;
  /** Null exactly when `ok`. */
  readonly failure: SyncFailure | null;
  /** One clear sentence when it failed, else empty. */
  readonly reason: string;
  /** Bytes include the headers of frames. */
  readonly bytesSent: number;
  readonly bytesReceived: number;
  /** Of those bytes, the values of entries. */
  readonly valueBytesSent: number;
  readonly valueBytesReceived: number;
  /** How often the word went to the responder and came back. */
  readonly roundTrips: number;
  readonly entriesSent: number;
  readonly entriesReceived: number;
  /** Entries received that changed this store. */
  readonly entriesApplied: number;
  /** Entries of this node that the peer refused as stale. */
  readonly entriesSetAside: number;
  /** Entries of the peer that this node does not accept yet, as they are dated too far ahead. */
  readonly entriesPostponed: number;
  /** When the earliest of those was written, in Unix ms; 0 for none. */
  readonly postponedMs: number;
  /** Entries that were not sent because the peer accepts no new ones. */
  readonly entriesWithheld: number;
  /** Entries whose digests were compared one by one, or sent without a comparison. */
  readonly keysCompared: number;
  /** Nothing was compared: it was to bring values by their keys. */
  readonly isFetch: boolean;
  /** It is ok, and compared everything, up to now and not as of a while ago. */
  readonly isUpToNow: boolean;
  /** Empty until the peer has said who it is. */
  readonly peerNodeId: string;
  /**
   * Mode "verify": whether the roots were equal afterwards; null when not asked for, or when others
   * wrote meanwhile.
   */
  readonly rootsEqual: boolean | null;
  /**
   * Mode "verify": whether entries were set aside on either side, for which the roots may differ.
   */
  readonly hasSetAside: boolean;
}

/** The counts of a session under way; names as in `SyncResult`. */
export class SyncCounts {
  valueBytesSent = 0;
  valueBytesReceived = 0;
  roundTrips = 0;
  entriesSent = 0;
  entriesReceived = 0;
  entriesApplied = 0;
  entriesSetAside = 0;
  entriesPostponed = 0;
  postponedMs = 0;
  entriesWithheld = 0;
  keysCompared = 0;
  peerNodeId = "";
  rootsEqual: boolean | null = null;
  hasSetAside = false;
  /** Entries that could not be accepted or sent. */
  missed = 0;
  /** Why the first of them could not. */
  missedBecause = "";

  /** Counts entries that are dated too far ahead to be accepted, the earliest at that time. */
  postpone(entryMs: number, count = 1): void {
    const isFirst = this.entriesPostponed === 0;
    this.entriesPostponed += count;
    this.postponedMs = isFirst ? entryMs : Math.min(this.postponedMs, entryMs);
  }

  /** What was missed, and why: the end of a sentence. */
  get whatIsMissed(): string {
    return `${this.missed} entries missed: ${this.missedBecause}`;
  }

  /** Counts entries that should have gone over but did not. */
  miss(reason: string, count = 1): void {
    if (this.missed === 0) this.missedBecause = reason;
    this.missed += count;
  }
}

/**
 * Who is there, as far as their presence messages tell (`presence-message.ts`), and of whom
 * something new was heard.
 */
import type { Capabilities } from "../core/data/capabilities.ts";
import type { Presence } from "./presence-message.ts";

/** What is known of another node. */
export interface PeerPresence extends Presence {
  /** Its root of the tree that this node shows; null while unknown, or if it has none of that. */
  readonly root: string | null;
  /** When it was last heard of, in ms of a monotonic clock. */
  readonly lastSeenMs: number;
  /** Whether it was heard then, and not only what the broker remembers of it. */
  readonly isLive: boolean;
}

/** Most nodes known; beyond it those never met are forgotten, the one unheard for longest first. */
const MAX_NODES = 4_096;
/** A node that has not said so many times that it is there is not online, whatever it said last. */
const STALE_REFRESHES = 3;
/** How often nodes that have fallen silent are looked for, in ms. */
const LOOK_EVERY_MS = 5_000;
/** To make room for another node, so many are looked at for one that need not be kept. */
const LOOKED_AT = 16;
/** Most changes told at once: what follows from each takes some microseconds. */
const CHANGES_AT_ONCE = 512;

/**
 * The other nodes, as far as their presence messages tell. Whoever may publish can make up as many
 * as he likes, so it holds no more than MAX_NODES, and whoever asks is told of changes only.
 */
export class PresenceTable {
  /** Nodes that were forgotten, or not even taken up, because there were too many. */
  crowdedOut = 0;
  /** Who was heard of last is at the end, or is kept. */
  private readonly rows = new Map<string, PresenceRow>();
  private readonly changed = new Map<string, PresenceRow>();
  private nextLookMs = -Infinity;

  /**
   * `isKept` tells whom there always is room for, `rootKey` what the key of the tree follows from
   * that this node shows (`Presence.roots`).
   */
  constructor(
    private readonly isKept: (nodeId: string) => boolean,
    private readonly rootKey: () => string,
  ) {}

  /**
   * Takes up what a node said. True when the node is online and this is a connection
   * of its that was not known.
   */
  update(presence: Presence, isLive: boolean, nowMs: number): boolean {
    const { nodeId } = presence;
    const known = this.rows.get(nodeId);
    if (known === undefined && this.rows.size >= MAX_NODES && !this.makeRoom()) return false;
    // The will of an earlier connection may come late. (An earlier epoch that is online is
    // a node whose clock was set back.)
    if (known !== undefined && !presence.online && isEarlier(presence, known)) return false;
    const left = known !== undefined && isOnline(known, nowMs) && !presence.online;
    const leftAtMs = left ? nowMs : (known?.leftAtMs ?? -Infinity);
    const isTold = known?.isTold ?? false;
    const row = { ...presence, isLive, lastSeenMs: nowMs, leftAtMs, isTold };
    this.rows.delete(nodeId);
    this.rows.set(nodeId, row);
    this.changed.set(nodeId, row);
    const isNew = presence.epoch !== known?.epoch || presence.connection !== known.connection;
    return presence.online && isNew;
  }

  /**
   * Of whom something was heard, each once after it was; with `isHearing`, who is silent has left.
   * Whoever asks does so again and again: of thousands, the next ones come with the next call.
   */
  takeChanges(nowMs: number, isHearing: boolean): PeerPresence[] {
    if (isHearing && nowMs >= this.nextLookMs) {
      this.nextLookMs = nowMs + LOOK_EVERY_MS;
      for (const row of this.rows.values()) if (isStale(row, nowMs)) this.forget(row);
    }
    const changes: PeerPresence[] = [];
    for (const [nodeId, change] of this.changed) {
      if (changes.length === CHANGES_AT_ONCE) break;
      changes.push({ ...change, root: this.rootOf(change) });
      this.changed.delete(nodeId);
      const row = this.rows.get(nodeId);
      if (row !== undefined) row.isTold = true;
    }
    return changes;
  }

  /** Everybody who is known, by node id. */
  list(nowMs: number): PeerPresence[] {
    const rows = [...this.rows.values()].sort((a, b) => (a.nodeId < b.nodeId ? -1 : 1));
    return rows.map(({ leftAtMs: _, isTold: __, ...row }) => ({
      ...row,
      root: this.rootOf(row),
      online: isOnline(row, nowMs),
    }));
  }

  /** Of everybody who is known: id, whether it is online, and its root as it said it last. */
  states(nowMs: number): [nodeId: string, isOnline: boolean, root: string | null][] {
    return Array.from(this.rows.values(), (row) => {
      return [row.nodeId, isOnline(row, nowMs), this.rootOf(row)];
    });
  }

  /** Whether this is of a later start or connection than what is known; also if nothing is. */
  isLater(presence: Presence): boolean {
    const known = this.rows.get(presence.nodeId);
    return known === undefined || isEarlier(known, presence);
  }

  /** Whether a node is online; null when it is not known. */
  isOnline(nodeId: string, nowMs: number): boolean | null {
    const row = this.rows.get(nodeId);
    return row === undefined ? null : isOnline(row, nowMs);
  }

  /** Forgets a node that is not online. */
  drop(nodeId: string, nowMs: number): void {
    const row = this.rows.get(nodeId);
    if (row !== undefined && !isOnline(row, nowMs)) this.forget(row);
  }

  /** How many of the nodes known are such. */
  count(isSuch: (nodeId: string) => boolean): number {
    let count = 0;
    for (const nodeId of this.rows.keys()) if (isSuch(nodeId)) count++;
    return count;
  }

  /** Ids of all nodes known. */
  nodeIds(): string[] {
    return [...this.rows.keys()];
  }

  /** Ids of the nodes that are online, or were less than `graceMs` ago. */
  online(nowMs: number, graceMs = 0): string[] {
    const present = [...this.rows.values()].filter(
      (row) => isOnline(row, nowMs) || nowMs - row.leftAtMs < graceMs,
    );
    return present.map((row) => row.nodeId);
  }

  /** What those speak that did not say goodbye, and were not silent for too long. */
  *capabilities(): Iterable<Capabilities> {
    for (const row of this.rows.values()) if (row.online) yield row.capabilities;
  }

  /**
   * Those that said goodbye less than so long ago have not left: the broker said it for them, as it
   * shut down. Whoever asks for changes is told.
   */
  recall(nowMs: number, withinMs: number): void {
    for (const [nodeId, row] of this.rows) {
      if (row.online || nowMs - row.leftAtMs >= withinMs) continue;
      const present = { ...row, online: true, leftAtMs: -Infinity };
      this.rows.set(nodeId, present);
      this.changed.set(nodeId, present);
    }
  }

  private rootOf({ roots }: Presence): string | null {
    return roots[this.rootKey()] ?? null;
  }

  private makeRoom(): boolean {
    this.crowdedOut++;
    for (let looked = 0; looked < LOOKED_AT; looked++) {
      const row: PresenceRow = this.rows.values().next().value!;
      if (!this.isKept(row.nodeId)) {
        this.forget(row);
        return true;
      }
      // Next time others are looked at.
      this.rows.delete(row.nodeId);
      this.rows.set(row.nodeId, row);
    }
    return false;
  }

  private forget(row: PresenceRow): void {
    this.rows.delete(row.nodeId);
    if (row.isTold) this.changed.set(row.nodeId, { ...row, online: false });
    else this.changed.delete(row.nodeId);
  }
}

interface PresenceRow extends Omit<PeerPresence, "root"> {
  /** When it said goodbye last, in ms of the same clock; -Infinity for never. */
  readonly leftAtMs: number;
  /** Whether anybody was told of it. */
  isTold: boolean;
}

function isEarlier(a: Presence, b: Presence): boolean {
  return a.epoch < b.epoch || (a.epoch === b.epoch && a.connection < b.connection);
}

function isOnline(peer: Omit<PeerPresence, "root">, nowMs: number): boolean {
  return peer.online && !isStale(peer, nowMs);
}

function isStale({ lastSeenMs, refreshMs }: Omit<PeerPresence, "root">, nowMs: number): boolean {
  return nowMs - lastSeenMs >= STALE_REFRESHES * refreshMs;
}

/**
 * Who is there: each node keeps a retained message on `<topic_prefix>/nodes/<node id>`
 * that says where it is and what it holds, with a will that says when it is gone. It is
 * JSON, so that any MQTT tool shows it, unless a cluster secret seals it (`sealed-transport.ts`).
 *
 *   { "v": 1, "node_id", "epoch", "connection", "address", "version", "root", "online", "seq",
 *     "speaks", "tls"?, "client_id"?, "hears"?, "relay"?, "every"?, "up"? }
 *
 * `address` is "none" of a node that nobody reaches at its client port in plain text, and `tls` is
 * where it speaks TLS, to which those turn that know how; `relay` is true of one that
 * can be reached through the broker. `seq` is the number of the last batch of writes that it
 * published, so that who has not received so many knows that some were lost. `client_id` is there
 * when it is not the node id, and `hears`, false, when the node does not receive what others
 * publish, which is then to be brought to it. `every` is after how many seconds it says all this
 * again, if not after a minute: the more nodes there are, the more seldom each repeats itself.
 * `up` is for how many ms it has been connected, if that is not long: so long, at least, has the
 * broker been there for all others to come back to.
 * `speaks` is the lowest and the highest version of the protocol between nodes that it speaks, and
 * its features (`capabilities.ts`): what it publishes is in a form that all can read who are there.
 * An empty message takes the place of one of a node that is gone for good.
 *
 * `connection` counts the node's connections to a broker in this epoch. A message that
 * tells of a new one makes everybody announce themselves again, and such an answer is
 * live, not retained: after a reconnection a node knows from the answers who already
 * listens, whatever the broker remembered or forgot.
 */

import { areCapabilities, CURRENT, OLDEST, type Capabilities } from "../core/data/capabilities.ts";
import { isNodeId } from "../core/data/name.ts";
import { NO_ADDRESS, parseHostPort } from "../config/address.ts";

/** What a node says about itself. */
export interface Presence {
  readonly nodeId: string;
  /** New at each start. */
  readonly epoch: number;
  /** Counts connections to the broker in this epoch, from 1. */
  readonly connection: number;
  /** `host:port` at which peers reach it, or NO_ADDRESS. */
  readonly address: string;
  /** The same where it speaks TLS; empty if nowhere. */
  readonly tlsAddress: string;
  /** Its program version. */
  readonly version: string;
  /** Its Merkle root in hex, null while unknown. */
  readonly root: string | null;
  readonly online: boolean;
  /** Whether it can be reached through the broker. */
  readonly isRelayed: boolean;
  /** Number of the batch published last in this epoch; 0 before the first. */
  readonly sequence: number;
  /** Its name at the broker. */
  readonly clientId: string;
  /** Whether it receives what others publish, as far as it knows. */
  readonly hears: boolean;
  /** After what time it is said again, in ms. */
  readonly refreshMs: number;
  /** For how long it has been connected, in ms; 0 when that is not told. */
  readonly connectedMs: number;
  /** What it speaks. */
  readonly capabilities: Capabilities;
}

/** What is known of another node. */
export interface PeerPresence extends Presence {
  /** When it was last heard of, in ms of a monotonic clock. */
  readonly lastSeenMs: number;
  /** Whether it was heard then, and not only what the broker remembers of it. */
  readonly isLive: boolean;
}

const FORMAT_VERSION = 1;
/** Longest presence message read, in bytes. */
const MAX_BYTES = 4_096;
/** Most nodes known; beyond it who is unheard for longest and was never met is forgotten. */
const MAX_NODES = 4_096;
/** Longest program version, in characters. */
const MAX_VERSION = 64;
/** Longest client id, in characters. */
const MAX_CLIENT_ID = 256;
/** How often presence is said again if the message does not tell, and the longest time told. */
export const REFRESH_MS = 60_000;
const MAX_REFRESH_MS = 1_200_000;
/** A node that has missed so many of these times is not online, whatever it said. */
const STALE_REFRESHES = 3;
/** Who has fallen silent is looked for this often. */
const LOOK_EVERY_MS = 5_000;
/** To make room so many are looked at whether they are to be kept. */
const LOOKED_AT = 16;
/** What follows from what one node said takes some microseconds. */
const CHANGES_AT_ONCE = 512;

/** The message that announces this. */
export function encodePresence(presence: Presence): Buffer {
  const { nodeId, epoch, connection, address, version, root, online } = presence;
  const { tlsAddress, sequence, clientId, hears, isRelayed, refreshMs, connectedMs } = presence;
  const { lowest, highest, features } = presence.capabilities;
  const message = { v: FORMAT_VERSION, node_id: nodeId, epoch, connection, address, version };
  const rest = {
    ...{ root, online, seq: sequence, speaks: [lowest, highest, features] },
    ...(tlsAddress !== "" && { tls: tlsAddress }),
    ...(clientId !== nodeId && { client_id: clientId }),
    ...(!hears && { hears }),
    ...(isRelayed && { relay: true }),
    ...(refreshMs !== REFRESH_MS && { every: Math.ceil(refreshMs / 1_000) }),
    ...(connectedMs > 0 && { up: connectedMs }),
  };
  return Buffer.from(JSON.stringify({ ...message, ...rest }));
}

/** Reads a presence message; null when it is none. */
export function decodePresence(message: Buffer): Presence | null {
  if (message.length > MAX_BYTES) return null;
  let found: Record<string, unknown> | null;
  try {
    found = JSON.parse(message.toString());
  } catch {
    return null;
  }
  if (typeof found !== "object" || found === null || found["v"] !== FORMAT_VERSION) return null;
  const { node_id: nodeId, epoch, connection, address, version, root, online } = found;
  if (typeof nodeId !== "string" || !isNodeId(nodeId)) return null;
  if (typeof address !== "string") return null;
  if (address !== NO_ADDRESS && parseHostPort(address) === undefined) return null;
  if (!isCount(epoch) || !isCount(connection)) return null;
  if (typeof version !== "string" || version.length > MAX_VERSION) return null;
  if (typeof online !== "boolean") return null;
  const isRelayed = found["relay"] === true;
  if (root !== null && (typeof root !== "string" || !/^[0-9a-f]{1,128}$/.test(root))) return null;
  const { seq: sequence = 0, client_id: clientId = nodeId, hears = true } = found;
  const { tls: tlsAddress = "", every = REFRESH_MS / 1_000, up: connectedMs = 0 } = found;
  if (typeof tlsAddress !== "string") return null;
  if (tlsAddress !== "" && parseHostPort(tlsAddress) === undefined) return null;
  if (!isCount(every)) return null;
  if (connectedMs !== 0 && !isCount(connectedMs)) return null;
  const refreshMs = Math.min(Math.max((every as number) * 1_000, REFRESH_MS), MAX_REFRESH_MS);
  if (sequence !== 0 && !isCount(sequence)) return null;
  if (typeof clientId !== "string" || clientId.length > MAX_CLIENT_ID) return null;
  const capabilities = capabilitiesOf(found["speaks"]);
  if (capabilities === null) return null;
  const known = { nodeId, epoch, connection, address, version, root, online, isRelayed };
  return {
    ...known,
    tlsAddress,
    sequence,
    clientId,
    hears: hears !== false,
    refreshMs,
    connectedMs,
    capabilities,
  };
}

function capabilitiesOf(speaks: unknown): Capabilities | null {
  if (speaks === undefined) return OLDEST;
  if (!Array.isArray(speaks)) return null;
  const [lowest, highest, features] = speaks as number[];
  const found = { lowest: lowest!, highest: highest!, features: features! };
  // Most speak what this program does: one object for all of them.
  if (isSame(found, CURRENT)) return CURRENT;
  return areCapabilities(found) ? found : null;
}

function isSame(a: Capabilities, b: Capabilities): boolean {
  return a.lowest === b.lowest && a.highest === b.highest && a.features === b.features;
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) > 0;
}

/**
 * The other nodes, as far as their presence messages tell. Whoever may publish can make up as many
 * as he likes, so it holds no more than MAX_NODES, and whoever asks is told of changes only.
 */
export class PresenceTable {
  /** Nodes that were forgotten, or not even taken up, because there were too many. */
  crowdedOut = 0;
  /** Who was heard of last is at the end, or is kept. */
  private readonly rows = new Map<string, PresenceRow>();
  private readonly changed = new Map<string, PeerPresence>();
  private nextLookMs = -Infinity;

  /** `isKept` tells whom there always is room for. */
  constructor(private readonly isKept: (nodeId: string) => boolean) {}

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
      changes.push(change);
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
      online: isOnline(row, nowMs),
    }));
  }

  /** Of everybody who is known: id, whether it is online, and its root as it said it last. */
  states(nowMs: number): [nodeId: string, isOnline: boolean, root: string | null][] {
    return Array.from(this.rows.values(), (row) => [row.nodeId, isOnline(row, nowMs), row.root]);
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

interface PresenceRow extends PeerPresence {
  /** When it said goodbye last, in ms of the same clock; -Infinity for never. */
  readonly leftAtMs: number;
  /** Whether anybody was told of it. */
  isTold: boolean;
}

function isEarlier(a: Presence, b: Presence): boolean {
  return a.epoch < b.epoch || (a.epoch === b.epoch && a.connection < b.connection);
}

function isOnline(peer: PeerPresence, nowMs: number): boolean {
  return peer.online && !isStale(peer, nowMs);
}

function isStale({ lastSeenMs, refreshMs }: PeerPresence, nowMs: number): boolean {
  return nowMs - lastSeenMs >= STALE_REFRESHES * refreshMs;
}

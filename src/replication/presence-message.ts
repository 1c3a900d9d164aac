/**
 * How a node says that it is there: it keeps a retained message on `<topic_prefix>/nodes/<node id>`
 * that says where it is and what it holds, with a will that says when it is gone. It is
 * JSON, so that any MQTT tool shows it, unless a cluster secret seals it (`sealed-transport.ts`).
 *
 *   { "v": 1, "node_id", "epoch", "connection", "address", "version", "root", "online", "seq",
 *     "speaks", "roots"?, "tls"?, "client_id"?, "hears"?, "relay"?, "every"?, "up"? }
 *
 * `root` is the Merkle root of the tree whose key follows from the cluster's name, null if there is
 * no such tree or its root is not known yet. `roots` has those of trees whose keys follow from
 * secrets of the cluster, by the ids of these: whoever has one in common can compare.
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
import { KEYED_BY_NAME } from "../core/tree/record-digest.ts";
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
  /**
   * Its Merkle roots in hex as far as they are known, by what the keys of the trees follow from:
   * the ids of secrets, and KEYED_BY_NAME for the cluster's name.
   */
  readonly roots: Readonly<Record<string, string>>;
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

/** What a node tells of its Merkle trees; keys as in `Presence.roots`. */
export interface TreeRoots {
  /** The key of the tree that this node shows. */
  readonly currentKey: string;
  /** The root of that in hex; null while unknown. */
  readonly rootHex: string | null;
  /** Those of all trees, as far as they are known, the one that is shown first. */
  roots(): Readonly<Record<string, string>>;
}

const FORMAT_VERSION = 1;
/** Most roots that are told, of which the first are the most important. */
const MAX_ROOTS = 8;
/** Longest presence message read, in bytes. */
const MAX_BYTES = 4_096;
/** Longest program version, in characters. */
const MAX_VERSION = 64;
/** Longest client id, in characters. */
const MAX_CLIENT_ID = 256;
/** How often presence is said again if the message does not tell, and the longest time told. */
export const REFRESH_MS = 60_000;
const MAX_REFRESH_MS = 1_200_000;
/** The message that announces this. */
export function encodePresence(presence: Presence): Buffer {
  const { nodeId, epoch, connection, address, version, online } = presence;
  const { tlsAddress, sequence, clientId, hears, isRelayed, refreshMs, connectedMs } = presence;
  const { lowest, highest, features } = presence.capabilities;
  const { [KEYED_BY_NAME]: root = null, ...bySecret } = presence.roots;
  const roots = Object.fromEntries(Object.entries(bySecret).slice(0, MAX_ROOTS));
  const message = { v: FORMAT_VERSION, node_id: nodeId, epoch, connection, address, version };
  const rest = {
    ...{ root, online, seq: sequence, speaks: [lowest, highest, features] },
    ...(Object.keys(roots).length > 0 && { roots }),
    ...(tlsAddress !== "" && { tls: tlsAddress }),
    ...(clientId !== nodeId && { client_id: clientId }),
    ...(!hears && { hears }),
    ...(isRelayed && { relay: true }),
    ...(refreshMs !== REFRESH_MS && { every: Math.ceil(refreshMs / 1_000) }),
    ...(connectedMs > 0 && { up: connectedMs }),
  };
  return Buffer.from(JSON.stringify({ ...message, ...rest }));
}

/** What each field has to be, those that may be left out filled in. */
const FIELDS: Readonly<Record<string, (value: unknown) => boolean>> = {
  v: (it) => it === FORMAT_VERSION,
  node_id: (it) => typeof it === "string" && isNodeId(it),
  epoch: isCount,
  connection: isCount,
  address: (it) => it === NO_ADDRESS || isHostPort(it),
  version: (it) => typeof it === "string" && it.length <= MAX_VERSION,
  root: (it) => it === null || isRoot(it),
  roots: (it) => typeof it === "object" && it !== null && areRoots(Object.entries(it)),
  online: (it) => typeof it === "boolean",
  seq: (it) => it === 0 || isCount(it),
  client_id: (it) => typeof it === "string" && it.length <= MAX_CLIENT_ID,
  tls: (it) => it === "" || isHostPort(it),
  every: isCount,
  up: (it) => it === 0 || isCount(it),
};

/** A message whose fields are like that. */
interface Fields {
  readonly node_id: string;
  readonly epoch: number;
  readonly connection: number;
  readonly address: string;
  readonly version: string;
  readonly root: string | null;
  readonly roots: Readonly<Record<string, string>>;
  readonly online: boolean;
  readonly seq: number;
  readonly client_id: string;
  readonly tls: string;
  readonly every: number;
  readonly up: number;
  readonly hears?: unknown;
  readonly relay?: unknown;
  readonly speaks?: unknown;
}

/** Reads a presence message; null when it is none. */
export function decodePresence(message: Buffer): Presence | null {
  const fields = readFields(message);
  if (fields === null) return null;
  const capabilities = capabilitiesOf(fields.speaks);
  if (capabilities === null) return null;
  const { epoch, connection, address, version, root, online } = fields;
  return {
    ...{ nodeId: fields.node_id, epoch, connection, address, version, online },
    roots: root === null ? fields.roots : { ...fields.roots, [KEYED_BY_NAME]: root },
    isRelayed: fields.relay === true,
    tlsAddress: fields.tls,
    sequence: fields.seq,
    clientId: fields.client_id,
    hears: fields.hears !== false,
    refreshMs: Math.min(Math.max(fields.every * 1_000, REFRESH_MS), MAX_REFRESH_MS),
    connectedMs: fields.up,
    capabilities,
  };
}

function readFields(message: Buffer): Fields | null {
  if (message.length > MAX_BYTES) return null;
  let found: Record<string, unknown> | null;
  try {
    found = JSON.parse(message.toString());
  } catch {
    return null;
  }
  if (typeof found !== "object" || found === null) return null;
  const unsaid = {
    seq: 0,
    roots: NO_ROOTS,
    client_id: found["node_id"],
    tls: "",
    every: REFRESH_MS / 1_000,
    up: 0,
  };
  const fields: Record<string, unknown> = { ...unsaid, ...found };
  for (const name in FIELDS) if (!FIELDS[name](fields[name])) return null;
  return fields as unknown as Fields;
}

const NO_ROOTS = {};

function areRoots(roots: readonly (readonly [string, unknown])[]): boolean {
  return (
    roots.length <= MAX_ROOTS && roots.every(([id, it]) => /^[0-9a-f]{8}$/.test(id) && isRoot(it))
  );
}

function isRoot(value: unknown): boolean {
  return typeof value === "string" && /^[0-9a-f]{1,128}$/.test(value);
}

function isHostPort(value: unknown): boolean {
  return typeof value === "string" && parseHostPort(value) !== undefined;
}

function capabilitiesOf(speaks: unknown): Capabilities | null {
  if (speaks === undefined) return OLDEST;
  if (!Array.isArray(speaks)) return null;
  const [lowest, highest, features] = speaks as number[];
  const found = { lowest, highest, features };
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

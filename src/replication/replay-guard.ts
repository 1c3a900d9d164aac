/**
 * Keeps messages from having an effect twice: whoever owns the broker can deliver any of them again
 * at any time. What that could do depends on what they are for.
 *
 * - Updates change nothing when they come again, for the store merges them; but they cost time,
 *   and may look like lost ones. Of each epoch a window says which of the latest SIZE sequences
 *   have come. What is older than the window is refused, and nodes compare. An epoch before the
 *   latest is followed, too: a broker may have kept its messages for a node that was away. So
 *   after a restart of this node an update may come a second time, and the store passes over it.
 * - Datagrams of sync sessions are for boxes with random names, and say nothing to others; calls
 *   take the place of real ones. There is a window for them, too, and what is of an epoch before
 *   the latest is refused: nobody keeps them, and what was under way is sent again. Its sender is
 *   told, for it may be one that has forgotten in which epoch it was.
 * - Presence that comes again would bring back a node that has left, or an address it had. So it
 *   only ever goes forward: to a later epoch, or to a later sequence of the latest one. The latest
 *   epoch of each node outlasts a restart (`memory`), and a change of the secret: old messages do
 *   not become new because their sender seals with another one. A broker delivers what it retains
 *   over and over, so the very message that came last may come again as retained, and says nothing
 *   new.
 *   A will is sealed before all other presence of its connection, and comes last: it has
 *   sequence 0, and is taken once for each epoch.
 *
 * Whatever comes, memory is bounded: who was not heard of for longest is forgotten, and of each
 * sender only the latest epochs are followed.
 */
import { writeU32 } from "../core/bytes.ts";
import { originOf } from "../core/data/origin.ts";
import { EPOCH_BYTES, type SealHeader } from "./sealed-message.ts";

/** Sequences that a window covers. */
const SIZE = 1_024;
const WORD_BITS = 32;
/** Senders that are followed, for each purpose, and epochs of each. */
const MAX_SENDERS = 4_096;
const MAX_EPOCHS = 4;
/** The sequence of a will. */
export const WILL_SEQUENCE = 0;
/** What is remembered of a node: by which name, and its latest epoch. */
const NODE_BYTES = 8;
const ROW_BYTES = NODE_BYTES + EPOCH_BYTES;

/** Which of the latest sequences have come. */
export class SequenceWindow {
  private highest = -1;
  private readonly bits = new Uint32Array(SIZE / WORD_BITS);

  /** False when it came before, or is older than the window. */
  take(sequence: number): boolean {
    if (sequence <= this.highest - SIZE) return false;
    const isAhead = sequence > this.highest;
    if (isAhead) this.moveTo(sequence);
    const at = sequence % SIZE;
    const [word, bit] = [Math.floor(at / WORD_BITS), 1 << (at % WORD_BITS)];
    const isNew = (this.bits[word] & bit) === 0;
    this.bits[word] |= bit;
    return isNew;
  }

  private moveTo(sequence: number): void {
    const first = Math.max(this.highest + 1, sequence - SIZE + 1);
    for (let each = first; each <= sequence; each++) {
      const at = each % SIZE;
      this.bits[Math.floor(at / WORD_BITS)] &= ~(1 << (at % WORD_BITS));
    }
    this.highest = sequence;
  }
}

/** How far presence of one node has come. */
interface PresencePlace {
  readonly epoch: string;
  /** The highest that came, wills apart; and what came last. */
  highest: number;
  last: number;
  hasWill: boolean;
  /** What came last was not only what the broker retained. */
  wasLive: boolean;
}

/** See the file header. */
export class ReplayGuard {
  /** Counts changes of what `memory` returns. */
  changes = 0;
  private readonly windows = new Map<string, Map<string, SequenceWindow>>();
  /** By node, whatever secret it seals with. */
  private readonly presences = new Map<string, PresencePlace>();
  /** The latest epoch of each sender. */
  private readonly connections = new Map<string, string>();

  /** `memory` is what an earlier run of this node remembered; anything else is passed over. */
  constructor(memory: Uint8Array = new Uint8Array(0)) {
    const bytes = Buffer.from(memory);
    const rows = Math.min(Math.floor(bytes.length / ROW_BYTES), MAX_SENDERS);
    for (let row = 0; row < rows; row++) {
      const at = row * ROW_BYTES;
      const epochAt = at + ROW_BYTES - EPOCH_BYTES;
      const epoch = bytes.toString("latin1", epochAt, at + ROW_BYTES);
      this.presences.set(bytes.toString("latin1", at, epochAt), newPlace(epoch));
    }
  }

  /** Whether an update is to be taken: it is the first time. */
  takeUpdate(header: SealHeader): boolean {
    return this.takeOnce("updates", header);
  }

  /** The same for a datagram, which is of no use once its sender has connected anew. */
  takeSync(header: SealHeader): boolean {
    return this.isLatest(header) && this.takeOnce("sync", header);
  }

  /** The latest epoch of a sender of which a datagram or presence came; "" for none. */
  latestConnection(header: SealHeader): string {
    return this.connections.get(senderOf(header)) ?? "";
  }

  private isLatest(header: SealHeader): boolean {
    if (header.epoch < this.latestConnection(header)) return false;
    this.connections.set(senderOf(header), header.epoch);
    trim(this.connections, MAX_SENDERS);
    return true;
  }

  private takeOnce(purpose: string, header: SealHeader): boolean {
    const sender = `${purpose} ${senderOf(header)}`;
    const epochs = renewed(this.windows, sender, () => new Map<string, SequenceWindow>());
    trim(this.windows, MAX_SENDERS);
    const window = epochs.get(header.epoch) ?? new SequenceWindow();
    epochs.set(header.epoch, window);
    if (epochs.size > MAX_EPOCHS) {
      // Not the one unused for longest: who repeats old epochs must not push out the present one.
      const [lowest] = [...epochs.keys()].sort();
      epochs.delete(lowest);
      if (lowest === header.epoch) return false;
    }
    return window.take(header.sequence);
  }

  /**
   * Whether a message of presence is to be taken: it says something newer, or the same again. The
   * node is whose it is; see `nodeOf`.
   */
  takePresence(node: string, header: SealHeader, isRetained: boolean): boolean {
    const known = this.presences.get(node);
    if (known !== undefined && header.epoch < known.epoch) return false;
    const isNewEpoch = known === undefined || header.epoch > known.epoch;
    const place = isNewEpoch ? newPlace(header.epoch) : known;
    if (!advance(place, header.sequence, isRetained)) return false;
    if (isNewEpoch) this.changes++;
    this.remember(node, place);
    this.isLatest(header);
    return true;
  }

  /** The latest epoch of a node in which presence came; null for none. */
  latestEpoch(node: string): string | null {
    return this.presences.get(node)?.epoch ?? null;
  }

  /** A node is in that epoch now. */
  noteEpoch(node: string, epoch: string): void {
    this.changes++;
    this.remember(node, newPlace(epoch));
  }

  private remember(node: string, place: PresencePlace): void {
    this.presences.delete(node);
    this.presences.set(node, place);
    trim(this.presences, MAX_SENDERS);
  }

  /** What is to outlast this run: of each node the latest epoch in which presence came. */
  memory(): Uint8Array {
    const rows = [...this.presences].map(([node, { epoch }]) => node + epoch);
    return Buffer.from(rows.join(""), "latin1");
  }
}

function newPlace(epoch: string): PresencePlace {
  return { epoch, highest: WILL_SEQUENCE, last: -1, hasWill: false, wasLive: false };
}

function advance(place: PresencePlace, sequence: number, isRetained: boolean): boolean {
  if (sequence === place.last) {
    if (!isRetained && place.wasLive) return false;
    place.wasLive ||= !isRetained;
    return true;
  }
  const isWill = sequence === WILL_SEQUENCE;
  if (isWill ? place.hasWill : sequence <= place.highest) return false;
  if (isWill) place.hasWill = true;
  else place.highest = sequence;
  place.last = sequence;
  place.wasLive = !isRetained;
  return true;
}

/** A node as it is remembered: text of NODE_BYTES characters below 256. */
export function nodeOf(nodeId: string): string {
  const { high, low } = originOf(nodeId);
  const bytes = Buffer.alloc(NODE_BYTES);
  writeU32(bytes, 0, high);
  writeU32(bytes, 4, low);
  return bytes.toString("latin1");
}

function senderOf({ keyId, origin }: SealHeader): string {
  return `${keyId} ${origin}`;
}

/** The value of a key, made if it is not there; it is at the end of the map then. */
function renewed<T>(map: Map<string, T>, key: string, make: () => T): T {
  const value = map.get(key) ?? make();
  map.delete(key);
  map.set(key, value);
  return value;
}

/** Drops from the front what is too much. */
function trim(map: Map<string, unknown>, size: number): void {
  if (map.size > size) map.delete(map.keys().next().value!);
}

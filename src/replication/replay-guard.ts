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
 *   the latest is refused: nobody keeps them, and what was under way is sent again.
 * - Presence that comes again would bring back a node that has left, or an address it had. So it
 *   only ever goes forward: to a later epoch, or to a later sequence of the latest one. The latest
 *   epoch of each node outlasts a restart (`memory`). A broker delivers what it retains over and
 *   over, so the very message that came last may come again as retained, and says nothing new.
 *   A will is sealed before all other presence of its connection, and comes last: it has
 *   sequence 0, and is taken once for each epoch.
 *
 * Whatever comes, memory is bounded: who was not heard of for longest is forgotten, and of each
 * sender only the latest epochs are followed.
 */
import { EPOCH_BYTES, ORIGIN_BYTES, type SealHeader } from "./sealed-message.ts";

/** Sequences that a window covers. */
const SIZE = 1_024;
const WORD_BITS = 32;
/** Senders that are followed, for each purpose, and epochs of each. */
const MAX_SENDERS = 4_096;
const MAX_EPOCHS = 4;
/** The sequence of a will. */
export const WILL_SEQUENCE = 0;
const KEY_ID_BYTES = 4;
const ROW_BYTES = KEY_ID_BYTES + ORIGIN_BYTES + EPOCH_BYTES;

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
    const isNew = (this.bits[word]! & bit) === 0;
    this.bits[word]! |= bit;
    return isNew;
  }

  private moveTo(sequence: number): void {
    const first = Math.max(this.highest + 1, sequence - SIZE + 1);
    for (let each = first; each <= sequence; each++) {
      const at = each % SIZE;
      this.bits[Math.floor(at / WORD_BITS)]! &= ~(1 << (at % WORD_BITS));
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
  private readonly presences = new Map<string, PresencePlace>();

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
    const known = this.latestEpoch(header.keyId, header.origin);
    if (known !== null && header.epoch < known) return false;
    if (header.epoch !== known) this.noteEpoch(header.keyId, header.origin, header.epoch);
    return this.takeOnce("sync", header);
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
      epochs.delete(lowest!);
      if (lowest === header.epoch) return false;
    }
    return window.take(header.sequence);
  }

  /** Whether a message of presence is to be taken: it says something newer, or the same again. */
  takePresence(header: SealHeader, isRetained: boolean): boolean {
    const sender = senderOf(header);
    const known = this.presences.get(sender);
    if (known !== undefined && header.epoch < known.epoch) return false;
    const isNewEpoch = known === undefined || header.epoch > known.epoch;
    const place = isNewEpoch ? newPlace(header.epoch) : known;
    if (!advance(place, header.sequence, isRetained)) return false;
    this.presences.delete(sender);
    this.presences.set(sender, place);
    trim(this.presences, MAX_SENDERS);
    if (isNewEpoch) this.changes++;
    return true;
  }

  /** The latest epoch of a sender in which presence came; null for none. */
  latestEpoch(keyId: number, origin: string): string | null {
    return this.presences.get(senderOf({ keyId, origin }))?.epoch ?? null;
  }

  /** A sender is in that epoch now. */
  noteEpoch(keyId: number, origin: string, epoch: string): void {
    const sender = senderOf({ keyId, origin });
    this.presences.delete(sender);
    this.presences.set(sender, newPlace(epoch));
    trim(this.presences, MAX_SENDERS);
    this.changes++;
  }

  /** What is to outlast this run: of each node the latest epoch in which presence came. */
  memory(): Uint8Array {
    const rows = [...this.presences].map(([sender, { epoch }]) => sender + epoch);
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

function senderOf({ keyId, origin }: Pick<SealHeader, "keyId" | "origin">): string {
  const key = Buffer.alloc(KEY_ID_BYTES);
  key.writeUInt32BE(keyId);
  return key.toString("latin1") + origin;
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

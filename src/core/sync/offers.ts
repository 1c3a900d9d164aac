/**
 * What the initiator offers in place of sending it: large entries of which the responder may have a
 * newer one, or no room for. The responder answers at the beginning of its turn which of them it
 * needs.
 */
import { compareVersions, Entry, KIND_COUNTER, KIND_OTHER, newVersion } from "../data/entry.ts";
import { baseVersionOf, compareExpiries } from "../data/merge.ts";
import type { Store } from "../store/store.ts";
import { NEED, readHead } from "./items.ts";
import { MAX_OFFERS_A_TURN } from "./limits.ts";
import type { SharedBySides } from "./shared.ts";
import { hasSameString, type Wanted } from "./wanted.ts";

/** See the file header. */
export class Offers {
  /** A bit for each offer that was not answered: whether it is needed. */
  private needs = new Uint8Array(0);
  private count = 0;
  private readonly entry = new Entry();
  private readonly base = newVersion();

  constructor(
    private readonly parts: SharedBySides,
    private readonly store: Store,
    private readonly wanted: Wanted,
  ) {}

  /** Handles an OFFER, whose tag has been read. False when it is none, or one too many. */
  handle(): boolean {
    const { flow, reader } = this.parts;
    const offer = flow.arrived;
    readHead(reader, offer);
    if (reader.overrun || this.count >= 2 * MAX_OFFERS_A_TURN) return false;
    const at = this.count++;
    if (at >>> 3 >= this.needs.length) {
      const larger = new Uint8Array(Math.max(1024, this.needs.length * 2));
      larger.set(this.needs);
      this.needs = larger;
    }
    if ((at & 7) === 0) this.needs[at >>> 3] = 0;
    if (this.isWorthHaving(offer) && this.hasRoomFor(offer)) this.needs[at >>> 3] |= 1 << (at & 7);
    return true;
  }

  /** Says which of those that came are needed. */
  answer(): void {
    if (this.count === 0) return;
    const { writer } = this.parts;
    const length = (this.count + 7) >>> 3;
    writer.reserve(8 + length);
    writer.u8(NEED);
    writer.varint(this.count);
    writer.copy(this.needs, 0, length);
    this.count = 0;
  }

  /**
   * Whether there is room for an offered entry. For one that is no larger than what it replaces
   * there always is.
   */
  private hasRoomFor(offer: Entry): boolean {
    const { flow, counts } = this.parts;
    if (!this.store.isFull && !this.store.isReadOnly) return true;
    const id = this.store.locate(offer.key, offer.keyOffset, offer.keyLength);
    if (id >= 0) this.store.read(id, this.entry);
    if (id >= 0 && offer.valueLength <= this.entry.valueLength) return true;
    counts.miss(flow.fullReason);
    return false;
  }

  /**
   * Whether an offered entry may change what is here. If it replaces that, then what is here need
   * not be sent.
   */
  private isWorthHaving(offer: Entry): boolean {
    const { flow } = this.parts;
    const id = this.store.locate(offer.key, offer.keyOffset, offer.keyLength);
    // What only later versions know may be like what is here but for its bytes.
    if (id < 0 || offer.kind === KIND_COUNTER || offer.kind === KIND_OTHER) return true;
    this.store.read(id, this.entry);
    baseVersionOf(this.entry, this.base);
    const order = compareVersions(offer, this.base);
    const expiryOrder = compareExpiries(offer, this.entry);
    const isHere = expiryOrder !== 0 && hasSameString(this.entry, offer);
    if ((isHere || order > 0) && expiryOrder >= 0) this.wanted.strike(id);
    if (order < 0 && this.entry.valueLength <= offer.valueLength) flow.allow(id);
    if (isHere) flow.spareValue(id, offer);
    if ((isHere || order < 0) && expiryOrder > 0) flow.mergeExpiry(offer);
    if (isHere) return false;
    return order >= 0;
  }
}

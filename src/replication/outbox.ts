/**
 * Which entries this node wrote and has yet to publish: ids, not bytes.
 *
 * A write costs a few nanoseconds here and allocates nothing, and a key written again
 * before it was sent stays one entry, so only its last state travels. The bytes are read
 * from the store when the batch is made.
 *
 * The memory is bounded by `limit` ids whatever the broker does. What does not fit is
 * dropped and remembered as a loss; the publisher then skips a batch number, by which
 * the receivers learn that they missed something.
 *
 * Invariants: an id with PENDING set is in the ring; the ring may also hold ids whose
 * flag was cleared since (their entry is gone), which `take` passes over. OURS is set
 * while an id, once written here, has not been physically removed.
 */
import { CHANGED_EXPIRY, type Change, type ChangeObserver } from "../core/store/outcome.ts";

const PENDING = 1;
const OURS = 2;
/** Beside PENDING: the value was written, and not the expiry alone. */
const VALUE = 4;

/** Ids of local writes waiting to be published; the store's observer. */
export class Outbox implements ChangeObserver {
  /** Ids in the ring. */
  size = 0;
  /** Ids dropped because the outbox was full, since the start. */
  dropped = 0;
  /** `wake(true)` is called when `size` comes to this. */
  fullAt = Infinity;
  /** Of what `take` returned last only the expiry was written. */
  isExpiryOnly = false;
  /** A local flush has yet to be published. */
  flushPending = false;

  private flags = new Uint8Array(1024);
  private ring = new Int32Array(1024);
  private head = 0;
  private unreportedLoss = false;

  /**
   * `limit`: most ids held, at least 1. `wake` is called when the first id comes into an
   * empty outbox (`full` false) and when there is a batch's worth (`full` true).
   */
  constructor(
    private readonly limit: () => number,
    private readonly wake: (full: boolean) => void,
  ) {}

  /** Nothing waits. */
  get isEmpty(): boolean {
    return this.size === 0 && !this.flushPending;
  }

  changed(id: number, local: boolean, change: Change): void {
    if (local) this.add(id, change !== CHANGED_EXPIRY);
  }

  removed(id: number): void {
    if (id < this.flags.length) this.flags[id] = 0;
  }

  flushed(local: boolean, cleared: boolean): void {
    if (cleared) {
      this.flags.fill(0);
      this.size = 0;
    }
    if (!local) return;
    this.flushPending = true;
    this.wake(false);
  }

  /** The id that has waited longest, taken out; -1 when there is none. */
  take(): number {
    while (this.size > 0) {
      const id = this.ring[this.head];
      this.head = (this.head + 1) & (this.ring.length - 1);
      this.size--;
      if ((this.flags[id] & PENDING) !== 0) {
        this.isExpiryOnly = (this.flags[id] & VALUE) === 0;
        this.flags[id] &= ~(PENDING | VALUE);
        return id;
      }
    }
    return -1;
  }

  /** Puts back the id that was taken last: it is the next one again. */
  putBack(id: number): void {
    if (!this.isExpiryOnly) this.flags[id] |= VALUE;
    if ((this.flags[id] & PENDING) !== 0) return;
    if (this.size === this.ring.length) this.growRing();
    this.flags[id] |= PENDING;
    this.head = (this.head - 1) & (this.ring.length - 1);
    this.ring[this.head] = id;
    this.size++;
  }

  /** Whether the entry of that id was written here, and is still there. */
  isOurs(id: number): boolean {
    return (this.flags[id] & OURS) !== 0;
  }

  /**
   * Puts ids back that were taken but may not have arrived, unless their entry is gone. `expiries`
   * says, for each, whether it was `isExpiryOnly`: then it is not 0.
   */
  restore(ids: Int32Array, expiries: Uint8Array): void {
    for (let i = 0; i < ids.length; i++) {
      if ((this.flags[ids[i]] & OURS) !== 0) this.add(ids[i], expiries[i] === 0);
    }
  }

  /** Whether anything was lost since the last call. */
  takeLoss(): boolean {
    const lost = this.unreportedLoss;
    this.unreportedLoss = false;
    return lost;
  }

  private add(id: number, hasValue: boolean): void {
    if (id >= this.flags.length) this.growFlags(id);
    if (hasValue && (this.flags[id] & PENDING) !== 0) this.flags[id] |= VALUE;
    if ((this.flags[id] & PENDING) !== 0) return;
    if (this.size >= this.limit()) {
      this.dropped++;
      this.unreportedLoss = true;
      return;
    }
    if (this.size === this.ring.length) this.growRing();
    this.flags[id] = PENDING | OURS | (hasValue ? VALUE : 0);
    this.ring[(this.head + this.size) & (this.ring.length - 1)] = id;
    this.size++;
    if (this.size === 1) this.wake(false);
    else if (this.size === this.fullAt) this.wake(true);
  }

  private growFlags(id: number): void {
    const grown = new Uint8Array(Math.max(id + 1, this.flags.length * 2));
    grown.set(this.flags);
    this.flags = grown;
  }

  private growRing(): void {
    const grown = new Int32Array(this.ring.length * 2);
    const first = this.ring.subarray(this.head);
    grown.set(first);
    grown.set(this.ring.subarray(0, this.head), first.length);
    this.ring = grown;
    this.head = 0;
  }
}

/**
 * One budget of bytes for all that is held for clients: requests that have come in part or wait
 * their turn, replies that are gathered or not read.
 *
 * Whoever holds more than what is left of the budget is held back: nothing more is read from it.
 * So what one may hold shrinks as the rest fills up, and a small request always finds room. (This
 * is the dynamic threshold of Choudhury and Hahne, IEEE/ACM Transactions on Networking 6(2), 1998.)
 * Past the budget, and when somebody has been held back for a while, the greediest goes.
 */
import type { RunQueue } from "../timing.ts";

/** One that memory is held for. */
export interface MemoryHolder {
  /** What it holds, as it said last; kept by ClientMemory. */
  chargedBytes: number;
  /** Whether it may be ended to make room. */
  readonly isExpendable: boolean;
  /** It may be read from again. */
  onRoom(): void;
  /**
   * Ends it: its memory is needed. `isMidwork`: now, while another one's request is carried out.
   */
  makeRoom(isMidwork: boolean): void;
}

/** Who holds no more than this is never held back. */
const SMALL_BYTES = 64 * 1024;
/** To what part of the budget room is made. */
const RELIEVED = 0.9;
/** This much above the budget there is no waiting for the next turn of the event loop. */
const URGENT = 1.25;
/** A client that was held back for so long, though others hold too much, is given room, in ms. */
const PATIENCE_MS = 1_000;

/** See the file header. */
export class ClientMemory {
  /** Bytes held for all. */
  totalBytes = 0;
  /** Bytes given back since somebody set this to 0. */
  returnedBytes = 0;
  /** Who is held back, and since when. */
  private readonly heldBack = new Map<MemoryHolder, number>();
  private isLookDue = false;

  constructor(
    public limitBytes: number,
    private readonly holders: Iterable<MemoryHolder>,
    private readonly runQueue: RunQueue,
    private readonly nowMs: () => number,
  ) {}

  /** Number of those held back now. */
  get heldBackCount(): number {
    return this.heldBack.size;
  }

  /** Notes what a holder holds now. */
  charge(holder: MemoryHolder, bytes: number): void {
    const more = bytes - holder.chargedBytes;
    if (more === 0) return;
    holder.chargedBytes = bytes;
    this.totalBytes += more;
    if (more < 0) this.returnedBytes -= more;
    if (this.totalBytes > this.limitBytes || (more < 0 && this.heldBack.size > 0)) this.lookSoon();
    if (more > 0 && this.totalBytes > this.limitBytes * URGENT) this.relieve(holder);
  }

  /** Whether a holder is to be held back. It is told by `onRoom` when no longer. */
  isHeldBack(holder: MemoryHolder): boolean {
    const room = Math.max(SMALL_BYTES, this.limitBytes - this.totalBytes);
    if (holder.chargedBytes > room) {
      if (!this.heldBack.has(holder)) this.heldBack.set(holder, this.nowMs());
      return true;
    }
    if (this.heldBack.size > 0) this.heldBack.delete(holder);
    return false;
  }

  /** Forgets a holder. */
  forget(holder: MemoryHolder): void {
    this.charge(holder, 0);
    this.heldBack.delete(holder);
  }

  /** Called a few times a second. */
  tick(): void {
    const [first] = this.heldBack.values();
    if (first !== undefined && this.nowMs() - first >= PATIENCE_MS)
      this.greediestFirst()[0]?.makeRoom(false);
  }

  /** Not now: the one who charges may be in the middle of something. */
  private lookSoon(): void {
    if (this.isLookDue) return;
    this.isLookDue = true;
    this.runQueue.add(() => {
      this.isLookDue = false;
      this.look();
    }, true);
  }

  private look(): void {
    this.relieve();
    for (const holder of [...this.heldBack.keys()]) {
      if (!this.isHeldBack(holder)) holder.onRoom();
    }
  }

  /**
   * Ends the greediest until the rest fits well. One who is at work cannot be ended now: that is
   * seen to in the next turn, and those who hold less than it do not pay for it.
   */
  private relieve(worker?: MemoryHolder): void {
    if (this.totalBytes <= this.limitBytes) return;
    for (const holder of this.greediestFirst()) {
      if (holder === worker) break;
      holder.makeRoom(worker !== undefined);
      // Some more than is needed: with thousands of them nobody wants to look at all so soon again.
      if (this.totalBytes <= this.limitBytes * RELIEVED) break;
    }
  }

  private greediestFirst(): MemoryHolder[] {
    const found: MemoryHolder[] = [];
    for (const each of this.holders)
      if (each.isExpendable && each.chargedBytes > 0) found.push(each);
    return found.sort((a, b) => b.chargedBytes - a.chargedBytes);
  }
}

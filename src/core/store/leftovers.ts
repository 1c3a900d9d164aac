/**
 * Memory that nobody uses any more. It goes back to the system in slices: all at once it would hold
 * up the event loop, and left to the collector it would stay, as that has nothing to do in a node
 * that rests.
 */
import { release } from "../bytes.ts";

/** How many are given back before the time is looked at. */
const BUFFERS_A_LOOK = 8;
/** Twice as many as a store of little leaves, which are given back in less than a millisecond. */
const LOOKS_FOR_FEW = 2;

/** Buffers that wait to be given back. */
export class Leftovers {
  private readonly buffers: (Uint8Array | Uint16Array | Uint32Array | Int32Array)[] = [];

  /** Takes a buffer over: it has no user, and neither has any other view of the same memory. */
  add(buffer: Uint8Array | Uint16Array | Uint32Array | Int32Array): void {
    this.buffers.push(buffer);
  }

  /**
   * Gives a few back, before more are added: so who clears a store of little again and again leaves
   * no more than once does.
   */
  giveBackFew(): void {
    let looks = 0;
    this.giveBack(() => ++looks === LOOKS_FOR_FEW);
  }

  /** Gives some back, until `isOver` says that time is up. True while there are more. */
  giveBack(isOver: () => boolean): boolean {
    const { buffers } = this;
    while (buffers.length > 0) {
      for (let i = 0; i < BUFFERS_A_LOOK && buffers.length > 0; i++) release(buffers.pop()!);
      if (isOver()) break;
    }
    return buffers.length > 0;
  }
}

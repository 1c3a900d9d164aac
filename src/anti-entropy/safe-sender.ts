/**
 * Sends a session's frames, each once all that it may show is safe from a crash. A peer that had
 * seen what this node then forgets would know more of this node's counters than the node itself.
 */
import type { Durability, Link, SafeWaiter } from "../ports.ts";

/** See the file header. Frames wait here in order. */
export class SafeSender implements SafeWaiter {
  /** Length of all frames that wait. */
  waitingBytes = 0;
  private frames: Uint8Array[] = [];
  /** Where the journal stood when each was made. */
  private positions: number[] = [];
  private isWaiting = false;
  private isEnding = false;

  /** `onReleased` is called when nothing waits any more. */
  constructor(
    private readonly link: Pick<Link, "send" | "end">,
    private readonly durability: Pick<Durability, "position" | "safePosition" | "whenSafe">,
    private readonly onReleased: () => void,
  ) {}

  /** Sends a frame as soon as that is safe. It is sent or copied when this returns. */
  send(frame: Uint8Array): void {
    const { position, safePosition } = this.durability;
    if (this.frames.length === 0 && safePosition >= position) return this.link.send(frame);
    this.frames.push(new Uint8Array(frame));
    this.positions.push(position);
    this.waitingBytes += frame.length;
    this.wait();
  }

  /** Ends the link behind the last frame. */
  end(): void {
    this.isEnding = true;
    if (this.frames.length === 0) this.link.end();
  }

  onSafe(): void {
    this.isWaiting = false;
    const { safePosition } = this.durability;
    let released = 0;
    while (released < this.frames.length && this.positions[released] <= safePosition) released++;
    for (const frame of this.frames.splice(0, released)) {
      this.waitingBytes -= frame.length;
      this.link.send(frame);
    }
    this.positions.splice(0, released);
    if (this.frames.length > 0) this.wait();
    else if (this.isEnding) this.link.end();
    else this.onReleased();
  }

  private wait(): void {
    if (this.isWaiting) return;
    this.isWaiting = true;
    this.durability.whenSafe(this);
  }
}

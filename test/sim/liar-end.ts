/** The liar's end of a session: the real one, given lies to say. */
import { FRAME_HEADER_BYTES } from "../../src/core/sync/frames.ts";
import { HELLO } from "../../src/core/sync/items.ts";
import { SyncSession, type SyncSessionOptions } from "../../src/core/sync/session.ts";
import type { Link, LinkHandler } from "../../src/ports.ts";

/** Where in a HELLO's frame the mode is: behind tag, magic and version. */
const MODE_AT = FRAME_HEADER_BYTES + 6;

/** See the file header. */
export class LiarEnd implements LinkHandler {
  /** As a responder: whether it says that the roots are equal, whatever they are. */
  saysEqual = false;
  private readonly session: SyncSession;
  private isOver = false;

  constructor(link: Link, options: Omit<SyncSessionOptions, "send" | "onEnd">) {
    this.session = new SyncSession({
      ...options,
      send: (frame) => link.send(this.changed(frame)),
      onEnd: () => {
        this.isOver = true;
        link.end();
      },
    });
  }

  /** Begins; who asked for the connection speaks first. */
  start(isInitiator: boolean): void {
    if (isInitiator) this.session.start();
    this.work();
  }

  receive(bytes: Uint8Array): void {
    if (this.isOver) return;
    this.session.receive(bytes);
    this.work();
  }

  drained(): void {}

  closed(): void {
    if (!this.isOver) this.session.close("the connection was lost");
  }

  private work(): void {
    while (!this.isOver && this.session.step());
  }

  private changed(frame: Uint8Array): Uint8Array {
    if (!this.saysEqual || frame[FRAME_HEADER_BYTES] !== HELLO) return frame;
    const changed = frame.slice();
    changed[MODE_AT] = 1;
    const checksum = Bun.hash.crc32(changed.subarray(FRAME_HEADER_BYTES));
    new DataView(changed.buffer).setUint32(4, checksum);
    return changed;
  }
}

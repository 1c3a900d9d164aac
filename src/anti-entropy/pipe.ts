/**
 * Passes a connection on to another node, byte by byte: so that whoever reaches this node, and not
 * that one, can look into it. Neither side is read faster than the other takes, and the pipe ends
 * with either, or when too little goes through it.
 */
import type { Link, LinkHandler } from "../ports.ts";
import { every, type Cancel, type Timing } from "../timing.ts";
import { SessionProgress } from "./session-progress.ts";

/** One side is read no more while so many bytes wait to be sent to the other. */
const MAX_QUEUED_BYTES = 65_536;

/** See the file header. It begins with one side, which is not read until the other is there. */
export class Pipe {
  private far: Link | null = null;
  /** What came before there was anywhere to send it: what was read together with the request. */
  private early: Uint8Array[] = [];
  private readonly progress: SessionProgress;
  private readonly cancelLook: Cancel;
  private movedBytes = 0;
  private isOver = false;
  private readonly over = Promise.withResolvers<void>();

  /** `silenceMs` as in SessionProgress. */
  constructor(
    private readonly near: Link,
    timing: Timing,
    silenceMs: number,
  ) {
    this.progress = new SessionProgress(silenceMs, timing.nowMs());
    near.pause();
    this.cancelLook = every(timing, silenceMs / 4, () => {
      if (this.progress.look(timing.nowMs(), this.movedBytes, false) !== null) this.end();
    });
  }

  /** Resolves when it has ended. */
  get ended(): Promise<void> {
    return this.over.promise;
  }

  /** Gets what comes from the side that was there first. */
  get nearHandler(): LinkHandler {
    return {
      receive: (bytes) => {
        if (this.far === null) this.early.push(new Uint8Array(bytes));
        else this.pass(bytes, this.near, this.far);
      },
      drained: () => this.far?.resume(),
      closed: () => this.end(),
    };
  }

  /** The other side is there; returns who gets what comes from it. */
  connect(far: Link): LinkHandler {
    const { near } = this;
    this.far = far;
    if (this.isOver) far.end();
    for (const bytes of this.early.splice(0)) this.pass(bytes, near, far);
    if (!this.isOver && far.queuedBytes <= MAX_QUEUED_BYTES) near.resume();
    return {
      receive: (bytes) => this.pass(bytes, far, near),
      drained: () => {
        if (!this.isOver) near.resume();
      },
      closed: () => this.end(),
    };
  }

  /** The other side cannot be reached; `line` is the last that the first one hears. */
  refuse(line: string): void {
    if (this.isOver) return;
    this.near.send(new TextEncoder().encode(line));
    this.end();
  }

  /** Ends both sides. */
  end(): void {
    if (this.isOver) return;
    this.isOver = true;
    this.cancelLook();
    this.near.end();
    this.far?.end();
    this.over.resolve();
  }

  private pass(bytes: Uint8Array, from: Link, to: Link): void {
    if (this.isOver) return;
    this.movedBytes += bytes.length;
    to.send(bytes);
    if (to.queuedBytes > MAX_QUEUED_BYTES) from.pause();
  }
}

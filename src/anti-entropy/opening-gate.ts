/**
 * Holds a connection that is to be passed on until whoever came has shown that he has the cluster
 * secret: so nobody else makes this node dial another, or uses it to talk to one.
 */
import type { Link, LinkHandler } from "../ports.ts";
import type { Cancel, Timing } from "../timing.ts";
import type { Rejection } from "./sealed-format.ts";
import { UnreadBytes } from "./unread-bytes.ts";

/** What one is made with. */
export interface OpeningGateOptions {
  readonly link: Link;
  readonly timing: Timing;
  /** How long whoever came may take to show it, in ms. */
  readonly patienceMs: number;
  /** What is to be thought of what came: null if it is well, "more" if that is not clear yet. */
  readonly examine: (bytes: Uint8Array) => Rejection | "more" | null;
  /** Passes the connection on; returns who gets what comes from now on. */
  readonly passOn: () => LinkHandler;
  /** The gate is open, or the connection over. `problem`: why it never opened; null if it did. */
  readonly onEnd: (problem: string | null) => void;
}

/** See the file header. */
export class OpeningGate implements LinkHandler {
  private readonly came = new UnreadBytes();
  private behind: LinkHandler | null = null;
  private isOver = false;
  private readonly cancel: Cancel;

  constructor(private readonly options: OpeningGateOptions) {
    const { timing, patienceMs, link } = options;
    const late = `${link.address} did not show the secret within ${patienceMs / 1000} s`;
    this.cancel = timing.after(patienceMs, () => this.close(late));
  }

  receive(bytes: Uint8Array): void {
    if (this.behind !== null) return this.behind.receive(bytes);
    if (this.isOver) return;
    this.came.push(bytes);
    const found = this.options.examine(this.came.bytes);
    if (found === "more") return this.came.settle();
    if (found === null) return this.open();
    if (found.reply.length > 0) this.options.link.send(found.reply);
    this.close(found.problem);
  }

  drained(): void {
    this.behind?.drained();
  }

  closed(): void {
    if (this.behind !== null) this.behind.closed();
    else this.finish("the connection was lost");
  }

  /** Ends the connection if it was not passed on yet. */
  close(problem: string): void {
    if (this.isOver) return;
    this.finish(problem);
    this.options.link.end();
  }

  private open(): void {
    this.finish(null);
    this.behind = this.options.passOn();
    this.behind.receive(this.came.bytes);
    this.forget();
  }

  private finish(problem: string | null): void {
    if (this.isOver) return;
    this.isOver = true;
    this.cancel();
    if (problem !== null) this.forget();
    this.options.onEnd(problem);
  }

  private forget(): void {
    this.came.skip(this.came.length);
    this.came.settle();
  }
}

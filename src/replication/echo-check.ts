/**
 * Whether this node is heard: it publishes an empty batch, and that has to come back to it. Some
 * brokers acknowledge what their access rules forbid, and grant subscriptions that they do not
 * serve. Only the message itself tells.
 *
 * A node that is not heard, or does not hear, which is the same from here, is checked again and
 * again, for the rules may be mended while it is connected.
 */
import type { Cancel, Timing } from "../timing.ts";
import type { PublishProblem } from "./transport.ts";

/** How long after its acknowledgement a message may take to come back, in ms. */
const RETURN_MS = 5_000;
/** While it does not: between two checks, and between two times that others are told, in ms. */
const CHECK_MS = 30_000;
const TELL_MS = 5_000;

/** What a check is made with. */
export interface EchoCheckOptions {
  readonly timing: Timing;
  /** Publishes an empty batch, as `Publisher.beat` does. */
  readonly beat: (acknowledged: (problem?: PublishProblem) => void) => number;
  /** Called when that is found, and again when it is found to be otherwise. */
  readonly onChange: (isHeard: boolean) => void;
  /** Called every few seconds while the node is not heard: others have to be told otherwise. */
  readonly onUnheard: () => void;
}

/** See the file header. */
export class EchoCheck {
  /** What was found; null on a connection where nothing is found yet. */
  private found: boolean | null = null;
  private cancelCheck: Cancel = () => {};
  private cancelTell: Cancel = () => {};

  constructor(private readonly options: EchoCheckOptions) {}

  /** Own messages come back on this connection. */
  get isHeard(): boolean {
    return this.found === true;
  }

  /** They do not, as far as is known. */
  get isUnheard(): boolean {
    return this.found === false;
  }

  /** Starts on a new connection. `mayHear`: the broker granted the subscription. */
  start(mayHear: boolean): void {
    this.stop();
    if (mayHear) this.check();
    else this.find(false);
  }

  /** The connection is over. */
  stop(): void {
    this.found = null;
    this.cancelCheck();
    this.cancelTell();
  }

  /** A batch of this node's came back. */
  noteHeard(): void {
    if (this.found === true) return;
    this.cancelCheck();
    this.find(true);
  }

  private check(): void {
    // Without an answer there is another check, and soon when other batches were under way.
    this.checkIn(CHECK_MS);
    const number = this.options.beat(() => {
      if (this.found === true) return;
      this.cancelCheck();
      this.cancelCheck = this.options.timing.after(RETURN_MS, () => this.find(false));
    });
    if (number === 0) this.checkIn(RETURN_MS);
  }

  private checkIn(delayMs: number): void {
    this.cancelCheck();
    this.cancelCheck = this.options.timing.after(delayMs, () => this.check());
  }

  private find(isHeard: boolean): void {
    const isNews = isHeard !== this.found;
    this.found = isHeard;
    if (isNews) this.options.onChange(isHeard);
    this.cancelTell();
    if (isHeard) return;
    this.checkIn(CHECK_MS);
    this.tell();
  }

  private tell(): void {
    this.options.onUnheard();
    this.cancelTell = this.options.timing.after(TELL_MS, () => this.tell());
  }
}

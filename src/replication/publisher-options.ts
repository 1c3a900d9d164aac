/** What a publisher is made with, and where its messages go. */
import type { Agreement } from "../core/data/capabilities.ts";
import type { Store } from "../core/store/store.ts";
import type { Timing } from "../timing.ts";
import type { Tracer } from "../tracer.ts";
import type { BatchFillerOptions, BatchLimits } from "./batch-filler.ts";
import type { PublishProblem } from "./transport.ts";

/** What waits, and for how long. */
export interface PublisherLimits extends BatchLimits {
  /** How long a write may wait for company, in ms. */
  readonly batchMs: number;
  /** A batch is closed when it is at least this long, in bytes. */
  readonly batchBytes: number;
  /** Most ids in the outbox. */
  readonly maxOutboxEvents: number;
}

/** What the publisher is made with. */
export interface PublisherOptions extends BatchFillerOptions {
  readonly store: Pick<Store, "read" | "floor" | "origin">;
  readonly limits: PublisherLimits;
  readonly timing: Timing;
  /** Calls back, in order, once all that is written by now is safe from a crash. */
  readonly whenSafe: (callback: () => void) => void;
  /** Nothing was published for a moment. */
  readonly onQuiet?: () => void;
  /** So many events will reach nobody over the broker, for this reason; others have to be told. */
  readonly onMissed?: (events: number, reason: string) => void;
  /** Told what becomes of traced writes; nobody is unless given. */
  readonly tracer?: Tracer;
}

/** Where messages go. */
export interface MessageSink {
  /** Most messages the broker takes unacknowledged. */
  readonly receiveMaximum: number;
  /** What is sent comes back, unless the broker drops it. */
  readonly isEchoing: boolean;
  /** In what way messages are to be written, for everybody who is there to read them. */
  readonly agreement: Agreement;
  /** Longest message the broker takes, in bytes, as far as is known; it may change. */
  readonly maxMessageBytes: number;
  /** Only so many messages may be sent in a second: each is to be as long as it may. */
  readonly isPaced: boolean;
  /** For how long nothing may be sent for that reason, in ms. */
  pauseMs(): number;
  /**
   * `acknowledged` is called once, with the problem when it was refused. `traceparent` is what the
   * broker may take part in a trace by.
   */
  send(
    message: Buffer,
    acknowledged: (problem?: PublishProblem) => void,
    traceparent?: string,
  ): void;
  /** A message of that length arrived. */
  notePassed(bytes: number): void;
  /** One of that length did not. False when its length cannot be why. */
  noteTooLong(bytes: number): boolean;
}

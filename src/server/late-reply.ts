/** A reply that is not ready when its command has run, or is sent in pieces. */
import type { ReplyContinuation } from "../commands/command.ts";
import type { Dialect, Reply } from "../protocol/reply.ts";

/** The one of a connection: it runs no further request meanwhile. */
export class LateReply {
  /** Whether a reply is still to come, or to be sent in part. */
  isPending = false;
  /** Memory kept for its request meanwhile, in bytes. */
  keptBytes = 0;
  private write: ReplyContinuation | null = null;
  private dialect: Dialect = 0;

  /** Whether some of it can be written now. */
  get isReady(): boolean {
    return this.write !== null;
  }

  /** Waits for a reply in this dialect. `onReady` is called once, when `isReady` could be set. */
  begin(
    execution: Promise<ReplyContinuation>,
    dialect: Dialect,
    keptBytes: number,
    onReady: (write: ReplyContinuation) => void,
  ): void {
    this.isPending = true;
    this.keptBytes = keptBytes;
    this.dialect = dialect;
    void execution.then(onReady);
  }

  /** The reply is there: `writeNext` may be called. */
  setReady(write: ReplyContinuation): void {
    this.write = write;
  }

  /** Writes the next piece, into a reply that is empty. True when there is more. */
  writeNext(reply: Reply): boolean {
    reply.dialect = this.dialect;
    const hasMore = this.write!(reply) === true;
    if (!hasMore) this.abandon();
    return hasMore;
  }

  /** Nothing of it is to be sent any more. */
  abandon(): void {
    this.write = null;
    this.isPending = false;
    this.keptBytes = 0;
  }
}

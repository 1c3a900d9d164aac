/**
 * The replies of a connection on their way out. A reply leaves when all that it may show is safe
 * from a crash, and as fast as the kernel accepts it; until then it is queued.
 */
import type { Socket } from "bun";
import type { Durability, SafeWaiter } from "../ports.ts";
import type { Reply } from "../protocol/reply.ts";
import { SendQueue } from "../send-queue.ts";

/** See the file header. */
export class ReplyOutput {
  private readonly queue: SendQueue;
  /** Where the journal stood before the requests being run now. */
  private positionBefore = 0;
  private isClosed = false;

  /** `waiter` is told when writes that a queued reply may show have become safe. */
  constructor(
    socket: Pick<Socket, "write" | "terminate">,
    private readonly durability: Durability,
    private readonly waiter: SafeWaiter,
  ) {
    this.queue = new SendQueue(socket, () => socket.terminate());
  }

  /** Bytes queued. */
  get length(): number {
    return this.queue.length;
  }

  /** Memory taken by what is queued. */
  get heldBytes(): number {
    return this.queue.heldBytes;
  }

  /** Whether what is next in the queue waits until writes are safe. */
  get isHeld(): boolean {
    return this.queue.isHeld(this.durability.safePosition);
  }

  /** Whether replies are queued because the client does not read. */
  get isUnread(): boolean {
    return this.queue.length > 0 && !this.isHeld;
  }

  /** Requests are about to be run, whose replies `send` gets. Returns the journal's position. */
  beginRun(): number {
    this.positionBefore = this.durability.position;
    return this.positionBefore;
  }

  /** Sends what a reply holds, as far as it may leave, and empties it. */
  send(reply: Reply): void {
    const { bytes, length } = reply;
    const position = this.positionToShow();
    const { safePosition } = this.durability;
    if (!reply.isLarge || this.isClosed) this.transmit(bytes, length, position);
    else {
      const sent = this.queue.trySend(bytes, length, position, safePosition);
      // Not copied: the buffer would not be kept anyway.
      if (sent < length) this.queue.queue(reply.handOver().subarray(sent), position);
    }
    reply.reset();
  }

  /** Sends the first `length` bytes, once the journal is safe up to a position. */
  transmit(bytes: Uint8Array, length = bytes.length, position = 0): void {
    if (!this.isClosed) this.queue.send(bytes, length, position, this.durability.safePosition);
  }

  /** Sends of the queue what may leave now. */
  flush(): void {
    this.queue.flush(this.durability.safePosition);
  }

  /** Nothing is sent any more but what is queued. */
  close(): void {
    this.isClosed = true;
  }

  /** Forgets what is queued. */
  clear(): void {
    this.isClosed = true;
    this.queue.clear();
  }

  /** How far the journal must be safe before what was just run may be shown. */
  private positionToShow(): number {
    const { durability } = this;
    const { position } = durability;
    if (durability.safePosition >= position) return 0;
    // What was read may be what another connection wrote. Reads are answered at once only while
    // nothing can be kept.
    if (durability.failure !== null && position === this.positionBefore) return 0;
    durability.whenSafe(this.waiter);
    return position;
  }
}

/**
 * A Link over another one, with all that is said sealed: what sessions of a cluster with a secret
 * talk over. `sealed-format.ts` says what goes over the wire, `peer-seal.ts` makes them.
 *
 * Everything that comes is opened in its order or ends the connection: what was left out, changed,
 * doubled or comes from elsewhere cannot be opened. That a stream breaks off can be seen by the
 * session, which knows what is still to come.
 */
import { releaseLarge } from "../core/bytes.ts";
import type { Link, LinkHandler } from "../ports.ts";
import { TAG_BYTES } from "../security/aead.ts";
import {
  HANDSHAKE_OVERHEAD_BYTES,
  MAX_MESSAGE_BYTES,
  type SessionKeys,
} from "../security/noise.ts";
import {
  LENGTH_BYTES,
  readU16,
  rejectDamaged,
  rejectMessage,
  type Objection,
  type Rejection,
} from "./sealed-format.ts";
import { UnreadBytes } from "./unread-bytes.ts";

/**
 * Most bytes in a message. A message is of use only when all of it has come, so over a slow line
 * it must not be long.
 */
const PIECE_BYTES = 16_384;
const OVERHEAD_BYTES = LENGTH_BYTES + TAG_BYTES;
/** Most bytes that ride in a message of the handshake. */
export const MOST_RIDING_BYTES = MAX_MESSAGE_BYTES - HANDSHAKE_OVERHEAD_BYTES;
const NOTHING = new Uint8Array(0);
const SPENT = "so much was said that its key is used up; what still differs is compared anew";

/** See the file header. It is the handler of the link below, and `handler` is the one above. */
export abstract class SealedLink implements Link, LinkHandler {
  /** Who gets what was opened; to be set before anything comes. */
  handler: LinkHandler | null = null;
  /** What was wrong with what came; null while nothing was. */
  problem: string | null = null;
  /** The id of the secret with which it is sealed; empty while it is not. */
  secretId = "";
  /** How many bytes more it sent than it was given. */
  sealingSent = 0;
  /** How many bytes more came than it passed on. */
  sealingReceived = 0;
  /** What came and is not opened yet. */
  protected readonly unopened = new UnreadBytes();
  /** What is to be sent once the handshake is done. */
  protected unsent: Uint8Array[] = [];
  private unsentBytes = 0;
  private keys: SessionKeys | null = null;
  private hasEnded = false;

  constructor(
    protected readonly link: Link,
    private readonly onObjection: (objection: Objection) => void,
  ) {}

  get address(): string {
    return this.link.address;
  }

  get queuedBytes(): number {
    return this.link.queuedBytes + this.unsentBytes;
  }

  send(bytes: Uint8Array): void {
    if (this.hasEnded) return;
    if (this.keys !== null) this.seal(bytes);
    else this.sendEarly(bytes);
  }

  pause(): void {
    this.link.pause();
  }

  resume(): void {
    this.link.resume();
  }

  end(): void {
    if (this.hasEnded) return;
    this.hasEnded = true;
    this.handler = null;
    this.endLink();
  }

  receive(bytes: Uint8Array): void {
    if (this.hasEnded) return;
    this.unopened.push(bytes);
    const isWaiting = this.keys === null && this.shakeHands();
    if (!isWaiting && this.keys !== null) this.open(this.keys);
    this.unopened.settle();
  }

  drained(): void {
    if (this.unsentBytes === 0) this.handler?.drained();
  }

  closed(reason?: string): void {
    this.hasEnded = true;
    const { handler } = this;
    this.handler = null;
    handler?.closed(reason);
  }

  /** Sends something, or keeps it, before the handshake is done. */
  protected abstract sendEarly(bytes: Uint8Array): void;

  /** Goes on with the handshake with what came. True when that was all that can be done now. */
  protected abstract shakeHands(): boolean;

  /** Ends the link below. */
  protected endLink(): void {
    this.link.end();
  }

  /** Keeps something until the handshake is done. The bytes are copied. */
  protected keep(bytes: Uint8Array): void {
    this.unsent.push(new Uint8Array(bytes));
    this.unsentBytes += bytes.length;
  }

  /** Takes what was kept. */
  protected takeKept(): Uint8Array {
    const kept = this.unsent.length === 1 ? this.unsent[0] : Buffer.concat(this.unsent);
    this.unsent = [];
    this.unsentBytes = 0;
    return kept;
  }

  /** The handshake is done: `kept` is what was to be sent and did not ride in it. */
  protected establish(keys: SessionKeys, kept: Uint8Array): void {
    this.keys = keys;
    if (kept.length > 0) this.seal(kept);
  }

  /** Passes on what was opened. */
  protected deliver(bytes: Uint8Array): void {
    if (bytes.length > 0) this.handler?.receive(bytes);
  }

  /** Ends it because of what came. */
  protected reject({ objection, problem, reply }: Rejection): void {
    if (this.hasEnded) return;
    this.onObjection(objection);
    if (reply.length > 0) this.link.send(reply);
    const { handler } = this;
    this.problem = problem;
    this.unopened.skip(this.unopened.length);
    this.end();
    handler?.closed(problem);
  }

  private seal(bytes: Uint8Array): void {
    const { send } = this.keys!;
    const pieces = Math.ceil(bytes.length / PIECE_BYTES);
    // Nothing goes out any more, and silence ends it.
    if (send.left < pieces) return void (this.problem = SPENT);
    const wire = Buffer.allocUnsafe(bytes.length + pieces * OVERHEAD_BYTES);
    let at = 0;
    for (let from = 0; from < bytes.length; from += PIECE_BYTES) {
      const message = send.encrypt(NOTHING, bytes.subarray(from, from + PIECE_BYTES));
      at = wire.writeUInt16BE(message.length, at);
      wire.set(message, at);
      at += message.length;
    }
    this.sealingSent += wire.length - bytes.length;
    this.link.send(wire);
  }

  private open({ receive }: SessionKeys): void {
    const unopened = this.unopened.bytes;
    const opened: Uint8Array[] = [];
    let rejection: Rejection | null = null;
    let at = 0;
    while (unopened.length - at >= LENGTH_BYTES && rejection === null) {
      const length = readU16(unopened, at);
      const end = at + LENGTH_BYTES + length;
      // Nobody sends an empty one for a good reason, and thousands could be opened in one turn.
      if (length <= TAG_BYTES) rejection = rejectDamaged();
      else if (end > unopened.length) break;
      else {
        const plain = receive.decrypt(NOTHING, unopened.subarray(at + LENGTH_BYTES, end));
        if (plain === null) rejection = rejectMessage("what it said");
        else opened.push(plain);
        at = end;
      }
    }
    this.unopened.skip(at);
    this.sealingReceived += opened.length * OVERHEAD_BYTES;
    const all = opened.length === 1 ? opened[0] : Buffer.concat(opened);
    this.deliver(all);
    for (const bytes of [...opened, all]) releaseLarge(bytes);
    if (rejection !== null) this.reject(rejection);
  }
}

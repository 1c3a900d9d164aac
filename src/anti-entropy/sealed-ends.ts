/** The two ends of a sealed link, which differ in how they shake hands. */
import type { Link } from "../ports.ts";
import type { HandshakeState } from "../security/noise.ts";
import * as format from "./sealed-format.ts";
import { MOST_RIDING_BYTES, SealedLink } from "./sealed-link.ts";

/** An opening that is what it should be. */
export interface Opening {
  /** Names the secret. */
  readonly keyId: string;
  /** The handshake, at its second message. */
  readonly handshake: HandshakeState;
  /** What rode in it. */
  readonly payload: Uint8Array;
  /** Its length with all that belongs to it. */
  readonly length: number;
}

/** The end of who calls. What it is given first rides in the opening. */
export class CallingLink extends SealedLink {
  private handshake: HandshakeState | null = null;

  /** `begin` makes an opening; `keyId` names the secret. */
  constructor(
    link: Link,
    onObjection: (objection: format.Objection) => void,
    private readonly begin: (payload: Uint8Array) => [Uint8Array, HandshakeState],
    keyId: string,
  ) {
    super(link, onObjection);
    this.secretId = keyId;
  }

  protected sendEarly(bytes: Uint8Array): void {
    if (this.handshake !== null) return this.keep(bytes);
    const riding = bytes.subarray(0, MOST_RIDING_BYTES);
    const [opening, handshake] = this.begin(riding);
    this.handshake = handshake;
    if (riding.length < bytes.length) this.keep(bytes.subarray(riding.length));
    this.sealingSent += opening.length - riding.length;
    this.link.send(opening);
  }

  protected shakeHands(): boolean {
    const { handshake } = this;
    const unopened = this.unopened.bytes;
    const first = unopened[0];
    if (first === format.REFUSAL) {
      if (unopened.length < format.REFUSAL_BYTES) return true;
      return this.rejectAll(format.rejectRefusal(unopened[1], this.secretId));
    }
    if (first !== format.ANSWER || handshake === null) {
      return this.rejectAll(format.rejectUnsealedAnswer());
    }
    const { ANSWER_HEADER_BYTES } = format;
    if (unopened.length < ANSWER_HEADER_BYTES) return true;
    const length = ANSWER_HEADER_BYTES + format.readU16(unopened, 1);
    if (unopened.length < length) return true;
    const riding = handshake.readMessage(unopened.subarray(ANSWER_HEADER_BYTES, length));
    if (riding === null) return this.rejectAll(format.rejectMessage("its answer"));
    this.unopened.skip(length);
    this.sealingReceived += length - riding.length;
    const kept = this.takeKept();
    this.establish(handshake.split(), kept);
    this.deliver(riding);
    if (kept.length > 0 && this.link.queuedBytes === 0) this.drained();
    return false;
  }

  private rejectAll(rejection: format.Rejection): true {
    this.reject(rejection);
    return true;
  }
}

/**
 * The end of who is called. What the session says at once to what rode in the opening rides in the
 * answer; if it says nothing yet, the answer goes out alone.
 */
export class AnsweringLink extends SealedLink {
  private isAnswering = false;
  private isPlain = false;
  private isEnding = false;

  /** `examine` says what is to be thought of how the other side begins. */
  constructor(
    link: Link,
    onObjection: (objection: format.Objection) => void,
    private readonly examine: (bytes: Uint8Array) => Opening | format.Rejection | "more" | "plain",
  ) {
    super(link, onObjection);
  }

  protected sendEarly(bytes: Uint8Array): void {
    if (this.isPlain) this.link.send(bytes);
    else if (this.isAnswering) this.keep(bytes);
    // Before it is known whether the other side can read it, there is nothing to say to it.
  }

  protected shakeHands(): boolean {
    if (this.isPlain) return this.passOn();
    const found = this.examine(this.unopened.bytes);
    if (found === "more") return true;
    if (found === "plain") {
      this.isPlain = true;
      return this.passOn();
    }
    if ("objection" in found) {
      this.reject(found);
      return true;
    }
    this.secretId = found.keyId;
    this.unopened.skip(found.length);
    this.sealingReceived += found.length - found.payload.length;
    this.isAnswering = true;
    this.deliver(found.payload);
    this.isAnswering = false;
    return this.answer(found.handshake);
  }

  protected override endLink(): void {
    // What the session said last is sent first.
    if (this.isAnswering) this.isEnding = true;
    else super.endLink();
  }

  private passOn(): true {
    const { bytes } = this.unopened;
    this.unopened.skip(bytes.length);
    this.deliver(bytes);
    return true;
  }

  /** True when there is no more to be done. */
  private answer(handshake: HandshakeState): boolean {
    const kept = this.takeKept();
    const riding = kept.subarray(0, MOST_RIDING_BYTES);
    const message = handshake.writeMessage(riding);
    if (message === null) {
      this.reject(format.rejectForged());
      if (this.isEnding) super.endLink();
      return true;
    }
    const header = format.answerHeader(message.length);
    this.sealingSent += header.length + message.length - riding.length;
    this.link.send(Buffer.concat([header, message]));
    this.establish(handshake.split(), kept.subarray(riding.length));
    if (this.isEnding) super.endLink();
    // What was kept counted as queued, and the link below need not have queued any of it.
    else if (kept.length > 0 && this.link.queuedBytes === 0) this.drained();
    return this.isEnding;
  }
}

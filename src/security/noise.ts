/**
 * Noise_NNpsk0_25519_AESGCM_SHA256, by revision 34 of the specification (noiseprotocol.org): two
 * sides that share a key become sure of each other with one message each, and have two new keys
 * then, one a direction, that are gone with the session.
 *
 *   → psk, e        the initiator's ephemeral key; what rides in it is protected by the shared key
 *   ← e, ee         the responder's; from here on both ephemeral keys protect what is said
 *
 * Whoever gets the shared key later reads nothing of old sessions but the first messages of
 * initiators. The first message can be said again by whoever has heard it; its answer is of no use
 * to him. Everything is given from outside: keys and the randomness of the ephemeral ones.
 */
import { createHash, hkdfSync } from "node:crypto";
import { KEY_BYTES, NONCE_BYTES, open, seal, TAG_BYTES } from "./aead.ts";
import { KeyPair, X25519_BYTES } from "./x25519.ts";

/** Longest message, in bytes. */
export const MAX_MESSAGE_BYTES = 65_535;
/** By how much each of the two handshake messages is longer than what rides in it. */
export const HANDSHAKE_OVERHEAD_BYTES = X25519_BYTES + TAG_BYTES;

const PROTOCOL_NAME = "Noise_NNpsk0_25519_AESGCM_SHA256";
const NOTHING = new Uint8Array(0);
/**
 * Most messages under one key. With 65,535 bytes each that is a tebibyte, of which an attacker
 * who sees all of it learns nothing but with a chance of 2^-57.
 */
const MAX_MESSAGES = 2 ** 24;

/**
 * One direction's key and the number of the next message, which is the nonce: it goes up with each
 * message that was sealed or opened, and the key is used no more before it could come again.
 */
export class CipherState {
  private count = 0;
  private readonly nonce = Buffer.alloc(NONCE_BYTES);

  constructor(private readonly key: Uint8Array) {}

  /** How many messages may still be sealed or opened with this key. */
  get left(): number {
    return MAX_MESSAGES - this.count;
  }

  /** Seals the next message. `clear` has to be the same for who opens it. */
  encrypt(clear: Uint8Array, plain: Uint8Array): Buffer {
    if (this.left <= 0) throw new Error("a key of a session is used up");
    return seal(this.key, this.nextNonce(), clear, plain);
  }

  /** Opens the next message; null if it is not what was sealed as that. */
  decrypt(clear: Uint8Array, sealed: Uint8Array): Buffer | null {
    if (this.left <= 0) return null;
    return open(this.key, this.nextNonce(), clear, sealed);
  }

  /**
   * After a message that could not be opened the number has gone up, too, unlike in the
   * specification: nothing is opened any more, whoever repeats the right one.
   */
  private nextNonce(): Uint8Array {
    // 32 bits of zeros, then the number in 64 bits, of which the upper ones stay 0.
    this.nonce.writeUInt32BE(this.count++, NONCE_BYTES - 4);
    return this.nonce;
  }
}

/** The chaining key, and the hash of all that was said. */
class SymmetricState {
  hash: Buffer = Buffer.from(PROTOCOL_NAME);
  private chainingKey: Buffer = this.hash;
  private cipher: CipherState | null = null;

  mixHash(bytes: Uint8Array): void {
    this.hash = createHash("sha256").update(this.hash).update(bytes).digest();
  }

  mixKey(material: Uint8Array): void {
    const [chainingKey, key] = this.derive(material, 2);
    this.chainingKey = chainingKey!;
    this.cipher = new CipherState(key);
  }

  mixKeyAndHash(material: Uint8Array): void {
    const [chainingKey, mixed, key] = this.derive(material, 3);
    this.chainingKey = chainingKey!;
    this.mixHash(mixed);
    this.cipher = new CipherState(key);
  }

  encryptAndHash(plain: Uint8Array): Buffer {
    const sealed = this.cipher!.encrypt(this.hash, plain);
    this.mixHash(sealed);
    return sealed;
  }

  decryptAndHash(sealed: Uint8Array): Buffer | null {
    const plain = this.cipher!.decrypt(this.hash, sealed);
    this.mixHash(sealed);
    return plain;
  }

  split(): [CipherState, CipherState] {
    const [first, second] = this.derive(NOTHING, 2);
    return [new CipherState(first), new CipherState(second)];
  }

  /** HKDF as Noise has it is that of RFC 5869 without an `info`. */
  private derive(material: Uint8Array, count: number): Buffer[] {
    const length = count * KEY_BYTES;
    const bytes = Buffer.from(hkdfSync("sha256", material, this.chainingKey, NOTHING, length));
    const keyAt = (at: number): Buffer => bytes.subarray(at * KEY_BYTES, (at + 1) * KEY_BYTES);
    return Array.from({ length: count }, (_, at) => keyAt(at));
  }
}

/** What a side of a handshake is made with. */
export interface HandshakeOptions {
  readonly role: "initiator" | "responder";
  /** What both sides have to have said or seen before: one that differs fails the handshake. */
  readonly prologue: Uint8Array;
  /** The shared key, 32 bytes. */
  readonly psk: Uint8Array;
  /** 32 random bytes that are used for nothing else. */
  readonly ephemeral: Uint8Array;
}

/** The keys of a session. */
export interface SessionKeys {
  readonly send: CipherState;
  readonly receive: CipherState;
}

/**
 * One side of a handshake: the initiator writes, then reads; the responder reads, then writes.
 * Calls in another order are mistakes in the program, and throw.
 */
export class HandshakeState {
  private readonly symmetric = new SymmetricState();
  private readonly isInitiator: boolean;
  private keyPair: KeyPair | null = null;
  private theirs: Uint8Array = NOTHING;
  private step: "first" | "second" | "done" | "failed" = "first";

  constructor(private readonly options: HandshakeOptions) {
    this.isInitiator = options.role === "initiator";
    this.symmetric.mixHash(options.prologue);
  }

  /** The hash of all that was said, which nobody in between can make the same for two sessions. */
  get hash(): Uint8Array {
    return this.symmetric.hash;
  }

  /** The other side's ephemeral key, once its message was read. */
  get theirEphemeral(): Uint8Array {
    return this.theirs;
  }

  /**
   * This side's message. Null if there can be none, because the other's ephemeral key was one that
   * no honest side has.
   */
  writeMessage(payload: Uint8Array): Buffer | null {
    if (payload.length > MAX_MESSAGE_BYTES - HANDSHAKE_OVERHEAD_BYTES) {
      throw new Error("more than a message of a handshake takes");
    }
    const { symmetric } = this;
    this.expect(this.isInitiator ? "first" : "second");
    if (this.isInitiator) symmetric.mixKeyAndHash(this.options.psk);
    const { publicBytes } = this.ownKeyPair();
    symmetric.mixHash(publicBytes);
    symmetric.mixKey(publicBytes);
    if (!this.isInitiator && !this.mixAgreed()) return null;
    this.step = this.isInitiator ? "second" : "done";
    return Buffer.concat([publicBytes, symmetric.encryptAndHash(payload)]);
  }

  /** What rides in the other side's message; null if it is none, or not of who has the key. */
  readMessage(message: Uint8Array): Buffer | null {
    const { symmetric } = this;
    this.expect(this.isInitiator ? "second" : "first");
    this.step = "failed";
    if (message.length < HANDSHAKE_OVERHEAD_BYTES || message.length > MAX_MESSAGE_BYTES) {
      return null;
    }
    if (!this.isInitiator) symmetric.mixKeyAndHash(this.options.psk);
    this.theirs = message.slice(0, X25519_BYTES);
    symmetric.mixHash(this.theirs);
    symmetric.mixKey(this.theirs);
    if (this.isInitiator && !this.mixAgreed()) return null;
    const payload = symmetric.decryptAndHash(message.subarray(X25519_BYTES));
    if (payload !== null) this.step = this.isInitiator ? "done" : "second";
    return payload;
  }

  /** The keys of the session, after both messages. */
  split(): SessionKeys {
    this.expect("done");
    const [fromInitiator, fromResponder] = this.symmetric.split();
    if (this.isInitiator) return { send: fromInitiator, receive: fromResponder };
    return { send: fromResponder, receive: fromInitiator };
  }

  /** False if nothing can be agreed on. */
  private mixAgreed(): boolean {
    const agreed = this.ownKeyPair().agree(this.theirs);
    if (agreed === null) this.step = "failed";
    else this.symmetric.mixKey(agreed);
    return agreed !== null;
  }

  /** Made only when needed: of a first message that cannot be opened nothing need be made. */
  private ownKeyPair(): KeyPair {
    return (this.keyPair ??= new KeyPair(this.options.ephemeral));
  }

  private expect(step: typeof this.step): void {
    if (this.step !== step) throw new Error(`a handshake is at "${this.step}", not at "${step}"`);
  }
}

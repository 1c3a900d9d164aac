/** X25519 (RFC 7748): what two sides agree on without having said it. */
import { createPrivateKey, createPublicKey, diffieHellman, type KeyObject } from "node:crypto";

/** Length of private and public keys, and of what is agreed on, in bytes. */
export const X25519_BYTES = 32;

/** What stands before the bytes of a key in DER (RFC 8410). */
const PRIVATE_HEADER = Buffer.from("302e020100300506032b656e04220420", "hex");
const PUBLIC_HEADER = Buffer.from("302a300506032b656e032100", "hex");

/** A private key, and the public one that goes with it. */
export class KeyPair {
  readonly publicBytes: Buffer;
  private readonly key: KeyObject;

  /** Any 32 bytes are a private key; nobody may be able to guess them. */
  constructor(privateBytes: Uint8Array) {
    if (privateBytes.length !== X25519_BYTES) throw new Error("a private key has 32 bytes");
    const der = Buffer.concat([PRIVATE_HEADER, privateBytes]);
    this.key = createPrivateKey({ key: der, format: "der", type: "pkcs8" });
    const spki = createPublicKey(this.key).export({ format: "der", type: "spki" });
    this.publicBytes = spki.subarray(PUBLIC_HEADER.length);
  }

  /**
   * What this side and the owner of that public key have in common, or null if it is one of the few
   * with which everybody would have the same.
   */
  agree(publicBytes: Uint8Array): Buffer | null {
    const der = Buffer.concat([PUBLIC_HEADER, publicBytes]);
    try {
      const publicKey = createPublicKey({ key: der, format: "der", type: "spki" });
      return diffieHellman({ privateKey: this.key, publicKey });
    } catch {
      return null;
    }
  }
}

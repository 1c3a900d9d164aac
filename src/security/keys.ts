/**
 * Secrets, and the keys that follow from them. A secret is text of at least 32 bytes that nobody
 * can guess. It is never a key itself: each purpose has a key of its own by HKDF (RFC 5869), so
 * that nothing sealed for one can be passed off as sealed for another.
 */
import { hkdfSync } from "node:crypto";
import { KEY_BYTES } from "./aead.ts";

/** Shortest secret, in bytes: a guess costs an attacker nothing, so a password will not do. */
export const MIN_SECRET_BYTES = 32;
/** Longest secret, in bytes. */
const MAX_SECRET_BYTES = 1024;
/** Length of a key id in bytes. */
export const KEY_ID_BYTES = 4;

const ID_PURPOSE = "merklekv key id";
const NOTHING = new Uint8Array(0);

/** A secret that was read, and its name in clear. */
export interface Secret {
  /** The secret itself: nothing may show it. */
  readonly bytes: Uint8Array;
  /** Names the secret, so that a reader with several knows which: 8 hexadecimal digits. */
  readonly id: string;
}

/** The secret that consists of these bytes; those at its ends that are white space do not count. */
export function secretOf(bytes: Uint8Array): Secret | { readonly problem: string } {
  const secret = trimmed(bytes);
  if (secret.length < MIN_SECRET_BYTES) {
    const found = secret.length === 0 ? "is empty" : `has ${secret.length} bytes`;
    return { problem: `${found}, but a secret has at least ${MIN_SECRET_BYTES}` };
  }
  if (secret.length > MAX_SECRET_BYTES) {
    return { problem: `has ${secret.length} bytes, but a secret has at most ${MAX_SECRET_BYTES}` };
  }
  const id = derive(secret, ID_PURPOSE, NOTHING, KEY_ID_BYTES).toString("hex");
  return { bytes: secret, id };
}

/**
 * The key of a secret for one purpose. `purpose` is a constant of the caller, and `context` what
 * sets this key apart from others for the same purpose, such as who seals with it.
 */
export function keyFor(secret: Secret, purpose: string, context: Uint8Array = NOTHING): Buffer {
  return derive(secret.bytes, `merklekv ${purpose}`, context, KEY_BYTES);
}

/** The text of a new secret, from 32 random bytes: letters, digits, "-" and "_". */
export function secretText(random: Uint8Array): string {
  if (random.length < MIN_SECRET_BYTES) throw new Error("a secret of too few random bytes");
  return Buffer.from(random).toString("base64url");
}

/** The purpose ends with a zero byte, so that no purpose and context read like another pair. */
function derive(secret: Uint8Array, purpose: string, context: Uint8Array, count: number): Buffer {
  const info = Buffer.concat([Buffer.from(`${purpose}\0`), context]);
  return Buffer.from(hkdfSync("sha256", secret, NOTHING, info, count));
}

function trimmed(bytes: Uint8Array): Uint8Array {
  let from = 0;
  let to = bytes.length;
  while (from < to && isSpace(bytes[from])) from++;
  while (to > from && isSpace(bytes[to - 1])) to--;
  return bytes.slice(from, to);
}

function isSpace(byte: number): boolean {
  return byte === 0x20 || (byte >= 0x09 && byte <= 0x0d);
}

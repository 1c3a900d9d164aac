/**
 * Sealing: AES-256-GCM, which keeps bytes secret and notices every change of them and of what is
 * said in clear beside them. Whoever seals sees to it that no nonce is used twice with one key:
 * with a second use both the secrecy and the proof are gone for that key.
 */
import { createCipheriv, createDecipheriv, type CipherGCM } from "node:crypto";

const CIPHER = "aes-256-gcm";
/** Length of a key in bytes. */
export const KEY_BYTES = 32;
/** Length of a nonce in bytes. */
export const NONCE_BYTES = 12;
/** By how much sealed bytes are longer than what they hold. */
export const TAG_BYTES = 16;
/** What is sealed or opened at once of what is long. */
const PIECE_BYTES = 64 * 1024;
const OPTIONS = { authTagLength: TAG_BYTES };

/**
 * Seals `plain`. `clear` is what the receiver has from elsewhere, such as a header: it is not in
 * the result, and must be the same when it is opened. Returns TAG_BYTES more than `plain` has.
 */
export function seal(
  key: Uint8Array,
  nonce: Uint8Array,
  clear: Uint8Array,
  plain: Uint8Array,
): Buffer {
  const sealed = Buffer.allocUnsafe(plain.length + TAG_BYTES);
  sealInto(key, nonce, clear, plain, sealed, 0);
  return sealed;
}

/** What `seal` sealed, or null if anything at all is not as it was. Never throws. */
export function open(
  key: Uint8Array,
  nonce: Uint8Array,
  clear: Uint8Array,
  sealed: Uint8Array,
): Buffer | null {
  const plain = Buffer.allocUnsafe(Math.max(0, sealed.length - TAG_BYTES));
  return openInto(key, nonce, clear, sealed, plain) ? plain : null;
}

/**
 * As `seal`, into `into` from `at` on, where there must be room for TAG_BYTES more than `plain`
 * has. Much faster for what is long: the system takes its time to hand out large pieces of memory,
 * so these go through small ones.
 */
export function sealInto(
  key: Uint8Array,
  nonce: Uint8Array,
  clear: Uint8Array,
  plain: Uint8Array,
  into: Uint8Array,
  at: number,
): void {
  const cipher: CipherGCM = createCipheriv(CIPHER, key, nonce, OPTIONS);
  cipher.setAAD(clear);
  for (let done = 0; done < plain.length; done += PIECE_BYTES) {
    into.set(cipher.update(plain.subarray(done, done + PIECE_BYTES)), at + done);
  }
  cipher.final();
  into.set(cipher.getAuthTag(), at + plain.length);
}

/**
 * As `open`, into the beginning of `into`: whether anything was opened. If not, nothing of what is
 * there may be used.
 */
export function openInto(
  key: Uint8Array,
  nonce: Uint8Array,
  clear: Uint8Array,
  sealed: Uint8Array,
  into: Uint8Array,
): boolean {
  const plainBytes = sealed.length - TAG_BYTES;
  if (plainBytes < 0) return false;
  const decipher = createDecipheriv(CIPHER, key, nonce, OPTIONS);
  decipher.setAAD(clear);
  decipher.setAuthTag(sealed.subarray(plainBytes));
  try {
    for (let done = 0; done < plainBytes; done += PIECE_BYTES) {
      const end = Math.min(done + PIECE_BYTES, plainBytes);
      into.set(decipher.update(sealed.subarray(done, end)), done);
    }
    decipher.final();
    return true;
  } catch {
    return false;
  }
}

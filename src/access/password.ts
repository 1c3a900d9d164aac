/**
 * Passwords, as they are kept: the SHA-256 of one in hexadecimal, as Redis writes it, or argon2id
 * in its own form (`$argon2id$v=19$m=65536,t=2,p=1$salt$hash`). The former is for passwords made by
 * chance, which no guessing finds; the latter makes each guess at a chosen one costly.
 */
import { createHash, timingSafeEqual } from "node:crypto";

/** A kept password that is one: 64 hexadecimal digits in lower case. */
const SHA256 = /^[0-9a-f]{64}$/;
const BASE64 = "[A-Za-z0-9+/]";
const ARGON2ID = new RegExp(
  `^\\$argon2id\\$v=19\\$m=(\\d{1,8}),t=(\\d{1,3}),p=(\\d{1,2})` +
    `\\$${BASE64}{11,86}\\$${BASE64}{16,86}$`,
);
/** What one check may cost: KiB of memory, and passes over it. */
const MAX_MEMORY_KIB = 1_048_576;
const MAX_PASSES = 64;
const MAX_LANES = 64;

/** Whether the text is the SHA-256 of a password as it is kept. */
export function isSha256(text: string): boolean {
  return SHA256.test(text);
}

/** Whether the text is an argon2id hash that can be checked, at a bearable cost. */
export function isArgon2id(text: string): boolean {
  const [, memory, passes, lanes] = ARGON2ID.exec(text) ?? [];
  if (memory === undefined) return false;
  const isCheap = Number(memory) <= MAX_MEMORY_KIB && Number(passes) <= MAX_PASSES;
  if (!isCheap || Number(passes) < 1 || Number(lanes) < 1 || Number(lanes) > MAX_LANES)
    return false;
  if (Number(memory) < 8 * Number(lanes)) return false;
  try {
    // Whether the library takes salt and hash: found out with parameters that cost nothing.
    const cheap = text.replace(/m=\d+,t=\d+/, `m=${8 * Number(lanes)},t=1`);
    Bun.password.verifySync("x", cheap, "argon2id");
    return true;
  } catch {
    return false;
  }
}

/** How a password is kept as SHA-256. */
export function sha256Of(password: Uint8Array): string {
  return createHash("sha256").update(password).digest("hex");
}

/** Whether two kept passwords are the same, in a time that does not tell where they differ. */
export function isSame(one: string, other: string): boolean {
  const [a, b] = [Buffer.from(one, "latin1"), Buffer.from(other, "latin1")];
  return a.length === b.length && timingSafeEqual(a, b);
}

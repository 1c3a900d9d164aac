/**
 * Checks passwords. SHA-256 is compared on the spot; argon2id, which takes long and much memory by
 * intention, off the thread and a few at a time. A password that argon2id has found right is
 * remembered by a hash with a key of this process, so that a fleet that comes back after a failure
 * does not wait for hundreds of checks.
 *
 * A name that does not exist costs as much as one that does: the time tells nothing.
 */
import { createHmac, timingSafeEqual } from "node:crypto";
import { isSame, sha256Of } from "./password.ts";
import type { User } from "./user.ts";

/** Argon2id checks at once. */
const AT_ONCE = 2;
/** As many may wait for theirs. */
const MAX_WAITING = 256;
/** Compared with when there is nobody of that name. */
const NOBODYS = "0".repeat(64);

/** How a login ended; `busy`: too many wait to be checked, and this one was not. */
export type LoginResult = "right" | "wrong" | "busy";

/** See the file header. */
export class Logins {
  private running = 0;
  private readonly waiting: (() => void)[] = [];

  /** `key` is of this process: 32 bytes that nobody can guess. */
  constructor(private readonly key: Uint8Array) {}

  /**
   * Whether that is a password of the user, which is null if there is none of the name; `decoy` is
   * checked then in its place, if any user has an argon2id password.
   */
  async check(user: User | null, password: Uint8Array, decoy: string | null): Promise<LoginResult> {
    const definition = user?.definition;
    const given = sha256Of(password);
    // All of them, so that the time does not tell which one it was.
    const those = definition === undefined ? [NOBODYS] : definition.sha256s;
    const isRight = those.map((kept) => isSame(kept, given)).includes(true);
    if (isRight && definition !== undefined) return "right";
    if (definition?.hasNoPassword) return "right";
    const slow = definition?.argon2ids ?? [];
    if (slow.length === 0) {
      const isChecked = decoy === null || (await this.verify(password, decoy)) !== null;
      return isChecked ? "wrong" : "busy";
    }
    for (const kept of slow) {
      if (this.isKnown(user!, kept, password)) return "right";
    }
    for (const kept of slow) {
      const isRight = await this.verify(password, kept);
      if (isRight === null) return "busy";
      if (!isRight) continue;
      if (user!.definition === definition) user!.known.set(kept, this.hash(password));
      return "right";
    }
    return "wrong";
  }

  private isKnown(user: User, kept: string, password: Uint8Array): boolean {
    const known = user.known.get(kept);
    return known !== undefined && timingSafeEqual(known, this.hash(password));
  }

  private hash(password: Uint8Array): Buffer {
    return createHmac("sha256", this.key).update(password).digest();
  }

  /** Null when it could not be checked. */
  private async verify(password: Uint8Array, kept: string): Promise<boolean | null> {
    if (this.running >= AT_ONCE) {
      if (this.waiting.length >= MAX_WAITING) return null;
      await new Promise<void>((resolve) => this.waiting.push(resolve));
    }
    this.running++;
    try {
      return await Bun.password.verify(password, kept, "argon2id");
    } catch {
      // An empty password, or a hash that only looked like one.
      return false;
    } finally {
      this.running--;
      this.waiting.shift()?.();
    }
  }
}

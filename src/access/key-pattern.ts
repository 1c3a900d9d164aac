/**
 * A pattern of keys that a user may read, write or both. Most patterns are a beginning and a star:
 * those, whole keys and the pattern of all keys are compared without the machinery of globs.
 */
import { Glob } from "../core/glob.ts";
import { READ, READ_WRITE, type KeyAccess } from "./permission.ts";

/**
 * Longest pattern in bytes. With many `?` or classes behind a star it costs as many comparisons
 * for each byte of a key, and the key is the client's to choose.
 */
export const MAX_KEY_PATTERN_BYTES = 1_024;

const SPECIAL = /[*?[\\]/;

/** See the file header. */
export class KeyPattern {
  private readonly bytes: Uint8Array;
  /** The pattern is these bytes and then anything; or these bytes alone. */
  private readonly isPrefix: boolean;
  private readonly isWhole: boolean;
  private readonly glob: Glob | null;

  /** `text` holds a byte a character. */
  constructor(
    readonly text: string,
    readonly access: KeyAccess,
  ) {
    this.isPrefix = text.endsWith("*") && !SPECIAL.test(text.slice(0, -1));
    this.isWhole = !SPECIAL.test(text);
    this.bytes = Buffer.from(this.isPrefix ? text.slice(0, -1) : text, "latin1");
    this.glob = this.isPrefix || this.isWhole ? null : new Glob(this.bytes);
  }

  /** Whether every key matches. */
  get isOfAll(): boolean {
    return this.isPrefix && this.bytes.length === 0;
  }

  /** Whether the key matches. */
  matches(key: Uint8Array, offset: number, length: number): boolean {
    if (this.glob !== null) return this.glob.matches(key, offset, length);
    const { bytes } = this;
    if (this.isWhole ? length !== bytes.length : length < bytes.length) return false;
    for (let i = 0; i < bytes.length; i++) if (key[offset + i] !== bytes[i]) return false;
    return true;
  }

  /** As it stands in a rule. */
  toString(): string {
    // After `~*`, which is all keys, no other pattern may follow.
    if (this.access === READ_WRITE) return this.text === "*" ? "%RW~*" : `~${this.text}`;
    return `%${this.access === READ ? "R" : "W"}~${this.text}`;
  }
}

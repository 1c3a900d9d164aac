/**
 * Keys to be fetched from one node: each once, however often it is written, and not without end.
 */

const MAX_KEYS = 1_024;
/**
 * Two of the longest. What is said to be at a few hundred nodes that are none has to fit in memory.
 */
const MAX_BYTES = 131_072;

/** See the file header. */
export class WaitingKeys {
  private readonly keys = new Map<string, Uint8Array>();
  private bytes = 0;

  /** Number of keys. */
  get size(): number {
    return this.keys.size;
  }

  /** Adds one. False when there are too many: then all has to be compared instead. */
  add(key: Uint8Array): boolean {
    const text = Buffer.from(key).toString("latin1");
    if (this.keys.has(text)) return true;
    if (this.keys.size >= MAX_KEYS || this.bytes + key.length > MAX_BYTES) return false;
    this.keys.set(text, key);
    this.bytes += key.length;
    return true;
  }

  /** Adds those of another. False when not all found room. */
  addAll(other: WaitingKeys): boolean {
    let isComplete = true;
    for (const key of other.keys.values()) isComplete = this.add(key) && isComplete;
    return isComplete;
  }

  /** All of them, in the order in which they came. */
  list(): Uint8Array[] {
    return [...this.keys.values()];
  }
}

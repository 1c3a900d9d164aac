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
  /** Null while there are none, as with most of a thousand peers. */
  private keys: Map<string, Uint8Array> | null = null;
  private bytes = 0;

  /** Number of keys. */
  get size(): number {
    return this.keys?.size ?? 0;
  }

  /** Adds one. False when there are too many: then all has to be compared instead. */
  add(key: Uint8Array): boolean {
    const text = Buffer.from(key).toString("latin1");
    const keys = (this.keys ??= new Map());
    if (keys.has(text)) return true;
    if (keys.size >= MAX_KEYS || this.bytes + key.length > MAX_BYTES) return false;
    keys.set(text, key);
    this.bytes += key.length;
    return true;
  }

  /** Adds those of another. False when not all found room. */
  addAll(other: WaitingKeys): boolean {
    let isComplete = true;
    for (const key of other.list()) isComplete = this.add(key) && isComplete;
    return isComplete;
  }

  /** All of them, in the order in which they came. */
  list(): Uint8Array[] {
    return this.keys === null ? [] : [...this.keys.values()];
  }
}

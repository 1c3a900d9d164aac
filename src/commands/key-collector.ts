/**
 * Keys gathered for a reply that begins with their number. They are copied into one
 * buffer, so that gathering may pause between slices while the store changes.
 */
export class KeyCollector {
  /** Number of keys gathered. */
  count = 0;
  /** More than `maxBytes` would be needed; the last keys were not added. */
  isFull = false;
  private bytes = new Uint8Array(1024);
  private length = 0;

  /** `maxBytes` bounds the reply that the keys will make. */
  constructor(private readonly maxBytes: number) {}

  /** Adds a key. */
  add(key: Uint8Array, offset: number, length: number): void {
    // A key costs its bytes, its length, and what a reply puts around it.
    const needed = this.length + 4 + length;
    if (needed + this.count * 12 > this.maxBytes) {
      this.isFull = true;
      return;
    }
    if (needed > this.bytes.length) {
      const larger = new Uint8Array(Math.max(this.bytes.length * 2, needed));
      larger.set(this.bytes.subarray(0, this.length));
      this.bytes = larger;
    }
    const at = this.length;
    this.bytes[at] = length >>> 24;
    this.bytes[at + 1] = length >>> 16;
    this.bytes[at + 2] = length >>> 8;
    this.bytes[at + 3] = length;
    for (let i = 0; i < length; i++) this.bytes[at + 4 + i] = key[offset + i]!;
    this.length = needed;
    this.count++;
  }

  /** Visits the keys in the order they were added. */
  forEach(visit: (bytes: Uint8Array, offset: number, length: number) => void): void {
    const { bytes } = this;
    for (let at = 0; at < this.length;) {
      const length =
        (bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!;
      visit(bytes, at + 4, length);
      at += 4 + length;
    }
  }
}

/** Lets other connections have their turn between two slices of a long command. */
export function nextSlice(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

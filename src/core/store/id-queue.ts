/** A queue of entry ids. It needs four bytes for each, and keeps its memory for later ones. */

/** First in, first out. */
export class IdQueue {
  private ids = new Int32Array(64);
  private head = 0;
  private tail = 0;

  /** How many wait. */
  get length(): number {
    return this.tail - this.head;
  }

  /** How many are behind an id pushed now, counting those taken since it was last empty. */
  get position(): number {
    return this.tail;
  }

  /** Appends an id. */
  push(id: number): void {
    if (this.tail === this.ids.length) {
      const larger = new Int32Array(this.tail * 2);
      larger.set(this.ids);
      this.ids = larger;
    }
    this.ids[this.tail++] = id;
  }

  /** Takes the first id; -1 when there is none, or when it was struck out. */
  shift(): number {
    if (this.head === this.tail) return -1;
    const id = this.ids[this.head++];
    if (this.head === this.tail) this.head = this.tail = 0;
    return id;
  }

  /** The id at an index counted from the first one ever pushed since it was last empty. */
  at(index: number): number {
    return this.ids[index];
  }

  /** Replaces the id there by -1. */
  strike(index: number): void {
    this.ids[index] = -1;
  }

  /** Takes all out. */
  clear(): void {
    this.head = this.tail = 0;
  }
}

/**
 * Who is being answered at a time, and what that takes. There are so many places, and so much
 * memory for what they hold: bodies that are still to come, and answers that are still to be read.
 * Whoever comes when all is taken is let in at the cost of the one who came first of those that
 * only wait for their client; so nobody keeps others out by sending, or reading, slowly or not at
 * all.
 */

/** One of them, to be left once. */
export interface Place {
  /** Whether the client is waited for. */
  readonly isWaiting: boolean;
  /**
   * From now on the client is waited for, and `cut` ends that; null when the node is at work.
   */
  waitsForClient(cut: (() => void) | null): void;
  /** Needs so many bytes more. False when there is no room for them. */
  grow(bytes: number): boolean;
  /** The answer is read, or nobody waits for it. May be called again. */
  leave(): void;
}

/** See the file header. */
export class Places {
  /** In the order in which they came. */
  private readonly taken = new Set<TakenPlace>();
  private bytes = 0;

  constructor(
    private readonly mostPlaces: number,
    private readonly mostBytes: number,
  ) {}

  /** A place for something of so many bytes; null when there is none. */
  take(bytes: number): Place | null {
    if (!this.makeRoom(1, bytes, null)) return null;
    const place = new TakenPlace(this, bytes);
    this.taken.add(place);
    this.bytes += bytes;
    return place;
  }

  /** Somebody needs so many bytes more. False when there is no room for them. */
  grow(place: TakenPlace, bytes: number): boolean {
    if (!this.taken.has(place) || !this.makeRoom(0, bytes, place)) return false;
    place.bytes += bytes;
    this.bytes += bytes;
    return true;
  }

  /** A place is free again. */
  leave(place: TakenPlace): void {
    if (this.taken.delete(place)) this.bytes -= place.bytes;
  }

  private makeRoom(places: number, bytes: number, besides: TakenPlace | null): boolean {
    const hasRoom = (): boolean =>
      this.taken.size + places <= this.mostPlaces && this.bytes + bytes <= this.mostBytes;
    if (bytes > this.mostBytes) return false;
    for (const place of this.taken) {
      if (hasRoom()) break;
      const { cut } = place;
      if (place === besides || cut === null) continue;
      this.leave(place);
      cut();
    }
    return hasRoom();
  }
}

class TakenPlace implements Place {
  cut: (() => void) | null = null;

  constructor(
    private readonly places: Places,
    public bytes: number,
  ) {}

  get isWaiting(): boolean {
    return this.cut !== null;
  }

  waitsForClient(cut: (() => void) | null): void {
    this.cut = cut;
  }

  grow(bytes: number): boolean {
    return this.places.grow(this, bytes);
  }

  leave(): void {
    this.places.leave(this);
  }
}

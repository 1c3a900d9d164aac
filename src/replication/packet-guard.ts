/**
 * Watches the bytes a client sends to the embedded broker for packets that are longer than the
 * broker takes: they are recognised by their first bytes, before the rest is kept anywhere. (MQTT
 * 3.1.1, section 2.2: a byte of type and flags, then the length in one to four bytes of 7 bits.)
 */

/** The unfinished packets of all connections, which share a bound: past it the largest goes. */
export class UnfinishedPackets {
  private bytes = 0;
  private readonly guards = new Set<PacketGuard>();

  /**
   * `maxBytes` tells what they may have together. `onDiscarded` is told how many bytes had come of
   * a packet that never comes to its end.
   */
  constructor(
    private readonly maxBytes: () => number,
    readonly onDiscarded: (bytes: number) => void = () => {},
  ) {}

  /** Bytes of all of them. */
  get size(): number {
    return this.bytes;
  }

  /** A connection's unfinished packet has grown, or shrunk, by so much. */
  change(guard: PacketGuard, bytes: number): void {
    this.bytes += bytes;
    if (guard.came > 0) this.guards.add(guard);
    else this.guards.delete(guard);
    while (this.bytes > this.maxBytes()) {
      let largest = guard;
      for (const other of this.guards) if (other.came > largest.came) largest = other;
      largest.end();
      largest.cut("it has most of all that is half sent");
    }
  }
}

/** Beyond four bytes of a length. */
const MAX_SHIFT = 128 ** 4;

/** One connection's packets. */
export class PacketGuard {
  /** Bytes of the packet under way that have come. */
  came = 0;
  /** Bytes of it that are still to come. */
  private missing = 0;
  /** How many bytes of a length there were, and the length so far; -1 before the type. */
  private lengthBytes = -1;
  private length = 0;
  private isOver = false;

  /** `cut` ends the connection, with the reason. */
  constructor(
    private readonly maxPacketBytes: number,
    private readonly unfinished: UnfinishedPackets,
    readonly cut: (problem: string) => void,
  ) {}

  /** Looks at the next bytes. False when the connection was cut for them. */
  look(chunk: Uint8Array): boolean {
    if (this.isOver) return false;
    const before = this.came;
    const problem = this.walk(chunk);
    this.unfinished.change(this, this.came - before);
    if (problem !== "") {
      this.end();
      this.cut(problem);
    }
    return !this.isOver;
  }

  /** How long the first packets of a chunk are, up to so many; all of it when there are fewer. */
  lengthOf(chunk: Uint8Array, packets: number): number {
    let at = this.missing;
    // In the middle of a length: a byte more, and then another look.
    if (this.lengthBytes >= 0) return Math.min(1, chunk.length);
    for (; packets > 0 && at < chunk.length; packets--) {
      let length = 0;
      let shift = 1;
      let byte = 0x80;
      for (at++; byte > 0x7f && at < chunk.length && shift < MAX_SHIFT; shift *= 128) {
        byte = chunk[at++];
        length += (byte & 0x7f) * shift;
      }
      at += length;
    }
    return Math.min(at, chunk.length);
  }

  /** The connection is over. */
  end(): void {
    if (this.isOver) return;
    this.isOver = true;
    const { came } = this;
    this.came = 0;
    this.unfinished.change(this, -came);
    if (came > 0) this.unfinished.onDiscarded(came);
  }

  private walk(chunk: Uint8Array): string {
    for (let at = 0; at < chunk.length;) {
      if (this.missing > 0) {
        const taken = Math.min(this.missing, chunk.length - at);
        at += taken;
        this.missing -= taken;
        this.came = this.missing === 0 ? 0 : this.came + taken;
        continue;
      }
      const byte = chunk[at++];
      if (this.lengthBytes++ < 0) continue; // the type
      this.length += (byte & 0x7f) * 128 ** (this.lengthBytes - 1);
      if (this.length > this.maxPacketBytes) return `a packet of ${this.length} bytes or more`;
      if (byte > 0x7f) {
        if (this.lengthBytes === 4) return "a length of more than four bytes";
        continue;
      }
      this.missing = this.length;
      this.length = 0;
      this.lengthBytes = -1;
    }
    return "";
  }
}

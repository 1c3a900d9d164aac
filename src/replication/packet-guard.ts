/**
 * Watches the bytes a client sends to the embedded broker for packets that are longer than the
 * broker takes: they are recognised by their first bytes, before the rest is kept anywhere. (MQTT
 * 3.1.1, section 2.2: a byte of type and flags, then the length in one to four bytes of 7 bits.)
 */

/** The unfinished packets of all connections, which share a bound. */
export class UnfinishedPackets {
  bytes = 0;

  /** `maxBytes` is for all of them together. */
  constructor(readonly maxBytes: number) {}
}

/** One connection's packets. */
export class PacketGuard {
  /** Bytes of the packet under way that have come, and that are still to come. */
  private came = 0;
  private missing = 0;
  /** How many bytes of a length there were, and the length so far; -1 before the type. */
  private lengthBytes = -1;
  private length = 0;

  constructor(
    private readonly maxPacketBytes: number,
    private readonly unfinished: UnfinishedPackets,
  ) {}

  /** Looks at the next bytes. What is wrong with them, or empty. */
  look(chunk: Uint8Array): string {
    this.unfinished.bytes -= this.came;
    const problem = this.walk(chunk);
    this.unfinished.bytes += this.came;
    if (problem !== "" || this.unfinished.bytes <= this.unfinished.maxBytes) return problem;
    return "too many packets are half sent";
  }

  /** The connection is over. */
  end(): void {
    this.unfinished.bytes -= this.came;
    this.came = 0;
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
      const byte = chunk[at++]!;
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

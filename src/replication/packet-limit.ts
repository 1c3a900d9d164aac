/**
 * How long a packet may be for the broker to take it: the least of what the configuration says,
 * what the broker announced (MQTT 5), and what was found out, for many brokers have a limit that
 * they do not announce.
 *
 * What is found out is halved with each packet that turns out to be too long, but never below what
 * was seen to pass. It is forgotten after a while: the broker may have been given another limit.
 */

/** How long what was found out is believed, in ms. */
const BELIEVED_MS = 3_600_000;
/** A packet that is no longer than this is not refused for its length, in bytes. */
const MIN_BYTES = 512;

/** See the file header. */
export class PacketLimit {
  private announcedBytes = Infinity;
  private foundBytes = Infinity;
  private foundAtMs = -Infinity;
  /** The longest that passed. */
  private passedBytes = 0;

  /** `configuredBytes`: at least MIN_BYTES. */
  constructor(
    private readonly configuredBytes: number,
    private readonly nowMs: () => number,
  ) {}

  /** Longest packet to be sent, in bytes. */
  get bytes(): number {
    if (this.nowMs() - this.foundAtMs > BELIEVED_MS) this.foundBytes = Infinity;
    return Math.min(this.configuredBytes, this.announcedBytes, this.foundBytes);
  }

  /** The broker said so on a new connection; Infinity when it says nothing. */
  announce(bytes: number): void {
    if (bytes === this.announcedBytes) return;
    this.announcedBytes = bytes;
    this.foundBytes = Infinity;
    this.passedBytes = 0;
  }

  /** A packet of that length has arrived. */
  notePassed(bytes: number): void {
    if (bytes > this.passedBytes) this.passedBytes = bytes;
  }

  /**
   * A packet of that length was not taken. False when its length cannot be why: longer ones
   * passed, or it is as short as a packet gets.
   */
  noteTooLong(bytes: number): boolean {
    if (bytes <= Math.max(this.passedBytes, MIN_BYTES)) return false;
    const half = Math.max(MIN_BYTES, this.passedBytes, Math.floor(bytes / 2));
    this.foundBytes = Math.min(this.bytes, half);
    this.foundAtMs = this.nowMs();
    return true;
  }
}

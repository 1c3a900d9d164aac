/** Requests that took long, the newest first, as `SLOWLOG` shows them. */

/** One of them. */
export interface SlowRequest {
  /** Counts up from the start of the node, also over `SLOWLOG RESET`. */
  readonly id: number;
  /** When it was done, in Unix seconds. */
  readonly atSeconds: number;
  /** How long it took, in microseconds. */
  readonly microseconds: number;
  /** Its name and arguments (`shown-request.ts`). */
  readonly parts: readonly Uint8Array[];
  /** Where its client is, and what that calls itself. */
  readonly address: string;
  readonly clientName: string;
}

/** By the names of the config file. */
export interface SlowLogSettings {
  /** Microseconds; 0 for every request, below 0 for none. */
  readonly log_slower_than: number;
  /** Requests that are kept. */
  readonly max_len: number;
}

/** How much of a request is kept. */
export const SLOW_LIMITS = { parts: 32, bytes: 128, totalBytes: 4_096 } as const;

/** See the file header. */
export class SlowLog {
  private entries: SlowRequest[] = [];
  private nextId = 0;
  private slowerThan = -1;
  private maxLength = 0;

  constructor(settings: SlowLogSettings) {
    this.configure(settings);
  }

  /** Takes other settings; what is too much by them is forgotten. */
  configure({ log_slower_than, max_len }: SlowLogSettings): void {
    this.slowerThan = log_slower_than;
    this.maxLength = max_len;
    this.trim();
  }

  /** From how many microseconds on a request is kept; infinite when none is. */
  get thresholdUs(): number {
    return this.slowerThan < 0 || this.maxLength === 0 ? Infinity : this.slowerThan;
  }

  /** How many there are. */
  get length(): number {
    return this.entries.length;
  }

  /** Requests that were ever kept. */
  get total(): number {
    return this.nextId;
  }

  /** Adds one. */
  add(request: Omit<SlowRequest, "id">): void {
    this.entries.unshift({ id: this.nextId++, ...request });
    this.trim();
  }

  /** The newest `count`. */
  newest(count: number): readonly SlowRequest[] {
    return this.entries.slice(0, count);
  }

  /** Forgets them all. */
  clear(): void {
    this.entries = [];
  }

  private trim(): void {
    this.entries.length = Math.min(this.entries.length, this.maxLength);
  }
}

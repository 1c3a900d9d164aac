/**
 * How much of a pipeline is worked through before others get their turn: about a quarter of a
 * millisecond, or a bound of bytes journalled and copied, which take time that a clock looked at
 * only now and then would miss.
 */

/** See the file header. */
export class PipelineSlice {
  private requests = 0;
  private beganMs = 0;
  private limitBytes = 0;

  constructor(private readonly nowMs: () => number) {}

  /** Begins one. `workBytes` counts what is journalled and copied, from any beginning. */
  begin(workBytes: number): void {
    this.requests = 0;
    this.limitBytes = workBytes + SLICE_BYTES;
  }

  /** Whether it is over; asked after every request. */
  isOver(workBytes: number): boolean {
    if (workBytes >= this.limitBytes) return true;
    if (++this.requests % REQUESTS_PER_LOOK !== 0) return false;
    const now = this.nowMs();
    if (this.requests > REQUESTS_PER_LOOK) return now - this.beganMs >= SLICE_MS;
    // Short runs, which are most, need no clock.
    this.beganMs = now;
    return false;
  }
}

const SLICE_MS = 0.25;
const SLICE_BYTES = 512 * 1024;
/** A look at the clock costs a tenth of a request. */
const REQUESTS_PER_LOOK = 16;

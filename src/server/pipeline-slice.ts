/**
 * How much of a pipeline is worked through before others get their turn: about a quarter of a
 * millisecond, or a bound of bytes worked on, which take time that a clock looked at only now and
 * then would miss. The clock is looked at after the 2nd, 4th, 8th and 16th request, and after every
 * 16 from there: so long requests are noticed after a few, and short ones hardly pay for it.
 * Whatever works on many bytes is looked at by itself.
 */

/** See the file header. */
export class PipelineSlice {
  private requests = 0;
  private nextLook = 0;
  private beganMs = 0;
  /** Where the bytes worked on end this slice, and where they ask for a look at the clock. */
  private limitBytes = 0;
  private lookBytes = 0;

  constructor(private readonly nowMs: () => number) {}

  /** Begins one. `workBytes` counts the bytes worked on, from any beginning. */
  begin(workBytes: number): void {
    this.requests = 0;
    this.beganMs = NOT_LOOKED;
    this.nextLook = FIRST_LOOK;
    this.limitBytes = workBytes + SLICE_BYTES;
    this.lookBytes = workBytes + BYTES_PER_LOOK;
  }

  /** Whether it is over; asked after every request. */
  isOver(workBytes: number): boolean {
    if (++this.requests < this.nextLook && workBytes < this.lookBytes) return false;
    if (workBytes >= this.limitBytes) return true;
    this.nextLook = this.requests + Math.min(this.requests, REQUESTS_PER_LOOK);
    this.lookBytes = workBytes + BYTES_PER_LOOK;
    const now = this.nowMs();
    if (this.beganMs >= 0) return now - this.beganMs >= SLICE_MS;
    // A single request, which most chunks are, needs no clock.
    this.beganMs = now;
    return false;
  }
}

const NOT_LOOKED = -1;
const SLICE_MS = 0.25;
const SLICE_BYTES = 512 * 1024;
/** A look at the clock costs a tenth of a request. */
const FIRST_LOOK = 2;
const REQUESTS_PER_LOOK = 16;
const BYTES_PER_LOOK = 16 * 1024;

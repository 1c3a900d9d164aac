/**
 * Frames that wait to be written to the log. Records that come while another frame is being written
 * share one; when the disk is slow, several of bounded length wait in a row. Buffers are used
 * again.
 */
import { FrameBuffer } from "./frame-buffer.ts";

/**
 * A frame takes no further record beyond this, which bounds what recovery holds in memory, and for
 * how long sealing holds up everything else.
 */
const FRAME_BYTES = 2 * 1024 * 1024;
/** Empty buffers kept. */
const KEPT_BUFFERS = 2;

/** A frame that is complete but for its header. */
export interface QueuedFrame {
  readonly buffer: FrameBuffer;
  /** Position after its last record. */
  readonly end: number;
}

/** See the file header. */
export class FrameQueue {
  /** Bytes of records ever added. */
  position = 0;
  private current = new FrameBuffer();
  private lengthBefore = 0;
  private readonly waiting: QueuedFrame[] = [];
  private readonly spare: FrameBuffer[] = [];

  /** The buffer to put the next record into; `end` follows at once. */
  begin(): FrameBuffer {
    if (this.current.length >= FRAME_BYTES) {
      this.waiting.push({ buffer: this.current, end: this.position });
      this.current = this.spare.pop() ?? new FrameBuffer();
    }
    this.lengthBefore = this.current.length;
    return this.current;
  }

  /** Counts what was added since `begin`. */
  end(): void {
    this.position += this.current.length - this.lengthBefore;
  }

  /** Takes the oldest frame, or null when there is none. */
  take(): QueuedFrame | null {
    const oldest = this.waiting.shift();
    if (oldest !== undefined) return oldest;
    if (this.current.isEmpty) return null;
    const frame = { buffer: this.current, end: this.position };
    this.current = this.spare.pop() ?? new FrameBuffer();
    return frame;
  }

  /** Takes back the buffer of a frame that has been written. */
  recycle({ buffer }: QueuedFrame): void {
    buffer.reset();
    if (this.spare.length < KEPT_BUFFERS) this.spare.push(buffer);
  }
}

/** A piece of a file in memory, that who reads the file moves along. */
import type { OpenFile } from "./file-system.ts";

/**
 * Read at once; more only for what is larger. Small enough to stay in the processor's cache, and
 * for the event loop to have its turn often enough.
 */
export const WINDOW_BYTES = 512 * 1024;
/** Room before what is read ahead, for what begins before it. */
const LEAD_BYTES = 256 * 1024;

/** A window that is moved to wherever one likes. */
export class FileWindow {
  bytes = new Uint8Array(0);
  /** Where in the file `bytes` would begin, and how many of them there are. */
  start = 0;
  length = 0;

  constructor(
    protected readonly file: OpenFile,
    protected readonly fileBytes: number,
  ) {}

  /** Whether so much from a position on is here. */
  holds(position: number, length: number): boolean {
    return position >= this.start && position + length <= this.start + this.length;
  }

  /** Loads a piece that starts at `position`; false when the file is too short for `length`. */
  async load(position: number, length: number): Promise<boolean> {
    if (position + length > this.fileBytes) return false;
    const wanted = Math.min(Math.max(length, WINDOW_BYTES), this.fileBytes - position);
    if (this.bytes.length < wanted || this.bytes.length > Math.max(wanted, WINDOW_BYTES) * 2) {
      this.bytes = new Uint8Array(wanted);
    }
    const got = await this.file.read(this.bytes.subarray(0, wanted), position);
    this.start = position;
    this.length = got;
    return got >= length;
  }
}

/**
 * A window for who goes through a file from its beginning to its end, and never looks back: while
 * one piece is gone through, the next is being read.
 */
export class WindowAhead extends FileWindow {
  /** The next piece, behind LEAD_BYTES; where in the file it starts; and until when it is read. */
  private next = new Uint8Array(0);
  private nextStart = 0;
  private reading: Promise<number> | null = null;

  override async load(position: number, length: number): Promise<boolean> {
    const { reading, nextStart } = this;
    const lead = nextStart - position;
    const isNext = reading !== null && lead >= 0 && lead <= LEAD_BYTES;
    if (!isNext || length > lead + WINDOW_BYTES) {
      await this.settled();
      const isThere = await super.load(position, length);
      this.readAhead(new Uint8Array(LEAD_BYTES + WINDOW_BYTES));
      return isThere;
    }
    const got = await reading;
    const { bytes, next } = this;
    const leadAt = position - this.start;
    next.set(bytes.subarray(leadAt, leadAt + lead), LEAD_BYTES - lead);
    this.bytes = next;
    this.start = nextStart - LEAD_BYTES;
    this.length = LEAD_BYTES + got;
    this.readAhead(bytes.length === next.length ? bytes : new Uint8Array(next.length));
    return got + lead >= length;
  }

  /** Resolves when nothing is being read. */
  async settled(): Promise<void> {
    await this.reading?.catch(() => {});
    this.reading = null;
  }

  private readAhead(into: Uint8Array<ArrayBuffer>): void {
    this.next = into;
    this.nextStart = this.start + this.length;
    this.reading = null;
    const wanted = Math.min(WINDOW_BYTES, this.fileBytes - this.nextStart);
    if (wanted <= 0) return;
    this.reading = this.file.read(into.subarray(LEAD_BYTES, LEAD_BYTES + wanted), this.nextStart);
    // The error is met by whoever loads this piece, and perhaps nobody does.
    this.reading.catch(() => {});
  }
}

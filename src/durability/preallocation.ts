/**
 * Space allocated ahead of the end of a log whose writes are made durable one by one, by filling it
 * with zeros. A write into space that is there changes neither the length nor the blocks of its
 * file, so the file system has nothing else to make durable, and it takes half the time.
 * (PostgreSQL does the same, `wal_init_zero`; RocksDB writes over old logs,
 * `recycle_log_file_num`.)
 *
 * Zeros are written and made durable in the background, well before they are needed. A reader skips
 * zeros at the end of a log, for nothing else is ever beyond what was written.
 */
import type { OpenFile } from "./file-system.ts";

/** As much as the file has is filled at once, within these limits: a little log takes little. */
const LEAST_BYTES = 1024 * 1024;
const MOST_BYTES = 8 * 1024 * 1024;
/** What is written at once, so that other writes need not wait for long. */
const PIECE = new Uint8Array(1024 * 1024);

/** See the file header. */
export class Preallocation {
  private filling: Promise<void> | null = null;
  private isGivenUp = false;

  /**
   * `file` is open for writes that are not durable by themselves, and has `endBytes`; it is
   * filled up to `limitBytes`.
   */
  constructor(
    private readonly file: OpenFile,
    private endBytes: number,
    private readonly limitBytes: number,
  ) {}

  /**
   * To be awaited before a write that ends at `endBytes`: zeros are not written over it then. Fills
   * more in the background when less than half a filling is left.
   */
  async prepare(endBytes: number): Promise<void> {
    // The write goes beyond what is filled, so it must not meet what is being filled.
    if (endBytes > this.endBytes) {
      await this.filling;
      this.endBytes = Math.max(this.endBytes, endBytes);
    }
    if (this.filling !== null || this.isGivenUp) return;
    const from = this.endBytes;
    const length = Math.min(Math.max(from, LEAST_BYTES), MOST_BYTES, this.limitBytes - from);
    if (length > 0 && from - endBytes < length / 2) this.filling = this.fill(from, from + length);
  }

  /**
   * Takes away what is beyond `endBytes`, durably, and fills no more. May be repeated after an
   * error.
   */
  async end(endBytes: number): Promise<void> {
    this.isGivenUp = true;
    await this.filling;
    if (this.endBytes <= endBytes) return;
    await this.file.truncate(endBytes);
    await this.file.sync();
    this.endBytes = endBytes;
  }

  async close(): Promise<void> {
    this.isGivenUp = true;
    await this.filling;
    await this.file.close();
  }

  private async fill(from: number, to: number): Promise<void> {
    try {
      for (let at = from; at < to && !this.isGivenUp; at += PIECE.length) {
        await this.file.write(PIECE.subarray(0, to - at), at);
      }
      await this.file.sync();
      this.endBytes = to;
    } catch {
      // Writes do without; if something is wrong with the disk, they meet it themselves.
      this.isGivenUp = true;
      await this.file.truncate(from).catch(() => {});
    } finally {
      this.filling = null;
    }
  }
}

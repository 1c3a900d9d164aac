/**
 * Zeros ahead of the end of a log whose writes are made durable one by one. A write that changes
 * neither the length nor the blocks of its file leaves the file system nothing to note besides
 * and takes a disk half the time. (PostgreSQL fills its log with zeros for that, `wal_init_zero`, and
 * RocksDB writes over old ones, `recycle_log_file_num`.)
 *
 * Zeros are laid and made durable in the background, well before they are needed. Nothing else
 * may be beyond what was written, so a reader takes zeros at the end of a log for nothing.
 */
import type { OpenFile } from "./file-system.ts";

/** As much as the file has is laid at once, within these limits: a little log takes little. */
const LEAST_BYTES = 1024 * 1024;
const MOST_BYTES = 8 * 1024 * 1024;
/** What is written at once, so that other writes need not wait for long. */
const PIECE = new Uint8Array(1024 * 1024);

/** See the file header. */
export class Runway {
  private laying: Promise<void> | null = null;
  private isGivenUp = false;

  /**
   * `file` is open for writes that are not durable by themselves, and has `endBytes`; zeros are
   * laid up to `limitBytes` of it.
   */
  constructor(
    private readonly file: OpenFile,
    private endBytes: number,
    private readonly limitBytes: number,
  ) {}

  /** To be awaited before a write that ends at `endBytes`: zeros do not come in its way then. */
  async clear(endBytes: number): Promise<void> {
    if (endBytes > this.endBytes) {
      await this.laying;
      this.endBytes = Math.max(this.endBytes, endBytes);
    }
    if (this.laying !== null || this.isGivenUp) return;
    const from = this.endBytes;
    const length = Math.min(Math.max(from, LEAST_BYTES), MOST_BYTES, this.limitBytes - from);
    if (length > 0 && from - endBytes < length / 2) this.laying = this.lay(from, from + length);
  }

  /** Takes away what is beyond `endBytes`, durably, and lays no more. May be repeated after an error. */
  async end(endBytes: number): Promise<void> {
    this.isGivenUp = true;
    await this.laying;
    if (this.endBytes <= endBytes) return;
    await this.file.truncate(endBytes);
    await this.file.sync();
    this.endBytes = endBytes;
  }

  async close(): Promise<void> {
    this.isGivenUp = true;
    await this.laying;
    await this.file.close();
  }

  private async lay(from: number, to: number): Promise<void> {
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
      this.laying = null;
    }
  }
}

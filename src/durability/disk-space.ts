/** How much of the disk is free where the data is. */
import { gauge, type Fact } from "../fact.ts";
import type { FileSystem } from "./file-system.ts";

/** Asks the system, which may take its time, and tells what it said last. */
export class DiskSpace {
  /** For INFO. */
  static readonly facts: readonly Fact<DiskSpace>[] = [
    gauge(
      "disk_free_bytes",
      "bytes",
      "Free where `storage.path` is, as it was found when this was asked for before.",
      (it) => it.look(),
    ),
  ];

  private freeBytes: number | null = null;
  private isLooking = false;

  constructor(
    private readonly files: FileSystem,
    private readonly path: string,
  ) {
    this.look();
  }

  /** What was found last, in bytes; null before, and where there is no such place. */
  look(): number | null {
    if (!this.isLooking) void this.ask();
    return this.freeBytes;
  }

  private async ask(): Promise<void> {
    this.isLooking = true;
    this.freeBytes = await this.files.freeBytes(this.path).catch(() => null);
    this.isLooking = false;
  }
}

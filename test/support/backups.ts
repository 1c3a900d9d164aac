/** The backups of a store on a simulated disk, made on command and kept. */
import { Backups, type BackupOptions } from "../../src/durability/backup.ts";
import { silentLogger } from "../../src/observability/log.ts";
import { eventLoop } from "../../src/world.ts";
import type { SimulatedDisk } from "./simulated-disk.ts";

/** They are in `/backups`. */
export function backupsOf(
  files: SimulatedDisk,
  { store, metadata }: Pick<BackupOptions, "store" | "metadata">,
  more: Partial<BackupOptions> = {},
): Backups {
  return new Backups({
    files,
    timing: eventLoop,
    store,
    nodeId: "n1",
    metadata,
    directory: "/backups",
    intervalHours: 0,
    keep: 0,
    maxCount: 100,
    minFreeBytes: 0,
    logger: silentLogger,
    ...more,
  });
}

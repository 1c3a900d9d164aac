/** How the disk does where a node keeps its data: free space, and how long a sync takes. */
import { dirname, join } from "node:path";
import type { Config } from "../config/schema.ts";
import { explainError, realFileSystem } from "../durability/file-system.ts";
import { realWorld } from "../world.ts";
import type { Look } from "./findings.ts";

const MIB = 1_048_576;
const TRIALS = 16;
const TRIAL_BYTES = 4_096;
/** A sync that takes longer makes writes wait, with `storage.fsync = "always"`. */
const SLOW_SYNC_MS = 20;

/** Writes a little where the data is, and removes it. */
export async function diskFindings({ storage }: Config): Promise<Look[]> {
  const at = "disk";
  if (storage.engine === "memory" || !storage.persistence_enabled) {
    return [{ at, result: "ok", what: "the data is in memory only", advice: "" }];
  }
  const isThere = (await realFileSystem.sizeOf(storage.path).catch(() => -1)) >= 0;
  const directory = isThere ? storage.path : dirname(storage.path);
  try {
    const free = await realFileSystem.freeBytes(directory);
    const syncMs = await medianSyncMs(directory);
    const freeMb = Math.round(free / MIB);
    const what = `${freeMb} MiB are free at ${directory}, and a sync takes ${syncMs.toFixed(1)} ms`;
    const advice = adviceOn(freeMb, syncMs, storage);
    return [{ at, result: advice === "" ? "ok" : "warning", what, advice }];
  } catch (error) {
    const what = `cannot write at ${directory}: ${explainError(error)}`;
    return [{ at, result: "warning", what, advice: "give the node's user the right to" }];
  }
}

function adviceOn(freeMb: number, syncMs: number, storage: Config["storage"]): string {
  if (freeMb < 2 * storage.min_free_mb) {
    return "make room, for backups need storage.min_free_mb beside them";
  }
  if (syncMs < SLOW_SYNC_MS) return "";
  return storage.fsync === "always"
    ? 'every write waits for it: use a faster disk, or storage.fsync = "everysec"'
    : "the disk is slow or busy: use a faster one, or one of its own";
}

async function medianSyncMs(directory: string): Promise<number> {
  const path = join(directory, `doctor-${crypto.randomUUID()}.tmp`);
  const { nowMs } = realWorld.timing;
  const file = await realFileSystem.open(path, "create");
  try {
    const tookMs: number[] = [];
    for (let i = 0; i < TRIALS; i++) {
      const beganMs = nowMs();
      await file.write(new Uint8Array(TRIAL_BYTES), i * TRIAL_BYTES);
      await file.sync();
      tookMs.push(nowMs() - beganMs);
    }
    return tookMs.sort((a, b) => a - b)[TRIALS / 2];
  } finally {
    await file.close();
    await realFileSystem.remove(path);
  }
}

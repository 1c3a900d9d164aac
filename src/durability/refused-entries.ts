/**
 * Entries of a data directory that the store's gate does not take: written by a faulty version, or
 * made on purpose. A node that would not start for one of them could never be started again,
 * so it starts without them, and says so. Their bytes are kept, as they were, in a file of the
 * form of a backup, named after its contents: starting twice makes one file. A version that takes
 * them restores it like any other backup.
 */
import { join } from "node:path";
import { Entry } from "../core/data/entry.ts";
import { OperationalError } from "../operational-error.ts";
import { withExplanation, type FileSystem } from "./file-system.ts";
import { writeWholeFile } from "./file-writer.ts";
import { FILE_BACKUP } from "./record.ts";
import type { DirectorySeals } from "./sealing.ts";

/** More than this is no odd entry any more; `check --fix` takes any number. */
const MAX_BYTES = 256 * 1024 * 1024;
const SHOWN_KEY_BYTES = 64;

/** What was set aside. */
export interface RefusedReport {
  readonly entries: number;
  /** Where their bytes are. */
  readonly file: string;
  /** The first of them: its key, shortened, and what is wrong with it. */
  readonly firstKey: string;
  readonly because: string;
}

/** Gathers entries that are refused during a recovery. */
export class RefusedEntries {
  private readonly entries: Entry[] = [];
  private bytes = 0;
  private because = "";

  constructor(private readonly directory: string) {}

  /** Takes a copy. Throws an OperationalError when there are too many for an accident. */
  add(entry: Entry, because: string): void {
    if (this.entries.length === 0) this.because = because;
    this.bytes += entry.keyLength + entry.valueLength;
    if (this.bytes > MAX_BYTES) {
      throw new OperationalError(
        `too much in ${this.directory} is refused, the first entry because ${this.because}; run ` +
          `merklekv check --fix ${this.directory}`,
      );
    }
    this.entries.push(entry.clone());
  }

  /** Writes what was gathered. Null when there was nothing. Throws an OperationalError. */
  async keep(
    files: FileSystem,
    nodeId: string,
    seals: DirectorySeals,
  ): Promise<RefusedReport | null> {
    const { entries, directory, because } = this;
    if (entries.length === 0) return null;
    const file = join(directory, `refused-${this.fingerprint()}.mkv`);
    const identity = { fileKind: FILE_BACKUP, number: 0, nodeId } as const;
    const writing = writeWholeFile(files, file, identity, seals, async (writer) => {
      for (const entry of entries) {
        writer.buffer.addEntry(entry);
        await writer.append();
      }
      await writer.end();
    });
    await withExplanation(`write ${file}`, writing);
    return { entries: entries.length, file, firstKey: shownKey(entries[0]), because };
  }

  private fingerprint(): string {
    const hash = new Bun.SHA256();
    for (const entry of this.entries) hash.update(entry.key).update(entry.value);
    return hash.digest("hex").slice(0, 12);
  }
}

function shownKey(entry: Entry): string {
  const text = new TextDecoder().decode(entry.keyBytes().subarray(0, SHOWN_KEY_BYTES));
  return entry.keyLength > SHOWN_KEY_BYTES ? `${text}…` : text;
}

/**
 * Brings back what a data directory holds: the newest snapshot, then every log segment after
 * it, all through the store's gate.
 *
 * A bad frame at the end of the last segment, if nothing from there on had been durable, is what
 * a crash leaves: it is cut off and reported. Anything else that is not as it was written is
 * damage, and then nothing is recovered at all: a DamageError names file and byte.
 *
 * An entry that is whole and yet none that a store takes is set aside (`refused-entries.ts`).
 *
 * What the newest snapshot stands for is removed then; what a `restore` or `check --fix` had still
 * to put aside when it was killed is put aside.
 */
import { join } from "node:path";
import { flawOf } from "../core/data/entry-check.ts";
import { PREFETCH_KEYS } from "../core/store/keyed-entries.ts";
import { REFUSED_INVALID } from "../core/store/outcome.ts";
import type { Pieces } from "../core/store/pieces.ts";
import type { Store } from "../core/store/store.ts";
import { OperationalError } from "../operational-error.ts";
import { isTornEnd, readDataFile, type DataSink, type FileReading } from "./data-file.ts";
import {
  ALONE_METADATA,
  DamageError,
  listDataFiles,
  planOf,
  segmentPath,
  snapshotPath,
  type DataPlan,
} from "./data-directory.ts";
import { withExplanation, type FileSystem } from "./file-system.ts";
import { Metadata } from "./metadata.ts";
import { ENTRY_RECORD_BYTES, FILE_LOG, FILE_SNAPSHOT } from "./record.ts";
import { RefusedEntries, type RefusedReport } from "./refused-entries.ts";
import { moveAside } from "./salvage.ts";
import type { DirectorySeals } from "./sealing.ts";
import type { SegmentEnd } from "./segment.ts";
import { ENTRIES_METADATA, readEntries, restoreStoreMetadata } from "./store-metadata.ts";
import { nextTurn, type Timing } from "../timing.ts";

/** How long the event loop is held at a time, about, in ms: who asks how it goes gets an answer. */
const SLICE_MS = 4;
/**
 * What is expected at most in a snapshot that does not say how many entries it holds, for each that
 * was read, and how soon more.
 */
const EXPECTED_TIMES = 4;
const EXPECTED_SHARE = 0.9;

/** Where recovered data goes. */
export type RecoveryTarget = Pick<
  Store,
  | "beginRecovery"
  | "endRecovery"
  | "expect"
  | "apply"
  | "applyExpiry"
  | "applyFloor"
  | "prefetch"
  | "dropAgain"
  | "patchAgain"
  | "clock"
  | "deletions"
>;

/** How far recovery has come. */
export interface RecoveryProgress {
  readonly bytesRead: number;
  readonly bytesTotal: number;
  readonly entries: number;
}

/** What was found. */
export interface Recovered {
  readonly metadata: Metadata;
  /** The segment to go on with; null when there is none. */
  readonly lastSegment: SegmentEnd | null;
  /** The number the next segment gets. */
  readonly nextSegment: number;
  /** Length of the snapshot, 0 when there is none. */
  readonly snapshotBytes: number;
  /** Length of all segments together. */
  readonly logBytes: number;
  /** Entries read, some of them more than once by key. */
  readonly entries: number;
  /** Bytes that a crash left unfinished at the end of the log, cut off now. */
  readonly tornBytes: number;
  /** What was set aside because no store accepts it; null when there was nothing. */
  readonly refused: RefusedReport | null;
  /** Whether the node had been stopped in good order. True for a new directory. */
  readonly wasStoppedCleanly: boolean;
}

/** What recovery is made with. */
export interface RecoveryOptions {
  readonly files: FileSystem;
  readonly directory: string;
  readonly seals: DirectorySeals;
  readonly nodeId: string;
  readonly target: RecoveryTarget;
  readonly onProgress: (progress: RecoveryProgress) => void;
  readonly timing: Timing;
}

/**
 * Recovers a directory that is there and locked. Throws a DamageError, or another
 * OperationalError when the data is somebody else's or cannot be read.
 */
export async function recover(options: RecoveryOptions): Promise<Recovered> {
  const present = await listDataFiles(options.files, options.directory);
  const plan = planOf(present);
  const { files, directory, target, timing } = options;
  // Names that an earlier process did not live to make durable.
  await withExplanation(`sync ${directory}`, files.syncDirectory(directory));
  const recovery = new Recovery(options, plan);
  target.beginRecovery();
  const recovered = await recovery.run();
  await inSlices(target.endRecovery(), timing);
  const unfinished = present.unfinished.map((name) => join(directory, name));
  const older = [
    ...present.snapshots
      .filter((number) => number < plan.snapshot)
      .map((number) => snapshotPath(directory, number)),
    ...present.segments
      .filter((number) => number < plan.snapshot)
      .map((number) => segmentPath(directory, number)),
  ];
  if (recovery.isAlone && older.length > 0) {
    const aside = moveAside(files, directory, new Date(target.clock.nowMs()));
    await withExplanation(`put aside what was in ${directory}`, aside);
    older.length = 0;
  }
  for (const path of [...unfinished, ...older]) {
    await withExplanation(`remove ${path}`, files.remove(path));
  }
  return recovered;
}

async function inSlices(pieces: Pieces<void>, timing: Timing): Promise<void> {
  for (let untilMs = timing.nowMs() + SLICE_MS; pieces.next().done !== true;) {
    if (timing.nowMs() < untilMs) continue;
    await nextTurn(timing);
    untilMs = timing.nowMs() + SLICE_MS;
  }
}

class Recovery {
  /** Whether the snapshot stands alone and no node has gone on from it yet. */
  isAlone = false;
  private readonly metadata = new Metadata();
  private readonly refused: RefusedEntries;
  private readonly sink: DataSink;
  /** For each key that is looked up ahead, where it is. */
  private readonly inputs = new Array<Uint8Array>(PREFETCH_KEYS);
  private entries = 0;
  private bytesDone = 0;
  private bytesTotal = 0;
  private snapshotBytes = 0;
  /** How many entries the store has made room for. */
  private expected = 0;

  constructor(
    private readonly options: RecoveryOptions,
    private readonly plan: DataPlan,
  ) {
    const { target } = options;
    this.refused = new RefusedEntries(options.directory);
    this.sink = {
      entry: (entry) => {
        this.entries++;
        const outcome = target.apply(entry);
        if (outcome >= 0) return;
        if (outcome === REFUSED_INVALID) return this.refused.add(entry, flawOf(entry)!);
        // Whatever else is refused elsewhere, for its time or its size, is taken in a recovery.
        throw new OperationalError(`no memory for the data (${outcome})`);
      },
      floor: (floor) => {
        const { timeHigh, timeLow, originHigh, originLow } = floor;
        target.applyFloor(timeHigh, timeLow, originHigh, originLow);
      },
      ahead: (bytes, starts, lengths, count) => {
        target.prefetch(this.inputs.fill(bytes), starts, lengths, count);
      },
      metadata: (name, value) => {
        if (name === ENTRIES_METADATA) this.expectAtOnce(readEntries(value));
        else this.metadata.set(name, value);
      },
      drop: (entry) => target.dropAgain(entry),
      patch: (patch) => {
        const flaw = flawOf(patch.entry);
        if (flaw !== null) return this.refused.add(patch.entry, flaw);
        target.patchAgain(patch);
      },
      // Of a key that is not there, for it was dropped, there is nothing to expire.
      expiry: (entry) => void target.applyExpiry(entry),
    };
  }

  async run(): Promise<Recovered> {
    const { directory, files, seals, nodeId, target } = this.options;
    const { snapshot, segments } = this.plan;
    const paths = segments.map((number) => segmentPath(directory, number));
    if (snapshot > 0) paths.unshift(snapshotPath(directory, snapshot));
    for (const path of paths) {
      this.bytesTotal += Math.max(0, await withExplanation(`look at ${path}`, files.sizeOf(path)));
    }

    if (snapshot > 0) await this.readSnapshot(snapshot);
    const { snapshotBytes } = this;
    this.isAlone = this.metadata.has(ALONE_METADATA) && segments.length === 0;
    const missingSegment = this.plan.missingSegment(this.metadata);
    if (missingSegment > 0) {
      const path = segmentPath(directory, missingSegment);
      throw new DamageError(path, 0, "it is missing", directory);
    }
    // From now on a log goes with it.
    this.metadata.set(ALONE_METADATA, new Uint8Array(0));
    let last: FileReading | null = null;
    let tornBytes = 0;
    for (const number of segments) {
      const isLast = number === segments.at(-1);
      last = await this.readSegment(number, isLast);
      if (isLast) tornBytes = await this.cutTornEnd(number, last);
    }
    restoreStoreMetadata(this.metadata.all(), target);
    const lastNumber = segments.at(-1) ?? 0;
    return {
      metadata: this.metadata,
      // One of which not even the head is good is started again.
      lastSegment:
        last === null || last.goodBytes === 0
          ? null
          : {
              number: lastNumber,
              bytes: last.goodBytes,
              records: last.records,
              syncedBytes: last.syncedBytes,
              formatVersion: last.head?.formatVersion ?? 0,
              seal: last.seal,
            },
      nextSegment: last?.goodBytes === 0 ? lastNumber : Math.max(lastNumber + 1, snapshot, 1),
      snapshotBytes,
      logBytes: this.bytesDone - snapshotBytes,
      entries: this.entries,
      tornBytes,
      refused: await this.refused.keep(files, nodeId, seals),
      wasStoppedCleanly: last === null || last.isEnded,
    };
  }

  private async readSnapshot(number: number): Promise<void> {
    const { directory, files } = this.options;
    const path = snapshotPath(directory, number);
    this.snapshotBytes = await withExplanation(`look at ${path}`, files.sizeOf(path));
    const reading = await this.read(path, FILE_SNAPSHOT, number);
    if (reading.flaw !== null) throw this.damage(path, reading);
    this.snapshotBytes = reading.fileBytes;
  }

  private async readSegment(number: number, isLast: boolean): Promise<FileReading> {
    const { files, directory } = this.options;
    const path = segmentPath(directory, number);
    const reading = await this.read(path, FILE_LOG, number);
    if (isLast && reading.flaw !== null && (await isTornEnd(files, path, reading))) return reading;
    if (reading.flaw !== null) throw this.damage(path, reading);
    if (!isLast && !reading.isEnded) {
      throw this.damage(path, { ...reading, flaw: "it has no end, yet another segment follows" });
    }
    return reading;
  }

  private async read(path: string, fileKind: 1 | 2, number: number): Promise<FileReading> {
    const { files, seals, nodeId, onProgress } = this.options;
    const report = (bytesInFile: number): void => {
      const bytesRead = this.bytesDone + bytesInFile;
      onProgress({ bytesRead, bytesTotal: this.bytesTotal, entries: this.entries });
      if (fileKind === FILE_SNAPSHOT) this.expectMore(bytesInFile);
    };
    const expected = { fileKind, number, nodeId };
    const reading = await readDataFile(files, path, seals, expected, this.sink, report);
    this.bytesDone += reading.goodBytes;
    return reading;
  }

  /** Has the store make room for so many entries, if a snapshot can hold them. */
  private expectAtOnce(told: number): void {
    const count = Math.min(told, this.snapshotBytes / (ENTRY_RECORD_BYTES + 1));
    if (this.entries > 0 || count === 0) return;
    this.expected = Infinity;
    this.options.target.expect(count);
  }

  /**
   * Has the store make room for what the rest of the snapshot will bring, if that is like what came
   * so far. In case it is not, and just the largest values are still to come, it is not for more
   * than some times what is there.
   */
  private expectMore(bytesInFile: number): void {
    const { entries } = this;
    if (entries < EXPECTED_SHARE * this.expected || bytesInFile === 0) return;
    const likely = entries * (this.snapshotBytes / bytesInFile);
    this.expected = Math.min(likely, EXPECTED_TIMES * entries);
    this.options.target.expect(this.expected);
  }

  private async cutTornEnd(number: number, reading: FileReading): Promise<number> {
    const { files, directory } = this.options;
    const path = segmentPath(directory, number);
    if ((await files.sizeOf(path)) === reading.goodBytes) return 0;
    const cut = async (): Promise<void> => {
      const file = await files.open(path, "change");
      try {
        await file.truncate(reading.goodBytes);
        await file.sync();
      } finally {
        await file.close();
      }
    };
    await withExplanation(`cut the unfinished end of ${path}`, cut());
    return reading.fileBytes - reading.goodBytes;
  }

  private damage(path: string, { goodBytes, flaw }: FileReading): DamageError {
    return new DamageError(path, goodBytes, flaw!, this.options.directory);
  }
}

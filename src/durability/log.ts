/**
 * The journal on disk: an append-only log in segments, and snapshots that replace what is old. What
 * is written of each change is said in `log-records.ts`; here it is when and where.
 *
 * Group commit: one write is under way at any time, and all records that come meanwhile share
 * the next frame. So a commit costs the same for one record as for a thousand, and the
 * event loop never waits for the disk.
 *
 * - `always`: a write returns when it is on disk, and that makes its records safe.
 * - `everysec`: a write makes records safe from the death of the process, and a sync every
 *   second makes them safe from a power cut.
 * - `never`: likewise, but when to sync is left to the operating system, except at the end of
 *   a segment.
 *
 * While a snapshot is written, commits wait for it once it lags far behind: see `compaction.ts`.
 *
 * A write that fails is tried again, same bytes in the same place, until it succeeds; until
 * then nothing new is taken (see `Journal.failure`). After a failed sync nothing is written any
 * more. Nothing fails when somebody removes the directory, or puts another in its place: the files
 * that are open are written on, and gone with the process. So once a second the log looks whether
 * the segment is still found under its name, and takes no writes while it is not.
 *
 * Invariants
 * - The queued frames and the one under way hold exactly the records between `safePosition`
 *   and `position`.
 * - All segments but the last have an end and are durable.
 * - Before a snapshot is begun, so is the segment with its number.
 */
import type { SafeWaiter } from "../ports.ts";
import type { ChangeObserver } from "../core/store/outcome.ts";
import type { Store } from "../core/store/store.ts";
import { Histogram, WAIT_BOUNDS_MS } from "../histogram.ts";
import type { Logger } from "../observability/log.ts";
import { OperationalError } from "../operational-error.ts";
import { Compaction } from "./compaction.ts";
import { segmentPath } from "./data-directory.ts";
import type { FileSystem } from "./file-system.ts";
import { FORMAT_VERSION } from "./frame.ts";
import { FrameQueue } from "./frame-queue.ts";
import type { Journal, JournalFailure } from "./journal.ts";
import { LogRecords } from "./log-records.ts";
import type { Recovered } from "./recovery.ts";
import { FrameBuffer } from "./frame-buffer.ts";
import { NO_KEY, type DirectorySeals } from "./sealing.ts";
import { Segment, SegmentGone, type SegmentOptions } from "./segment.ts";
import type { SnapshotSource } from "./snapshot.ts";
import { CLOCK_METADATA, FSYNC_METADATA, clockMetadata } from "./store-metadata.ts";
import type { Timing } from "../timing.ts";
import { failureOf } from "./write-failure.ts";
import { WaiterQueue } from "./waiter-queue.ts";

/** When a record is on disk; see the file header. */
export type FsyncMode = "always" | "everysec" | "never";

/** Another segment is begun when one is this long. */
const SEGMENT_BYTES = 64 * 1024 * 1024;
const TICK_MS = 1_000;
const RETRY_EVERY_MS = 500;
/** How often commits that wait for a snapshot look whether they may go on. */
const LOOK_EVERY_MS = 1;
/** A log below this share of the snapshot before it is left as it is by whoever says SNAPSHOT. */
const NEGLIGIBLE_SHARE = 0.01;
/** The clock that is noted with a sync is ahead, so that it holds until the next one. */
const CLOCK_AHEAD_MS = 2 * TICK_MS;

/** What a log is made with. */
export interface LogOptions {
  readonly files: FileSystem;
  readonly directory: string;
  readonly seals: DirectorySeals;
  readonly nodeId: string;
  readonly fsync: FsyncMode;
  readonly store: SnapshotSource & Pick<Store, "bytes" | "deletions">;
  readonly logger: Logger;
  readonly timing: Timing;
  /** When to begin another segment, in bytes. */
  readonly segmentBytes?: number;
  /** Called when nothing touches the directory any more. */
  readonly onClosed: () => void;
}

/** How a log stands now, and what it was brought back from, for INFO and metrics. */
export interface LogFigures {
  readonly fsync: FsyncMode;
  /** Why no writes are taken, or "ok". */
  readonly failure: JournalFailure["kind"] | "ok";
  readonly segmentNumber: number;
  /** Of all segments. */
  readonly logBytes: number;
  /** Written and not yet safe. */
  readonly waitingBytes: number;
  readonly seals: DirectorySeals;
  readonly compaction: Compaction;
  readonly isCompacting: boolean;
  readonly recovered: Recovered;
  readonly writeTimes: Histogram;
  readonly syncTimes: Histogram;
}

/** The log; see the file header. */
export class LogJournal implements Journal {
  readonly engine = "log";
  safePosition = 0;
  failure: JournalFailure | null = null;
  onFailureChange = (): void => {};

  private readonly frames = new FrameQueue();
  private readonly records: LogRecords;
  private readonly waiters = new WaiterQueue();
  private readonly compaction: Compaction;
  private readonly segmentOptions: SegmentOptions;
  private readonly segmentBytes: number;
  private isWriteDue = false;
  private isWriting = false;
  /** Settles when the last writing ended. */
  private writing: Promise<void> = Promise.resolve();
  private compacting: Promise<void> | null = null;
  /** Set while somebody waits for another segment. */
  private segmentWanted: PromiseWithResolvers<void> | null = null;
  /** Bytes in all segments, and in those before the last one. */
  private logBytes: number;
  private olderBytes = 0;
  private tickedPosition = 0;
  /** Where the log was when the last snapshot was begun that was finished. */
  private compactedPosition = -Infinity;
  private cancelTick = (): void => {};
  private isClosing = false;
  /** The segment was not found under its name when it was last looked for. */
  private isGone = false;
  /**
   * The segment was begun in an older format, which has no names for what may come, or is not
   * sealed with the current key.
   */
  private isOutdated: boolean;

  private readonly writeTimes = new Histogram(WAIT_BOUNDS_MS);
  private readonly syncTimes = new Histogram(WAIT_BOUNDS_MS);

  private constructor(
    private readonly options: LogOptions,
    private segment: Segment,
    private readonly recovered: Recovered,
  ) {
    this.segmentOptions = segmentOptionsOf(options);
    this.segmentBytes = this.segmentOptions.segmentBytes;
    this.isOutdated = !isAsNew(recovered, options.seals);
    this.logBytes = recovered.logBytes;
    this.records = new LogRecords(options.store, this.frames, recovered.metadata, () =>
      this.added(),
    );
    this.compaction = new Compaction(
      {
        ...options,
        segmentBytes: this.segmentBytes,
        metadata: () => this.records.allMetadata(),
        clockAheadMs: options.fsync === "everysec" ? CLOCK_AHEAD_MS : 0,
      },
      recovered.snapshotBytes,
    );
    this.tickLater();
  }

  /** Goes on where recovery ended. Rejects with a system error. */
  static async open(options: LogOptions, recovered: Recovered): Promise<LogJournal> {
    const { lastSegment, nextSegment } = recovered;
    const number = lastSegment?.number ?? nextSegment;
    const path = segmentPath(options.directory, number);
    const segment =
      lastSegment === null
        ? await Segment.create(segmentOptionsOf(options), path, number)
        : await Segment.reopen(segmentOptionsOf(options), path, lastSegment);
    // Durable before anybody is served: else a power cut could take all of this run, and the end
    // of the one before would look as if nothing had been said since.
    if (lastSegment !== null && recovered.wasStoppedCleanly) {
      const begun = new FrameBuffer();
      begun.addMetadata(CLOCK_METADATA, clockMetadata(options.store.clock));
      begun.addMetadata(FSYNC_METADATA, new TextEncoder().encode(options.fsync));
      await segment.append(begun);
      await segment.sync();
    }
    const journal = new LogJournal(options, segment, recovered);
    journal.logBytes += segment.bytes - (lastSegment?.bytes ?? 0);
    return journal;
  }

  get observer(): ChangeObserver {
    return this.records.observer;
  }

  get position(): number {
    return this.frames.position;
  }

  /** How it stands now. */
  get figures(): LogFigures {
    const { logBytes, compaction, recovered, writeTimes, syncTimes } = this;
    return {
      ...{ logBytes, compaction, recovered, writeTimes, syncTimes },
      fsync: this.options.fsync,
      failure: this.failure?.kind ?? "ok",
      segmentNumber: this.segment.number,
      waitingBytes: this.position - this.safePosition,
      seals: this.options.seals,
      isCompacting: this.compacting !== null,
    };
  }

  whenSafe(waiter: SafeWaiter): void {
    if (this.safePosition === this.position) queueMicrotask(() => waiter.onSafe());
    else this.waiters.add(this.position, waiter);
  }

  metadata(name: string): Uint8Array | undefined {
    return this.records.metadata(name);
  }

  setMetadata(name: string, value: Uint8Array): void {
    this.records.setMetadata(name, value);
  }

  followMetadata(name: string, read: () => Uint8Array): void {
    this.records.followMetadata(name, read);
  }

  allMetadata(): ReadonlyMap<string, Uint8Array> {
    return this.records.allMetadata();
  }

  compact(): Promise<void> {
    if (this.isCompact()) return Promise.resolve();
    this.compacting ??= this.compactNow().finally(() => (this.compacting = null));
    return this.compacting;
  }

  async close(): Promise<void> {
    if (this.isClosing) return;
    this.cancelTick();
    if (this.failure === null) {
      this.records.noteMetadata();
      this.records.noteClock();
    }
    this.isClosing = true;
    await this.compacting?.catch(() => {});
    this.startWriting();
    await this.writing;
    try {
      if (this.failure === null) await this.segment.end();
    } catch (error) {
      this.fail(error);
    } finally {
      await this.segment.close().catch(() => {});
      this.options.onClosed();
    }
  }

  // Writing.

  /** There is a record more. */
  private added(): void {
    if (this.isWriteDue || this.isWriting) return;
    this.isWriteDue = true;
    // At the end of this turn of the event loop: what arrived with it shares the frame.
    this.options.timing.soon(() => this.startWriting());
  }

  private startWriting(): void {
    this.isWriteDue = false;
    if (this.isWriting || this.failure?.isPassing === false) return;
    this.isWriting = true;
    this.writing = this.writeAll();
  }

  /** Writes until nothing waits any more, or nothing can be written any more. */
  private async writeAll(): Promise<void> {
    for (;;) {
      if (this.compaction.isOutgrown()) {
        if (!(await this.retry(() => this.pause(LOOK_EVERY_MS)))) break;
        continue;
      }
      const isFull = this.segment.bytes >= this.segmentBytes;
      if (this.segmentWanted !== null || isFull || this.isOutdated) {
        if (!(await this.retry(() => this.beginSegment()))) break;
      }
      const frame = this.frames.take();
      if (frame === null) break;
      const bytesBefore = this.segment.bytes;
      const append = (): Promise<void> => this.segment.append(frame.buffer);
      if (!(await this.retry(() => this.timed(append, this.writeTimes)))) break;
      this.logBytes += this.segment.bytes - bytesBefore;
      this.frames.recycle(frame);
      this.safePosition = frame.end;
      this.waiters.release(frame.end);
      if (this.compacting === null && this.compaction.isDue(this.logBytes)) this.compactDue();
    }
    // At once: between the last look and here nothing was awaited, so nothing is missed.
    this.isWriting = false;
  }

  private pause(ms: number): Promise<void> {
    return new Promise((resolve) => this.options.timing.after(ms, resolve));
  }

  /** Repeats a step until it succeeds; false when there is no use, or no time, for that. */
  private async retry(step: () => Promise<void>): Promise<boolean> {
    for (;;) {
      try {
        if (this.isGone) await this.segment.checkPlace();
        this.isGone = false;
        await step();
        // A sync may have failed beside it, and after that no success means anything.
        if (this.failure?.isPassing === false) break;
        if (this.failure !== null && !this.isGone) this.resume();
        return true;
      } catch (error) {
        this.fail(error);
        if (this.isClosing || this.failure?.isPassing === false) break;
        await this.pause(RETRY_EVERY_MS);
      }
    }
    this.segmentWanted?.reject(new OperationalError(this.failure!.message));
    this.segmentWanted = null;
    return false;
  }

  /** Ends the segment and begins the next. May be repeated after a failure. */
  private async beginSegment(): Promise<void> {
    const old = this.segment;
    // What is begun in another directory would not follow on anything there.
    await old.checkPlace();
    await old.end();
    const path = segmentPath(this.options.directory, old.number + 1);
    this.segment = await Segment.create(this.segmentOptions, path, old.number + 1);
    this.isOutdated = false;
    this.olderBytes = this.logBytes;
    this.logBytes += this.segment.bytes;
    await old.close();
    this.segmentWanted?.resolve();
    this.segmentWanted = null;
  }

  // What is done once a second.

  private tickLater(): void {
    this.cancelTick = this.options.timing.after(TICK_MS, () => {
      this.tickLater();
      if (this.failure === null || this.isGone) this.look();
      if (this.failure === null) this.tick();
      // What was written before the disk filled up has its second all the same.
      else if (this.failure.isPassing && this.options.fsync === "everysec") this.sync();
    });
  }

  private tick(): void {
    // New metadata are reason enough to sync. To peers this node vouched for what it knew at a
    // contact, and so it has to know after a power cut when that was, however little is written.
    this.records.noteMetadata();
    const isIdle = this.position === this.tickedPosition;
    if (this.options.fsync === "everysec" && !isIdle) {
      this.records.noteClock(CLOCK_AHEAD_MS);
      this.whenSafe({ onSafe: () => this.sync() });
    }
    this.tickedPosition = this.position;
  }

  /** Looks whether the segment is still where it is found after a restart. */
  private look(): void {
    const { segment } = this;
    const isOver = (): boolean => segment !== this.segment || this.isClosing;
    segment.checkPlace().then(
      () => {
        // Who writes finds out, and goes on, by itself.
        if (isOver() || !this.isGone || this.isWriting) return;
        this.isGone = false;
        this.resume();
      },
      (error: unknown) => {
        // Of what keeps one from looking, the next write tells.
        if (!isOver() && error instanceof SegmentGone) this.fail(error);
      },
    );
  }

  private sync(): void {
    const sync = this.timed(() => this.segment.sync(), this.syncTimes);
    sync.catch((error: unknown) => this.fail(error));
  }

  private async timed(work: () => Promise<void>, times: Histogram): Promise<void> {
    const { timing } = this.options;
    const beganMs = timing.nowMs();
    await work();
    times.note(timing.nowMs() - beganMs);
  }

  // Failing.

  private fail(error: unknown): void {
    const failure = failureOf(error, this.segment.path);
    if (failure.kind === "gone") this.isGone = true;
    if (this.failure?.kind === failure.kind || this.failure?.isPassing === false) return;
    this.failure = failure;
    this.options.logger.error(`Taking no writes: ${failure.message}`);
    this.onFailureChange();
    // The sync of this second may wait behind what cannot be written now.
    if (failure.isPassing && this.options.fsync === "everysec") this.sync();
  }

  private resume(): void {
    this.failure = null;
    this.options.logger.info("Taking writes again");
    this.onFailureChange();
  }

  // Compacting.

  private compactDue(): void {
    this.compact().catch((error: unknown) => {
      if (this.isClosing) return;
      this.options.logger.warn("Could not write a snapshot", { error: String(error) });
    });
  }

  /** Whether so little was logged since the last snapshot that another would change nothing. */
  private isCompact(): boolean {
    const loggedBytes = this.position - this.compactedPosition;
    return loggedBytes <= NEGLIGIBLE_SHARE * this.compaction.snapshotBytes;
  }

  private async compactNow(): Promise<void> {
    if (this.isClosing || this.failure !== null) {
      throw new OperationalError(this.failure?.message ?? "the node is stopping");
    }
    this.segmentWanted = Promise.withResolvers();
    const { promise } = this.segmentWanted;
    this.startWriting();
    await promise;
    const { olderBytes, safePosition } = this;
    await this.compaction.run(
      this.segment.number,
      () => this.logBytes - olderBytes,
      () => this.isClosing,
    );
    this.logBytes -= olderBytes;
    this.compactedPosition = safePosition;
  }
}

/** Whether the segment to go on with is as a new one would be. */
function isAsNew({ lastSegment }: Recovered, seals: DirectorySeals): boolean {
  if (lastSegment === null) return true;
  const keyId = lastSegment.seal?.keyId ?? NO_KEY;
  return lastSegment.formatVersion >= FORMAT_VERSION && keyId === seals.keyId;
}

function segmentOptionsOf(options: LogOptions): SegmentOptions {
  const { files, nodeId, fsync, seals, segmentBytes = SEGMENT_BYTES } = options;
  return { files, nodeId, syncsAppends: fsync === "always", segmentBytes, seals };
}

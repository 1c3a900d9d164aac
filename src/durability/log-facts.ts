/** What the journal says of itself, for INFO and for metrics. */
import { flag, gauge, seriesWithin, text, within, type Fact, type Series } from "../fact.ts";
import type { Journal } from "./journal.ts";
import { LogJournal, type LogFigures } from "./log.ts";

/** What INFO says of a log, in its order. */
const logFacts: readonly Fact<LogFigures>[] = [
  text("storage_fsync", "The setting `storage.fsync`.", (it) => it.fsync),
  text(
    "storage_state",
    "`ok`; or why no writes are taken: `full`, `write` (a write failed), `sync` (a sync failed) or `gone` (the files were removed or replaced).",
    (it) => it.failure,
    { states: ["ok", "full", "write", "sync", "gone"] },
  ),
  gauge("log_segment", "", "The number of the file that is written to.", (it) => it.segmentNumber),
  gauge("log_bytes", "bytes", "Length of the log, all of its files together.", (it) => it.logBytes),
  gauge("log_waiting_bytes", "bytes", "Written and not yet on disk.", (it) => it.waitingBytes),
  text(
    "storage_key",
    "Id of the key that files are sealed with; `none` without one.",
    (it) => it.seals.keyId,
  ),
  text(
    "storage_other_keys",
    "Ids of other keys that files still need until all is written anew, `none` among them for files that are not sealed.",
    (it) => [...it.seals.otherKeys].sort().join(","),
  ),
  gauge(
    "snapshot_bytes",
    "bytes",
    "Length of the last snapshot.",
    (it) => it.compaction.snapshotBytes,
  ),
  flag("snapshot_running", "Whether a snapshot is being written.", (it) => it.isCompacting),
  gauge(
    "snapshot_unix",
    "Unix seconds",
    "When the last snapshot since the start was made; 0 for none.",
    (it) => Math.floor(it.compaction.lastUnixMs / 1000),
  ),
  gauge(
    "recovered_entries",
    "entries",
    "Entries read from disk at the start, some of them more than once by key.",
    (it) => it.recovered.entries,
  ),
  gauge(
    "recovered_torn_bytes",
    "bytes",
    "What a crash had left unfinished at the end of the log, cut off at the start.",
    (it) => it.recovered.tornBytes,
  ),
  gauge(
    "recovered_refused_entries",
    "entries",
    "Entries on disk that no store takes, put into a file of their own at the start.",
    (it) => it.recovered.refused?.entries ?? 0,
  ),
];

const logSeries: readonly Series<LogFigures>[] = [
  {
    name: "log_write_ms",
    kind: "histogram",
    unit: "ms",
    help: 'How long writes to the log took; with `storage.fsync = "always"` until they are on disk.',
    labels: [],
    read: (it) => [[[], it.writeTimes]],
  },
  {
    name: "log_sync_ms",
    kind: "histogram",
    unit: "ms",
    help: 'How long syncs of the log took, of which there is one a second with `storage.fsync = "everysec"`.',
    labels: [],
    read: (it) => [[[], it.syncTimes]],
  },
];

function figuresOf(journal: Journal): LogFigures | null {
  return journal instanceof LogJournal ? journal.figures : null;
}

/** What INFO says of whatever keeps the changes. */
export const journalFacts: readonly Fact<Journal>[] = [
  text("storage_engine", "The setting `storage.engine`.", (it) => it.engine),
  ...within(figuresOf, logFacts),
];

/** Metrics of the same. */
export const journalSeries: readonly Series<Journal>[] = seriesWithin(figuresOf, logSeries);

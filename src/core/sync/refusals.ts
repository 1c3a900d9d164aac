/**
 * What becomes of the entries that the peer refuses: a deletion that the peer has purged is
 * dropped, and an entry that may have been deleted there is set aside.
 *
 * Setting an entry aside takes the disk some time, and until then the store has the only copy. So
 * the entry is judged twice: when the refusal comes, and when its copy is durable. It is dropped
 * only if nothing has changed in between. Meanwhile the session hears further refusals and nothing
 * else, and says nothing, so that it cannot end as if all were done.
 */
import { Entry, KIND_TOMBSTONE, compareVersions, type VersionWords } from "../data/entry.ts";
import type { EntryFlow, EntryFlowOptions } from "./entries.ts";
import type { FrameReader } from "./frames.ts";
import { findUntruePurge, notePurges } from "./greeting.ts";
import { endedMs, writtenMs } from "../data/merge.ts";
import type { SyncCounts } from "./result.ts";

/** While this much is being set aside, no further refusal is heard. */
const MAX_WAITING_BYTES = 1_048_576;

/** A REFUSED item: the key and version that was refused, who purged, and up to when. */
interface Refusal extends VersionWords {
  readonly key: Uint8Array;
  readonly purgedUpToMs: number;
  readonly purgerHigh: number;
  readonly purgerLow: number;
}

/** What is to be done about a refusal. */
type Verdict = "nothing" | "forget" | "keep for now" | "set aside";

/** The refusals of one session. */
export class Refusals {
  /**
   * An entry that the peer refused stays here for now, so this session counts as no contact: the
   * two still differ, whoever is right.
   */
  preventsContact = false;
  private waiting = 0;
  private waitingBytes = 0;
  private readonly entry = new Entry();

  constructor(
    private readonly options: EntryFlowOptions,
    private readonly reader: FrameReader,
    private readonly flow: EntryFlow,
    private readonly counts: SyncCounts,
  ) {}

  /** Whether entries are being set aside. */
  get isWaiting(): boolean {
    return this.waiting > 0;
  }

  /** Whether so much is being set aside that no more refusals can be handled for now. */
  get isFull(): boolean {
    return this.waitingBytes >= MAX_WAITING_BYTES;
  }

  /**
   * Handles a REFUSED, whose tag has been read. False when it is not one, a sentence when it
   * cannot be true.
   */
  handle(): boolean | string {
    const refusal = readRefusal(this.reader);
    if (refusal === null) return false;
    const { store } = this.options;
    const untruth = findUntruePurge(store, refusal.purgedUpToMs, this.flow.peer.clockMs);
    if (untruth !== null) return untruth;
    const id = this.locate(refusal);
    const verdict = this.judge(id, refusal);
    if (verdict === "keep for now") this.preventsContact = true;
    else if (verdict !== "nothing" && this.options.store.isReadOnly) {
      this.counts.miss("this node can write nothing down for now");
    } else if (verdict === "forget") {
      // The peer says that it had this deletion and has purged it. Now both hold the same again. In
      // case that it lies, this is a purge of this node's own, too: then also those are stale who
      // had no contact with this node for as long.
      notePurges(this.options, this.flow.peer);
      this.options.contacts.relearn(store.deletions.learningMs());
      store.deletions.purgeAtOnce(this.entry);
      this.flow.discard(id);
    } else if (verdict === "set aside") this.setAside(refusal);
    return true;
  }

  private setAside(refusal: Refusal): void {
    const bytes = this.entry.keyLength + this.entry.valueLength;
    let isLater = false;
    this.waiting++;
    this.waitingBytes += bytes;
    this.options.onSetAside(this.entry, "stale", (isKept) => {
      this.waiting--;
      this.waitingBytes -= bytes;
      if (isKept) this.drop(refusal);
      else this.counts.miss("an entry that the peer refused could not be set aside");
      if (isLater) this.options.onResumable?.();
    });
    isLater = true;
  }

  /** Drops what was set aside, if it is still that. */
  private drop(refusal: Refusal): void {
    this.counts.entriesSetAside++;
    const id = this.locate(refusal);
    const verdict = this.judge(id, refusal);
    if (verdict === "keep for now") this.preventsContact = true;
    if (verdict !== "set aside") return;
    if (this.options.store.isReadOnly) this.counts.miss("this node can write nothing down for now");
    else this.flow.discard(id);
  }

  private locate({ key }: Refusal): number {
    return this.options.store.locate(key, 0, key.length);
  }

  /** Reads the entry with this id, -1 for none, and says what the refusal means for it. */
  private judge(id: number, refusal: Refusal): Verdict {
    const { entry, flow } = this;
    const { store, contacts } = this.options;
    if (id < 0) return "nothing";
    store.read(id, entry);
    // It may have changed since it was sent.
    const hasChanged = compareVersions(entry, refusal) !== 0;
    if (flow.isDead(entry)) {
      if (!hasChanged && this.mayBeForgotten(entry)) return "forget";
      // Dead only by this node's clock, it may live again: the two still differ.
      return entry.kind === KIND_TOMBSTONE ? "nothing" : "keep for now";
    }
    const { purgedUpToMs, purgerHigh, purgerLow } = refusal;
    // This node has heard of that purge meanwhile; or the peer's clock is behind what it purged, so
    // that it claims less than it refuses by.
    const isKnown = contacts.of(purgerHigh, purgerLow) >= purgedUpToMs;
    if (isKnown || hasChanged || writtenMs(entry) > purgedUpToMs) return "keep for now";
    // Nobody can have forgotten the deletion of what was written within the grace. Whatever the
    // peer says, and whichever clock is wrong, such an entry stays here until it is older.
    const isOld = writtenMs(entry) < store.deletions.latestPurgeMs();
    return isOld ? "set aside" : "keep for now";
  }

  /** Whether the peer can have forgotten this deletion, by its own words and by the grace. */
  private mayBeForgotten(entry: Entry): boolean {
    const deletedMs = endedMs(entry);
    if (deletedMs > this.flow.peer.forgottenUpToMs()) return false;
    return deletedMs < this.options.store.deletions.latestPurgeMs();
  }
}

function readRefusal(reader: FrameReader): Refusal | null {
  const purgedUpToMs = reader.u64();
  const purgerHigh = reader.u32();
  const purgerLow = reader.u32();
  const timeHigh = reader.u32();
  const timeLow = reader.u32();
  const originHigh = reader.u32();
  const originLow = reader.u32();
  const keyLength = reader.varint();
  const keyOffset = reader.skip(keyLength);
  if (reader.overrun) return null;
  const key = reader.bytes.slice(keyOffset, keyOffset + keyLength);
  return { purgedUpToMs, purgerHigh, purgerLow, timeHigh, timeLow, originHigh, originLow, key };
}

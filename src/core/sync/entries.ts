/**
 * The entries that a session sends and receives; the same for both sides.
 *
 * Sending: ids wait in a queue and are looked up when their turn comes. So an entry is sent as it
 * is then, even if it is newer than the watermark: it may stand in place of a deletion that the
 * peer lacks. An id whose entry is gone is skipped. An entry dated so far ahead that the peer would
 * not accept it yet is kept back; LATER says from when on it can be had, so that the peer asks
 * again at that time and not before. If the id belongs to another entry by then, that one is sent,
 * which is of no use and does no harm.
 *
 * Receiving: everything goes through the store's gate, with two exceptions. Both are about keys
 * that this store does not have and may have purged. First, a peer that is stale (`contacts.ts`)
 * may have missed a deletion that is forgotten here: what it alone holds from before then is
 * REFUSED, and it sets that aside (`refusals.ts`). Second, a deletion that this node had and has
 * purged is not accepted again: it is REFUSED too, and the peer drops it.
 *
 * What has expired counts as a deletion: when it arrives, by this node's clock, and when it is
 * refused, by the clock of the node that has it. So neither takes from the other what lives there.
 *
 * A counter is as old as its base, because deletions are compared with the base. A counter that was
 * begun from nothing is as old as its latest increment, because nobody can have purged that.
 */
import { unixMsOf } from "../data/clock.ts";
import { Contacts, latestMissed } from "./contacts.ts";
import {
  BASE_BYTES,
  MAX_ENTRY_PARTS,
  PART_BYTES,
  partsOf,
  setVersionFromParts,
  sliceCounter,
} from "../data/counter.ts";
import {
  compareVersions,
  copyVersion,
  Entry,
  KIND_COUNTER,
  KIND_HUSK,
  KIND_STRING,
  newVersion,
  type VersionWords,
} from "../data/entry.ts";
import { IdQueue } from "../store/id-queue.ts";
import {
  baseVersionOf,
  compareExpiries,
  diedMs,
  endedMs,
  hasValue,
  isDeadBy,
  KEEP,
  latestVersionOf,
  mergeRule,
  writtenMs,
} from "../data/merge.ts";
import {
  APPLIED,
  REFUSED_FULL,
  REFUSED_FUTURE,
  REFUSED_INVALID,
  REFUSED_LARGE,
  REFUSED_READ_ONLY,
} from "../store/outcome.ts";
import type { Store } from "../store/store.ts";
import type { FrameReader, FrameWriter } from "./frames.ts";
import { FRAME_HEADER_BYTES } from "./frames.ts";
import { Hello } from "./hello.ts";
import {
  ENTRY,
  entryItemBytes,
  FULL,
  LATER,
  readEntry,
  REFUSED,
  WITHHELD,
  writeEntry,
} from "./items.ts";
import type { SetAsideEntry } from "./options.ts";
import type { SyncCounts } from "./result.ts";

/** The largest value that a peer accepts as one counter. */
const MAX_SLICE_BYTES = BASE_BYTES + MAX_ENTRY_PARTS * PART_BYTES;
const MIN_PARTS_A_SLICE = 64;

/** Why an entry was refused, by the store's outcome. The session goes on with the others. */
const REASONS: Readonly<Record<number, string>> = {
  [REFUSED_FULL]: "the memory limit is reached",
  [REFUSED_READ_ONLY]: "nothing is taken while the disk fails or is full",
  [REFUSED_INVALID]: "an entry is not well-formed",
  [REFUSED_LARGE]: "a counter would have more parts than one may have",
};

/** What sending and receiving need. */
export interface EntryFlowOptions {
  readonly store: Store;
  readonly contacts: Contacts;
  readonly maxFrameBytes: number;
  readonly nowMs: () => number;
  readonly onSetAside: SetAsideEntry;
  readonly onResumable?: () => void;
}

/** The entries of one session. */
export class EntryFlow {
  /** Ids to be sent. */
  readonly queue = new IdQueue();
  /** What `handleEntry` read last; valid until the next push to the reader. */
  readonly arrived = new Entry();
  /** Entries kept back, and when the earliest of them was written, in Unix ms. */
  private keptBack = 0;
  private keptBackMs = Infinity;
  /** Entries not sent to a peer that is full, and not yet spoken of. */
  private withheld = 0;
  /** What such a peer accepts all the same. */
  private readonly allowed = new Set<number>();
  private hasSaidFull = false;
  /** This side's contacts when it introduced itself, which are those that it told the peer. */
  told = new Contacts();
  /** Whether anybody else has changed the store since this session began. */
  othersWrote: () => boolean = () => false;
  /** Set once the peer has introduced itself. */
  peer = new Hello();
  /** An entry is being applied: the changes that the store reports now are this session's own. */
  isApplying = false;
  /**
   * Something was left out, so this session counts as no contact. Either the peer has an entry
   * dated too far ahead to be accepted, which may have replaced a deletion there that this node
   * needs. Or the peer was not sent entries that it does not accept now, and so could not refuse
   * those for a deletion that it has forgotten.
   */
  preventsContact = false;

  /** Entries of which the peer has the value, by id, and the version of that. */
  private readonly spared = new Map<number, VersionWords>();
  private readonly entry = new Entry();
  private readonly slice = new Entry();
  private readonly base: VersionWords = { timeHigh: 0, timeLow: 0, originHigh: 0, originLow: 0 };

  constructor(
    private readonly options: EntryFlowOptions,
    private readonly reader: FrameReader,
    private readonly writer: FrameWriter,
    private readonly counts: SyncCounts,
  ) {}

  /** Reads an entry for sending. False when it is to be left alone. */
  read(id: number, into: Entry): boolean {
    const { store } = this.options;
    if (!store.isUsed(id)) return false;
    store.read(id, into);
    const { timeHigh, timeLow } = latestVersionOf(into);
    const ms = unixMsOf(timeHigh, timeLow);
    if (ms <= this.peer.acceptsUpToMs) return true;
    this.keptBack++;
    this.preventsContact = true;
    this.keptBackMs = Math.min(this.keptBackMs, ms);
    return false;
  }

  /** Whether the two sides still differ, by entries that were set aside or are not accepted yet. */
  get leavesDifferences(): boolean {
    const { entriesSetAside, entriesPostponed } = this.counts;
    return entriesSetAside > 0 || entriesPostponed > 0 || this.keptBack > 0;
  }

  /** Says LATER if anything was kept back. */
  sayLater(): void {
    if (this.keptBack === 0) return;
    this.writer.reserve(16);
    this.writer.u8(LATER);
    this.writer.varint(this.keptBack);
    this.writer.u64(this.keptBackMs);
    this.keptBack = 0;
  }

  /** Handles a LATER, whose tag has been read. False when it is not one. */
  handleLater(): boolean {
    const { reader, counts } = this;
    const count = reader.varint();
    const entryMs = reader.u64();
    if (reader.overrun || count === 0) return false;
    this.preventsContact = true;
    counts.postpone(entryMs, count);
    return true;
  }

  /**
   * Lets an entry be sent to a peer that is full: the peer said that it needs it, or has something
   * as large under that key.
   */
  allow(id: number): void {
    if (this.peer.isFull) this.allowed.add(id);
  }

  /** Says WITHHELD if anything was not sent because the peer is full. */
  sayWithheld(): void {
    if (this.withheld === 0) return;
    this.writer.reserve(8);
    this.writer.u8(WITHHELD);
    this.writer.varint(this.withheld);
    this.withheld = 0;
  }

  /** Handles a WITHHELD, whose tag has been read. False when it is not one. */
  handleWithheld(): boolean {
    const count = this.reader.varint();
    this.counts.miss(this.fullReason, count);
    return count > 0;
  }

  /** Why this side accepts no new entries, when it does not. */
  get fullReason(): string {
    return REASONS[this.options.store.isReadOnly ? REFUSED_READ_ONLY : REFUSED_FULL];
  }

  /** Says FULL, once: the peer need not send new entries any more. */
  private sayFull(): void {
    if (this.hasSaidFull) return;
    this.hasSaidFull = true;
    this.writer.reserve(1);
    this.writer.u8(FULL);
    this.writer.flush();
  }

  /** Sends an entry that was read; a counter too large for one frame is sent in slices. */
  send(entry: Entry, id = -1): void {
    if (this.peer.isFull && hasValue(entry.kind) && !this.allowed.delete(id)) {
      this.withheld++;
      if (this.peer.forgottenUpToMs() > 0) this.preventsContact = true;
      this.counts.entriesWithheld++;
      return;
    }
    const { keyLength, valueLength, kind } = entry;
    const maxFrameBytes = Math.min(this.options.maxFrameBytes, this.peer.maxFrameBytes);
    const maxValueBytes = maxFrameBytes - FRAME_HEADER_BYTES - entryItemBytes(keyLength, 0);
    if (kind === KIND_COUNTER && valueLength > Math.min(maxValueBytes, MAX_SLICE_BYTES)) {
      return this.sendSlices(entry, Math.min(maxValueBytes, MAX_SLICE_BYTES));
    }
    if (valueLength > maxValueBytes) {
      this.counts.miss("an entry is larger than a frame may be");
      return;
    }
    this.sendWhole(entry);
  }

  /** Some parts of a counter on its base are a counter too, and the peer joins all of those. */
  private sendSlices(entry: Entry, maxBytes: number): void {
    const { value, valueOffset, valueLength } = entry;
    const partsASlice = Math.floor(partsOf(maxBytes));
    // To a peer whose frames hold next to nothing this would go on for ever.
    if (partsASlice < MIN_PARTS_A_SLICE) {
      this.counts.miss("a counter is larger than a frame may be");
      return;
    }
    const { slice } = this;
    slice.setKey(entry.key, entry.keyOffset, entry.keyLength);
    slice.kind = KIND_COUNTER;
    slice.expiresAtMs = entry.expiresAtMs;
    copyVersion(entry.expiryVersion, slice.expiryVersion);
    slice.learnedMs = entry.learnedMs;
    const bytes = new Uint8Array(maxBytes);
    for (let first = 0; first < partsOf(valueLength); first += partsASlice) {
      const length = sliceCounter(value, valueOffset, valueLength, first, maxBytes, bytes);
      slice.setValue(bytes, 0, length);
      setVersionFromParts(slice);
      this.sendWhole(slice);
    }
  }

  private sendWhole(entry: Entry): void {
    this.writer.reserve(entryItemBytes(entry.keyLength, entry.valueLength));
    this.writer.u8(ENTRY);
    writeEntry(this.writer, entry);
    this.counts.entriesSent++;
    this.counts.valueBytesSent += entry.valueLength;
  }

  /** Sends the next of the queue. Returns what that cost, in bytes. */
  sendNext(): number {
    const id = this.queue.shift();
    if (id < 0 || !this.read(id, this.entry)) return 0;
    const version = this.spared.get(id);
    if (version !== undefined && compareVersions(version, this.entry) === 0) emptyOut(this.entry);
    this.send(this.entry, id);
    return this.entry.keyLength + this.entry.valueLength;
  }

  /**
   * The peer has the value that entry `id` has in this version: should the entry be sent, its
   * expiry is enough.
   */
  spareValue(id: number, version: VersionWords): void {
    const copy = newVersion();
    copyVersion(version, copy);
    this.spared.set(id, copy);
  }

  /** Merges an ENTRY, whose tag has been read. False when it is not one. */
  handleEntry(): boolean {
    readEntry(this.reader, this.arrived);
    if (this.reader.overrun) return false;
    this.merge(this.arrived);
    return true;
  }

  /** Merges the expiry of a string whose value is here in the version that it has. */
  mergeExpiry(entry: Entry): void {
    emptyOut(entry);
    this.merge(entry);
  }

  private merge(arrived: Entry): void {
    const { counts } = this;
    counts.entriesReceived++;
    counts.valueBytesReceived += arrived.valueLength;
    if (this.isForgotten(arrived)) return;
    if (this.mayHaveBeenReplaced(arrived)) emptyOut(arrived);
    this.isApplying = true;
    const outcome = this.options.store.apply(arrived);
    this.isApplying = false;
    if (outcome === APPLIED) counts.entriesApplied++;
    else if (outcome === REFUSED_FUTURE) {
      this.preventsContact = true;
      const { timeHigh, timeLow } = latestVersionOf(arrived);
      counts.postpone(unixMsOf(timeHigh, timeLow));
    } else if (outcome < 0) {
      counts.miss(REASONS[outcome] ?? `the store refuses it (${outcome})`);
      if (outcome === REFUSED_FULL || outcome === REFUSED_READ_ONLY) this.sayFull();
    }
  }

  /**
   * Whether an entry that arrives was deleted here, or may have been, by a deletion that is
   * forgotten. If so, says REFUSED to the peer.
   */
  private isForgotten(entry: Entry): boolean {
    const { contacts, store } = this.options;
    const { deletions, origin } = store;
    if (!deletions.mayHaveForgotten(entry)) return false;
    const id = store.locate(entry.key, entry.keyOffset, entry.keyLength);
    if (id >= 0 && this.decides(id, entry)) return false;
    const { purgedUpToMs } = deletions;
    const latestMs = deletions.latestForgottenMs(this.peer.clockMs);
    const purger = latestMissed({ origin, purgedUpToMs, contacts }, this.peer, latestMs);
    if (this.isDead(entry)) {
      // Forgotten by a clock that was ahead, it is taken again: the peer does not drop it.
      if (!this.isKnown(entry) || endedMs(entry) > latestMs) return false;
    } else if (purger.upToMs === 0 || writtenMs(entry) > purger.upToMs) return false;
    const { writer } = this;
    writer.reserve(40 + entry.keyLength);
    writer.u8(REFUSED);
    writer.u64(Math.min(purger.upToMs, deletions.latestPurgeMs()));
    writer.u32(purger.originHigh);
    writer.u32(purger.originLow);
    writer.version(entry);
    writer.varint(entry.keyLength);
    writer.copy(entry.key, entry.keyOffset, entry.keyLength);
    return true;
  }

  /**
   * Whether an entry that arrives is over, and a later value may have been known here and be
   * forgotten. Its own must not show then, should this clock be set back or become uncertain.
   */
  private mayHaveBeenReplaced(entry: Entry): boolean {
    const { store } = this.options;
    if (!store.deletions.mayHaveForgotten(entry) || !this.isDead(entry)) return false;
    const id = store.locate(entry.key, entry.keyOffset, entry.keyLength);
    return id < 0 || !store.isLive(id);
  }

  /**
   * Whether merging with what is here of the key decides about an entry that arrives. A live entry
   * does: it came after all deletions known here, and the peer gets it. But of what came while this
   * session went on the peer is not told, and it would be left with something that was deleted. A
   * tombstone need not be of the latest deletion: a later one may have been known and forgotten,
   * and may have deleted the entry that arrives.
   */
  private decides(id: number, arriving: Entry): boolean {
    const { store } = this.options;
    if (this.isDead(arriving)) return true;
    store.read(id, this.entry);
    if (store.isLive(id)) {
      if (!this.othersWrote()) return true;
      const isNews = compareExpiries(arriving, this.entry) > 0;
      return isNews || mergeRule(this.entry, arriving) !== KEEP || isSame(this.entry, arriving);
    }
    baseVersionOf(arriving, this.base);
    return compareVersions(this.base, this.entry) <= 0;
  }

  /** Whether this node once had a deletion that the peer still has; then it must have purged it. */
  private isKnown(entry: Entry): boolean {
    const { high, low } = this.peer.origin;
    return diedMs(entry) <= this.told.of(high, low);
  }

  /** Drops an entry from the store, without a tombstone. */
  discard(id: number): void {
    this.isApplying = true;
    this.options.store.discard(id);
    this.isApplying = false;
  }

  /** Whether it is a deletion, or expired. */
  isDead(entry: Entry): boolean {
    return isDeadBy(this.options.nowMs(), entry);
  }
}

/** Whether two entries of a key, of which neither has anything new for the other, are alike. */
function isSame(one: Entry, other: Entry): boolean {
  return compareVersions(one, other) === 0 && compareExpiries(one, other) === 0;
}

/** Makes a husk of a string: everything but its value. */
function emptyOut(entry: Entry): void {
  if (entry.kind !== KIND_STRING) return;
  entry.kind = KIND_HUSK;
  entry.valueLength = 0;
}

/**
 * What a replica looks at before each sweep of its store: whether memory is used up, whether values
 * are missing that peers may have, and which counters can be folded.
 */
import type { Members } from "./anti-entropy/members.ts";
import type { Config } from "./config/schema.ts";
import { stableStartMs } from "./core/data/counter-fold.ts";
import { originOf } from "./core/data/origin.ts";
import type { Store } from "./core/store/store.ts";
import type { Contacts } from "./core/sync/contacts.ts";
import type { Logger } from "./observability/log.ts";
import type { Replicator } from "./replication/replicator.ts";
import type { Timing } from "./timing.ts";

/** Peers are not asked for missing values more often than this, in ms. */
const ASK_EVERY_MS = 5_000;
/** How often it is looked at whether counters can be folded, in ms. */
const FOLD_EVERY_MS = 10_000;
/** The same for each node that was heard of, when that is more: all of them are looked at. */
const FOLD_EVERY_A_PEER_MS = 100;

/** What it is made with. */
export interface ReplicaUpkeepOptions {
  readonly store: Store;
  readonly timing: Timing;
  readonly storage: Pick<Config["storage"], "memory_limit_mb" | "tombstone_grace_seconds">;
  readonly logger: Logger;
  readonly contacts: Contacts;
  readonly members: Members;
  /** Null when the node replicates to nobody. */
  readonly replicator: Replicator | null;
  /** Values are missing here: peers are to be asked for them. */
  readonly onMissing: () => void;
}

/** See the file header. */
export class ReplicaUpkeep {
  private foldAtMs = 0;
  /** How many values were missing when peers were asked last, and when they may be asked again. */
  private askedFor = 0;
  private askAtMs = 0;
  /** Whether it was said that clients' writes are refused for lack of memory. */
  private wasFull = false;

  constructor(private readonly options: ReplicaUpkeepOptions) {}

  /** Looks at all of it, and does what is due. */
  look(): void {
    this.letCountersFold();
    this.askForMissing();
    this.tellOfMemory();
  }

  /**
   * Lets counters be folded that nothing more is heard of, unless another process counts as this
   * node.
   */
  private letCountersFold(): void {
    const { replicator, store, contacts, members, storage, timing } = this.options;
    const nowMs = timing.nowMs();
    if (nowMs < this.foldAtMs) return;
    const heardOf = replicator?.peerIds().map(originOf) ?? [];
    this.foldAtMs = nowMs + Math.max(FOLD_EVERY_MS, FOLD_EVERY_A_PEER_MS * heardOf.length);
    members.dropSpent();
    replicator?.dropForgotten((nodeId) => members.isGone(nodeId));
    const { counts, origin } = store;
    const graceMs = storage.tombstone_grace_seconds * 1000;
    const isAlone = replicator === null || !replicator.hasHeardTwinWithin(graceMs);
    const stableMs = (): number =>
      stableStartMs(counts.runStartsMs, store.clock.nowMs(), graceMs, origin, contacts, heardOf);
    counts.noteStable(isAlone ? stableMs() : 0);
  }

  /** Values that were let go of by a wrong clock are asked for as soon as that is seen. */
  private askForMissing(): void {
    const { store, timing, logger, onMissing } = this.options;
    const { missingCount } = store;
    const nowMs = timing.nowMs();
    if (missingCount > this.askedFor && nowMs < this.askAtMs) return;
    const isNews = missingCount > this.askedFor;
    this.askedFor = missingCount;
    if (!isNews) return;
    this.askAtMs = nowMs + ASK_EVERY_MS;
    const message = "Values were let go of by a clock that was wrong; peers are asked for them";
    logger.warn(message, { keys: missingCount });
    onMissing();
  }

  /** Says when clients' writes are refused for lack of memory, and when there is room again. */
  private tellOfMemory(): void {
    const { store, storage, logger } = this.options;
    const { isFullForClients } = store;
    if (isFullForClients === this.wasFull) return;
    this.wasFull = isFullForClients;
    const log = logger.child("storage");
    const facts = { memory_limit_mb: storage.memory_limit_mb };
    if (!isFullForClients) return log.info("There is memory for writes again", facts);
    log.warn("Memory is used up to storage.memory_limit_mb: writes are refused", {
      ...facts,
      remedy: "raise it while the node runs, or delete what is not needed",
    });
  }
}

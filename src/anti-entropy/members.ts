/**
 * Who belongs to the cluster: those with whom there was contact, here or by others, until they are
 * gone for good. Somebody says so (`FORGET`), which goes from node to node with the contacts, or
 * nothing is heard of them for `anti_entropy.forget_after_days`. Then they are dropped, as
 * docs/forgetting.md argues: no deletion comes back because of it.
 */
import { originOf } from "../core/data/origin.ts";
import { GONE_AFTER } from "../core/data/counter-fold.ts";
import type { Store } from "../core/store/store.ts";
import type { Contacts } from "../core/sync/contacts.ts";
import { counter, gauge, type Fact } from "../fact.ts";

const DAY_MS = 86_400_000;

/** See the file header. */
export class Members {
  private dropped = 0;

  /** For INFO. */
  static readonly facts: readonly Fact<Members>[] = [
    gauge(
      "sync_members",
      "nodes",
      "Members of the cluster that this node knows of, itself included once it has met one.",
      (it) => it.contacts.living,
    ),
    gauge(
      "sync_members_gone",
      "nodes",
      "Of whom `FORGET` was said, and nothing was heard since; a trace is kept for some time.",
      (it) => it.contacts.size - it.contacts.living,
    ),
    counter(
      "sync_members_dropped",
      "nodes",
      "Members of whom nothing is kept any more.",
      (it) => it.dropped,
    ),
  ];

  constructor(
    readonly contacts: Contacts,
    private readonly store: Pick<Store, "clockMs" | "deletions">,
    private readonly forgetAfterDays: () => number,
  ) {}

  /** Nothing was heard of a member for so long when it is dropped, in ms. */
  get forgetAfterMs(): number {
    // Parts of counters are kept apart for a member that is away for so long.
    const leastMs = (GONE_AFTER + 1) * this.store.deletions.graceMs;
    return Math.max(this.forgetAfterDays() * DAY_MS, leastMs);
  }

  /** How many there are that nobody said are gone, this node included once it has met one. */
  get count(): number {
    return this.contacts.living;
  }

  /** Whether the node of that id was ever met, here or by others. */
  has(nodeId: string): boolean {
    const { high, low } = originOf(nodeId);
    return this.contacts.has(high, low);
  }

  /** Whether somebody said that the node of that id is gone, and it was not met since. */
  isGone(nodeId: string): boolean {
    if (!this.contacts.hasForgotten) return false;
    const { high, low } = originOf(nodeId);
    return this.contacts.isForgotten(high, low);
  }

  /** Notes that the node of that id is gone. */
  noteGone(nodeId: string): void {
    const { high, low } = originOf(nodeId);
    this.contacts.forget(high, low, this.store.clockMs());
    this.contacts.trim();
  }

  /** Drops those of whom nothing was heard for so long. To be called now and then. */
  dropSpent(): void {
    const { contacts, store } = this;
    const spentUpToMs = store.clockMs() - this.forgetAfterMs;
    const { size } = contacts;
    const upToMs = contacts.dropSpent(spentUpToMs, store.deletions.latestPurgeMs());
    store.deletions.claimPurge(upToMs);
    this.dropped += size - contacts.size;
  }
}

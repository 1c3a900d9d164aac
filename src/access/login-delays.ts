/**
 * How long a login has to wait, by the address it comes from. Each failure makes the next login
 * from there wait for twice as long, up to two seconds; each ten seconds one failure is forgiven.
 * Waiting comes before the check, so hanging up and coming again is no quicker. Nobody is refused:
 * whoever has the right password gets in after those seconds at most, whatever others at the same
 * address do.
 *
 * A user who has logged in from an address waits there for failures under that name only. So a
 * program with the right password is not slowed down by another beside it, which has an old one or
 * guesses. Whoever guesses gains one more count for each name that has logged in from the same
 * address; and may learn that one has, by not having to wait.
 */
import { hostOf } from "./host.ts";

const FIRST_MS = 250;
const MAX_MS = 2_000;
const FORGIVEN_AFTER_MS = 10_000;
/** Failures that are remembered of one address: as many as matter, and a few minutes' worth. */
const MAX_FAILURES = 16;
/** Checks that take long, at once, for an address that has failed of late. */
const MAX_CHECKS = 8;
/** Addresses that are remembered; the one that failed longest ago makes room. */
const MAX_ADDRESSES = 4_096;
/** Users at an address that are remembered; the one that logged in longest ago makes room. */
const MAX_KNOWN = 4_096;

interface Record {
  readonly failures: number;
  /** When that number was right. */
  readonly atMs: number;
}

/** See the file header. */
export class LoginDelays {
  private readonly records = new Map<string, Record>();
  /** The records of users who have logged in, by host and name. */
  private readonly known = new Map<string, Record>();
  /** Checks under way, by those hosts that have some. */
  private readonly checks = new Map<string, number>();

  constructor(private readonly nowMs: () => number) {}

  /** How long that user's login from there (`host:port`) waits before it is checked, in ms. */
  delayMs(address: string, name: string): number {
    const host = hostOf(address);
    const record = this.known.get(keyOf(host, name)) ?? this.records.get(host);
    const failures = this.failuresLeft(record);
    return failures < 1 ? 0 : Math.min(FIRST_MS * 2 ** (Math.ceil(failures) - 1), MAX_MS);
  }

  /** A login under that name from there has failed. */
  noteFailure(address: string, name: string): void {
    const { records, known } = this;
    const host = hostOf(address);
    const record = this.oneMore(records.get(host));
    records.delete(host);
    records.set(host, record);
    if (records.size > MAX_ADDRESSES) records.delete(records.keys().next().value!);
    const key = keyOf(host, name);
    if (known.has(key)) known.set(key, this.oneMore(known.get(key)));
  }

  /** That user has logged in from there. Failures before it still count. */
  noteSuccess(address: string, name: string): void {
    const { known } = this;
    const key = keyOf(hostOf(address), name);
    const record = known.get(key) ?? NO_FAILURES;
    known.delete(key);
    known.set(key, record);
    if (known.size > MAX_KNOWN) known.delete(known.keys().next().value!);
  }

  /**
   * Whether one more login from there, which has had to wait, may be checked at once: there are
   * places for so many only, and others need them, too. Then `endCheck` has to follow.
   */
  beginCheck(address: string): boolean {
    const host = hostOf(address);
    const count = this.checks.get(host) ?? 0;
    if (count >= MAX_CHECKS) return false;
    this.checks.set(host, count + 1);
    return true;
  }

  /** A check that was begun is over. */
  endCheck(address: string): void {
    const host = hostOf(address);
    const left = (this.checks.get(host) ?? 0) - 1;
    if (left > 0) this.checks.set(host, left);
    else this.checks.delete(host);
  }

  /** How many addresses have to wait, or have had to in the last minutes. */
  get addresses(): number {
    for (const [host, record] of this.records) {
      if (this.failuresLeft(record) > 0) break;
      this.records.delete(host);
    }
    return this.records.size;
  }

  private oneMore(record: Record | undefined): Record {
    const failures = Math.min(this.failuresLeft(record) + 1, MAX_FAILURES);
    return { failures, atMs: this.nowMs() };
  }

  private failuresLeft(record: Record | undefined): number {
    if (record === undefined) return 0;
    const forgiven = (this.nowMs() - record.atMs) / FORGIVEN_AFTER_MS;
    return Math.max(0, record.failures - forgiven);
  }
}

const NO_FAILURES: Record = { failures: 0, atMs: 0 };

/** Neither has a space in it. */
function keyOf(host: string, name: string): string {
  return `${host} ${name}`;
}

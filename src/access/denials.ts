/** What was denied of late, for `ACL LOG`: the newest first, and what is alike in one entry. */

/** Why something was denied: a wrong login, a command, a key of one, or no login at all. */
export type DenialReason = "auth" | "command" | "key" | "login";

/** Denials that are alike. */
export interface Denial {
  readonly reason: DenialReason;
  /** The command; of a key, the key in UTF-8. */
  readonly object: string;
  readonly username: string;
  /** The line about the client that was denied something last, as in CLIENT LIST. */
  client: string;
  count: number;
  /** By the monotonic clock. */
  lastMs: number;
}

const MAX_ENTRIES = 128;
/** Of names that clients choose no more is kept, in characters. */
const MAX_TEXT = 256;
/** Denials that far apart are told of apart. */
const ALIKE_MS = 60_000;
/** Among so many newest entries one is looked for that is alike. */
const LOOKED_AT = 10;

/** See the file header. */
export class Denials {
  /** Newest first. */
  private entries: Denial[] = [];
  private readonly counts = { auth: 0, command: 0, key: 0, login: 0 };

  /** Adds one. */
  note(
    reason: DenialReason,
    object: string,
    username: string,
    client: string,
    nowMs: number,
  ): void {
    this.counts[reason]++;
    const shown = object.slice(0, MAX_TEXT);
    const name = username.slice(0, MAX_TEXT);
    const at = this.entries.slice(0, LOOKED_AT).findIndex((it) => {
      const isAlike = it.reason === reason && it.object === shown && it.username === name;
      return isAlike && nowMs - it.lastMs <= ALIKE_MS;
    });
    const entry = at < 0 ? fresh(reason, shown, name) : this.entries.splice(at, 1)[0];
    entry.count++;
    entry.client = client;
    entry.lastMs = nowMs;
    this.entries.unshift(entry);
    this.entries.length = Math.min(this.entries.length, MAX_ENTRIES);
  }

  /** Counts a command that was denied to somebody who has not logged in, and lists nothing. */
  noteBeforeLogin(): void {
    this.counts.login++;
  }

  /** The newest `count`. */
  newest(count: number): readonly Denial[] {
    return this.entries.slice(0, count);
  }

  /** Forgets the entries; the counters stay. */
  clear(): void {
    this.entries = [];
  }

  /** How many there were for that reason. */
  countOf(reason: DenialReason): number {
    return this.counts[reason];
  }
}

function fresh(reason: DenialReason, object: string, username: string): Denial {
  return { reason, object, username, client: "", count: 0, lastMs: 0 };
}

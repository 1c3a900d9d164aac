/**
 * The store as one would write it without caring for speed: a Map of big integers and strings.
 * Every key's state is a base and, for a counter, parts by origin; see `core/data/merge.ts`.
 */

/** Time and origin, 64 bits each, in one integer that orders as versions do. */
export type Version = bigint;

/** What was running in total at an origin when it last counted. */
export interface Part {
  readonly time: bigint;
  readonly total: bigint;
}

/** The state of a key. */
export interface State {
  readonly version: Version;
  /** The string, or null for a tombstone and for the base of a counter grown from nothing. */
  readonly text: string | null;
  /** 0 for never. */
  readonly expiresAtMs: number;
  /** The version of the expiry; left out when it is that of the base. */
  readonly expiryVersion?: Version;
  /** null: not a counter. By origin. */
  readonly parts: ReadonlyMap<bigint, Part> | null;
  /** The string expired, and was let go. */
  readonly isHusk?: true;
}

/** An expiry and its version. */
interface Expiry {
  readonly version: Version;
  readonly atMs: number;
}

/** The expiry of a state. */
export function expiryOf({ version, expiresAtMs, expiryVersion }: State): Expiry {
  return { version: expiryVersion ?? version, atMs: expiresAtMs };
}

/** The state with another expiry. */
export function withExpiry(state: State, { version, atMs }: Expiry): State {
  const { expiryVersion: _, ...rest } = state;
  const changed = { ...rest, expiresAtMs: atMs };
  // That of a counter begun from nothing is below all others, and yet one.
  const expiryVersion = version === 0n ? 1n << 64n : version;
  return version === state.version ? changed : { ...changed, expiryVersion };
}

function laterExpiry(a: Expiry, b: Expiry): Expiry {
  if (a.version !== b.version) return a.version > b.version ? a : b;
  if (a.atMs === 0 || b.atMs === 0) return a.atMs === 0 ? a : b;
  return a.atMs > b.atMs ? a : b;
}

const MIN = -(2n ** 63n);
const MAX = 2n ** 63n - 1n;

/** Puts time and origin together. */
export function versionOf(time: bigint, origin: bigint): Version {
  return (time << 64n) | origin;
}

/** The exact sum of a counter. */
export function exactSum({ text, parts }: State): bigint {
  let sum = BigInt(text ?? "0");
  for (const { total } of parts?.values() ?? []) sum += total;
  return sum;
}

/** What a client sees of a state that is live. */
export function shown(state: State): string {
  if (state.parts === null) return state.text!;
  const sum = exactSum(state);
  return String(sum < MIN ? MIN : sum > MAX ? MAX : sum);
}

/** Whether text is a number that can be counted on from. */
export function isInt64(text: string): boolean {
  return /^(0|-?[1-9][0-9]*)$/.test(text) && BigInt(text) >= MIN && BigInt(text) <= MAX;
}

/** A tombstone has no value. */
export function isTombstone(state: State): boolean {
  return state.text === null && state.parts === null;
}

/** The latest version of a state. */
function latestTime(state: State): bigint {
  let latest = expiryOf(state).version >> 64n;
  if (state.version >> 64n > latest) latest = state.version >> 64n;
  for (const { time } of state.parts?.values() ?? []) if (time > latest) latest = time;
  return latest;
}

/** Joins two states of one key: the values, and the expiries. */
export function merge(a: State, b: State): State {
  return withExpiry(mergeValues(a, b), laterExpiry(expiryOf(a), expiryOf(b)));
}

function mergeValues(a: State, b: State): State {
  const order = compareBases(a, b);
  if (order !== 0) return order > 0 ? a : b;
  if (a.parts === null) return b.parts === null ? a : b;
  if (b.parts === null) return a;
  const parts = new Map(a.parts);
  for (const [origin, part] of b.parts) {
    const mine = parts.get(origin);
    if (mine === undefined || isLater(part, mine)) parts.set(origin, part);
  }
  return { ...a, parts };
}

/** Parts of one time differ only if somebody lies; then too all must agree. */
function isLater(a: Part, b: Part): boolean {
  if (a.time !== b.time) return a.time > b.time;
  return BigInt.asUintN(128, a.total) > BigInt.asUintN(128, b.total);
}

function compareBases(a: State, b: State): number {
  if (a.version !== b.version) return a.version > b.version ? 1 : -1;
  const rank = ({ isHusk, text }: State) => (isHusk ? 0 : text === null ? 2 : 1);
  if (rank(a) !== rank(b)) return rank(a) - rank(b);
  if (a.isHusk || a.text === null) return 0;
  return Buffer.compare(Buffer.from(a.text, "latin1"), Buffer.from(b.text!, "latin1"));
}

/** See the file header. Keys are strings of bytes (latin1). */
export class NaiveStore {
  readonly states = new Map<string, State>();
  clock = 0n;
  floor: Version = 0n;

  constructor(
    private readonly origin: bigint,
    private readonly graceMs: number,
    private readonly maxSkewMs: number,
    public nowMs: number,
  ) {}

  live(key: string): State | undefined {
    const state = this.states.get(key);
    return state !== undefined && this.isLive(state) ? state : undefined;
  }

  apply(key: string, given: State): boolean {
    // What deletes writes that there is no expiry.
    const isOfBase = given.expiryVersion === undefined;
    const state = isTombstone(given) && isOfBase ? { ...given, expiresAtMs: 0 } : given;
    const latest = latestTime(state);
    if (this.isFuture(latest)) return false;
    this.observe(latest);
    if (state.version < this.floor) return false;
    const present = this.states.get(key);
    // Below the floor and not swept away yet: nothing.
    this.states.set(key, present === undefined ? state : merge(present, state));
    return true;
  }

  applyFloor(version: Version): void {
    if (this.isFuture(version >> 64n) || version <= this.floor) return;
    this.observe(version >> 64n);
    this.raise(version);
  }

  flush(): void {
    this.raise(this.next());
  }

  set(key: string, text: string, expiresAtMs: number): void {
    this.states.set(key, { version: this.next(), text, expiresAtMs, parts: null });
  }

  /** SET KEEPTTL: the value alone, if the key is there. */
  setValue(key: string, text: string): void {
    const live = this.live(key);
    const state: State = { version: this.next(), text, expiresAtMs: 0, parts: null };
    this.states.set(key, live === undefined ? state : withExpiry(state, expiryOf(live)));
  }

  /** The expiry alone, if the key is there. */
  expire(key: string, expiresAtMs: number): boolean {
    const live = this.live(key);
    if (live === undefined) return false;
    this.states.set(key, withExpiry(live, { version: this.next(), atMs: expiresAtMs }));
    return true;
  }

  /** An expiry alone, from elsewhere. */
  applyExpiry(key: string, expiry: Expiry): void {
    if (this.isFuture(expiry.version >> 64n)) return;
    this.observe(expiry.version >> 64n);
    const present = this.states.get(key);
    if (present === undefined) return;
    this.states.set(key, withExpiry(present, laterExpiry(expiryOf(present), expiry)));
  }

  delete(key: string): boolean {
    if (this.live(key) === undefined) return false;
    this.states.set(key, { version: this.next(), text: null, expiresAtMs: 0, parts: null });
    return true;
  }

  /** The new number, or why there is none. */
  increment(key: string, delta: bigint): bigint | "not a number" | "out of range" {
    const present = this.states.get(key);
    const live = this.live(key);
    let start: State;
    if (live === undefined) {
      const known =
        present === undefined ? 0n : laterOf(present.version, expiryOf(present).version);
      const version = present === undefined || known < this.floor ? this.floor : known;
      start = { version, text: null, expiresAtMs: 0, parts: new Map() };
    } else if (live.parts !== null) {
      start = live;
    } else {
      if (!isInt64(live.text!)) return "not a number";
      start = { ...live, parts: new Map() };
    }
    const version = this.next();
    const parts = new Map(start.parts);
    const total = (parts.get(this.origin)?.total ?? 0n) + delta;
    parts.set(this.origin, { time: version >> 64n, total });
    const state = { ...start, parts };
    const sum = exactSum(state);
    if (sum < MIN || sum > MAX) return "out of range";
    this.states.set(key, state);
    return sum;
  }

  /** Everything the background work would get done if it went on long enough. */
  sweep(): void {
    for (const [key, state] of this.states) {
      const isExpired = state.expiresAtMs !== 0 && state.expiresAtMs <= this.nowMs;
      if (state.version < this.floor) this.states.delete(key);
      else if (isTombstone(state) || isExpired) {
        if (diedMs(state) + this.graceMs < this.nowMs) this.states.delete(key);
        else if (state.parts === null && !isTombstone(state)) {
          this.states.set(key, { ...state, text: "", isHusk: true });
        }
      }
    }
  }

  private isLive(state: State): boolean {
    const isExpired = state.expiresAtMs !== 0 && state.expiresAtMs <= this.nowMs;
    const isGone = isTombstone(state) || state.isHusk === true;
    return !isGone && !isExpired && state.version >= this.floor;
  }

  private raise(version: Version): void {
    this.floor = version;
    for (const [key, state] of this.states) {
      if (state.version < version) this.states.delete(key);
    }
  }

  private next(): Version {
    const physical = BigInt(this.nowMs) << 16n;
    this.clock = physical > this.clock ? physical : this.clock + 1n;
    return versionOf(this.clock, this.origin);
  }

  private observe(time: bigint): void {
    if (time > this.clock) this.clock = time;
  }

  private isFuture(time: bigint): boolean {
    return Number(time >> 16n) > this.nowMs + this.maxSkewMs;
  }
}

function laterOf(a: Version, b: Version): Version {
  return a > b ? a : b;
}

function diedMs(state: State): number {
  if (isTombstone(state)) return Number(state.version >> 80n);
  return Math.max(Number(latestTime(state) >> 16n), state.expiresAtMs);
}

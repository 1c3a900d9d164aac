/** Tells the history of a simulation what reaches a store, what comes of it, and what the store then has. */
import { Entry, KIND_HUSK } from "../../src/core/data/entry.ts";
import { unixMsOf } from "../../src/core/data/clock.ts";
import type { Origin } from "../../src/core/data/origin.ts";
import type { ChangeObserver, Outcome } from "../../src/core/store/outcome.ts";
import type { Store } from "../../src/core/store/store.ts";
import type { History } from "./history.ts";
import { readState, textOf, type Held } from "./holding.ts";

const OUTCOMES = new Map<Outcome, string>([
  [1, "takes it"],
  [0, "knows as much"],
  [-1, "refuses it as from the future"],
  [-2, "refuses it as it is full"],
  [-3, "refuses it as malformed"],
  [-8, "has no such key"],
]);

/** Names of origins, for people: `n0` for what a node writes, `n0#2` for its second process that counts. */
export class OriginNames {
  private readonly names = new Map<bigint, string>();

  /** `epochMs` is when the simulation begins; times are told from there. */
  constructor(private readonly epochMs: number) {}

  /** An origin is to be called so. */
  add({ high, low }: Origin, name: string): void {
    this.names.set((BigInt(high) << 32n) | BigInt(low), name);
  }

  /** What an origin is called. One that a store took after it discarded something is counted on. */
  of(origin: bigint): string {
    for (let more = 0n; more < 10n; more++) {
      const name = this.names.get(origin - more);
      if (name !== undefined) return more === 0n ? name : `${name}+${more}`;
    }
    return origin.toString(16);
  }

  /** A version or the end of an origin's increments, as its time in seconds, a counter, and who. */
  version(time: bigint, origin: bigint): string {
    const name = this.of(origin);
    if (time === 0n) return `nothing@${name}`;
    const ms = unixMsOf(Number(time >> 32n), Number(time & 0xffff_ffffn)) - this.epochMs;
    return `${(ms / 1_000).toFixed(3)}+${time & 0xffffn}@${name}`;
  }

  /** What is twice a version, or one more. */
  at(double: bigint): string {
    const version = double >> 1n;
    return this.version(version >> 64n, version & 0xffff_ffff_ffff_ffffn);
  }

  /** What is held of a key, with the number of each of its parts if there is an entry of it. */
  held({ base, parts, expiry }: Held, entry?: Entry): string {
    const kind = (base & 1n) === 0n ? "string" : "none";
    const husk = entry?.kind === KIND_HUSK ? " (let go)" : "";
    const expires = entry === undefined || entry.expiresAtMs === 0 ? "" : ` ${entry.expiresAtMs}`;
    const whole = `${kind}${husk} ${this.at(base)}, expiry${expires} of ${this.at(expiry)}`;
    const totals = parts.size > 0 && entry !== undefined ? totalsOf(entry) : [];
    const told = [...parts].map(([from, time], i) => {
      const total = totals.length === 0 ? "" : `${totals[i]} `;
      return `${total}up to ${this.version(time, from)}`;
    });
    return told.length === 0 ? whole : `${whole}, counted on it: ${told.join("; ")}`;
  }
}

function totalsOf(entry: Entry): bigint[] {
  const { value, valueOffset, valueLength } = entry;
  const view = new DataView(value.buffer, value.byteOffset + valueOffset, valueLength);
  const totals: bigint[] = [];
  for (let at = 25; at < valueLength; at += 32) totals.push(view.getBigInt64(at + 24));
  return totals;
}

/** Notes what others give a store, and what comes of it. */
export function watchApply(store: Store, history: History, names: OriginNames, node: string): void {
  const apply = store.apply.bind(store);
  store.apply = (entry, isLocal = false) => {
    if (isLocal) return apply(entry, true);
    const given = names.held(readState(entry), entry);
    const key = textOf(entry.keyBytes());
    const outcome = apply(entry);
    history.noteKey(key, () => `${node} is given ${key}, ${given}: ${say(outcome)}`);
    return outcome;
  };
}

/** The same of expiries that come without a value. */
export function watchApplyExpiry(
  store: Store,
  history: History,
  names: OriginNames,
  node: string,
): void {
  const applyExpiry = store.applyExpiry.bind(store);
  store.applyExpiry = (entry) => {
    const key = textOf(entry.keyBytes());
    const { expiry } = readState(entry);
    const outcome = applyExpiry(entry);
    history.noteKey(
      key,
      () => `${node} is given the expiry of ${key}, ${names.at(expiry)}: ${say(outcome)}`,
    );
    return outcome;
  };
}

function say(outcome: Outcome): string {
  return OUTCOMES.get(outcome) ?? String(outcome);
}

/** Notes every change of a store. */
export function storeWatch(
  store: Store,
  history: History,
  names: OriginNames,
  node: string,
): ChangeObserver {
  const view = new Entry();
  const note = (id: number, what: string) => {
    store.read(id, view);
    const key = textOf(view.keyBytes());
    history.noteKey(key, () => `${node} ${what} ${key}: ${names.held(readState(view), view)}`);
  };
  return {
    changed: (id) => note(id, "now has"),
    removed: (id, flushed) => note(id, flushed ? "has flushed" : "drops"),
    flushed: () => history.note(() => `${node} has a new flush floor`),
  };
}

/**
 * What the peer wants of the bucket it is working on, and what became of that meanwhile. A side
 * that wants an entry may send one of the same key, for it does not know what the keys are. So what
 * waits to be sent is looked at again when something of the peer arrives.
 */
import {
  compareBytes,
  compareVersions,
  Entry,
  KIND_COUNTER,
  KIND_OTHER,
  KIND_STRING,
} from "../data/entry.ts";
import { compareExpiries } from "../data/merge.ts";
import type { Store } from "../store/store.ts";
import type { EntryFlow } from "./entries.ts";

/** See the file header. The entries wait in the flow's queue. */
export class Wanted {
  /** Where in the queue the wanted entries of the bucket under work begin. */
  private from = 0;
  private readonly entry = new Entry();

  constructor(
    private readonly flow: EntryFlow,
    private readonly store: Store,
  ) {}

  /** What is pushed to the queue from now on is wanted of the next bucket. */
  begin(): void {
    this.from = this.flow.queue.position;
  }

  /** Nothing waits any more. */
  reset(): void {
    this.from = 0;
  }

  /** An entry of the peer was merged. If that is what is here now, it need not be sent back. */
  noteMerged(arrived: Entry): void {
    const { flow, store, entry } = this;
    if (this.from === flow.queue.position) return;
    const id = store.locate(arrived.key, arrived.keyOffset, arrived.keyLength);
    const at = this.placeOf(id);
    if (at < 0) return;
    store.read(id, entry);
    if (isSame(entry, arrived)) return flow.queue.strike(at);
    if (hasSameString(entry, arrived)) flow.spareValue(id, arrived);
    if (entry.valueLength <= arrived.valueLength) flow.allow(id);
  }

  /** What was wanted of an entry need not be sent. */
  strike(id: number): void {
    const at = this.placeOf(id);
    if (at >= 0) this.flow.queue.strike(at);
  }

  /** Where in the queue an entry of the bucket under work is wanted, or -1. */
  private placeOf(id: number): number {
    const { queue } = this.flow;
    for (let at = this.from; id >= 0 && at < queue.position; at++) {
      if (queue.at(at) === id) return at;
    }
    return -1;
  }
}

/** Whether two entries with one key are the same; an expired one and its husk are not. */
function isSame(a: Entry, b: Entry): boolean {
  if (a.kind !== b.kind || a.valueLength !== b.valueLength) return false;
  if (compareVersions(a, b) !== 0 || compareExpiries(a, b) !== 0) return false;
  if (a.kind !== KIND_COUNTER && a.kind !== KIND_OTHER) return true;
  return (
    compareBytes(a.value, a.valueOffset, a.valueLength, b.value, b.valueOffset, b.valueLength) === 0
  );
}

/** Whether two entries with one key are one string, by its version, whatever their expiries are. */
export function hasSameString(a: Entry, b: Entry): boolean {
  return a.kind === KIND_STRING && b.kind === KIND_STRING && compareVersions(a, b) === 0;
}

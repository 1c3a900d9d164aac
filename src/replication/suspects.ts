/**
 * Messages that were under way when a connection ended: one of them may be what ended it. Each
 * goes again in a batch of its own, with nothing else under way: the next end tells which it was.
 */
import type { IdSource, TakenIds } from "./batch-filler.ts";
import type { Outbox } from "./outbox.ts";

/** What a message held, and what is known of it. */
export interface Suspect extends TakenIds {
  readonly flush: boolean;
  /** How long it was. */
  readonly bytes: number;
  /** How many connections ended while nothing else was under way. */
  readonly kills: number;
}

/** Those that have yet to go again, and the ids of the one whose turn it is. */
export class Suspects implements IdSource {
  /** Of what `take` returned last only the expiry was written. */
  isExpiryOnly = false;
  private list: Suspect[] = [];
  private current: Suspect | null = null;
  private at = 0;

  /** Says which ids still have their entry. */
  constructor(private readonly outbox: Pick<Outbox, "isOurs">) {}

  /** How many have yet to go again. */
  get size(): number {
    return this.list.length;
  }

  /** How many ids they hold. */
  get idCount(): number {
    return this.list.reduce((sum, { ids }) => sum + ids.length, 0);
  }

  /** The longest goes first: most brokers that end a connection do so for a length. */
  add(suspects: readonly Suspect[]): void {
    this.list.push(...suspects);
    this.list.sort((a, b) => b.bytes - a.bytes);
  }

  /** It is the turn of the first. */
  next(): Suspect {
    this.current = this.list.shift()!;
    this.at = 0;
    return this.current;
  }

  /** The turn of the current one is over: what was not taken of it waits for another. */
  finish(): void {
    const { current, at } = this;
    if (current === null) return;
    this.current = null;
    if (at < current.ids.length) {
      const [ids, expiries] = [current.ids.slice(at), current.expiries.slice(at)];
      this.list.unshift({ ...current, ids, expiries, flush: false });
    }
  }

  take(): number {
    const ids = this.current?.ids ?? [];
    while (this.at < ids.length) {
      this.isExpiryOnly = this.current!.expiries[this.at] !== 0;
      const id = ids[this.at++];
      if (this.outbox.isOurs(id)) return id;
    }
    return -1;
  }

  putBack(): void {
    this.at--;
  }
}

/**
 * When the next round is, and whose turn it is: at intervals with one peer after the other, and
 * every two seconds with anybody while there is news to spread (`news.ts`). It knows time only from
 * what it is told.
 */
import type { Crowd } from "./crowd.ts";
import { News, type SessionYield } from "./news.ts";
import { byAddress } from "./peer-list.ts";
import type { Peer } from "./peer.ts";

/** More peers than that are a crowd. Who misses something of no one in particular asks so many. */
export const FEW = 4;
/** Between rounds by which news is spread; a quarter more or less is left to chance. */
const NEWS_ROUND_MS = 2_000;

/** What they are made with. */
export interface RoundsOptions {
  /** Between rounds, in ms; a tenth more or less is left to chance. */
  readonly intervalMs: number;
  /** From 0 to below 1. */
  readonly random: () => number;
}

/** See the file header. */
export class Rounds {
  /** When the next one is due; Infinity before the first is planned. */
  dueMs = Infinity;
  /** The address whose round was last. */
  private lastInTurn = "";
  private readonly news: News;

  /** `isConnected`: whether there is a broker, which tells everybody what is written. */
  constructor(
    private readonly options: RoundsOptions,
    private readonly crowd: Pick<Crowd, "size">,
    private readonly isConnected: () => boolean,
  ) {
    this.news = new News(() => this.crowd.size);
  }

  /** Whether the next one is planned. */
  get isPlanned(): boolean {
    return this.dueMs < Infinity;
  }

  /** Whether there is news to spread. */
  get isSpreading(): boolean {
    return this.news.isSpreading;
  }

  /** Plans the next one. */
  plan(nowMs: number): void {
    const { intervalMs, random } = this.options;
    const regularMs = intervalMs * (0.9 + 0.2 * random());
    const soonMs = NEWS_ROUND_MS * (0.75 + random() / 2);
    this.dueMs = nowMs + (this.isSpreading ? Math.min(soonMs, regularMs) : regularMs);
  }

  /** The interval is another: what comes later than it would now comes sooner. */
  replan(nowMs: number): void {
    if (!this.isPlanned) return;
    const plannedMs = this.dueMs;
    this.plan(nowMs);
    this.dueMs = Math.min(this.dueMs, plannedMs);
  }

  /** Others may not have what is here, or have what is not: rounds follow one another soon. */
  spreadNews(nowMs: number): void {
    const wasSpreading = this.isSpreading;
    this.news.begin();
    if (wasSpreading || !this.isPlanned) return;
    const delayMs = NEWS_ROUND_MS * (0.5 + this.options.random() / 2);
    this.dueMs = Math.min(this.dueMs, nowMs + delayMs);
  }

  /**
   * A session is over. With a broker, whatever it brought here was published to all. Only in a
   * crowd, where not everybody who missed it asks for it, is it news to others.
   */
  noteYield(session: SessionYield, nowMs: number): void {
    const isNews = !this.isConnected() || this.crowd.size > FEW;
    if (session.hasLearned && isNews) return this.spreadNews(nowMs);
    const wasSpreading = this.isSpreading;
    this.news.noteSession(session);
    if (wasSpreading && !this.isSpreading) this.plan(nowMs);
  }

  /**
   * Whose turn it is: in the order of addresses; in a crowd from anywhere on, or all would begin
   * with the same. News goes to anybody there, so that what many pass on does not go to the same
   * few.
   */
  nextInTurn(ready: readonly Peer[]): Peer | undefined {
    const isRandom = ready.length > FEW && (this.lastInTurn === "" || this.isSpreading);
    const next = isRandom
      ? ready[Math.floor(this.options.random() * ready.length)]
      : this.nextAfterLast(ready);
    if (next !== undefined) this.lastInTurn = next.address;
    return next;
  }

  private nextAfterLast(ready: readonly Peer[]): Peer | undefined {
    let first: Peer | undefined;
    let next: Peer | undefined;
    for (const peer of ready) {
      if (first === undefined || byAddress(peer, first) < 0) first = peer;
      if (peer.address <= this.lastInTurn) continue;
      if (next === undefined || byAddress(peer, next) < 0) next = peer;
    }
    return next ?? first;
  }
}

/**
 * Messages that were under way when a connection ended: one of them may be what ended it. Each
 * goes again in a batch of its own, with nothing else under way, between turns of what is new: the
 * next end tells which it was. That one is too long, as far as one can tell, and goes shorter. One
 * that ends connections however short it is, is given up, and nothing is sent for a while.
 */
import type { IdSource, TakenIds } from "./batch-filler.ts";
import type { Outbox } from "./outbox.ts";

/** Between two suspects what is new has its turn for so long, in ms. */
const FRESH_TURN_MS = 100;
/** A message that ended so many connections by itself, for whatever reason, is not sent again. */
const MAX_KILLS = 3;
/** After that nothing is sent for so long, in ms; twice as long each time, up to an hour. */
const MUTE_MS = 30_000;
const MAX_MUTE_MS = 3_600_000;

/** What a message held, and what is known of it. */
export interface Suspect extends TakenIds {
  readonly flush: boolean;
  /** How long it was. */
  readonly bytes: number;
  /** How many connections ended while nothing else was under way. */
  readonly kills: number;
}

/** A message that was under way when a connection ended. */
interface Unanswered extends Suspect {
  readonly events: number;
  /** Nothing else was under way with it. */
  readonly isAlone: boolean;
}

/** Those that have yet to go again, and the ids of the one whose turn it is. */
export class Suspects implements IdSource {
  /** Of what `take` returned last only the expiry was written. */
  isExpiryOnly = false;
  /** Messages that were given up. */
  givenUp = 0;
  private list: Suspect[] = [];
  private current: Suspect | null = null;
  private at = 0;

  /** Until when what is new has its turn. */
  private freshUntilMs = 0;
  /** Nothing is sent before, for it only ends connections; and how long the next time. */
  private mutedUntilMs = -Infinity;
  private muteMs = MUTE_MS;
  /** How many connections in a row ended with nothing but an empty batch under way. */
  private beatKills = 0;

  /**
   * `outbox` says which ids still have their entry, `nowMs` never goes back. `onMissed` is told how
   * many events reach nobody because a message is given up.
   */
  constructor(
    private readonly outbox: Pick<Outbox, "isOurs">,
    private readonly nowMs: () => number,
    private readonly onMissed: (events: number, reason: string) => void,
  ) {}

  /** How many have yet to go again. */
  get size(): number {
    return this.list.length;
  }

  /** How many ids they hold. */
  get idCount(): number {
    return this.list.reduce((sum, { ids }) => sum + ids.length, 0);
  }

  /** Whether there are some, and what is new has to wait for them. */
  get isTheirTurn(): boolean {
    return this.size > 0 && this.nowMs() >= this.freshUntilMs;
  }

  /** Nothing is to be sent for now: whatever is sent ends the connection. */
  get isMuted(): boolean {
    return this.nowMs() < this.mutedUntilMs;
  }

  /** A connection has come about: what is new may end it like the one before. */
  begin(): void {
    this.freshUntilMs = 0;
  }

  /** The broker has answered to a message, which nothing else was under way with if `wasAlone`. */
  noteAnswered(wasAlone: boolean): void {
    if (wasAlone) this.freshUntilMs = this.nowMs() + FRESH_TURN_MS;
    this.muteMs = MUTE_MS;
    this.beatKills = 0;
  }

  /**
   * The broker has ended the connection, and had not answered to these; `isBeating`: nor to an
   * empty batch. `limit` is told of one that is too long, and says whether that can be. True when
   * something was learned: what is sent from now on is shorter, or the one message is given up.
   */
  blame(
    unanswered: readonly Unanswered[],
    isBeating: boolean,
    limit: { noteTooLong(bytes: number): boolean },
  ): boolean {
    if (isBeating && unanswered.length === 0 && ++this.beatKills >= MAX_KILLS) this.mute(0);
    const [only] = unanswered;
    const kills = (only?.kills ?? 0) + 1;
    const isCaught = unanswered.length === 1 && (only.isAlone || kills > 1);
    if (!isCaught) {
      const isOne = unanswered.length === 1;
      this.add(unanswered.map((it) => (isOne ? { ...it, kills } : it)));
      return false;
    }
    if (limit.noteTooLong(only.bytes)) {
      this.add([{ ...only, kills: 0 }]);
      return true;
    }
    if (kills < MAX_KILLS) {
      this.add([{ ...only, kills }]);
      return false;
    }
    this.givenUp++;
    this.mute(only.events);
    return true;
  }

  private mute(events: number): void {
    this.onMissed(events, "it ends the connection whenever this is sent");
    this.mutedUntilMs = this.nowMs() + this.muteMs;
    this.muteMs = Math.min(2 * this.muteMs, MAX_MUTE_MS);
  }

  /** The longest goes first: most brokers that end a connection do so for a length. */
  private add(suspects: readonly Suspect[]): void {
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

/**
 * When a node announces itself. Everybody hears it, so each of many says little: once in a while,
 * the more seldom the more there are; and whatever else there is to say, such as another root,
 * comes no sooner after the last time than it takes all of them to have their say.
 *
 * A node that comes announces itself at once, so that its peers turn to it and a twin is found. Of
 * those that could answer, a few do. The broker keeps what the others said; where it does not, they
 * say it again when it is their turn. When very many come back together, as after a power cut, most
 * find that others were first, and take their place in the rhythm that they all have later anyway:
 * a node need not hear of all others to begin.
 */
import type { Cancel, Timing } from "../timing.ts";
import { REFRESH_MS } from "./presence-message.ts";

/** Announcements asked for within this time are made once, in ms. */
const GATHER_MS = 50;
/**
 * Between two announcements, in ms, and so much more for each node there is: a node receives five
 * or six a second at most, whatever they are about.
 */
const DISTANCE_MS = 250;
const DISTANCE_A_NODE_MS = 180;
/** The same for what cannot wait, as when others take this node to be gone. */
const URGENT_A_NODE_MS = 10;
/**
 * Presence is announced anew after REFRESH_MS, or after so much for each node there is; a quarter
 * of it is left to chance. So a node receives about 1.5 KB/s of it, however many there are.
 */
const REFRESH_A_NODE_MS = 250;
/**
 * When the root has changed it is announced within so much for each node. With writes now and then
 * all do so again and again, and a node receives about as much of it as of the above.
 */
const ROOT_A_NODE_MS = 375;
/** Of all who could answer a node that has come, so many do at once, about. */
const FEW = 8;
/** Up to so many may come at once. Of more, each listens first, for up to so long, in ms. */
const CROWD = 256;
const LISTEN_MS = 2_000;
/**
 * So many that come make a crowd, and so many more for each second that they take. Who comes with
 * it waits for its turn, and nobody answers it.
 */
const MANY = 8;
const MANY_A_SECOND = 2;
/**
 * A node that came within this time need not answer others that come, in ms, if the broker keeps
 * what it said.
 */
const SETTLED_MS = 5_000;
/** Members are counted this often at most, in ms, and so much more seldom for each there may be. */
const COUNT_EVERY_MS = 250;
const COUNT_A_NODE_MS = 25;

/** What it is made with. */
export interface AnnouncerOptions {
  readonly timing: Timing;
  /** From 0 to below 1. */
  readonly random: () => number;
  /** How many other nodes are heard of with which there was contact, by anybody. */
  readonly members: () => number;
  /** How many there may be, whether they are heard of or not. */
  readonly expectedMembers: () => number;
  /** Says it. */
  readonly announce: () => void;
}

/** Other nodes that are heard of, and those that there may be. */
interface Counts {
  readonly members: number;
  readonly expected: number;
}

/** See the file header. */
export class Announcer {
  /** After what time this node says it again, at the latest, in ms. */
  refreshMs = REFRESH_MS;
  private isUp = false;
  private cancelNext: Cancel | null = null;
  /** When the next announcement comes, and when the last one was made. */
  private nextMs = Infinity;
  private announcedMs = -Infinity;
  /** Until when this node answers nobody at once. */
  private answeredUntilMs = -Infinity;
  /** This node has yet to announce itself on this connection. */
  private isNew = false;
  /** It waits with that, and listens how many others come. */
  private isListening = false;
  /** Others that came of late, as of when. */
  private newcomers = 0;
  private newcomersMs = -Infinity;
  private upMs = 0;
  private counted: Counts = { members: 0, expected: 0 };
  private nextCountMs = -Infinity;

  constructor(private readonly options: AnnouncerOptions) {}

  /** There is a connection: announces this node, at once unless very many may do the same. */
  up(): void {
    this.isUp = true;
    this.upMs = this.options.timing.nowMs();
    this.newcomers = 0;
    this.isNew = true;
    if (this.expected <= CROWD) return this.now();
    this.isListening = true;
    this.at(this.upMs + LISTEN_MS * (0.5 + this.options.random() / 2));
  }

  /** It is gone: nothing is announced until the next. */
  down(): void {
    this.isUp = false;
    this.isListening = false;
    this.cancel();
  }

  /** Announces this node at once, and again when it is time. */
  now(): void {
    this.cancel();
    // When many come, most are yet to be heard of.
    this.refreshMs = Math.max(refreshMsOf(this.members), this.isNew ? this.roundMs : 0);
    this.isNew = this.isListening = false;
    this.announcedMs = this.options.timing.nowMs();
    this.options.announce();
    this.at(this.announcedMs + this.refreshMs * (1 - this.options.random() / 4));
  }

  /** How long it may take after a connection until all who are there were heard, in ms. */
  get roundMs(): number {
    return this.expected > CROWD ? refreshMsOf(this.expected) : 0;
  }

  /** Announces another root, at some moment soon. */
  rootChanged(): void {
    if (!this.isNew) this.inTurn(this.options.random() * ROOT_A_NODE_MS * (1 + this.members));
  }

  /** Others are to hear soon, or after so many ms, that this node is there. */
  urgently(delayMs = GATHER_MS): void {
    const distanceMs = DISTANCE_MS + URGENT_A_NODE_MS * this.members;
    this.isListening = false;
    this.in(delayMs, distanceMs);
  }

  /**
   * A node has come. `isTold`: the broker tells it of those that are there. `isMember`: there was
   * contact with it, by anybody.
   */
  answer(isTold: boolean, isMember: boolean): void {
    // Made-up ones do not keep this node from announcing itself.
    if (this.isNew && !isMember) return;
    const nowMs = this.options.timing.nowMs();
    this.newcomers = this.newcomersOfLate + 1;
    this.newcomersMs = nowMs;
    if (this.isNew) return;
    const isSettled = nowMs - this.upMs >= SETTLED_MS;
    if (isTold && (!isSettled || this.isCrowd)) return;
    const isDrawn = !this.isCrowd && this.options.random() * this.members < FEW;
    if (isDrawn && nowMs >= this.answeredUntilMs) {
      this.answeredUntilMs = nowMs + this.distanceMs;
      this.in(GATHER_MS, DISTANCE_MS);
    } else if (isDrawn || !isTold) this.inTurn(GATHER_MS);
  }

  private get distanceMs(): number {
    // When many come, most are yet to be heard of.
    return DISTANCE_MS + DISTANCE_A_NODE_MS * (this.isCrowd ? this.expected : this.members);
  }

  private get isCrowd(): boolean {
    return this.newcomersOfLate >= MANY;
  }

  private get newcomersOfLate(): number {
    const passedMs = this.options.timing.nowMs() - this.newcomersMs;
    return Math.max(0, this.newcomers - (passedMs / 1_000) * MANY_A_SECOND);
  }

  private get expected(): number {
    return this.counts().expected;
  }

  private get members(): number {
    return this.counts().members;
  }

  private counts(): Counts {
    const nowMs = this.options.timing.nowMs();
    if (nowMs >= this.nextCountMs) {
      const members = this.options.members();
      const expected = Math.max(members, this.options.expectedMembers());
      this.counted = { members, expected };
      this.nextCountMs = nowMs + COUNT_EVERY_MS + COUNT_A_NODE_MS * expected;
    }
    return this.counted;
  }

  /** In so many ms, but not before all others have had time to say as much. */
  private inTurn(delayMs: number): void {
    this.in(delayMs, this.distanceMs);
  }

  private in(delayMs: number, distanceMs: number): void {
    if (!this.isUp) return;
    this.at(Math.max(this.options.timing.nowMs() + delayMs, this.announcedMs + distanceMs));
  }

  private at(atMs: number): void {
    // What asks for one again and again does not put it off.
    if (!this.isUp || this.nextMs <= atMs) return;
    const { timing } = this.options;
    this.cancel();
    this.nextMs = atMs;
    this.cancelNext = timing.after(atMs - timing.nowMs(), () => this.come());
  }

  private come(): void {
    const { timing, random } = this.options;
    if (!this.isListening || !this.isCrowd) return this.now();
    this.cancel();
    this.isListening = false;
    this.at(timing.nowMs() + random() * this.roundMs);
  }

  private cancel(): void {
    this.cancelNext?.();
    this.nextMs = Infinity;
  }
}

function refreshMsOf(members: number): number {
  return Math.max(REFRESH_MS, REFRESH_A_NODE_MS * members);
}

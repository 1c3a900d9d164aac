/**
 * How many messages a second the broker takes: what the configuration says, or what was found out,
 * for many brokers have a limit that they do not announce. Hosted ones drop what is above it
 * without a word, or end the connection.
 *
 * Messages are let through as tokens come into a bucket. In no second are there more than the
 * limit: a sixth of it at once after a silence, and two thirds of it one after the other. The rest
 * is for what the way to the broker does to them: what was sent evenly may arrive in a heap.
 *
 * What is found out is half of what was sent in the busiest of the latest seconds, then half of
 * that, and so on: after a few steps it is less than the broker takes, and no less than half of it.
 * It is forgotten after a while: the broker may have been given another limit.
 *
 * A broker that ends a connection in a busy second may do so for many a reason. One that was away
 * afterwards was restarted. Else a message may have been too long. So the next connection begins
 * slowly. If that one ends as well, it was not the number of messages. If it ends later on in
 * another busy second, it was.
 */

/** What was found out is believed for so long, in ms. */
const BELIEVED_MS = 3_600_000;
/** Nobody minds fewer messages in a second than this. */
const BUSY = 20;
/** What is found out is not below this, in messages a second. */
const LEAST = 2;
/** Messages are counted by so many ms; no second touches more than so many of these parts. */
const PART_MS = 250;
const PARTS_A_SECOND = 5;
/** Where the busiest second is looked for: that a message is lost is noticed after a while. */
const PARTS = 64;
/** After a busy second ended a connection the next one has this limit, in messages a second. */
const CAREFUL = 10;
/** For so long, in ms. */
const CAREFUL_MS = 5_000;
/** Another busy end within this time means that it was for the number of messages, in ms. */
const SUSPICION_MS = 600_000;
/** Signs within this time are of one excess, in ms. */
const SETTLING_MS = 1_000;

/** Of a limit, what may be sent at once, and what a second. */
const BURST_PART = 1 / 6;
const RATE_PART = 2 / 3;

/** See the file header. */
export class MessagePace {
  private foundPerSecond = Infinity;
  private foundAtMs = -Infinity;
  private suspectedMs = -Infinity;
  /** A connection ended in a busy second: the next one is to begin slowly. */
  private isWary = false;
  private carefulUntilMs = -Infinity;
  /** Messages that may be sent now; below 0 when more were. As of that time. */
  private tokens = 1;
  private tokensMs: number;
  /** Messages in each of the latest parts, by its number modulo PARTS. */
  private readonly counts = new Uint32Array(PARTS);
  private part = 0;

  /** `configuredPerSecond`: 0 for no limit but what is found out. */
  constructor(
    private readonly configuredPerSecond: number,
    private readonly nowMs: () => number,
  ) {
    this.tokensMs = nowMs();
  }

  /** Most messages in any second; Infinity while no limit is known. */
  get perSecond(): number {
    const careful = this.nowMs() < this.carefulUntilMs ? CAREFUL : Infinity;
    return Math.min(this.known, careful);
  }

  /**
   * For how long nothing may be sent, in ms; 0 when something may. With `leavesRoom`, not before
   * half of what may be sent at once would be left for others.
   */
  pauseMs(leavesRoom = false): number {
    const { perSecond } = this;
    if (perSecond === Infinity) return 0;
    this.earn(perSecond);
    const needed = leavesRoom ? Math.max(1, burstOf(perSecond) / 2) : 1;
    const missing = needed - this.tokens;
    return missing <= 0 ? 0 : Math.max(1, (missing / (RATE_PART * perSecond)) * 1_000);
  }

  /** A message is sent. */
  spend(): void {
    this.turn();
    this.counts[this.part % PARTS]++;
    const { perSecond } = this;
    if (perSecond === Infinity) return;
    this.earn(perSecond);
    this.tokens--;
  }

  /** A connection came about; `wasAway`: the broker could not be reached in between. */
  begin(wasAway = false): void {
    this.counts.fill(0);
    if (wasAway) this.suspectedMs = -Infinity;
    const { isWary } = this;
    this.isWary = false;
    if (isWary && !wasAway) this.carefulUntilMs = this.nowMs() + CAREFUL_MS;
  }

  /**
   * The broker has said that there were too many, or has dropped some. False when there were so few
   * that it cannot be for their number.
   */
  noteExcess(): boolean {
    const nowMs = this.nowMs();
    if (nowMs - this.foundAtMs < SETTLING_MS) return true;
    const { known } = this;
    const reached = known === Infinity ? this.busiest() : known;
    const found = Math.max(LEAST, Math.floor(reached / 2));
    if (found >= known) return false;
    this.foundPerSecond = found;
    this.foundAtMs = nowMs;
    return true;
  }

  /** Whether there were so many in one of the latest seconds that it may have been too many. */
  get isBusy(): boolean {
    return this.busiest() >= BUSY;
  }

  /** The broker ended the connection, for whatever reason. True when a limit was found by that. */
  noteHungUp(): boolean {
    const nowMs = this.nowMs();
    if (!this.isBusy) {
      this.suspectedMs = -Infinity;
      return false;
    }
    const isRepeated = nowMs - this.suspectedMs < SUSPICION_MS;
    this.suspectedMs = nowMs;
    this.isWary = true;
    return isRepeated && this.noteExcess();
  }

  /** What is configured and what was found out. */
  private get known(): number {
    if (this.nowMs() - this.foundAtMs > BELIEVED_MS) this.foundPerSecond = Infinity;
    const configured = this.configuredPerSecond === 0 ? Infinity : this.configuredPerSecond;
    return Math.min(configured, this.foundPerSecond);
  }

  /** Messages in the busiest of the latest seconds: so many at least. */
  private busiest(): number {
    this.turn();
    let busiest = 0;
    let sum = 0;
    for (let part = this.part - PARTS + 1; part <= this.part; part++) {
      sum += this.countOf(part);
      if (part > this.part - PARTS + PARTS_A_SECOND) sum -= this.countOf(part - PARTS_A_SECOND);
      busiest = Math.max(busiest, sum);
    }
    return busiest;
  }

  private countOf(part: number): number {
    return this.counts[(part + PARTS) % PARTS];
  }

  /** Forgets what is over for long. */
  private turn(): void {
    const part = Math.floor(this.nowMs() / PART_MS);
    const passed = Math.min(part - this.part, PARTS);
    for (let i = 0; i < passed; i++) this.counts[(part - i) % PARTS] = 0;
    this.part = part;
  }

  private earn(perSecond: number): void {
    const nowMs = this.nowMs();
    const earned = ((nowMs - this.tokensMs) / 1_000) * RATE_PART * perSecond;
    this.tokens = Math.min(burstOf(perSecond), this.tokens + earned);
    this.tokensMs = nowMs;
  }
}

function burstOf(perSecond: number): number {
  return Math.max(1, BURST_PART * perSecond);
}

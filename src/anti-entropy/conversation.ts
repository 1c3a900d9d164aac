/**
 * Runs one sync session over one connection, in either role: moves bytes between them, gives
 * the session its turns on the event loop, holds it back while the connection is full, and ends
 * it when the other side goes away or falls silent.
 */
import type { Durability, Link, LinkHandler } from "../ports.ts";
import type { SyncSession } from "../core/sync/session.ts";
import type { SyncResult } from "../core/sync/result.ts";
import { every, type Cancel, type Timing } from "../timing.ts";
import type { LongestSlice } from "./longest-slice.ts";
import { SessionProgress } from "./session-progress.ts";
import { SafeSender } from "./safe-sender.ts";

/** A frame that comes more slowly than this many bytes in the time of silence does not come. */
const MIN_BYTES_A_SILENCE = 4_096;

/** What a conversation is made with. */
export interface ConversationOptions {
  readonly link: Link;
  readonly timing: Timing;
  /** Nothing more is produced while this much waits to be sent, in bytes. */
  readonly maxQueuedBytes: number;
  /** Nothing is sent before what it shows is safe. */
  readonly durability: Durability;
  /** Makes the session. */
  readonly create: (
    send: (frame: Uint8Array) => void,
    onEnd: (result: SyncResult) => void,
    onResumable: () => void,
  ) => SyncSession;
  /**
   * How long the other side may neither send a frame nor take a byte while it is waited for, in ms.
   */
  readonly silenceMs: number;
  /** How long the other side may take until it has said who it is, in ms. */
  readonly helloMs: number;
  /** Called once, when the session is over. */
  readonly onEnd: (result: SyncResult) => void;
  /** Told how long each turn on the event loop takes. */
  readonly longestSlice: LongestSlice;
  /** The session threw, which is a mistake in the program. */
  readonly onBug: (error: unknown) => void;
}

/** One session and its connection; the Link's handler. */
export class Conversation implements LinkHandler {
  private readonly session: SyncSession;
  private readonly sender: SafeSender;
  private readonly cancelLook: Cancel;
  /** Calls off the next slice; null while there is none to come. */
  private cancelSlice: Cancel | null = null;
  private readonly startedMs: number;
  private readonly progress: SessionProgress;
  private lastLifeMs: number;
  /** Bytes of an incomplete frame that came since. */
  private bytesSinceLife = 0;
  private receivedBytes = 0;
  private sentBytes = 0;
  /** How many of those the system had taken when it last took some, and when that was. */
  private takenBytes = 0;
  private lastTakenMs: number;
  private isPaused = false;
  /** Why the connection is over; null while it is not. */
  private lostBecause: string | null = null;
  private isOver = false;

  constructor(private readonly options: ConversationOptions) {
    const { link, durability, create, silenceMs, helloMs, timing } = options;
    this.startedMs = this.lastLifeMs = this.lastTakenMs = timing.nowMs();
    this.progress = new SessionProgress(silenceMs, this.startedMs);
    this.sender = new SafeSender(link, durability, () => {
      if (link.queuedBytes === 0) this.drained();
    });
    this.session = create(
      (frame) => this.send(frame),
      (result) => this.end(result),
      () => this.work(),
    );
    this.cancelLook = every(timing, Math.min(silenceMs, helloMs) / 4, () => this.look());
  }

  /** Whether it has to make room for another; as in SessionProgress. */
  hasHadItsTurn(patience: number): boolean {
    const movedBytes = this.receivedBytes + this.sentBytes - this.waitingBytes;
    return this.progress.hasHadItsTurn(this.options.timing.nowMs(), movedBytes, patience);
  }

  /** Begins; the initiator speaks first. Nothing may be received before. */
  start(isInitiator: boolean): void {
    if (isInitiator) this.guard(() => this.session.start());
    this.work();
  }

  receive(bytes: Uint8Array): void {
    if (this.isOver) return;
    this.receivedBytes += bytes.length;
    this.bytesSinceLife += bytes.length;
    if (this.bytesSinceLife >= MIN_BYTES_A_SILENCE) this.noteLife();
    this.work(bytes);
  }

  drained(): void {
    if (this.isOver) return;
    this.noteLife();
    this.session.canSend = true;
    this.work();
  }

  /** What came before the end still counts: it may say why the other side ended. */
  closed(reason = "the connection was lost"): void {
    if (this.isOver) return;
    this.lostBecause = reason;
    this.session.canSend = false;
    this.work();
  }

  /** Ends the session, and tells the other side to come again. */
  dismiss(reason: string): void {
    if (!this.isOver) this.guard(() => this.session.dismiss(reason));
  }

  /** Ends the session before its time. */
  close(reason: string): void {
    if (!this.isOver) this.guard(() => this.session.close(reason));
  }

  /** Bytes sent that the system has not taken yet. */
  private get waitingBytes(): number {
    return this.options.link.queuedBytes + this.sender.waitingBytes;
  }

  /** Ends it when the other side is silent, does not read, or moves too little for too long. */
  private look(): void {
    const { link, silenceMs, helloMs } = this.options;
    const nowMs = this.options.timing.nowMs();
    const takenBytes = this.sentBytes - this.waitingBytes;
    if (takenBytes > this.takenBytes || link.queuedBytes === 0) this.lastTakenMs = nowMs;
    this.takenBytes = takenBytes;
    const isWorking = this.cancelSlice !== null || this.session.isSettingAside;
    const isOwnTurn = isWorking || this.sender.waitingBytes > 0;
    const { address } = link;
    let reason = this.progress.look(nowMs, this.receivedBytes + takenBytes, isOwnTurn);
    if (nowMs - this.lastLifeMs >= silenceMs) {
      reason = `nothing came from ${address} for ${silenceMs / 1000} s`;
    } else if (nowMs - this.lastTakenMs >= silenceMs) {
      reason = `${address} read nothing for ${silenceMs / 1000} s`;
    } else if (!this.session.isIntroduced && nowMs - this.startedMs >= helloMs) {
      reason = `${address} did not say who it is within ${helloMs / 1000} s`;
    }
    if (reason !== null) this.close(reason);
  }

  private noteLife(): void {
    this.lastLifeMs = this.options.timing.nowMs();
    this.bytesSinceLife = 0;
  }

  private send(frame: Uint8Array): void {
    const { sender } = this;
    this.sentBytes += frame.length;
    sender.send(frame);
    if (this.waitingBytes > this.options.maxQueuedBytes) this.session.canSend = false;
  }

  /**
   * Takes what has arrived, and does one slice now, the next one after everybody else had a turn.
   */
  private work(arrived?: Uint8Array): void {
    if (this.isOver) return;
    const isDue = this.cancelSlice === null;
    let isMore = false;
    const turn = (): void => {
      if (arrived !== undefined) this.session.receive(arrived);
      if (this.session.hasFrame) this.noteLife();
      if (isDue) isMore = this.session.step();
    };
    this.options.longestSlice.measure(() => this.guard(turn));
    if (this.isOver || !isDue) return;
    if (!isMore && this.lostBecause !== null && !this.session.isSettingAside)
      return this.close(this.lostBecause);
    this.steer();
    if (!isMore) return;
    this.noteLife();
    this.cancelSlice = this.options.timing.soon(() => {
      this.cancelSlice = null;
      this.work();
    });
  }

  /** Reads from the connection while the session takes more. */
  private steer(): void {
    const isPaused = !this.session.canReceive;
    if (isPaused === this.isPaused) return;
    this.isPaused = isPaused;
    if (this.lostBecause !== null) return;
    if (isPaused) this.options.link.pause();
    else this.options.link.resume();
  }

  private guard(part: () => void): void {
    try {
      part();
    } catch (error) {
      this.options.onBug(error);
      this.session.close("a mistake in this program; see the log");
    }
  }

  private end(result: SyncResult): void {
    if (this.isOver) return;
    this.isOver = true;
    this.cancelLook();
    this.cancelSlice?.();
    this.sender.end();
    this.options.onEnd(result);
  }
}

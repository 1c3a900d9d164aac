/**
 * Sends what the links of a node have for the broker, within a budget of bytes a second, and behind
 * what matters more: while this node's own writes wait for the broker next to nothing is sent, of
 * the messages that the broker takes in a second some are left for them, and what was given to the
 * system and has not left is little at any time. Links take turns.
 */
import { counter, type Fact } from "../fact.ts";
import type { Messenger } from "../ports.ts";
import type { Cancel, Timing } from "../timing.ts";
import type { RelayLink } from "./relay-link.ts";

/** How much may be sent at once after a silence: what comes in this time, in ms. */
const BURST_MS = 250;
/** Given to the system and not taken by it, in bytes. */
const MAX_UNTAKEN_BYTES = 32_768;
/** While writes wait: how often it is looked whether they still do, and how often sent anyway. */
const LOOK_MS = 20;
const TRICKLE_MS = 500;
/** What a message has beside its payload, about, in bytes: its topic, for the most part. */
const PACKET_BYTES = 64;

/** See the file header. */
export class RelaySender {
  /** For INFO. */
  static readonly facts: readonly Fact<RelaySender>[] = [
    counter(
      "relay_sent_messages",
      "messages",
      "Given to the broker for connections to nodes through it.",
      (it) => it.messages,
    ),
    counter("relay_sent_bytes", "bytes", "Of those, without topics.", (it) => it.bytes),
  ];

  private messages = 0;
  private bytes = 0;
  private readonly links = new Set<RelayLink>();
  /** What may be sent now; below 0 when more was. */
  private credit: number;
  private creditMs: number;
  private sentMs = -Infinity;
  private untakenBytes = 0;
  /** Counts the connections to the broker: of a former one nothing is taken any more. */
  private connection = 0;
  private isSoon = false;
  private cancelTimer: Cancel = () => {};

  constructor(
    private readonly messenger: Messenger,
    private readonly timing: Timing,
    private readonly bytesASecond: () => number,
  ) {
    this.credit = this.maxCredit;
    this.creditMs = timing.nowMs();
  }

  /** Sends what a link has from now on. */
  add(link: RelayLink): void {
    this.links.add(link);
  }

  /** A link is over; of what it received the other side is told once more. */
  remove(link: RelayLink): void {
    if (!this.links.delete(link)) return;
    const last = link.next(this.timing.nowMs(), true);
    if (last !== null && this.messenger.isOpen) this.send(link, last);
  }

  /** Some link may have something to send. */
  wake(): void {
    if (this.isSoon) return;
    this.isSoon = true;
    this.timing.soon(() => {
      this.isSoon = false;
      this.pump();
    });
  }

  /** The broker is reached again. */
  noteOpen(): void {
    this.connection++;
    this.untakenBytes = 0;
    for (const link of this.links) link.interrupt();
    this.wake();
  }

  /** Most bytes it sends in a second, over a while. */
  get limitBytes(): number {
    return this.bytesASecond();
  }

  private get maxCredit(): number {
    return Math.max(1, (this.bytesASecond() * BURST_MS) / 1_000);
  }

  /** One datagram of each in turn, until nobody has one or no more may be sent. */
  private pump(): void {
    this.cancelTimer();
    if (!this.messenger.isOpen || this.links.size === 0) return;
    const nowMs = this.timing.nowMs();
    this.earn(nowMs);
    const waiting = new Set(this.links);
    let isHeldBack = false;
    const mustPause = (): boolean => {
      const isPaced = this.messenger.pauseMs() > 0;
      isHeldBack ||= isPaced;
      return isPaced;
    };
    while (waiting.size > 0 && !mustPause()) {
      for (const link of waiting) {
        if (mustPause()) break;
        const isReceipt = this.pauseMs(nowMs) > 0;
        isHeldBack ||= isReceipt;
        const datagram = link.next(nowMs, isReceipt);
        if (datagram === null) waiting.delete(link);
        else this.send(link, datagram);
      }
    }
    for (const link of [...this.links]) link.noteSent();
    this.plan(isHeldBack);
  }

  /** Whoever was served goes to the end. */
  private send(link: RelayLink, datagram: Uint8Array): void {
    const { connection } = this;
    const cost = datagram.length + PACKET_BYTES;
    if (this.links.delete(link)) this.links.add(link);
    this.messages++;
    this.bytes += datagram.length;
    this.credit -= cost;
    this.sentMs = this.timing.nowMs();
    this.untakenBytes += cost;
    this.messenger.send(link.nodeId, link.box, datagram, () => {
      if (connection !== this.connection) return;
      const wasFull = this.untakenBytes >= MAX_UNTAKEN_BYTES;
      this.untakenBytes -= cost;
      if (wasFull) this.wake();
    });
  }

  private earn(nowMs: number): void {
    const earned = ((nowMs - this.creditMs) / 1_000) * this.bytesASecond();
    this.credit = Math.min(this.maxCredit, this.credit + earned);
    this.creditMs = nowMs;
  }

  /** For how long nothing but receipts may be sent; 0 when anything may. */
  private pauseMs(nowMs: number): number {
    if (this.untakenBytes >= MAX_UNTAKEN_BYTES) return Infinity;
    if (this.credit <= 0) return Math.max(1, (-this.credit / this.bytesASecond()) * 1_000);
    return this.messenger.isCrowded && nowMs - this.sentMs < TRICKLE_MS ? LOOK_MS : 0;
  }

  /** `isHeldBack`: something was not sent though it was there; what held it back may be over. */
  private plan(isHeldBack: boolean): void {
    const nowMs = this.timing.nowMs();
    let dueMs = Infinity;
    let hasUnsent = false;
    for (const link of this.links) {
      dueMs = Math.min(dueMs, link.dueMs);
      hasUnsent ||= link.hasToSend;
    }
    const paceMs = this.messenger.pauseMs();
    const pauseMs = Math.max(this.pauseMs(nowMs), paceMs);
    if (hasUnsent && isHeldBack) dueMs = Math.min(dueMs, nowMs + pauseMs);
    if (dueMs === Infinity) return;
    // What is due and may not be sent is looked at again when it may.
    const notBeforeMs = pauseMs === Infinity ? Math.max(LOOK_MS, paceMs) : pauseMs;
    const delayMs = Math.max(dueMs - nowMs, notBeforeMs, 1);
    this.cancelTimer = this.timing.after(delayMs, () => this.pump());
  }
}

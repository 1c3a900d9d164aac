/**
 * Connections to other nodes through the broker, for nodes that cannot reach each other otherwise.
 * Like a socket, one is called or accepted here and then is a Link, over which a session runs that
 * knows nothing of it. `relay-messages.ts` says how two nodes find each other, `relay-sender.ts`
 * who may send when.
 *
 * Anybody at the broker can write to any topic. So nothing is begun before a caller has shown that
 * he hears what is said to the node he claims to be, few wait for that at a time, and calls are
 * answered at a bounded rate. What comes for no box, or cannot have been sent by the other side, is
 * dropped and counted.
 */
import { counter, gauge, within, type Fact } from "../fact.ts";
import type { Logger } from "../observability/log.ts";
import type { Link, LinkHandler, Messenger } from "../ports.ts";
import type { Cancel, Timing } from "../timing.ts";
import { MIN_DATAGRAM_BYTES } from "../core/link/datagram-stream.ts";
import { RelayLink } from "./relay-link.ts";
import * as messages from "./relay-messages.ts";
import { RelaySender } from "./relay-sender.ts";

/** A call is said again after this time, then after twice as long, until it is given up. */
const CALL_AGAIN_MS = 1_000;
const CALL_MS = 8_000;
/** Callers that were answered and not heard of since; the oldest makes room for another. */
const MAX_WAITING_CALLERS = 32;
/** How long such a caller is waited for, in ms. */
const CALLER_MS = 20_000;
/** Answers to calls at once, and in a second: whoever calls without end is answered so often. */
const MAX_ANSWERS = 32;
/** Longest datagram: brokers that bill or limit by size are content with less than 5 KiB. */
const MAX_DATAGRAM_BYTES = 4_096;
/** Longest datagram where the broker takes few messages a second: then fewer and longer ones. */
const MAX_PACED_DATAGRAM_BYTES = 16_384;
/** Most connections at once that others have begun, whatever their sessions are at. */
const MAX_ACCEPTED = 64;

/** What it is made with. */
export interface RelayOptions {
  readonly messenger: Messenger;
  readonly timing: Timing;
  readonly randomWords: (count: number) => Uint32Array;
  readonly nodeId: string;
  /** What all connections together may send, in bytes a second. 0: there are none. */
  readonly bytesASecond: number;
  /** Why nobody is accepted now; null when somebody may be. */
  readonly refusal: (isRound: boolean) => string | null;
  /** What takes over a connection that somebody began, or why nothing does. As in SyncControl. */
  readonly accept: (isRound: boolean) => ((link: Link) => LinkHandler) | string;
  readonly logger: Logger;
}

/** What takes the messages that come to one box of this node. */
interface Box {
  /** Takes a message. */
  receive(message: Uint8Array): void;
}

/** See the file header. */
export class Relay {
  private readonly sender: RelaySender;
  private readonly boxes = new Map<string, Box>();
  /** Callers that were answered, by their node and box, the latest at the end. */
  private readonly callers = new Map<string, WaitingCaller>();
  private readonly links = new Set<RelayLink>();
  private accepted = 0;
  private begun = 0;
  private resends = 0;
  private answers = MAX_ANSWERS;
  private answersMs: number;
  private readonly dropped = { stray: 0, malformed: 0, call: 0 };

  /** For INFO. */
  static readonly facts: readonly Fact<Relay>[] = [
    gauge("relay_links", "connections", "To nodes through the broker.", (it) => it.links.size),
    counter(
      "relay_links_begun",
      "connections",
      "To nodes through the broker since the start.",
      (it) => it.begun,
    ),
    ...within((it: Relay) => it.sender, RelaySender.facts),
    gauge(
      "relay_limit_bytes_per_second",
      "bytes",
      "What comparing sends through the broker in a second at most.",
      (it) => it.sender.limitBytes,
    ),
    counter(
      "relay_resends",
      "messages",
      "Of those, what had been sent before and was lost on the way.",
      (it) => it.resends,
    ),
    counter(
      "relay_dropped_stray",
      "messages",
      "Came through the broker for no connection there is; a few come late in good order.",
      (it) => it.dropped.stray,
    ),
    counter(
      "relay_dropped_malformed",
      "messages",
      "Came through the broker for a connection whose other side cannot have sent them.",
      (it) => it.dropped.malformed,
    ),
    counter(
      "relay_dropped_calls",
      "messages",
      "Calls through the broker that are none, or were too many.",
      (it) => it.dropped.call,
    ),
  ];

  constructor(private readonly options: RelayOptions) {
    const { messenger, timing } = options;
    this.answersMs = timing.nowMs();
    this.sender = new RelaySender(messenger, timing, () => options.bytesASecond);
    messenger.onMessage = (box, message) => this.receive(box, message);
    messenger.onOpen = () => this.sender.noteOpen();
  }

  /** Whether other nodes can be reached. */
  get isOpen(): boolean {
    const { messenger, bytesASecond } = this.options;
    return bytesASecond > 0 && messenger.isOpen && this.maxDatagramBytes >= MIN_DATAGRAM_BYTES;
  }

  /**
   * Reaches the node of that id, as `Dial` does by TCP; `greeting` is `PEER` or `PEER ROUND`.
   * Rejects with an Error for people when it does not answer.
   */
  dial(
    nodeId: string,
    greeting: string,
    handle: (link: Link) => LinkHandler,
    onRefused: (reason: string) => void,
  ): Promise<void> {
    const fail = (why: string) => new Error(`cannot reach ${nodeId} through the broker: ${why}`);
    if (!this.isOpen) return Promise.reject(fail("there is no way through it now"));
    const { timing } = this.options;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const box = this.newBox();
    const isRound = greeting === "PEER ROUND";
    const call = messages.encodeCall({ from: this.options.nodeId, box, isRound });
    const outgoing = new OutgoingCall(
      timing,
      () => this.sendAnswerless(nodeId, messages.OPEN_BOX, call),
      (answer) => {
        this.boxes.delete(box);
        if (answer === null) {
          return reject(fail(`no answer within ${CALL_MS / 1_000} s; does it hear that topic?`));
        }
        if ("refused" in answer) onRefused(`${nodeId} answered "${answer.refused}"`);
        else {
          const link = this.createLink(nodeId, answer.box, box, () => {});
          link.attach(handle(link));
        }
        resolve();
      },
    );
    this.boxes.set(box, outgoing);
    outgoing.start();
    return promise;
  }

  /** Ends all connections without a word: the process is about to end. */
  stop(): void {
    for (const link of [...this.links]) link.leave();
  }

  private get maxDatagramBytes(): number {
    const { isPaced, maxMessageBytes } = this.options.messenger;
    return Math.min(isPaced ? MAX_PACED_DATAGRAM_BYTES : MAX_DATAGRAM_BYTES, maxMessageBytes);
  }

  private receive(box: string, message: Uint8Array): void {
    if (this.options.bytesASecond === 0) return;
    if (box === messages.OPEN_BOX) return this.receiveCall(message);
    const receiver = this.boxes.get(box);
    if (receiver === undefined) return void this.dropped.stray++;
    receiver.receive(message);
  }

  private receiveCall(message: Uint8Array): void {
    const call = messages.decodeCall(message);
    const { nodeId, refusal } = this.options;
    if (call === null || call.from === nodeId || !this.mayAnswer()) return this.dropCall();
    const key = `${call.from}/${call.box}`;
    const known = this.callers.get(key);
    // The answer was lost, or the call came twice.
    if (known !== undefined) return this.answer(call, { box: known.box });
    const refused = refusal(call.isRound);
    if (refused !== null) return this.answer(call, { refused });
    if (this.accepted >= MAX_ACCEPTED && !this.makeRoom()) return this.dropCall();
    const [oldest] = this.callers.values();
    if (this.callers.size >= MAX_WAITING_CALLERS) this.forget(oldest);
    const caller = new WaitingCaller(call, this.newBox(), (first) => this.accept(caller, first));
    caller.cancel = this.options.timing.after(CALLER_MS, () => this.forget(caller));
    this.callers.set(key, caller);
    this.boxes.set(caller.box, caller);
    this.answer(call, { box: caller.box });
  }

  /** The caller has got the answer: this is what he says first. */
  private accept(caller: WaitingCaller, first: Uint8Array): void {
    const { call, box } = caller;
    this.forget(caller);
    const accepted = this.options.accept(call.isRound);
    if (typeof accepted === "string") return this.answer(call, { refused: accepted });
    this.accepted++;
    const link = this.createLink(call.from, call.box, box, () => this.accepted--);
    link.attach(accepted(link));
    link.receive(first);
  }

  /** Leaves a connection that has ended on this side and only waits for the other. */
  private makeRoom(): boolean {
    for (const link of this.links) {
      if (!link.hasEnded) continue;
      link.leave();
      return true;
    }
    return false;
  }

  private forget(caller: WaitingCaller): void {
    caller.cancel();
    this.callers.delete(`${caller.call.from}/${caller.call.box}`);
    this.boxes.delete(caller.box);
  }

  private answer(call: messages.Call, answer: messages.Answer): void {
    this.sendAnswerless(call.from, call.box, messages.encodeAnswer(answer));
  }

  private sendAnswerless(nodeId: string, box: string, message: Uint8Array): void {
    this.options.messenger.send(nodeId, box, message, () => {});
  }

  private createLink(nodeId: string, box: string, ownBox: string, onOver: () => void): RelayLink {
    const { timing } = this.options;
    const link: RelayLink = new RelayLink({
      nodeId,
      box,
      timing,
      maxDatagramBytes: () => Math.max(MIN_DATAGRAM_BYTES, this.maxDatagramBytes),
      onReady: () => this.sender.wake(),
      onOver: () => {
        this.resends += link.resends;
        this.sender.remove(link);
        this.links.delete(link);
        this.boxes.delete(ownBox);
        onOver();
      },
      onRefused: () => this.noteMalformed(nodeId),
    });
    this.begun++;
    this.links.add(link);
    this.sender.add(link);
    this.boxes.set(ownBox, link);
    return link;
  }

  private noteMalformed(nodeId: string): void {
    const malformed = ++this.dropped.malformed;
    const message = "What came through the broker for a connection cannot be of its other side";
    this.options.logger.warn(message, { node_id: nodeId, malformed });
  }

  private dropCall(): void {
    const calls = ++this.dropped.call;
    const message = "Calls through the broker were dropped: malformed, or too many";
    this.options.logger.warn(message, { calls });
  }

  private mayAnswer(): boolean {
    const nowMs = this.options.timing.nowMs();
    const earned = ((nowMs - this.answersMs) / 1_000) * MAX_ANSWERS;
    this.answers = Math.min(MAX_ANSWERS, this.answers + earned);
    this.answersMs = nowMs;
    if (this.answers < 1) return false;
    this.answers--;
    return true;
  }

  private newBox(): string {
    const words = [...this.options.randomWords(messages.BOX_DIGITS / 8)];
    return words.map((word) => word.toString(16).padStart(8, "0")).join("");
  }
}

/** A call of this node that is not answered yet. */
class OutgoingCall implements Box {
  private cancel: Cancel = () => {};
  private waitedMs = 0;
  private delayMs = CALL_AGAIN_MS;

  /** `onEnd` gets the answer, once; null when there is none. */
  constructor(
    private readonly timing: Timing,
    private readonly say: () => void,
    private readonly onEnd: (answer: messages.Answer | null) => void,
  ) {}

  start(): void {
    this.say();
    const delayMs = Math.min(this.delayMs, CALL_MS - this.waitedMs);
    this.cancel = this.timing.after(delayMs, () => {
      this.waitedMs += delayMs;
      this.delayMs *= 2;
      if (this.waitedMs >= CALL_MS) this.onEnd(null);
      else this.start();
    });
  }

  receive(message: Uint8Array): void {
    const answer = messages.decodeAnswer(message);
    if (answer === null) return;
    this.cancel();
    this.onEnd(answer);
  }
}

/** Somebody who called and was answered. */
class WaitingCaller implements Box {
  cancel: Cancel = () => {};

  constructor(
    readonly call: messages.Call,
    readonly box: string,
    private readonly onFirst: (message: Uint8Array) => void,
  ) {}

  receive(message: Uint8Array): void {
    if (!messages.isAnswer(message)) this.onFirst(message);
  }
}

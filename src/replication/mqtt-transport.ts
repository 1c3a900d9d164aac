/**
 * The connection to the broker, kept up for as long as it is open.
 *
 * Every attempt is a fresh client (`mqtt-client.ts`) that never reconnects by itself: the package
 * would resend what it has queued before subscribing again, and queue without bound while the
 * broker is away. Here the owner is told when the connection is up (subscribed and all) and when it
 * is down, and what was not acknowledged then is the owner's again.
 *
 * What is asked of the broker is settled in `connection-terms.ts`, how long packets may be in
 * `packet-limit.ts`, when messages leave in `outgoing-messages.ts`, and `answer-watch.ts` notices
 * what the broker never answers: then the connection is ended, for neither side knows any more what
 * is under way.
 */
import type { EventEmitter } from "node:events";
import type { Socket } from "node:net";
import type { IConnackPacket, IClientOptions, IClientPublishOptions, MqttClient } from "mqtt";
import type { Cancel } from "../timing.ts";
import { AnswerWatch } from "./answer-watch.ts";
import { BrokerReport } from "./broker-report.ts";
import { codeOf, ConnectionAttempt, grantOf } from "./connection-attempt.ts";
import { ConnectionTerms, MQTT_5 } from "./connection-terms.ts";
import { MessagePace } from "./message-pace.ts";
import { clientOptions, connectInPieces, trialOptions } from "./mqtt-client.ts";
import { CODES } from "./mqtt-codes.ts";
import { OutgoingMessages, type OutgoingMessage } from "./outgoing-messages.ts";
import { PacketLimit } from "./packet-limit.ts";
import type { PublishProblem, Transport, TransportOptions } from "./transport.ts";

/** How long messages are taken one after the other before others have their turn, in ms. */
const SLICE_MS = 1;
const FIRST_DELAY_MS = 200;
const MAX_DELAY_MS = 5_000;
/** A connection that lasts this long shows that all is well, and delays start afresh. */
const STABLE_MS = 5_000;
/** How long the broker is given to take a connection, in ms. */
const CONNECT_TIMEOUT_MS = 10_000;
/** How long a broker is given to answer the goodbye. */
const GOODBYE_MS = 500;
/** When better terms are tried after less was agreed on, in ms; then rarer and rarer. */
const TRIAL_MS = 60_000;
const MAX_TRIAL_MS = 6 * 3_600_000;
/** Why a connection that works is ended. */
const BETTER_TERMS = "it offers more than was agreed on";
/** A subscription over which so many connections ended is left out. */
const MAX_STRIKES = 2;
/** What a stream emits when it has reached the other side; one over WebSockets says nothing. */
const REACHED_EVENTS = ["connect", "secureConnect"];

/** One client of one broker. */
export class MqttTransport implements Transport {
  /** Where the broker is, as the system sees it; empty while that is not known. */
  remoteAddress = "";

  private readonly terms: ConnectionTerms;
  private readonly limit: PacketLimit;
  private readonly pace: MessagePace;
  private readonly report: BrokerReport;
  private readonly watch: AnswerWatch;
  private readonly outgoing: OutgoingMessages;
  private client: MqttClient | null = null;
  /** What is known of the attempt that the client came of. */
  private current: ConnectionAttempt | null = null;
  private isUp = false;
  private isOpen = false;
  private attempts = 0;
  private upSince = 0;
  /** Something was acknowledged on this connection. */
  private isProven = false;
  /** Topics that this connection is subscribed to. */
  private readonly granted = new Set<string>();
  /** Over which topic's subscription connections ended, and how many. */
  private readonly strikes = new Map<string, number>();
  private trialMs = TRIAL_MS;
  private cancelAttempt: Cancel = () => {};
  private cancelTrial: Cancel = () => {};
  /** An attempt has failed since the last connection. */
  private wasAway = false;
  /** When it is time to let others have their turn before the next message. */
  private sliceEndMs = 0;

  /** `connectTo` makes a client; tests put another in its place. */
  constructor(
    private readonly options: TransportOptions,
    private readonly connectTo: (options: IClientOptions) => MqttClient = connectInPieces(
      options.timing,
    ),
  ) {
    const { timing } = options;
    this.terms = new ConnectionTerms(options.protocol);
    this.limit = new PacketLimit(options.maxSentBytes, timing.nowMs);
    this.pace = new MessagePace(options.maxMessagesPerSecond, timing.nowMs);
    this.report = new BrokerReport(options.broker, options.logger);
    this.watch = new AnswerWatch(
      timing,
      () => this.client?.sendPing(),
      () => this.noteUnanswered(),
    );
    this.outgoing = new OutgoingMessages({
      timing,
      pace: this.pace,
      watch: this.watch,
      isAcknowledged: () => this.terms.terms.qos > 0,
      publish: (message, answered) => this.publishNow(message, answered),
      onAcknowledged: () => this.prove(),
      onExcess: (perSecond) => this.report.tooMany(perSecond),
    });
  }

  /** Whether the connection is up. */
  get connected(): boolean {
    return this.isUp;
  }

  /** Most QoS 1 messages the broker takes unacknowledged. */
  get receiveMaximum(): number {
    return this.outgoing.receiveMaximum;
  }

  /** Protocol version in use: 5, or 4 for MQTT 3.1.1. */
  get protocolVersion(): 4 | 5 {
    return this.terms.terms.version;
  }

  /** Longest packet to be sent, as far as is known; it may change. */
  get maxPacketBytes(): number {
    return this.limit.bytes;
  }

  /** What this broker does without, in words. */
  get lacks(): string[] {
    return this.terms.lacks;
  }

  /** Most messages to be sent in a second, as far as is known; Infinity for any number. */
  get messagesPerSecond(): number {
    return this.pace.perSecond;
  }

  /** For how long nothing more is sent, in ms; see `Transport`. */
  pauseMs(leavesRoom = false): number {
    return this.outgoing.pauseMs(leavesRoom);
  }

  /** A packet of that length has arrived. */
  notePassed(bytes: number): void {
    this.limit.notePassed(bytes);
  }

  /** One of that length did not. False when its length cannot be why. */
  noteTooLong(bytes: number): boolean {
    if (!this.limit.noteTooLong(bytes)) return false;
    this.report.tooLong(bytes, this.limit.bytes);
    return true;
  }

  /** Starts connecting and never gives up. */
  open(): void {
    if (this.isOpen) return;
    this.isOpen = true;
    this.attempt();
  }

  /** It is known why the last connection ended: the next one need not wait long. */
  hurry(): void {
    this.attempts = 0;
  }

  /**
   * Publishes with QoS 1, or 0 where the broker offers no more. `done` is called with the problem
   * when the broker refuses it, and not at all when the connection ends first.
   */
  publish(
    topic: string,
    payload: Buffer,
    retain: boolean,
    done: (problem?: PublishProblem) => void,
    traceparent?: string,
  ): void {
    if (!this.isUp) return;
    this.outgoing.add({ topic, payload, retain, done, traceparent });
  }

  /**
   * Publishes with QoS 0. `sent` is called when the system has taken the bytes, and not at all when
   * the connection ends first.
   */
  send(topic: string, payload: Uint8Array, sent: () => void): void {
    const client = this.client;
    if (!this.isUp || client === null) return;
    this.pace.spend();
    client.publish(topic, payload as Buffer, { qos: 0 }, () => {
      if (this.client === client && this.isUp) sent();
    });
  }

  /** Whether the broker has granted this connection the subscription of that topic. */
  isGranted(topic: string): boolean {
    return this.isUp && this.granted.has(topic);
  }

  /** Of that topic, what this client publishes itself is not to be sent to it any more. */
  silenceOwn(topic: string): void {
    if (this.protocolVersion !== MQTT_5 || !this.isGranted(topic)) return;
    this.client?.subscribe(topic, { qos: 1, nl: true }, () => {});
  }

  /** Says goodbye and stops. Takes at most half a second, and no time when not connected. */
  async close(): Promise<void> {
    this.isOpen = false;
    this.cancelAttempt();
    this.cancelTrial();
    const client = this.client;
    const wasUp = this.isUp;
    this.current?.cancelTimeout();
    this.client = null;
    this.isUp = false;
    this.outgoing.stop();
    if (client === null) return;
    if (wasUp) await this.sayGoodbye(client);
    else client.end(true);
  }

  private async sayGoodbye(client: MqttClient): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const cancel = this.options.timing.after(GOODBYE_MS, resolve);
    client.end(false, {}, () => resolve());
    await promise;
    cancel();
    client.stream.destroy();
  }

  /** `answered` is called if the broker answers while this connection is up. */
  private publishNow(message: OutgoingMessage, answered: (code: number | null) => void): void {
    const { client } = this;
    const { retains, qos } = this.terms.terms;
    const { topic, payload, retain, traceparent } = message;
    const options: IClientPublishOptions = { qos, retain: retain && retains };
    if (traceparent !== undefined && this.protocolVersion === MQTT_5) {
      options.properties = { userProperties: { traceparent } };
    }
    client!.publish(topic, payload, options, (error) => {
      if (this.client !== client || !this.isUp) return;
      const code = error ? codeOf(error) : null;
      // Without a code it is no answer: the package ends what is under way before it says so.
      if (!error || code !== null) answered(code);
    });
  }

  private noteUnanswered(): void {
    if (this.pace.isBusy) this.outgoing.slowDown();
    this.end("it left a message unanswered", true);
  }

  /** The broker does what was asked of it, so that what it lacks is known. */
  private prove(): void {
    if (this.isProven) return;
    this.isProven = true;
    this.terms.noteProven();
    this.report.proven(this.lacks);
  }

  private attempt(): void {
    this.attempts++;
    const attempt = new ConnectionAttempt();
    const client = this.connectTo(clientOptions(this.options, this.terms.terms));
    this.client = client;
    this.current = attempt;
    const { stream } = client as { stream?: EventEmitter };
    for (const event of REACHED_EVENTS) stream?.once(event, () => (attempt.isReached = true));
    const isCurrent = () => this.client === client;
    client.handleMessage = (packet, done) => {
      if (!isCurrent() || !("topic" in packet)) return done();
      const { topic, payload, retain } = packet;
      const bytes = typeof payload === "string" ? Buffer.from(payload) : payload;
      // Nothing is acknowledged there, but something came back, or through.
      if (this.isUp && this.terms.terms.qos === 0) this.prove();
      this.options.onMessage(topic, bytes, retain, () => this.takeNext(done));
    };
    client.on("packetreceive", ({ cmd }) => {
      if (isCurrent() && cmd === "pingresp") this.watch.pong();
    });
    attempt.cancelTimeout = this.options.timing.after(CONNECT_TIMEOUT_MS, () => {
      if (isCurrent()) this.end("it does not answer", attempt.isReached);
    });
    client.on("connect", (connack) => {
      attempt.cancelTimeout();
      attempt.isAccepted = true;
      if (isCurrent()) this.subscribe(client, connack, attempt);
    });
    // A former client may still have something to say, of which nothing follows for this one.
    client.on("error", (error) => {
      if (!isCurrent()) return;
      attempt.noteError(error);
      // What came after a packet that cannot be read is lost, and what it answered stays open.
      if (attempt.isAccepted) client.end(true);
    });
    client.on("disconnect", (packet) => {
      if (!isCurrent()) return;
      attempt.code = packet.reasonCode ?? null;
      if (packet.reasonCode === CODES.sessionTakenOver) this.options.onTakenOver();
    });
    client.on("close", () => {
      if (isCurrent()) this.lost(client, attempt);
    });
  }

  /**
   * Asks for the next message. The package would hand out all that came in one piece, thousands
   * of small ones, without a turn of the event loop between them.
   */
  private takeNext(done: () => void): void {
    const { timing } = this.options;
    if (timing.nowMs() < this.sliceEndMs) return done();
    timing.soon(() => {
      this.sliceEndMs = timing.nowMs() + SLICE_MS;
      done();
    });
  }

  private subscribe(client: MqttClient, connack: IConnackPacket, attempt: ConnectionAttempt): void {
    const offer = connack.properties ?? {};
    this.outgoing.noteOffered(offer.receiveMaximum);
    this.limit.announce(offer.maximumPacketSize ?? Infinity);
    this.terms.noteAccepted(offer);
    this.remoteAddress = (client.stream as Socket | undefined)?.remoteAddress ?? "";
    this.granted.clear();
    const wanted = this.options.subscriptions.filter(
      ({ topic }) => (this.strikes.get(topic) ?? 0) < MAX_STRIKES,
    );
    attempt.unanswered = new Set(wanted.map(({ topic }) => topic));
    if (wanted.length === 0) this.up();
    // Each in a packet of its own: a broker that refuses one of several may refuse them all.
    for (const { topic, ownToo, qos = 1 } of wanted) {
      client.subscribe(topic, { qos, nl: ownToo === false }, (error) => {
        const code = error ? grantOf(error) : null;
        if (this.client !== client || (error && code === null)) return;
        attempt.unanswered.delete(topic);
        this.strikes.delete(topic);
        if (error) this.report.refusedSubscription(topic, code);
        else this.granted.add(topic);
        if (attempt.unanswered.size === 0) this.up();
      });
    }
  }

  private up(): void {
    this.isUp = true;
    this.isProven = false;
    this.pace.begin(this.wasAway);
    this.wasAway = false;
    this.upSince = this.options.timing.nowMs();
    const afterOutage = this.report.isAway;
    this.report.connected(this.protocolVersion === MQTT_5 ? "MQTT 5" : "MQTT 3.1.1");
    this.planTrial();
    this.options.onUp(afterOutage);
  }

  /** Ends the connection: for something that the broker fails to do, or for a better one. */
  private end(problem: string, isHungUp: boolean): void {
    const { client, current } = this;
    if (client === null || current === null) return;
    current.problem ||= problem;
    current.isHungUp = isHungUp;
    client.end(true);
  }

  private lost(client: MqttClient, attempt: ConnectionAttempt): void {
    const wasUp = this.isUp;
    attempt.cancelTimeout();
    this.client = null;
    this.isUp = false;
    this.outgoing.stop();
    this.cancelTrial();
    if (!wasUp) this.wasAway = true;
    if (wasUp) {
      if (this.options.timing.nowMs() - this.upSince >= STABLE_MS) this.attempts = 0;
      this.options.onDown(attempt.isHungUp, this.isProven);
    }
    client.end(true);
    if (!this.isOpen) return;
    const isAtOnce = this.settle(wasUp, attempt) || attempt.problem === BETTER_TERMS;
    const delayMs = isAtOnce ? 0 : this.delayMs();
    // There is nothing to be said as long as it may be that less was to be asked for.
    const isTrying = wasUp && !this.isProven && attempt.isHungUp && this.terms.isTrying;
    this.report.lost(attempt.code, attempt.problem, delayMs, isTrying);
    this.cancelAttempt = this.options.timing.after(delayMs, () => this.attempt());
  }

  /** Learns from how it ended. True when there is something else to try at once. */
  private settle(wasUp: boolean, attempt: ConnectionAttempt): boolean {
    const { terms, strikes } = this;
    if (wasUp) terms.forgetRefusals();
    if (attempt.code !== null) {
      this.outgoing.noteLimit(attempt.code);
      return terms.noteCode(attempt.code);
    }
    if (!attempt.isHungUp) return false;
    if (wasUp && this.pace.noteHungUp()) this.report.tooMany(this.pace.perSecond);
    if (!attempt.isAccepted) return terms.noteUnanswered();
    const [topic] = attempt.unanswered;
    if (topic !== undefined) {
      const count = (strikes.get(topic) ?? 0) + 1;
      strikes.set(topic, count);
      if (count === MAX_STRIKES) this.report.refusedSubscription(topic, null);
      return false;
    }
    return !this.isProven && terms.noteUnproven();
  }

  /** Doubles from FIRST_DELAY_MS to MAX_DELAY_MS; the upper half of it is left to chance. */
  private delayMs(): number {
    const doublings = Math.min(this.attempts, 16);
    const full = Math.min(MAX_DELAY_MS, FIRST_DELAY_MS * 2 ** doublings);
    return Math.round(full * (0.5 + 0.5 * this.options.random()));
  }

  /** Something between here and the broker may have failed just then, and MQTT 5 is there. */
  private planTrial(): void {
    this.cancelTrial();
    if (!this.terms.isGuessed) {
      this.trialMs = TRIAL_MS;
      return;
    }
    this.cancelTrial = this.options.timing.after(this.trialMs, () => this.tryBetterTerms());
    this.trialMs = Math.min(2 * this.trialMs, MAX_TRIAL_MS);
  }

  /** With a client of another name, so that the connection that works is kept until it is known. */
  private tryBetterTerms(): void {
    const client = this.connectTo(trialOptions(this.options));
    client.on("error", () => {});
    client.on("connect", () => {
      client.end(false);
      if (!this.isUp) return;
      this.terms.reset();
      this.end(BETTER_TERMS, false);
    });
    client.on("close", () => {
      client.end(true);
      if (this.isUp && this.terms.isGuessed) this.planTrial();
    });
  }
}

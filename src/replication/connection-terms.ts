/**
 * On which terms the broker is connected to: the version of MQTT, a will or none, retained messages
 * or none, QoS 1 or 0. The best are tried first; how an attempt ends says what to try next. What a
 * broker refuses with a code it does not offer. What it ends without a word may have had other
 * reasons: that is tried again later on (`mqtt-transport.ts`).
 */
import { CODES, REFUSED_USER_CODES, REFUSED_VERSION_CODES } from "./mqtt-codes.ts";

/** MQTT 5, and the number by which CONNECT calls MQTT 3.1.1. */
export const MQTT_5 = 5;
/** See above. */
export const MQTT_3 = 4;

/** `mqtt.protocol_version`. */
export type ProtocolSetting = "auto" | "5" | "3.1.1";

/** What a connection asks of the broker. */
export interface Terms {
  readonly version: 4 | 5;
  readonly hasWill: boolean;
  readonly retains: boolean;
  readonly qos: 0 | 1;
}

/** What CONNACK announces of what a broker offers. */
export interface Offer {
  readonly retainAvailable?: boolean | undefined;
  readonly maximumQoS?: number | undefined;
}

interface Rung {
  readonly version: 4 | 5;
  readonly hasWill: boolean;
}

const RUNGS: Record<ProtocolSetting, readonly Rung[]> = {
  auto: [
    { version: MQTT_5, hasWill: true },
    { version: MQTT_3, hasWill: true },
    { version: MQTT_5, hasWill: false },
    { version: MQTT_3, hasWill: false },
  ],
  "5": [
    { version: MQTT_5, hasWill: true },
    { version: MQTT_5, hasWill: false },
  ],
  "3.1.1": [
    { version: MQTT_3, hasWill: true },
    { version: MQTT_3, hasWill: false },
  ],
};
/** What is given up when connections end again and again before anything was acknowledged. */
const GUESSES: readonly Pick<Terms, "retains" | "qos">[] = [
  { retains: true, qos: 1 },
  { retains: false, qos: 1 },
  { retains: false, qos: 0 },
];
/** Connections in a row that end so, until something is given up. */
const UNPROVEN_CONNECTIONS = 2;

/** See the file header. */
export class ConnectionTerms {
  private readonly rungs: readonly Rung[];
  private rung = 0;
  private guess = 0;
  private unproven = 0;
  /** What the broker has said it does not offer, since a connection last came about. */
  private isVersionRefused = false;
  private isRetainRefused = false;
  private isQosRefused = false;
  private isUserRefused = false;

  constructor(setting: ProtocolSetting) {
    this.rungs = RUNGS[setting];
  }

  /** What to ask for now. */
  get terms(): Terms {
    const { version, hasWill } = this.rungs[this.rung];
    const { retains, qos } = GUESSES[this.guess];
    return {
      version,
      hasWill,
      retains: retains && !this.isRetainRefused,
      qos: this.isQosRefused ? 0 : qos,
    };
  }

  /** Less is asked for than might be had, and nobody said that it cannot. */
  get isGuessed(): boolean {
    return (this.rung > 0 && !this.isVersionRefused) || this.guess > 0;
  }

  /** It is being found out what the broker takes, and there is something left to give up. */
  get isTrying(): boolean {
    return this.guess > 0 && this.guess < GUESSES.length - 1;
  }

  /** What is done without, in words. */
  get lacks(): string[] {
    const { hasWill, retains, qos } = this.terms;
    const lacks: string[] = [];
    if (!hasWill) lacks.push("a will");
    if (!retains) lacks.push("retained messages");
    if (qos === 0) lacks.push("QoS 1");
    return lacks;
  }

  /** The best terms again. */
  reset(): void {
    this.rung = 0;
    this.guess = 0;
    this.forgetRefusals();
  }

  /** The broker took the connection, and announced this. */
  noteAccepted(offer: Offer): void {
    this.isUserRefused = false;
    if (offer.retainAvailable === false) this.isRetainRefused = true;
    if (offer.maximumQoS === 0) this.isQosRefused = true;
  }

  /** A connection that came about is over: what was refused may be offered on the next one. */
  forgetRefusals(): void {
    if (this.isVersionRefused) this.rung = 0;
    this.isVersionRefused = false;
    this.isRetainRefused = false;
    this.isQosRefused = false;
  }

  /** A code said why it is over, or did not come about. True: there is something else to try. */
  noteCode(code: number): boolean {
    const { retains, qos, hasWill } = this.terms;
    if (REFUSED_VERSION_CODES.includes(code)) return this.refuseVersion();
    if (code === CODES.retainNotSupported && retains) return (this.isRetainRefused = true);
    if (code === CODES.qosNotSupported && qos > 0) return (this.isQosRefused = true);
    // The topic of the will may be what it may not publish to; once is enough to find out.
    if (!REFUSED_USER_CODES.includes(code)) return false;
    if (!hasWill) this.step();
    else if (!this.isUserRefused) return (this.isUserRefused = this.stepWithoutWill());
    return false;
  }

  /** The broker answered nothing at all. True: there are other terms to try at once. */
  noteUnanswered(): boolean {
    return this.step();
  }

  /**
   * It ended by the broker's hand before anything that was sent over it was acknowledged. True:
   * there is something else to try.
   */
  noteUnproven(): boolean {
    this.unproven++;
    if (this.unproven < UNPROVEN_CONNECTIONS) return false;
    this.unproven = 0;
    this.guess = (this.guess + 1) % GUESSES.length;
    return this.guess > 0;
  }

  /** Something was acknowledged. */
  noteProven(): void {
    this.unproven = 0;
  }

  private refuseVersion(): boolean {
    const { version } = this.terms;
    const other = this.rungs.findIndex((rung) => rung.version !== version);
    if (other < 0 || this.isVersionRefused) return false;
    this.isVersionRefused = true;
    this.rung = other;
    return true;
  }

  private stepWithoutWill(): boolean {
    const { version } = this.terms;
    this.rung = this.rungs.findIndex((rung) => !rung.hasWill && rung.version === version);
    return true;
  }

  /** To the next rung; false when that is the first again. */
  private step(): boolean {
    this.rung = (this.rung + 1) % this.rungs.length;
    return this.rung > 0;
  }
}

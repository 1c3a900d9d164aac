/**
 * What a connection to a broker is for whoever uses it, and what it is made with. The real one is
 * `mqtt-transport.ts`; the simulation has another.
 */
import type { BrokerAddress } from "../config/address.ts";
import type { Logger } from "../observability/log.ts";
import type { TlsMaterial } from "../security/tls-material.ts";
import type { Timing } from "../timing.ts";
import type { ProtocolSetting } from "./connection-terms.ts";

/** A topic to subscribe to. */
export interface Subscription {
  readonly topic: string;
  /**
   * Whether to be sent what this client publishes itself, or only until `silenceOwn` is called.
   * Brokers before MQTT 5 always do.
   */
  readonly ownToo: boolean | "at first";
  /** 0: what the broker has no room for may be lost. 1 by default. */
  readonly qos?: 0 | 1;
}

/** How TLS is spoken with a broker. */
export interface BrokerTls {
  /** What is in use now; null when there is nothing of this node's own. */
  material(): TlsMaterial | null;
  /** The name to ask for; empty for the broker's host. */
  readonly serverName: string;
  /** The protocol to ask for by ALPN; empty for none. */
  readonly alpn: string;
  /** Whether any certificate will do. */
  readonly isInsecure: boolean;
}

/** What a transport is made with. */
export interface TransportOptions {
  readonly broker: BrokerAddress;
  readonly clientId: string;
  /** Empty: none. */
  readonly username: string;
  /** Empty: none. */
  readonly password: string;
  /** Where the address wants TLS. Unless given it is spoken as with anybody. */
  readonly tls?: BrokerTls;
  readonly keepAliveSeconds: number;
  readonly cleanSession: boolean;
  readonly protocol: ProtocolSetting;
  /** Longest packet this client wants to be sent, in bytes. */
  readonly maxPacketBytes: number;
  /** Longest packet this client sends, in bytes. */
  readonly maxSentBytes: number;
  /** Most messages this client sends in a second; 0 for as many as the broker takes. */
  readonly maxMessagesPerSecond: number;
  readonly subscriptions: readonly Subscription[];
  readonly logger: Logger;
  /** From 0 to below 1, for the jitter of delays. */
  readonly random: () => number;
  readonly timing: Timing;
  /** What the broker publishes, retained, when this connection dies. Asked at each attempt. */
  readonly will: () => { topic: string; payload: Buffer };
  /** Connected and subscribed. `afterOutage`: the broker could not be reached before. */
  readonly onUp: (afterOutage: boolean) => void;
  /**
   * Not connected any more, for whatever reason but `close`. `isHungUp`: by the broker's hand;
   * `wasProven`: after it had acknowledged something.
   */
  readonly onDown: (isHungUp: boolean, wasProven: boolean) => void;
  /** A message; the next one comes after `done`. */
  readonly onMessage: (topic: string, payload: Buffer, retained: boolean, done: () => void) => void;
  /** Another client took over this one's session: two of them share a client id. */
  readonly onTakenOver: () => void;
}

/** Why a message was not taken. */
export interface PublishProblem {
  readonly message: string;
  /** It was too long. */
  readonly isTooLong?: boolean;
}

/** One connection to one broker, kept up for as long as it is open. */
export interface Transport {
  /** Whether the connection is up. */
  readonly connected: boolean;
  /** Protocol version in use: 5, or 4 for MQTT 3.1.1. */
  readonly protocolVersion: 4 | 5;
  /** Where the broker is, as the system sees it; empty while that is not known. */
  readonly remoteAddress: string;
  /** Most QoS 1 messages the broker takes unacknowledged. */
  readonly receiveMaximum: number;
  /** Longest packet to be sent, as far as is known; it may change. */
  readonly maxPacketBytes: number;
  /** What this broker does without, in words. */
  readonly lacks?: readonly string[];
  /** Most messages to be sent in a second, as far as is known; Infinity for any number. */
  readonly messagesPerSecond: number;
  /**
   * For how long nothing more is sent, in ms, as there were so many messages in this second; 0 when
   * something may be. With `leavesRoom`, what matters more still may be.
   */
  pauseMs(leavesRoom?: boolean): number;
  /** A packet of that length has arrived. */
  notePassed(bytes: number): void;
  /** One of that length did not. False when its length cannot be why. */
  noteTooLong(bytes: number): boolean;
  /** It is known why the last connection ended: the next one need not wait long. */
  hurry(): void;
  /** Starts connecting and never gives up. */
  open(): void;
  /**
   * Publishes with QoS 1, or 0 where the broker offers no more. `done` is called with the problem
   * when the broker refuses it, and not at all when the connection ends first. `traceparent` goes
   * with it for the broker to see, where that has a way to be told and may be.
   */
  publish(
    topic: string,
    payload: Buffer,
    retain: boolean,
    done: (problem?: PublishProblem) => void,
    traceparent?: string,
  ): void;
  /**
   * Publishes with QoS 0. `sent` is called when the system has taken the bytes, and not at all when
   * the connection ends first.
   */
  send(topic: string, payload: Uint8Array, sent: () => void): void;
  /** Whether the broker has granted this connection the subscription of that topic. */
  isGranted(topic: string): boolean;
  /** Of that topic, what this client publishes itself is not to be sent to it any more. */
  silenceOwn(topic: string): void;
  /** Says goodbye and stops. Takes at most half a second, and no time when not connected. */
  close(): Promise<void>;
}

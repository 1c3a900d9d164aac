/**
 * Recognises settings that cannot be meant, each by what it does, and says once which to change.
 */
import { isLoopbackHost } from "../config/address.ts";
import type { Logger } from "../observability/log.ts";
import type { PeerPresence } from "./presence.ts";

/** How long after the first connection others may take to announce themselves, in ms. */
export const MEETING_MS = 10_000;
/** Connections in a row that ended so soon, in ms, as they do when two clients share an id. */
const SHORT_CONNECTIONS = 4;
const SHORT_MS = 10_000;

/** What it is made with. */
export interface MisconfigurationOptions {
  readonly nodeId: string;
  readonly clientId: () => string;
  readonly topicPrefix: string;
  readonly brokerHost: () => string;
  readonly logger: Logger;
}

/** The members that a node had met when it started. */
export interface FormerMembers {
  readonly count: number;
  has(nodeId: string): boolean;
}

/** See the file header. */
export class Misconfiguration {
  private readonly said = new Set<string>();
  private shortConnections = 0;
  private upMs = 0;

  constructor(private readonly options: MisconfigurationOptions) {}

  /**
   * A connection is up, to that address of the broker's (empty if unknown), and peers are told to
   * reach this node at that host.
   */
  noteUp(remoteAddress: string, advertisedHost: string, nowMs: number): void {
    this.upMs = nowMs;
    const brokerHost = remoteAddress || this.options.brokerHost();
    if (!isLoopbackHost(advertisedHost) || isLoopbackHost(brokerHost)) return;
    this.say(
      "loopback",
      "Peers on other machines cannot reach this node: the address it advertises is their own",
      { advertised: advertisedHost, broker: brokerHost, set: LOOPBACK_ADVICE },
    );
  }

  /** The broker ended a connection without saying why. */
  noteHungUp(nowMs: number): void {
    this.shortConnections = nowMs - this.upMs < SHORT_MS ? this.shortConnections + 1 : 0;
    if (this.shortConnections < SHORT_CONNECTIONS) return;
    this.say(
      "client id",
      "The broker ends one connection after the other: another client may use this client id",
      { client_id: this.options.clientId(), set: CLIENT_ID_ADVICE },
    );
  }

  /** The broker said that another client came with this one's id. */
  noteTakenOver(): void {
    this.sayClientId("");
  }

  /** Another node announced itself. */
  notePresence({ nodeId, clientId }: Pick<PeerPresence, "nodeId" | "clientId">): void {
    if (nodeId !== this.options.nodeId && clientId === this.options.clientId()) {
      this.sayClientId(nodeId);
    }
  }

  /**
   * Those who are there, some time after the first connection, and those whom this node had met
   * when it started.
   */
  notePresent(present: readonly PeerPresence[], former: FormerMembers): void {
    const there = present.filter(({ online }) => online);
    if (former.count === 0 || there.length === 0) return;
    if (there.some(({ nodeId }) => former.has(nodeId))) return;
    this.say(
      "topic prefix",
      "None of the nodes under this topic prefix was ever met: it may be another cluster's",
      {
        topic_prefix: this.options.topicPrefix,
        nodes: there.map(({ nodeId }) => nodeId).slice(0, 5),
        set: "mqtt.topic_prefix: each cluster needs one of its own",
      },
    );
  }

  private sayClientId(other: string): void {
    const clientId = this.options.clientId();
    this.say(
      "client id",
      "Two clients of the broker share a client id, and end each other's connections",
      {
        client_id: clientId,
        ...(other && { other_node: other }),
        set: CLIENT_ID_ADVICE,
      },
    );
  }

  private say(what: string, message: string, fields: Record<string, unknown>): void {
    if (this.said.has(what)) return;
    this.said.add(what);
    this.options.logger.warn(message, fields);
  }
}

const LOOPBACK_ADVICE =
  "network.bind_address to 0.0.0.0, or network.advertise_address to where peers reach this node";
const CLIENT_ID_ADVICE =
  "mqtt.client_id: each node needs one of its own, or none, to use its node_id";

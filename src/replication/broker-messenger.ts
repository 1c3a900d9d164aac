/**
 * Messages from node to node through the broker: each node hears `<prefix>/sync/<node id>/<box>`.
 * They go with QoS 0, never retained, for whoever uses them sends again what was lost, and a
 * message that the broker keeps for later would only be in the way.
 */
import type { Messenger } from "../ports.ts";
import { presenceTopicName } from "./membership.ts";
import type { Transport } from "./transport.ts";

/** Of a PUBLISH packet beside topic and payload, at most: type, lengths, properties. */
const PACKET_BYTES = 16;
const BOX = /^[0-9a-z]{1,32}$/;
const LONGEST_BOX = 32;

/** See the file header. */
export class BrokerMessenger implements Messenger {
  /** To be subscribed to. */
  readonly subscription: string;
  onMessage: Messenger["onMessage"] = () => {};
  onOpen: Messenger["onOpen"] = () => {};
  private readonly ownTopic: string;

  /** `isCrowded` as in Messenger. */
  constructor(
    private readonly prefix: string,
    nodeId: string,
    private readonly transport: () => Pick<
      Transport,
      "isGranted" | "maxPacketBytes" | "messagesPerSecond" | "pauseMs" | "send"
    >,
    private readonly crowded: () => boolean,
  ) {
    this.ownTopic = this.topicOf(nodeId, "");
    this.subscription = `${this.ownTopic}+`;
  }

  get isOpen(): boolean {
    return this.transport().isGranted(this.subscription);
  }

  get isCrowded(): boolean {
    return this.crowded();
  }

  get maxMessageBytes(): number {
    const topicBytes = Buffer.byteLength(this.ownTopic) + LONGEST_BOX;
    // The other side's id may be longer than this one's.
    return this.transport().maxPacketBytes - 2 * topicBytes - PACKET_BYTES;
  }

  get isPaced(): boolean {
    return this.transport().messagesPerSecond < Infinity;
  }

  pauseMs(): number {
    return this.transport().pauseMs(true);
  }

  send(nodeId: string, box: string, message: Uint8Array, taken: () => void): void {
    this.transport().send(this.topicOf(nodeId, box), message, taken);
  }

  /** Takes a message if it is one of these; false when it is not. */
  receive(topic: string, payload: Uint8Array, isRetained: boolean): boolean {
    if (!topic.startsWith(this.ownTopic)) return false;
    const box = topic.slice(this.ownTopic.length);
    if (!isRetained && BOX.test(box)) this.onMessage(box, payload);
    return true;
  }

  /** The connection to the broker is up. */
  up(): void {
    if (this.isOpen) this.onOpen();
  }

  private topicOf(nodeId: string, box: string): string {
    return `${this.prefix}/sync/${presenceTopicName(nodeId)}/${box}`;
  }
}

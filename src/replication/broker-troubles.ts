/**
 * What may go wrong between this node and its broker, in the words that an operator reads. It may
 * go on for hours, message after message: each trouble is told once a minute.
 */
import type { Fields, Logger } from "../observability/log.ts";
import type { Timing } from "../timing.ts";
import type { PublishProblem } from "./transport.ts";

/** A trouble that keeps happening is logged this often, in ms. */
const REPEAT_LOG_MS = 60_000;

/** See the file header. */
export class BrokerTroubles {
  private readonly loggedAt = new Map<string, number>();

  constructor(
    private readonly nodeId: string,
    private readonly timing: Timing,
    private readonly logger: Logger,
  ) {}

  /** The broker did not take a message of that topic. */
  noteRefused(topic: string, { message: reason }: PublishProblem): void {
    this.warn(`refused ${topic}`, "The broker refused a message", { topic, reason });
  }

  /** What this node publishes to that topic does not come back, though it is subscribed to it. */
  noteUnheard(topic: string): void {
    const message = "What this node publishes does not come back to it; nodes compare instead";
    const see = "the broker's access rules: each node has to publish and to subscribe there";
    this.warn("unheard", message, { topic, see });
  }

  /** What this node announces of itself on that topic does not come back. */
  notePresenceUnheard(topic: string): void {
    const message =
      "What this node announces of itself does not come back to it; peers may not see it";
    const see =
      "the broker's access rules: each node has to publish there, and to subscribe to all";
    this.warn("presence unheard", message, { topic, see });
  }

  /** Events of that node were dropped; it was the so-manieth time for that reason. */
  noteDropped(reason: string, source: string, dropped: number): void {
    this.warn(`dropped ${reason}`, "Received events were dropped", { reason, source, dropped });
  }

  /** That node, of that version of the program, speaks no version that this one does. */
  noteDisagreement(nodeId: string, version: string, reason: string): void {
    this.warn("disagreement", "A node cannot be talked to", { node_id: nodeId, version, reason });
  }

  /** Another live node was heard of with this one's id. */
  noteDuplicate(): void {
    if (!this.isTimeToLog("duplicate")) return;
    const message = "Another live node uses this node's id; give each node a node_id of its own";
    this.logger.error(message, { node_id: this.nodeId });
  }

  /** Tells of a trouble of that name, unless it did so lately. */
  warn(trouble: string, message: string, fields: Fields): void {
    if (this.isTimeToLog(trouble)) this.logger.warn(message, fields);
  }

  /** True once in REPEAT_LOG_MS for each trouble. */
  private isTimeToLog(trouble: string): boolean {
    const now = this.timing.nowMs();
    if (now - (this.loggedAt.get(trouble) ?? -Infinity) < REPEAT_LOG_MS) return false;
    this.loggedAt.set(trouble, now);
    return true;
  }
}

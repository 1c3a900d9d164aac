/**
 * Whether this node seals what it gives to the broker, and what follows from it: the connection is
 * made accordingly, and what others seal otherwise is refused, counted and said. So of two nodes of
 * which one has a secret, or another secret, both say why they do not hear each other.
 */
import { counter, flag, type Fact } from "../fact.ts";
import type { ClusterSecrets } from "../security/cluster-secrets.ts";
import { MessageSeal, SEAL_REFUSALS, type SealRefusal } from "./message-seal.ts";
import type { MessageSealOptions } from "./message-seal.ts";
import { decodeHeader, isSealed, SEAL_BYTES } from "./sealed-message.ts";
import { SealedTransport } from "./sealed-transport.ts";
import { ReplayGuard } from "./replay-guard.ts";
import type { Transport, TransportOptions } from "./transport.ts";

/** Secrets, null for none, and what has outlasted a restart. */
export interface Sealing extends Pick<MessageSealOptions, "randomWords"> {
  readonly secrets: ClusterSecrets | null;
  /** What `ReplayGuard.memory` of an earlier run returned. */
  readonly memory?: Uint8Array;
}

/** What one is made with. */
export interface BrokerSealOptions {
  readonly sealing: Sealing;
  readonly nodeId: string;
  readonly topicPrefix: string;
  /** As in MessageSealOptions. */
  readonly start: number;
  readonly connect: (options: TransportOptions) => Transport;
  /** Something is to be said to the operator, if it was not lately. */
  readonly warn: (trouble: string, message: string, fields: Record<string, unknown>) => void;
}

const SAME_SECRET =
  "the same cluster.secret_file on every node; other clusters need another mqtt.topic_prefix";
/** What operators are told of each reason; null: a count is enough, for brokers repeat messages. */
const SAID: Record<SealRefusal, { message: string; set: string } | null> = {
  no_secret: {
    message: "Another node seals what it says, and this one has no cluster secret to read it with",
    set: SAME_SECRET,
  },
  unsealed: {
    message: "A message that is not sealed was refused, for this cluster has a secret",
    set: SAME_SECRET,
  },
  other_secret: {
    message: "A message was refused that is sealed with another secret than this node's",
    set: `${SAME_SECRET}; the former ones in cluster.previous_secret_files while it is changed`,
  },
  forged: {
    message: "A sealed message was refused that was changed, moved to another topic, or forged",
    set: "the same cluster.name on every node; if it is, look at who may publish at the broker",
  },
  damaged: {
    message: "A sealed message was refused that is damaged, or of another version of sealing",
    set: "the same version of the program on every node",
  },
  replayed: null,
};

/** See the file header. */
export class BrokerSeal {
  /** For INFO. */
  static readonly facts: readonly Fact<BrokerSeal>[] = [
    flag(
      "replication_sealed",
      "Whether what goes over the broker is sealed.",
      (it) => it.isSealing,
    ),
    ...(Object.keys(SEAL_REFUSALS) as SealRefusal[]).map((reason) =>
      counter<BrokerSeal>(
        `replication_refused_${reason}`,
        "messages",
        `Refused as they came from the broker: ${SEAL_REFUSALS[reason]}.`,
        (it) => it.refused[reason],
        {
          metric: {
            name: "replication_refused_messages",
            help: "Messages refused as they came from the broker, by reason.",
            labels: { reason },
          },
        },
      ),
    ),
  ];

  private seal: MessageSeal | null;
  private readonly guard: ReplayGuard;
  private readonly refused = Object.fromEntries(
    Object.keys(SEAL_REFUSALS).map((reason) => [reason, 0]),
  ) as Record<SealRefusal, number>;

  constructor(private readonly options: BrokerSealOptions) {
    this.guard = new ReplayGuard(options.sealing.memory);
    this.seal = this.create(options.sealing.secrets);
  }

  /**
   * The next connection is sealed with these, or not at all; there is none when this is called.
   */
  renew(secrets: ClusterSecrets | null): void {
    const { seal } = this;
    if (secrets !== null && seal !== null) seal.renew(secrets);
    else this.seal = this.create(secrets);
  }

  private create(secrets: ClusterSecrets | null): MessageSeal | null {
    if (secrets === null) return null;
    const { guard, options } = this;
    const { nodeId, start, sealing } = options;
    return new MessageSeal({ secrets, nodeId, start, randomWords: sealing.randomWords, guard });
  }

  /** By how much a message is longer at the broker, in bytes. */
  get overheadBytes(): number {
    return this.seal === null ? 0 : SEAL_BYTES;
  }

  /** Whether everything is sealed. */
  get isSealing(): boolean {
    return this.seal !== null;
  }

  /** What this node is called at the broker, in its topics and as a client. */
  get nodeName(): string {
    const { nodeId } = this.options;
    return this.seal?.namesOf(nodeId)[0] ?? nodeId;
  }

  /** Counts changes of what is to outlast a restart. */
  get changes(): number {
    return this.guard.changes;
  }

  /** What is to outlast a restart. */
  memory(): Uint8Array {
    return this.guard.memory();
  }

  /** The connection to the broker. */
  connect(options: TransportOptions): Transport {
    const { seal } = this;
    if (seal === null) return this.options.connect(this.refusingSealed(options));
    const { topicPrefix, nodeId, connect } = this.options;
    const onRefused = this.refuse.bind(this);
    return new SealedTransport({ seal, topicPrefix, nodeId, connect, onRefused }, options);
  }

  private refusingSealed(options: TransportOptions): TransportOptions {
    return {
      ...options,
      onMessage: (topic, message, retained, done) => {
        if (!isSealed(message)) return options.onMessage(topic, message, retained, done);
        this.refuse("no_secret", topic, message);
        done();
      },
    };
  }

  private refuse(reason: SealRefusal, topic: string, message: Buffer): void {
    const refused = ++this.refused[reason];
    const said = SAID[reason];
    if (said === null) return;
    const key = isSealed(message) ? decodeHeader(message)?.keyId : undefined;
    this.options.warn(`seal ${reason}`, said.message, {
      topic,
      refused,
      ...(key !== undefined && { sealed_with: key.toString(16).padStart(8, "0") }),
      set: said.set,
    });
  }
}

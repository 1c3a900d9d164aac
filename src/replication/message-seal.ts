/**
 * Seals what this node gives to the broker, and opens what comes from there.
 *
 * AES-256-GCM must never see one nonce twice under one key. A key is for one purpose, one sender
 * and one epoch, and the nonce is a counter followed by 48 bits of chance, drawn for each message.
 *
 * - A restart draws a new epoch, and so does each connection to the broker; the counter begins
 *   anew under another key. Nothing of it has to be on disk, where a crash could take it back.
 * - Copies of a data directory that run at the same time, or one after the other, draw epochs of
 *   their own: 32 bits of chance are in each, beside the time of the start.
 * - A machine that was suspended, or copied with its memory, and is resumed twice goes on twice
 *   with the same epoch and the same counter. There the chance in the nonce tells the two apart:
 *   it comes from the processor and the kernel at that very moment (`World.randomWords`), and not
 *   from numbers that were drawn before the machine was copied.
 *
 * The key of an epoch is used for at most 2^48 messages, for then the counter is at its end.
 */
import type { ClusterSecrets } from "../security/cluster-secrets.ts";
import { open, seal } from "../security/aead.ts";
import { nodeOf, ReplayGuard, WILL_SEQUENCE } from "./replay-guard.ts";
import { originNameOf, SealKeys, topicNameOf, type RingSecret } from "./seal-keys.ts";
import {
  decodeHeader,
  encodeHeader,
  epochOf,
  HEADER_BYTES,
  isSealed,
  MAX_SEQUENCE,
  nonceOf,
  startOf,
  takeName,
  withName,
  type SealHeader,
  type SealPurpose,
} from "./sealed-message.ts";

/** Why a message is refused: each reason and what it means, as INFO counts them. */
export const SEAL_REFUSALS = {
  no_secret: "sealed, and this node has no cluster secret",
  unsealed: "not sealed, and this node has a cluster secret",
  other_secret: "sealed with another secret than this node's",
  forged:
    "changed on the way, moved to another topic, made up, or of a cluster of another name with the same secret",
  replayed: "came before, or is older than what came; brokers may repeat a few in good order",
  damaged: "cut short, or sealed in a way that this version does not know",
} as const;

/** One of the reasons. */
export type SealRefusal = keyof typeof SEAL_REFUSALS;

/** What a seal is made with. */
export interface MessageSealOptions {
  readonly secrets: ClusterSecrets;
  readonly nodeId: string;
  /** Tells this start of the node from every other, and is greater than those before. */
  readonly start: number;
  /** As in World. */
  readonly randomWords: (count: number) => Uint32Array;
  /** Knows what came before; a new one unless given. */
  readonly guard?: ReplayGuard;
}

/** What was sealed. */
export interface OpenedMessage {
  readonly payload: Buffer;
  /** Of presence, whose it is: a node id. */
  readonly nodeId?: string;
}

/** See the file header. */
export class MessageSeal {
  readonly guard: ReplayGuard;
  /**
   * Presence or a datagram came of an epoch before the latest of its sender: somebody repeats it,
   * or the sender has lost its memory and its clock has gone back, and is to be told.
   */
  onOutdated: (senderName: string, latestEpoch: string) => void = () => {};
  private keys: SealKeys;
  private origin: string;
  /** Names of this node under the secrets with which it sealed before, in this run. */
  private readonly formerNames = new Set<string>();
  private readonly ownNode: string;
  private start: number;
  private connection = 0;
  private epoch = "";
  /** The latest sequence of each purpose in this epoch. */
  private sequences: Record<SealPurpose, number> = { updates: 0, presence: 0, sync: 0 };

  constructor(private readonly options: MessageSealOptions) {
    this.keys = new SealKeys(options.secrets);
    this.guard = options.guard ?? new ReplayGuard();
    this.origin = originNameOf(this.keys.current, options.nodeId);
    this.ownNode = nodeOf(options.nodeId);
    const own = this.guard.latestEpoch(this.ownNode);
    this.start = Math.max(options.start, own === null ? 0 : startOf(own) + 1);
    this.begin();
  }

  /**
   * Seals and opens with these from the next epoch on; `begin` is to follow. What keeps messages
   * from having an effect twice stays: none becomes new because its sender seals otherwise.
   */
  renew(secrets: ClusterSecrets): void {
    this.formerNames.add(topicNameOf(this.origin));
    this.keys = new SealKeys(secrets);
    this.origin = originNameOf(this.keys.current, this.options.nodeId);
  }

  /** What this node was called in topics before, and is no more: by the secrets of before. */
  formerNamesOfOwn(): string[] {
    const [current, ...previous] = this.namesOf(this.options.nodeId);
    const names = new Set([...previous, ...this.formerNames]);
    names.delete(current);
    return [...names];
  }

  /** What a node is called in topics: under the current secret, then under the previous ones. */
  namesOf(nodeId: string): string[] {
    return this.keys.secrets.map((secret) => topicNameOf(originNameOf(secret, nodeId)));
  }

  /** Begins an epoch: a connection to the broker is about to be made. */
  begin(): void {
    this.epoch = epochOf(this.start, ++this.connection, this.options.randomWords(1)[0]);
    this.sequences = { updates: 0, presence: WILL_SEQUENCE, sync: 0 };
    // What this node said before that is over, whoever brings it up again.
    this.guard.noteEpoch(this.ownNode, this.epoch);
  }

  /** Seals a message for that topic. Presence is this node's own. */
  seal(purpose: SealPurpose, topic: string, payload: Uint8Array): Buffer {
    const sequence = ++this.sequences[purpose];
    if (sequence > MAX_SEQUENCE) throw new Error("an epoch with more messages than can be counted");
    return this.sealAs(purpose, topic, payload, sequence);
  }

  /** Seals the will of the connection that is about to be made. Once for each epoch. */
  sealWill(topic: string, payload: Uint8Array): Buffer {
    return this.sealAs("presence", topic, payload, WILL_SEQUENCE);
  }

  /** Opens a message that came on that topic, or says why it is refused. */
  open(
    purpose: SealPurpose,
    topic: string,
    message: Buffer,
    isRetained: boolean,
  ): OpenedMessage | SealRefusal {
    if (!isSealed(message)) return "unsealed";
    const header = decodeHeader(message);
    if (header === null) return "damaged";
    const secret = this.keys.find(header.keyId);
    if (secret === undefined) return "other_secret";
    const key = this.keys.keyOf(secret, purpose, header);
    const clear = clearPart(message.subarray(0, HEADER_BYTES), topic);
    const payload = open(key, nonceOf(message), clear, message.subarray(HEADER_BYTES));
    if (payload === null) return "forged";
    this.keys.remember(purpose, header, key);
    if (purpose === "presence")
      return this.takePresence(topic, header, secret, payload, isRetained);
    const { guard } = this;
    const isNew = purpose === "updates" ? guard.takeUpdate(header) : guard.takeSync(header);
    if (isNew) return { payload };
    // It may be later than all presence that came: that of an earlier run may have been lost.
    const latest = guard.latestConnection(header);
    const isOutdated = purpose === "sync" && header.epoch < latest;
    if (isOutdated) this.onOutdated(topicNameOf(header.origin), latest);
    return "replayed";
  }

  /**
   * An epoch that others have heard of as this node's, and that is later than this one: an earlier
   * run was ahead by its clock, or a twin is there. They would take this run for an old one.
   */
  passBy(epoch: string): void {
    const start = startOf(epoch);
    if (epoch <= this.epoch || start >= Number.MAX_SAFE_INTEGER) return;
    this.start = Math.max(this.start, start + 1);
    this.begin();
  }

  private takePresence(
    topic: string,
    header: SealHeader,
    secret: RingSecret,
    payload: Buffer,
    isRetained: boolean,
  ): OpenedMessage | SealRefusal {
    const { guard } = this;
    const named = takeName(payload);
    const senderName = topicNameOf(header.origin);
    // A member that speaks for another is none that this program is.
    if (named === null || originNameOf(secret, named.name) !== header.origin) return "forged";
    if (!topic.endsWith(`/${senderName}`)) return "forged";
    const node = nodeOf(named.name);
    if (guard.takePresence(node, header, isRetained)) {
      if (node === this.ownNode) this.passBy(header.epoch);
      return { payload: named.presence, nodeId: named.name };
    }
    const latest = guard.latestEpoch(node);
    const isOutdated = latest !== null && header.epoch < latest && !isRetained;
    if (isOutdated) this.onOutdated(senderName, latest);
    return "replayed";
  }

  private sealAs(
    purpose: SealPurpose,
    topic: string,
    payload: Uint8Array,
    sequence: number,
  ): Buffer {
    const { origin, epoch, options } = this;
    const { current } = this.keys;
    const plain = purpose === "presence" ? withName(options.nodeId, payload) : payload;
    const header: SealHeader = { keyId: current.keyId, origin, epoch, sequence };
    const clear = encodeHeader(header, options.randomWords(2));
    const key = this.keys.keyOf(current, purpose, header);
    this.keys.remember(purpose, header, key);
    const sealed = seal(key, nonceOf(clear), clearPart(clear, topic), plain);
    return Buffer.concat([clear, sealed]);
  }
}

function clearPart(header: Uint8Array, topic: string): Buffer {
  return Buffer.concat([header, Buffer.from(topic)]);
}

/**
 * The keys with which messages at the broker are sealed, and the names by which nodes are known
 * there. All follow from the cluster's secret and its name.
 *
 * A key is for one secret, purpose, origin and epoch. So who copies a message from one purpose to
 * another, or under another sender's name, has one that does not open.
 *
 * A node's name at the broker is 64 bits of an HMAC over its id: whoever has the secret knows whose
 * it is, and nobody else can tell, not even by trying ids.
 */
import { createHmac } from "node:crypto";
import type { ClusterSecrets } from "../security/cluster-secrets.ts";
import { keyFor, type Secret } from "../security/keys.ts";
import { ORIGIN_BYTES, type SealHeader, type SealPurpose } from "./sealed-message.ts";

/** Most keys that are kept; the one unused for longest goes first, and is derived again. */
const MAX_KEYS = 4_096;

/** One secret as it is used at the broker. */
export interface RingSecret {
  /** Names it in every message: its id as a number. */
  readonly keyId: number;
  readonly secret: Secret;
  readonly nameKey: Buffer;
}

/** The secrets of a node, the current one first. */
export class SealKeys {
  readonly secrets: readonly RingSecret[];
  private readonly keys = new Map<string, Buffer>();
  private readonly cluster: Buffer;

  constructor({ name, current, previous }: ClusterSecrets) {
    this.cluster = Buffer.from(name);
    this.secrets = [current, ...previous].map((secret) => ({
      keyId: Number.parseInt(secret.id, 16),
      secret,
      nameKey: keyFor(secret, "broker node names", this.cluster),
    }));
  }

  /** What this node seals with. */
  get current(): RingSecret {
    return this.secrets[0];
  }

  /** The secret of that key id; undefined when it is none of this node's. */
  find(keyId: number): RingSecret | undefined {
    return this.secrets.find((it) => it.keyId === keyId);
  }

  /** The key for messages with that header. It is kept only once `remember` is called. */
  keyOf({ secret }: RingSecret, purpose: SealPurpose, header: SealHeader): Buffer {
    const place = placeOf(purpose, header);
    const known = this.keys.get(place);
    if (known === undefined) {
      const context = Buffer.from(header.origin + header.epoch, "latin1");
      return keyFor(secret, `broker ${purpose}`, Buffer.concat([context, this.cluster]));
    }
    // Moves it to the end.
    this.keys.delete(place);
    this.keys.set(place, known);
    return known;
  }

  /** Keeps a key with which something was opened: what anybody makes up takes no room. */
  remember(purpose: SealPurpose, header: SealHeader, key: Buffer): void {
    const place = placeOf(purpose, header);
    if (this.keys.has(place)) return;
    this.keys.set(place, key);
    if (this.keys.size > MAX_KEYS) this.keys.delete(this.keys.keys().next().value!);
  }
}

/** What a node is called at the broker under that secret: `ORIGIN_BYTES` bytes, as text. */
export function originNameOf({ nameKey }: RingSecret, nodeId: string): string {
  const digest = createHmac("sha256", nameKey).update(nodeId).digest();
  return digest.toString("latin1", 0, ORIGIN_BYTES);
}

/** The same as part of a topic: 16 hexadecimal digits. */
export function topicNameOf(origin: string): string {
  return Buffer.from(origin, "latin1").toString("hex");
}

function placeOf(purpose: SealPurpose, { keyId, origin, epoch }: SealHeader): string {
  return `${purpose} ${keyId} ${origin}${epoch}`;
}

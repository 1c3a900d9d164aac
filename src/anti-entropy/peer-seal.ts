/**
 * What a node seals its sessions with: makes sealed links of those over which it calls members and
 * is called by them. Without a secret nothing is sealed, and who seals is told so.
 */
import { counter, text, type Fact } from "../fact.ts";
import type { Link } from "../ports.ts";
import type { ClusterSecrets } from "../security/cluster-secrets.ts";
import { keyFor, type Secret } from "../security/keys.ts";
import { HandshakeState } from "../security/noise.ts";
import { X25519_BYTES } from "../security/x25519.ts";
import { ReplayFilter } from "./replay-filter.ts";
import { AnsweringLink, CallingLink, type Opening } from "./sealed-ends.ts";
import * as format from "./sealed-format.ts";
import type { SealedLink } from "./sealed-link.ts";

/** How many openings are remembered, so that none is taken twice. */
const REMEMBERED_OPENINGS = 16_384;
const PURPOSE = "sync session";
/** Words of 32 bits of an ephemeral key. */
const EPHEMERAL_WORDS = 8;

/** See the file header. */
export class PeerSeal {
  private keys: ReadonlyMap<string, Uint8Array> = new Map();
  private current = "";
  private readonly answered = new ReplayFilter(REMEMBERED_OPENINGS);
  private readonly passedOn = new ReplayFilter(REMEMBERED_OPENINGS);
  private readonly objections: Record<format.Objection, number> = {
    unsealed: 0,
    no_secret: 0,
    other_secret: 0,
    forged: 0,
    replayed: 0,
    damaged: 0,
  };

  /** For INFO. */
  static readonly facts: readonly Fact<PeerSeal>[] = [
    text(
      "cluster_secret_id",
      "The id of the cluster secret that this node seals with, which is no secret itself; empty without one.",
      (it) => it.current,
    ),
    text(
      "cluster_previous_secret_ids",
      "The ids of the secrets that are understood besides, with commas between; empty without any.",
      (it) => [...it.keys.keys()].filter((id) => id !== it.current).join(","),
    ),
    counter(
      "sync_refused_unsealed",
      "connections",
      "With nodes without a cluster secret, which this one has.",
      (it) => it.objections.unsealed,
      refusedBy("unsealed"),
    ),
    counter(
      "sync_refused_no_secret",
      "connections",
      "With nodes with a cluster secret, which this one has not.",
      (it) => it.objections.no_secret,
      refusedBy("no_secret"),
    ),
    counter(
      "sync_refused_other_secret",
      "connections",
      "With nodes with another cluster secret.",
      (it) => it.objections.other_secret,
      refusedBy("other_secret"),
    ),
    counter(
      "sync_refused_forged",
      "connections",
      "On which something came that was changed on the way, or made without the cluster secret.",
      (it) => it.objections.forged,
      refusedBy("forged"),
    ),
    counter(
      "sync_refused_replayed",
      "connections",
      "That began with what another one had begun with: somebody repeats what he heard.",
      (it) => it.objections.replayed,
      refusedBy("replayed"),
    ),
    counter(
      "sync_refused_damaged",
      "connections",
      "On which something came that can be no sealed message.",
      (it) => it.objections.damaged,
      refusedBy("damaged"),
    ),
  ];

  /** Without `secrets` nothing is sealed. `randomWords`: so many words that nobody can guess. */
  constructor(
    secrets: ClusterSecrets | null,
    private readonly randomWords: (count: number) => Uint32Array,
  ) {
    this.renew(secrets);
  }

  /** Sessions begin with these from now on. Those under way go on with the keys they have made. */
  renew(secrets: ClusterSecrets | null): void {
    this.current = secrets?.current.id ?? "";
    const all = secrets === null ? [] : [...secrets.previous, secrets.current];
    this.keys = new Map(all.map((secret) => [secret.id, keyOf(secret)]));
  }

  /** Whether anything is sealed. */
  get isSealing(): boolean {
    return this.keys.size > 0;
  }

  /** Over a link to a node that this one calls; `isRound` as in `PEER ROUND`. For sealing only. */
  call(link: Link, isRound: boolean): SealedLink {
    const begin = (payload: Uint8Array): [Uint8Array, HandshakeState] => {
      const header = format.openingHeader(isRound, this.current, 0);
      const handshake = this.handshake("initiator", this.current, header);
      const message = handshake.writeMessage(payload)!;
      header.writeUInt16BE(message.length, format.OPENING_CLEAR_BYTES);
      return [Buffer.concat([header, message]), handshake];
    };
    return new CallingLink(link, this.object, begin, this.current);
  }

  /** Over a link by which somebody came, who may seal or not. */
  answer(link: Link, isRound: boolean): SealedLink {
    const examine = (bytes: Uint8Array) => this.examine(bytes, isRound, this.answered);
    return new AnsweringLink(link, this.object, examine);
  }

  /**
   * Whether somebody who wants to be passed on has the secret: why not, null if so, and "more" if
   * that cannot be said before more bytes have come.
   */
  examineGuest(bytes: Uint8Array): format.Rejection | "more" | null {
    const found = this.examine(bytes, false, this.passedOn);
    if (found === "more" || found === "plain") return found === "more" ? found : null;
    if (!("objection" in found)) return null;
    this.object(found.objection);
    return found;
  }

  /** What somebody begins with who came: "plain" if neither side seals. */
  private examine(
    bytes: Uint8Array,
    isRound: boolean,
    filter: ReplayFilter,
  ): Opening | format.Rejection | "more" | "plain" {
    const isSealed = format.isOpening(bytes[0]);
    if (!this.isSealing) return isSealed ? format.rejectSealed() : "plain";
    if (!isSealed) return format.rejectUnsealed();
    const { OPENING_CLEAR_BYTES, OPENING_HEADER_BYTES } = format;
    if (bytes.length < OPENING_HEADER_BYTES) return "more";
    const keyId = Buffer.from(bytes.subarray(1, OPENING_CLEAR_BYTES)).toString("hex");
    if (!this.keys.has(keyId)) return format.rejectSecret(keyId, this.current);
    // It begins with a key, so one that is repeated costs no more than to look for that.
    const keyEnd = OPENING_HEADER_BYTES + X25519_BYTES;
    const hasKey = bytes.length >= keyEnd;
    if (hasKey && filter.has(bytes.subarray(OPENING_HEADER_BYTES, keyEnd))) {
      return format.rejectReplayed();
    }
    const length = OPENING_HEADER_BYTES + format.readU16(bytes, OPENING_CLEAR_BYTES);
    if (bytes.length < length) return "more";
    // The opening says which of PEER and PEER ROUND was said, so that nobody can change that line.
    if ((bytes[0] === format.OPENING_OF_ROUND) !== isRound) return format.rejectForged();
    const handshake = this.handshake("responder", keyId, bytes);
    const payload = handshake.readMessage(bytes.subarray(OPENING_HEADER_BYTES, length));
    if (payload === null) return format.rejectForged();
    if (!filter.note(handshake.theirEphemeral)) return format.rejectReplayed();
    return { keyId, handshake, payload, length };
  }

  private handshake(
    role: "initiator" | "responder",
    keyId: string,
    openingStart: Uint8Array,
  ): HandshakeState {
    return new HandshakeState({
      role,
      prologue: format.prologueOf(openingStart),
      psk: this.keys.get(keyId)!,
      ephemeral: new Uint8Array(this.randomWords(EPHEMERAL_WORDS).buffer),
    });
  }

  private readonly object = (objection: format.Objection): void => {
    this.objections[objection]++;
  };
}

function keyOf(secret: Secret): Uint8Array {
  return keyFor(secret, PURPOSE);
}

function refusedBy(reason: string) {
  const help = "Connections with other nodes that were refused for what they are sealed with.";
  return { metric: { name: "sync_refused_connections", help, labels: { reason } } };
}

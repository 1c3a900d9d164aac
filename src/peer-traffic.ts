/**
 * How many bytes go between this node and others, by what for and by whom: for who pays for each
 * byte, or wonders what fills a thin line. As they travel, compressed if they are.
 */
import { counter, text, type Fact } from "./fact.ts";

/** What bytes are for, and what that means. */
export const PURPOSES = {
  updates: "writes, as batches over the broker",
  presence: "who is there, over the broker",
  sync_tcp: "comparing and healing, from node to node",
  sync_broker: "comparing and healing, through the broker",
  values: "fetching values that are too large for a batch, by either way",
} as const;

/** One of the purposes. */
export type Purpose = keyof typeof PURPOSES;

const NAMES = Object.keys(PURPOSES) as readonly Purpose[];
/** Most peers that are counted one by one; of more, those with the fewest bytes are "others". */
const MAX_PEERS = 32;
const OTHERS = "others";

/** For each purpose what was sent, then for each what was received. */
type Bytes = Float64Array;

/** Counts of one node. */
export class PeerTraffic {
  private readonly total: Bytes = newBytes();
  private readonly byPeer = new Map<string, Bytes>();
  private readonly others: Bytes = newBytes();

  /** For INFO. */
  static readonly facts: readonly Fact<PeerTraffic>[] = [
    ...NAMES.flatMap((purpose, i) => [
      counter<PeerTraffic>(
        `traffic_${purpose}_sent_bytes`,
        "bytes",
        `Sent to other nodes for ${PURPOSES[purpose]}.`,
        (it) => it.total[i]!,
      ),
      counter<PeerTraffic>(
        `traffic_${purpose}_received_bytes`,
        "bytes",
        `Received from other nodes for ${PURPOSES[purpose]}.`,
        (it) => it.total[NAMES.length + i]!,
      ),
    ]),
    text(
      "traffic_by_peer",
      "Bytes sent to each peer and received from it, of 32 peers at most: `NODE_ID PURPOSE=SENT/RECEIVED …; …`.",
      (it) => it.describe(),
    ),
  ];

  /** Counts what went to a node or came from it; "" when it went to all, or was no peer's. */
  note(peer: string, purpose: Purpose, sentBytes: number, receivedBytes: number): void {
    const at = NAMES.indexOf(purpose);
    for (const bytes of peer === "" ? [this.total] : [this.total, this.of(peer)]) {
      bytes[at]! += sentBytes;
      bytes[NAMES.length + at]! += receivedBytes;
    }
  }

  /** Who has most comes first. */
  describe(): string {
    const peers = [...this.byPeer].sort(([, a], [, b]) => sumOf(b) - sumOf(a));
    if (sumOf(this.others) > 0) peers.push([OTHERS, this.others]);
    return peers.map(([peer, bytes]) => `${peer} ${textOf(bytes)}`).join("; ");
  }

  private of(peer: string): Bytes {
    const known = this.byPeer.get(peer);
    if (known !== undefined) return known;
    if (this.byPeer.size >= MAX_PEERS) this.makeRoom();
    const bytes = newBytes();
    this.byPeer.set(peer, bytes);
    return bytes;
  }

  private makeRoom(): void {
    let [least] = this.byPeer;
    for (const each of this.byPeer) if (sumOf(each[1]) < sumOf(least![1])) least = each;
    const [peer, bytes] = least!;
    this.byPeer.delete(peer);
    for (let i = 0; i < bytes.length; i++) this.others[i]! += bytes[i]!;
  }
}

function newBytes(): Bytes {
  return new Float64Array(2 * NAMES.length);
}

function sumOf(bytes: Bytes): number {
  return bytes.reduce((sum, it) => sum + it, 0);
}

function textOf(bytes: Bytes): string {
  const parts = NAMES.map((purpose, i) => [purpose, bytes[i], bytes[NAMES.length + i]] as const);
  const said = parts.filter(([, sent, received]) => sent !== 0 || received !== 0);
  return said.map(([purpose, sent, received]) => `${purpose}=${sent}/${received}`).join(" ");
}

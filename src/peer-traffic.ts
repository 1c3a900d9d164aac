/**
 * How many bytes go between this node and others, by what for and by whom: for who pays for each
 * byte, or wonders what fills a thin line. As they travel, compressed if they are.
 */
import { counter, MAX_PEERS_NAMED, OTHERS, text, type Fact, type Series } from "./fact.ts";

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
const MAX_PEERS = MAX_PEERS_NAMED;

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
        metricOf(purpose, "sent"),
      ),
      counter<PeerTraffic>(
        `traffic_${purpose}_received_bytes`,
        "bytes",
        `Received from other nodes for ${PURPOSES[purpose]}.`,
        (it) => it.total[NAMES.length + i]!,
        metricOf(purpose, "received"),
      ),
    ]),
    text(
      "traffic_by_peer",
      "Bytes sent to each peer and received from it, of 32 peers at most: `NODE_ID PURPOSE=SENT/RECEIVED …; …`.",
      (it) => it.describe(),
    ),
  ];

  /** For metrics. */
  static readonly series: readonly Series<PeerTraffic>[] = [
    {
      name: "peer_traffic_bytes",
      kind: "counter",
      unit: "bytes",
      help: "Bytes that went between this node and each peer, for whatever purpose.",
      labels: ["peer", "direction"],
      *read(it) {
        for (const [peer, bytes] of it.peers()) {
          yield [[peer, "sent"], sumOf(bytes.subarray(0, NAMES.length))];
          yield [[peer, "received"], sumOf(bytes.subarray(NAMES.length))];
        }
      },
    },
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
    const peers = this.peers((a, b) => sumOf(b) - sumOf(a));
    return peers.map(([peer, bytes]) => `${peer} ${textOf(bytes)}`).join("; ");
  }

  /** All others come last. */
  private peers(order?: (one: Bytes, other: Bytes) => number): [peer: string, bytes: Bytes][] {
    const peers = [...this.byPeer];
    if (order !== undefined) peers.sort(([, a], [, b]) => order(a, b));
    if (sumOf(this.others) > 0) peers.push([OTHERS, this.others]);
    return peers;
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

function metricOf(purpose: Purpose, direction: "sent" | "received") {
  const help = "Bytes that went between this node and others, by what for.";
  return { metric: { name: "traffic_bytes", help, labels: { purpose, direction } } };
}

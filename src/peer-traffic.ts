/**
 * How many bytes go between this node and others, by what for and by whom: for who pays for each
 * byte, or wonders what fills a thin line. As they travel, compressed if they are.
 */
import { counter, MAX_PEERS_NAMED, OTHERS, text, type Fact, type Series } from "./fact.ts";

/** What bytes are for, and what that means. */
const PURPOSES = {
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
  /** Where a peer is in the three that follow: what its bytes were for, its name, and their sum. */
  private readonly places = new Map<string, number>();
  private readonly rows: Bytes[] = [];
  private readonly names: string[] = [];
  private readonly sums = new Float64Array(MAX_PEERS);
  private readonly others: Bytes = newBytes();

  /** For INFO. */
  static readonly facts: readonly Fact<PeerTraffic>[] = [
    ...NAMES.flatMap((purpose, i) => [
      counter<PeerTraffic>(
        `traffic_${purpose}_sent_bytes`,
        "bytes",
        `Sent to other nodes for ${PURPOSES[purpose]}.`,
        (it) => it.total[i],
        metricOf(purpose, "sent"),
      ),
      counter<PeerTraffic>(
        `traffic_${purpose}_received_bytes`,
        "bytes",
        `Received from other nodes for ${PURPOSES[purpose]}.`,
        (it) => it.total[NAMES.length + i],
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
    add(this.total, at, sentBytes, receivedBytes);
    if (peer === "") return;
    const place = this.places.get(peer) ?? this.take(peer);
    add(this.rows[place], at, sentBytes, receivedBytes);
    this.sums[place] += sentBytes + receivedBytes;
  }

  /** Who has most comes first. */
  describe(): string {
    const { places, sums } = this;
    const order = [...places.keys()].sort((a, b) => sums[places.get(b)!] - sums[places.get(a)!]);
    return this.peers(order)
      .map(([peer, bytes]) => `${peer} ${textOf(bytes)}`)
      .join("; ");
  }

  /** All others come last. */
  private peers(order: Iterable<string> = this.places.keys()): [peer: string, bytes: Bytes][] {
    const peers: [string, Bytes][] = [];
    for (const peer of order) peers.push([peer, this.rows[this.places.get(peer)!]]);
    if (sumOf(this.others) > 0) peers.push([OTHERS, this.others]);
    return peers;
  }

  /** A place for a peer: a new one, or that of whoever has the fewest bytes. */
  private take(peer: string): number {
    const { places, rows } = this;
    const place = rows.length < MAX_PEERS ? rows.push(newBytes()) - 1 : this.vacate();
    places.set(peer, place);
    this.names[place] = peer;
    return place;
  }

  private vacate(): number {
    const { places, rows, sums, others } = this;
    let least = 0;
    for (let place = 1; place < sums.length; place++) {
      if (sums[place] < sums[least]) least = place;
    }
    places.delete(this.names[least]);
    const bytes = rows[least];
    for (let i = 0; i < bytes.length; i++) others[i] += bytes[i];
    bytes.fill(0);
    sums[least] = 0;
    return least;
  }
}

function newBytes(): Bytes {
  return new Float64Array(2 * NAMES.length);
}

function add(bytes: Bytes, at: number, sentBytes: number, receivedBytes: number): void {
  bytes[at] += sentBytes;
  bytes[NAMES.length + at] += receivedBytes;
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

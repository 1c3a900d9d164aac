/**
 * A member of the cluster that keeps to the protocol and lies: of itself, of others, and of time, to
 * whoever asks it for a session, and in sessions and messages of its own. What it says changes from
 * one to the next.
 *
 * It lies in every field of a HELLO (node id, epoch, clock, watermark, purge times of its own and of
 * third members, contacts, the latest time it takes, floor, root, "roots are equal", longest frame),
 * refuses what it is sent, values and deletions, naming whom it likes as their purger, and passes off
 * its own entries under anybody's origin, dated around the edge of the allowed skew. Through
 * the broker it publishes batches with any source, epoch and number, and presences of
 * anybody; it calls nodes in anybody's name, and says again, changed, what it overhears of sessions.
 *
 * What a client of any node may do, and so a member that nobody tells from an honest one, is no lie, and
 * nothing protects from it: it writes and counts, deletes and flushes what it likes. So it leaves the
 * keys of the oracle alone, and its flushes are all of times that nobody takes.
 * Where deletions are forgotten, it does not say of others that it has their deletions, nor that it is
 * another member: who believes that, and was away for longer than the grace, may bring back what was
 * deleted. It comes to the same as writing the old value again.
 * In a cluster with a secret it has that, too, and seals its sessions; what it says to the broker it
 * does not, as anybody might.
 * Nor does anything help who syncs only when messages are lost, for messages can be forged: in
 * plans without rounds there is no liar.
 */
import { Encoder } from "cbor-x/index-no-eval";
import { timeHighOf, timeLowOf } from "../../src/core/data/clock.ts";
import { CURRENT, OLDEST } from "../../src/core/data/capabilities.ts";
import { PeerSeal } from "../../src/anti-entropy/peer-seal.ts";
import { encodeCall } from "../../src/anti-entropy/relay-messages.ts";
import { encodePresence } from "../../src/replication/presence-message.ts";
import type { Chance } from "./chance.ts";
import { LiarEnd } from "./liar-end.ts";
import { LIAR, Lies } from "./lies.ts";
import { simulatedDial, type LinkEnd, type Party } from "./links.ts";
import { EPOCH_MS } from "./sim-node.ts";
import type { Link, LinkHandler } from "../../src/ports.ts";
import type { Simulation } from "./simulation.ts";

const HOUR_MS = 3_600_000;
const LIE_EVERY_MS = 2_000;
const encoder = new Encoder({ useRecords: false, variableMapSize: true, tagUint8Array: false });

/** One liar for all. */
export class Liar implements Party {
  readonly id = LIAR;
  readonly isOver = false;
  readonly links = new Set<LinkEnd>();
  readonly address: string;
  private readonly nodeIds: readonly string[];
  private readonly lies: Lies;
  private readonly seal: PeerSeal;
  private acts = 0;

  /** `place` is its number in the network. */
  constructor(
    private readonly simulation: Simulation,
    readonly place: number,
    port: number,
  ) {
    this.address = `${LIAR}:${port}`;
    const honest = simulation.nodes.map(({ id }) => id);
    this.nodeIds = [LIAR, "nobody", ...honest];
    const chance = simulation.chanceOf(`${LIAR} seals`);
    const secrets = simulation.drawSecrets(chance);
    this.lies = new Lies(simulation, this.nodeIds, secrets);
    this.seal = new PeerSeal(secrets, (count) =>
      Uint32Array.from({ length: count }, () => chance.below(2 ** 32)),
    );
  }

  /** Begins to lie by itself; goes on until everything is mended. */
  start(): void {
    const { simulation } = this;
    const chance = simulation.chanceOf(`${LIAR} acts`);
    const next = (): void => {
      simulation.timeline.after(2 * chance.next() * LIE_EVERY_MS * simulation.pace, () => {
        if (!simulation.isTroubled) return;
        this.act(`${LIAR}.${this.acts++}`);
        next();
      });
    };
    next();
  }

  /** Somebody begins a session with it. */
  accept(isRound: boolean): (link: Link) => LinkHandler {
    return (outer) => {
      const link = this.seal.answer(outer, isRound);
      const { simulation } = this;
      const name = link.address.slice(0, link.address.indexOf(":"));
      const node = simulation.nodes.find(({ id }) => id === name)!;
      const chance = simulation.chanceOf(`${LIAR} answers ${name}`);
      const end = new LiarEnd(link, { ...this.lies.draw(chance, node, link), role: "responder" });
      end.saysEqual = chance.happens(0.1);
      link.handler = end;
      end.start(false);
      return link;
    };
  }

  private act(name: string): void {
    const { simulation } = this;
    const chance = simulation.chanceOfAct(name);
    const node = chance.pick(simulation.present);
    const what = chance.pick(["session", "session", "batch", "presence", "message"] as const);
    if (!simulation.admits(name, `${LIAR} ${what} ${node.id}`)) return;
    if (what === "batch") return this.publishBatch(chance);
    if (what === "presence") return this.publishPresence(chance);
    if (what === "message") return this.publishMessage(chance, node.id);
    const [host, port] = node.address.split(":");
    const greeting = chance.pick(["PEER", "PEER ROUND"] as const);
    const handle = (outer: Link): LinkHandler => {
      const { seal } = this;
      const sealed = seal.isSealing ? seal.call(outer, greeting === "PEER ROUND") : null;
      const lies = this.lies.draw(chance, node, sealed);
      const end = new LiarEnd(sealed ?? outer, { ...lies, role: "initiator" });
      if (sealed !== null) sealed.handler = end;
      end.start(true);
      return sealed ?? end;
    };
    const ignore = (): void => {};
    const address = { host, port: Number(port), isSecure: false };
    simulatedDial(simulation, this)(address, greeting, handle, ignore, false).catch(ignore);
  }

  private publishBatch(chance: Chance): void {
    const { broker, timeline } = this.simulation;
    const wallMs = Math.floor(EPOCH_MS + timeline.nowMs);
    const events = Array.from({ length: chance.between(0, 4) }, () =>
      this.drawEvent(chance, wallMs),
    );
    const epoch = chance.pick([1, wallMs * 1_024, Number.MAX_SAFE_INTEGER]);
    const seq = chance.pick([1, chance.between(1, 1_000), Number.MAX_SAFE_INTEGER]);
    const src = chance.pick(this.nodeIds);
    // Large numbers would be written as floats.
    const numbers = { epoch: BigInt(epoch), seq: BigInt(seq) };
    const payload = encoder.encode({ v: 1, src, ...numbers, events });
    if (broker.isUp) broker.publish(null, "sim/updates", Buffer.from(payload), false);
  }

  private drawEvent(chance: Chance, wallMs: number): Record<string, unknown> {
    const op = chance.pick(["set", "set", "del", "ref", "flush"] as const);
    const isHere = op !== "flush";
    const offsetMs = isHere ? this.lies.offsetMs(chance) : chance.pick([61_000, HOUR_MS]) * 100;
    const atMs = wallMs + offsetMs;
    const ts = (BigInt(timeHighOf(atMs)) << 32n) | BigInt(timeLowOf(atMs));
    const { names } = this.simulation;
    const own = this.lies.key(chance);
    const key = Buffer.from(op === "ref" && chance.happens(0.5) ? chance.pick(names) : own);
    if (op === "set") return { op, key, val: Buffer.from("lie"), ts };
    return op === "flush" ? { op, ts } : { op, key, ts };
  }

  /** Calls a node in anybody's name, or says what it has overheard again, changed or cut. */
  private publishMessage(chance: Chance, nodeId: string): void {
    const { broker } = this.simulation;
    if (!broker.isUp) return;
    const box = chance
      .below(2 ** 32)
      .toString(16)
      .padStart(16, "0");
    const isCall = broker.overheard.length === 0 || chance.happens(0.3);
    if (isCall) {
      const from = chance.pick(this.nodeIds);
      const call = Buffer.from(encodeCall({ from, box, isRound: chance.happens(0.5) }));
      return broker.publish(null, `sim/sync/${nodeId}/open`, call, chance.happens(0.1));
    }
    const { topic, payload } = chance.pick(broker.overheard);
    const changed = Buffer.from(payload);
    if (chance.happens(0.7)) changed[chance.below(changed.length)] = chance.below(256);
    const length = chance.happens(0.2) ? chance.below(changed.length) : changed.length;
    broker.publish(null, topic, changed.subarray(0, length), chance.happens(0.1));
  }

  private publishPresence(chance: Chance): void {
    const { broker, nodes } = this.simulation;
    const nodeId = chance.pick(this.nodeIds);
    const presence = {
      nodeId,
      epoch: chance.pick([1, chance.between(1, 2 ** 50), Number.MAX_SAFE_INTEGER]),
      connection: chance.between(1, 100),
      address: chance.pick([this.address, ...nodes.map(({ address }) => address), "nowhere"]),
      version: "0",
      roots: chance.pick<Record<string, string>>([{}, { "": "" }, { "": "00" }]),
      online: chance.happens(0.7),
      isRelayed: chance.happens(0.5),
      tlsAddress: "",
      sequence: chance.pick([0, chance.between(1, 1_000), Number.MAX_SAFE_INTEGER]),
      clientId: chance.pick([nodeId, "somebody"]),
      hears: chance.happens(0.7),
      refreshMs: chance.pick([60_000, 60_000, 1_200_000]),
      connectedMs: chance.pick([0, 0, 1_000, 1_000_000]),
      capabilities: chance.pick([CURRENT, OLDEST, { lowest: 9, highest: 255, features: 0 }]),
    };
    const topic = `sim/nodes/${encodeURIComponent(nodeId)}`;
    if (broker.isUp) broker.publish(null, topic, encodePresence(presence), chance.happens(0.5));
  }
}

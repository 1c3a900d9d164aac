/**
 * Decides when this node syncs with whom: a round every interval with the next peer in turn,
 * and at once with a peer when something shows that events were missed. It knows time only
 * from `tick`, and nothing of sessions but how they ended.
 */
import type { HostPort } from "../config/address.ts";
import { PeerList } from "./peer-list.ts";
import type { Peer, WaitingKeys } from "./peer.ts";
import { Postponed } from "./postponed.ts";
import { latestByAddress, type PresenceView } from "./presence-view.ts";

/** What to do with a peer: a round as of the watermark, all up to now, or certain keys only. */
export type Job =
  | { readonly mode: "watermark" | "now" }
  | { readonly mode: "fetch"; readonly fetchKeys: Uint8Array[] };

/** How a session ended. */
export interface JobResult {
  readonly ok: boolean;
  /** The peer had no room for the session; nothing is wrong with it. */
  readonly isBusy: boolean;
  /** The id of the node that answered; empty if none did. */
  readonly peerNodeId: string;
}

/** What a scheduler is made with. */
export interface SchedulerOptions {
  readonly nodeId: string;
  /** Addresses from the configuration. */
  readonly peerList: readonly string[];
  /** Between rounds, in ms; a tenth more or less is left to chance. */
  readonly intervalMs: number;
  /** After this time, in ms, what was learned of the peers is learned anew. */
  readonly discoveryMs: number;
  readonly presence: () => PresenceView;
  /** This node's root in hex, null while unknown. */
  readonly rootHex: () => string | null;
  /** Whether comparisons are wanted. Keys are fetched in any case. */
  readonly isHealing: () => boolean;
  /** Up to when what others have is taken here, in Unix ms; what is later is dated too far ahead. */
  readonly acceptsUpToMs: () => number;
  /** Whether another session may begin, of whatever kind. */
  readonly hasRoom: () => boolean;
  /** Runs a session to its end. Never rejects. */
  readonly run: (peer: HostPort, job: Job) => Promise<JobResult>;
  /** From 0 to below 1. */
  readonly random: () => number;
}

/** Syncs asked for by something that many nodes notice are spread over this time. */
const SPREAD_MS = 500;
/** Keys waiting to be fetched from one peer; beyond it all is compared instead. */
const MAX_KEYS = 1_024;

/** See the file header. */
export class Scheduler {
  /** Syncs at once asked for so far. A session settles those asked for before it began. */
  wants = 0;
  private readonly peers: PeerList;
  private readonly met = new Set<string>();
  private nowMs = 0;
  private nextRoundMs = Infinity;
  private nextDiscoveryMs = 0;
  /** The address whose round was last. */
  private lastInTurn = "";
  private connections = 0;
  private droppedEvents = 0;
  /** What is to be fetched from nodes that are not known yet, by node id. */
  private readonly strangersKeys = new Map<string, WaitingKeys>();
  private readonly postponed = new Postponed();
  /** Resolves at the next change in how things stand with the peers. */
  private change = Promise.withResolvers<void>();

  constructor(private readonly options: SchedulerOptions) {
    this.peers = new PeerList(options.nodeId);
  }

  /** Number of other nodes known. */
  get peerCount(): number {
    return this.peers.distinct().length;
  }

  /** Whether a session that this node began with the node of that id has succeeded. */
  knows(nodeId: string): boolean {
    return this.met.has(nodeId);
  }

  /** Looks for peers and begins what is due. `nowMs` never decreases. */
  tick(nowMs: number): void {
    this.nowMs = nowMs;
    if (nowMs >= this.nextDiscoveryMs) this.forget();
    this.lookAtPresence();
    this.askStrangers();
    this.askForPostponed();
    if (this.nextRoundMs === Infinity) this.planRound();
    this.beginWanted();
    if (nowMs >= this.nextRoundMs && this.options.hasRoom()) {
      this.planRound();
      this.beginRound();
    }
    this.noteChange();
  }

  /**
   * Syncs with everybody known, without delay. Resolves when `enough` have succeeded, or all have
   * succeeded or failed; who is busy is asked again. Needs ticks meanwhile.
   */
  async syncWithAll(enough = Infinity): Promise<void> {
    const begun = this.wants;
    for (const peer of this.peers.distinct()) {
      this.want(peer, 0);
      peer.hurry(this.nowMs);
    }
    for (;;) {
      this.beginWanted();
      // Anew each time: another address may have taken the place of one that failed.
      const peers = this.peers.distinct();
      const synced = peers.filter((peer) => peer.settled > begun);
      const isOpen = ({ isWanted, settled, failures }: Peer) =>
        isWanted && settled <= begun && failures === 0;
      if (synced.length >= enough || !peers.some(isOpen)) return;
      await this.change.promise;
    }
  }

  /** Events of that node were lost: sync with it at once, or with everybody if it is unknown. */
  noteGap(nodeId: string): void {
    const known = this.peers.byNodeId(nodeId);
    if (known !== undefined) this.want(known, 0);
    else for (const peer of this.peers.distinct()) this.want(peer, SPREAD_MS);
    this.beginWanted();
  }

  /** That node has an entry of that time, in Unix ms, which is dated too far ahead to be taken yet. */
  notePostponed(nodeId: string, entryMs: number): void {
    // Nobody's name has room for many, so strangers share one.
    const isKnown = this.peers.byNodeId(nodeId) !== undefined;
    this.postponed.note(isKnown ? nodeId : "", entryMs);
  }

  /** That node holds a value that has to be fetched. */
  noteReference(nodeId: string, key: Uint8Array): void {
    const peer = this.peers.byNodeId(nodeId);
    const keys = peer?.keys ?? this.strangersKeys.get(nodeId) ?? new Map();
    const text = Buffer.from(key).toString("latin1");
    if (keys.size >= MAX_KEYS && !keys.has(text)) return this.noteGap(nodeId);
    keys.set(text, key);
    if (peer === undefined) this.strangersKeys.set(nodeId, keys);
    else this.beginWanted();
  }

  /**
   * Another node came and synced with this one, all up to now. `begun` is what `wants` was
   * when it came: what was wanted later it may not have brought.
   */
  noteVisit(nodeId: string, begun: number): void {
    this.peers.byNodeId(nodeId)?.settle(begun);
  }

  /** Who was unknown when it told of values has announced itself by now, or may never. */
  private askStrangers(): void {
    for (const [nodeId, keys] of this.strangersKeys) {
      const peer = this.peers.byNodeId(nodeId);
      if (peer === undefined) this.noteGap(nodeId);
      else peer.addKeys(keys);
    }
    this.strangersKeys.clear();
  }

  /** What was dated too far ahead is taken now. */
  private askForPostponed(): void {
    this.postponed.takeDue(this.options.acceptsUpToMs(), this.nowMs, (nodeId) => {
      // A session may have failed for just that.
      this.peers.byNodeId(nodeId)?.forgive(this.nowMs);
      this.noteGap(nodeId);
    });
  }

  private lookAtPresence(): void {
    const { connected, connections, droppedEvents, peers } = this.options.presence();
    const isReconnected = connections !== this.connections;
    const hasDropped = droppedEvents > this.droppedEvents;
    this.connections = connections;
    this.droppedEvents = droppedEvents;
    const present = new Set<string>();
    for (const each of latestByAddress(peers)) {
      const peer = this.peers.take(each.address, false, this.nowMs);
      if (peer === undefined) continue;
      present.add(peer.address);
      peer.nodeId = each.nodeId;
      const incarnation = `${each.epoch}/${each.connection}`;
      const isBack = incarnation !== peer.incarnation;
      if (isBack) {
        peer.incarnation = incarnation;
        peer.forgive(this.nowMs);
      }
      const differs = each.root === null || each.root !== this.options.rootHex();
      if (isReconnected || hasDropped || (isBack && differs)) {
        this.want(this.peers.byNodeId(each.nodeId) ?? peer, SPREAD_MS);
      }
    }
    // While the broker is away, who was there last is still worth a try.
    if (!connected) return;
    this.peers.keep(present);
  }

  private forget(): void {
    this.nextDiscoveryMs = this.nowMs + this.options.discoveryMs;
    for (const peer of this.peers.all()) peer.nodeId = "";
    for (const address of this.options.peerList) this.peers.take(address, true, this.nowMs);
  }

  private want(peer: Peer, spreadMs: number): void {
    peer.want(++this.wants, this.nowMs + this.options.random() * spreadMs);
  }

  private beginWanted(): void {
    const { hasRoom, isHealing } = this.options;
    for (const peer of this.peers.all()) {
      if (!hasRoom()) return;
      if (!peer.isReady(this.nowMs)) continue;
      if (peer.isDue(this.nowMs) && isHealing()) {
        void this.begin(peer, { mode: "now" });
      } else if (peer.keys.size > 0) {
        void this.begin(peer, { mode: "fetch", fetchKeys: [...peer.keys.values()] });
      }
    }
  }

  private beginRound(): void {
    if (!this.options.isHealing()) return;
    const ready = this.peers.distinct().filter((peer) => peer.isReady(this.nowMs));
    const after = ready.find((peer) => peer.address > this.lastInTurn) ?? ready[0];
    if (after === undefined) return;
    this.lastInTurn = after.address;
    void this.begin(after, { mode: "watermark" });
  }

  private planRound(): void {
    const { intervalMs, random } = this.options;
    this.nextRoundMs = this.nowMs + intervalMs * (0.9 + 0.2 * random());
  }

  private noteChange(): void {
    this.change.resolve();
    this.change = Promise.withResolvers();
  }

  private async begin(peer: Peer, job: Job): Promise<void> {
    const begun = this.wants;
    let keys: WaitingKeys = new Map();
    // All but a round, which goes no further than its watermark, brings them.
    if (job.mode !== "watermark") [keys, peer.keys] = [peer.keys, keys];
    peer.isRunning = true;
    const { ok, isBusy, peerNodeId } = await this.options.run(peer, job);
    peer.isRunning = false;
    if (peerNodeId !== "") peer.nodeId = peerNodeId;
    if (ok) {
      if (peerNodeId !== "") this.met.add(peerNodeId);
      peer.noteSuccess(job.mode !== "fetch", this.nowMs);
      if (job.mode === "now") peer.settle(begun);
    } else this.retry(peer, job, keys, isBusy);
    this.noteChange();
  }

  private retry(peer: Peer, job: Job, keys: WaitingKeys, isBusy: boolean): void {
    peer.noteFailure(isBusy, this.nowMs, this.options.random());
    // Another address of that node may do better.
    const heir = this.peers.byNodeId(peer.nodeId) ?? peer;
    peer.handOverTo(heir);
    heir.addKeys(keys);
    // A sync brings what a fetch could not, where syncs are wanted at all.
    if (job.mode === "fetch" && !isBusy) this.want(heir, 0);
  }
}

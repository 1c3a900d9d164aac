/**
 * Decides when this node syncs with whom: a round every interval with the next peer in turn,
 * and at once with a peer when something shows that events were missed. It knows time only
 * from `tick`, and nothing of sessions but how they ended.
 *
 * What shows that events were missed comes from the broker, and so does most of what is known of
 * peers: anybody may have made it up. So peers with which a session has succeeded, and those from
 * the configuration, have places of their own; strangers are tried beside them, a few at a time.
 * What asks for syncs that bring nothing asks less and less often.
 *
 * Peers may be a thousand, and may all notice the same at the same moment. So who misses
 * something of no one in particular asks a few, drawn at random, and of those who notice that one
 * node is behind, or ahead, only a few turn to it. What they learn goes on from them to the
 * others (`news.ts`, `rounds.ts`), as everything does while there is no broker.
 */
import { Crowd } from "./crowd.ts";
import { relayed, type Destination } from "./destination.ts";
import type { SessionYield } from "./news.ts";
import { byAddress, PeerList } from "./peer-list.ts";
import type { Peer } from "./peer.ts";
import { PostponedSources } from "./postponed-sources.ts";
import type { PresenceView } from "./presence-view.ts";
import { PresenceWatch } from "./presence-watch.ts";
import { FEW, Rounds } from "./rounds.ts";
import { StrangerBudget } from "./stranger-budget.ts";
import { WaitingKeys } from "./waiting-keys.ts";

/** What to do with a peer: a round as of the watermark, all up to now, or certain keys only. */
export type Job =
  | { readonly mode: "watermark" | "now" }
  | { readonly mode: "fetch"; readonly fetchKeys: Uint8Array[] };

/** How a session ended. */
export interface JobResult {
  readonly ok: boolean;
  /** The peer had no room for the session; nothing is wrong with it. */
  readonly isBusy: boolean;
  /** Whether entries went over. */
  readonly hasMoved: boolean;
  /** Whether entries came that were new here. */
  readonly hasLearned: boolean;
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
  /** As in AntiEntropyOptions. */
  readonly prefersTls: () => boolean;
  /**
   * Whether there was contact with the node of that id before, perhaps before this node's start.
   */
  readonly isAcquainted: (nodeId: string) => boolean;
  /** This node's root in hex, null while unknown. */
  readonly rootHex: () => string | null;
  /** Whether comparisons are wanted. Keys are fetched in any case. */
  readonly isHealing: () => boolean;
  /**
   * Up to when what others have is taken here, in Unix ms; what is later is dated too far ahead.
   */
  readonly acceptsUpToMs: () => number;
  /** Whether another session may begin, of whatever kind, with a stranger or another peer. */
  readonly hasRoom: (isStranger: boolean) => boolean;
  /** Runs a session to its end. Never rejects. */
  readonly run: (peer: Destination, job: Job, isStranger: boolean) => Promise<JobResult>;
  /** From 0 to below 1. */
  readonly random: () => number;
}

/** Of all who notice something of one node, so many turn to it, about; and to fetch from it. */
const CALLERS = 8;
const FETCHERS = 64;
/** A start waits so long for those of whom there is no more than that they are said to be there. */
const AWAIT_STRANGERS_MS = 1_000;
/** What is missed of nodes that are not known asks for a sync with everybody so often at most. */
const STRANGE_GAP_MS = 30_000;
/** Nodes that are not known whose values are waited for; beyond it all is compared instead. */
const MAX_STRANGE_SOURCES = 64;
/** Strangers with whom sessions begin from one tick to the next. */
const STRANGERS_A_TICK = 3;
/** Ids of nodes met that are remembered. */
const MAX_MET_IDS = 4_096;

/** See the file header. */
export class Scheduler {
  /** Syncs at once asked for so far. A session satisfies those asked for before it began. */
  wants = 0;
  private readonly peers: PeerList;
  /** Those of whom something may be wanted. */
  private readonly pending = new Set<Peer>();
  /** Ids of nodes met, the one met last at the end. */
  private readonly met = new Set<string>();
  private nowMs = 0;
  private nextDiscoveryMs = 0;
  /** What is to be fetched from nodes that are not known yet, by node id. */
  private readonly strangersKeys = new Map<string, WaitingKeys>();
  private readonly postponed = new PostponedSources();
  /** Something of a node that is not known was missed. */
  private hasStrangeGap = false;
  private nextStrangeGapMs = -Infinity;
  private strangersBegun = 0;
  private readonly strangerBudget = new StrangerBudget();
  /** How many wait for syncs that they have asked for. */
  private awaited = 0;
  private readonly crowd: Crowd;
  private readonly rounds: Rounds;
  private readonly presences: PresenceWatch;
  private lastRootHex: string | null = null;
  /** Resolves at the next change in how things stand with the peers. */
  private change = Promise.withResolvers<void>();

  constructor(private readonly options: SchedulerOptions) {
    this.peers = new PeerList(options.nodeId);
    this.presences = new PresenceWatch(this.peers, options);
    this.crowd = new Crowd(this.peers, options.random);
    this.rounds = new Rounds(options, this.crowd, () => this.presences.isConnected);
  }

  /** Number of other nodes known. */
  get peerCount(): number {
    return this.peers
      .distinct()
      .filter(({ isListed, announcedBy }) => isListed || announcedBy !== "").length;
  }

  /** How many strangers there was no room for. */
  get crowdedOut(): number {
    return this.peers.crowdedOut;
  }

  /** Every other node once, as far as is known, in the order of their addresses. */
  distinctPeers(): readonly Peer[] {
    return this.peers.distinct().sort(byAddress);
  }

  /** Where the node of that id is reached; through the broker, if it is not known. */
  destinationOf(nodeId: string): Destination {
    return this.peers.byNodeId(nodeId) ?? relayed(nodeId);
  }

  /** Whether a peer is known to be at that address, or said to be. */
  isPeer(address: string): boolean {
    return this.peers.at(address) !== undefined;
  }

  /** Whether a session that this node began with the node of that id has succeeded. */
  knows(nodeId: string): boolean {
    return this.met.has(nodeId);
  }

  /** When what was learned of the peers is learned anew, in ms from the last tick on. */
  get discoveryInMs(): number {
    return Math.max(0, this.nextDiscoveryMs - this.nowMs);
  }

  /** The addresses or the times among the options are others than before. */
  reconfigure(): void {
    const listed = new Set(this.options.peerList);
    for (const peer of [...this.peers.all()]) {
      if (peer.isListed && !listed.has(peer.address)) this.peers.delist(peer);
    }
    this.addListed();
    // What comes later than it would now comes sooner; what is known of the peers stays.
    this.nextDiscoveryMs = Math.min(this.nextDiscoveryMs, this.nowMs + this.options.discoveryMs);
    this.rounds.replan(this.nowMs);
  }

  /** Looks for peers and begins what is due. `nowMs` never decreases. */
  tick(nowMs: number): void {
    this.nowMs = nowMs;
    this.strangersBegun = 0;
    this.crowd.look();
    if (nowMs >= this.nextDiscoveryMs) this.forget();
    this.lookAtPresence();
    this.askForPostponed();
    this.askStrangers();
    this.lookAtRoot();
    if (!this.rounds.isPlanned) this.rounds.plan(nowMs);
    this.beginWanted();
    if (nowMs >= this.rounds.dueMs && this.options.hasRoom(false)) {
      this.rounds.plan(nowMs);
      this.beginRound();
    }
    this.noteChange();
  }

  /**
   * Syncs with everybody known, without delay; of a crowd with a few. Resolves when `enough` have
   * succeeded, or all have succeeded or failed; who is busy is asked again. For strangers it does
   * not wait long, and when one is enough, they are left out, but for those that came by themselves
   * or were met before this start. Needs ticks meanwhile.
   */
  async syncWithAll(enough = Infinity): Promise<void> {
    const begun = this.wants;
    const begunMs = this.nowMs;
    const candidates = this.peers
      .distinct()
      .filter((peer) => enough === Infinity || !peer.isStranger || peer.isAcquainted);
    const chosen = new Set(this.crowd.few(candidates, FEW));
    for (const peer of chosen) {
      this.want(peer, 0);
      peer.hurry(this.nowMs);
    }
    this.awaited++;
    for (;;) {
      this.beginWanted();
      // Anew each time: another address may have taken the place of one that failed.
      const peers = [...chosen]
        .map((peer) => this.peers.byNodeId(peer.nodeId) ?? peer)
        .filter(({ nodeId }) => nodeId !== this.options.nodeId);
      const synced = peers.filter((peer) => peer.satisfied > begun);
      const isForStrangers = this.nowMs - begunMs < AWAIT_STRANGERS_MS;
      const isOutstanding = ({ isWanted, satisfied, failures, isStranger, isAcquainted }: Peer) =>
        isWanted &&
        satisfied <= begun &&
        failures === 0 &&
        (isForStrangers || !isStranger || isAcquainted);
      if (synced.length >= enough || !peers.some(isOutstanding)) break;
      await this.change.promise;
    }
    this.awaited--;
  }

  /** Events of that node were lost: sync with it at once, or with everybody if it is unknown. */
  noteGap(nodeId: string): void {
    const known = this.peers.byNodeId(nodeId);
    if (known === undefined) {
      this.hasStrangeGap = true;
      return;
    }
    if (!this.crowd.isCaller(known, CALLERS, this.nowMs)) return this.rounds.spreadNews(this.nowMs);
    this.want(known, 0);
    this.beginWith(known);
  }

  /**
   * That node has an entry of that time, in Unix ms, which is dated too far ahead to be taken yet.
   */
  notePostponed(nodeId: string, entryMs: number): void {
    // Nobody's name has room for many, so strangers share one.
    const isKnown = this.peers.byNodeId(nodeId) !== undefined;
    this.postponed.note(isKnown ? nodeId : "", entryMs);
  }

  /** By this node's time everything is to be looked at anew: sync soon, in a crowd with a few. */
  noteTimeChange(): void {
    const peers = this.peers.distinct();
    for (const peer of peers) peer.forgive(this.nowMs);
    this.wantFew(peers);
  }

  /** That node holds a value that has to be fetched. */
  noteReference(nodeId: string, key: Uint8Array): void {
    const peer = this.peers.byNodeId(nodeId);
    // The others get it by comparing, from those.
    const isLeftToThem = peer !== undefined && !this.crowd.isCaller(peer, FETCHERS, this.nowMs);
    if (isLeftToThem && this.options.isHealing()) return this.rounds.spreadNews(this.nowMs);
    const keys = peer?.keys ?? this.strangersKeys.get(nodeId) ?? new WaitingKeys();
    const isTooMany = peer === undefined && this.strangersKeys.size >= MAX_STRANGE_SOURCES;
    if (!keys.add(key) || (isTooMany && keys.size === 1)) return this.noteGap(nodeId);
    if (peer === undefined) {
      this.strangersKeys.set(nodeId, keys);
      return;
    }
    this.pending.add(peer);
    this.beginWith(peer);
  }

  /**
   * A session that another node began is over. One that brought nothing says little of those that
   * this node has not asked: it makes its rounds all the same, or some would be left out.
   */
  noteServed(session: SessionYield): void {
    if (session.hasLearned) this.rounds.noteYield(session, this.nowMs);
  }

  /**
   * Another node came and synced with this one, all up to now. `begun` is what `wants` was
   * when it came: what was wanted later it may not have brought.
   */
  noteVisit(nodeId: string, begun: number): void {
    this.peers.byNodeId(nodeId)?.satisfy(begun);
    for (const peer of this.peers.namesakes(nodeId)) peer.isAcquainted = true;
  }

  /** Nodes that told of large values before they were known: they are by now, or may never be. */
  private askStrangers(): void {
    for (const [nodeId, keys] of this.strangersKeys) {
      const peer = this.peers.byNodeId(nodeId);
      if (peer === undefined) this.hasStrangeGap = true;
      else this.leaveKeys(peer, keys);
    }
    this.strangersKeys.clear();
    if (!this.hasStrangeGap || this.nowMs < this.nextStrangeGapMs) return;
    this.hasStrangeGap = false;
    this.nextStrangeGapMs = this.nowMs + STRANGE_GAP_MS;
    this.wantFew(this.peers.distinct());
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
    const { different, hasMissed } = this.presences.look(this.nowMs);
    this.wantSome(different);
    if (!hasMissed) return;
    const announced = [...this.peers.announced()].map(({ nodeId }) => this.peers.byNodeId(nodeId));
    this.wantFew(announced.filter((peer) => peer !== undefined));
  }

  /** A change while there is no broker is news: nobody else is told of it. */
  private lookAtRoot(): void {
    const rootHex = this.options.rootHex();
    if (rootHex === this.lastRootHex) return;
    if (!this.presences.isConnected && this.lastRootHex !== null)
      this.rounds.spreadNews(this.nowMs);
    this.lastRootHex = rootHex;
  }

  /** Asks for syncs with some of the peers that have another root, as all others notice it, too. */
  private wantSome(different: readonly Peer[]): void {
    if (different.length === 0) return;
    // They count among the others.
    this.crowd.look();
    for (const peer of different) {
      if (this.crowd.draws(peer, CALLERS)) this.want(peer, this.crowd.spreadMs);
    }
  }

  private forget(): void {
    this.nextDiscoveryMs = this.nowMs + this.options.discoveryMs;
    for (const peer of this.peers.all()) {
      peer.isProven = false;
      this.peers.rename(peer, peer.announcedBy);
    }
    this.addListed();
  }

  private addListed(): void {
    for (const address of this.options.peerList) this.peers.findOrAdd(address, true, 2, this.nowMs);
  }

  /** A sync with a few of these; the rest is left to what those know and tell. */
  private wantFew(peers: readonly Peer[]): void {
    for (const peer of this.crowd.few(peers, FEW)) this.want(peer, this.crowd.spreadMs);
    if (this.crowd.size > FEW) this.rounds.spreadNews(this.nowMs);
  }

  private want(peer: Peer, spreadMs: number): void {
    peer.want(++this.wants, this.nowMs + this.options.random() * spreadMs);
    this.pending.add(peer);
  }

  private leaveKeys(peer: Peer, keys: WaitingKeys): void {
    this.pending.add(peer);
    if (!peer.keys.addAll(keys)) this.want(peer, 0);
  }

  /** Begins what is wanted: of known peers first, then of the strangers with the most credit. */
  private beginWanted(): void {
    for (const peer of this.pending) {
      if (!peer.isPending || this.peers.at(peer.address) !== peer) this.pending.delete(peer);
      else if (!peer.isStranger) this.beginWith(peer);
    }
    if (this.pending.size === 0 || !this.mayTryStrangers()) return;
    for (const peer of this.peers.strangersInTurn()) {
      if (!this.mayTryStrangers()) return;
      if (this.pending.has(peer)) this.beginWith(peer);
    }
  }

  private mayTryStrangers(): boolean {
    if (this.strangersBegun >= STRANGERS_A_TICK) return false;
    return this.strangerBudget.allows(this.nowMs) && this.options.hasRoom(true);
  }

  /** Begins what is wanted of a peer, if its time has come and there is room. */
  private beginWith(peer: Peer): void {
    const { nowMs } = this;
    if (!peer.isReady(nowMs)) return;
    if (peer.isStranger ? !this.mayTryStrangers() : !this.options.hasRoom(false)) return;
    if (peer.isDue(nowMs) && this.options.isHealing()) {
      void this.begin(peer, { mode: "now" });
    } else if (peer.isFetchDue(nowMs)) {
      void this.begin(peer, { mode: "fetch", fetchKeys: peer.keys.list() });
    }
  }

  /**
   * A round with the next peer in turn, and one with a stranger, if there is any, beside it. News
   * goes to strangers that came by themselves as to peers: perhaps nobody has ever turned to them.
   */
  private beginRound(): void {
    if (!this.options.isHealing()) return;
    const isReady = (peer: Peer) => peer.isReady(this.nowMs);
    const mayVisit = this.rounds.isSpreading && this.mayTryStrangers();
    const isInTurn = (peer: Peer) => !peer.isStranger || (mayVisit && peer.isAcquainted);
    const ready = this.peers.distinct().filter((peer) => isInTurn(peer) && isReady(peer));
    const after = this.rounds.nextInTurn(ready);
    if (after !== undefined) void this.begin(after, { mode: "watermark" });
    if ((after !== undefined && this.rounds.isSpreading) || !this.mayTryStrangers()) return;
    const stranger = this.peers.strangersInTurn().find(isReady);
    if (stranger !== undefined) void this.begin(stranger, { mode: "watermark" });
  }

  private noteChange(): void {
    this.change.resolve();
    this.change = Promise.withResolvers();
  }

  private async begin(peer: Peer, job: Job): Promise<void> {
    const begun = this.wants;
    let keys = new WaitingKeys();
    // All but a round, which goes no further than its watermark, brings them.
    if (job.mode !== "watermark") [keys, peer.keys] = [peer.keys, keys];
    const { isStranger } = peer;
    if (isStranger) {
      this.strangersBegun++;
      this.strangerBudget.spend();
    }
    peer.isRunning = true;
    peer.triedMs = this.nowMs;
    const result = await this.options.run(peer, job, isStranger);
    peer.isRunning = false;
    if (result.peerNodeId !== "" && this.peers.at(peer.address) === peer) {
      peer.isProven = true;
      this.peers.rename(peer, result.peerNodeId);
    }
    if (result.ok) {
      if (isStranger) this.strangerBudget.restore();
      if (job.mode !== "fetch") this.rounds.noteYield(result, this.nowMs);
      this.noteSuccess(peer, job, result, begun);
    } else this.retry(peer, job, keys, result.isBusy);
    this.noteChange();
  }

  private noteSuccess(peer: Peer, job: Job, result: JobResult, begun: number): void {
    const { mode } = job;
    const kind = mode === "watermark" ? "round" : mode === "now" ? "sync" : "fetch";
    peer.noteSuccess(kind, result.hasMoved, this.nowMs);
    if (mode === "now") peer.satisfy(begun);
    this.peers.noteMet(peer);
    const { nodeId } = peer;
    if (nodeId === "") return;
    this.met.delete(nodeId);
    this.met.add(nodeId);
    if (this.met.size > MAX_MET_IDS) this.met.delete(this.met.values().next().value!);
  }

  private retry(peer: Peer, job: Job, keys: WaitingKeys, isBusy: boolean): void {
    const crowd = this.crowd.size / CALLERS;
    peer.noteFailure(isBusy, this.nowMs, this.options.random(), Math.max(1, crowd));
    // Others have it as well, or will soon.
    if (isBusy && crowd > 1 && job.mode === "now" && this.awaited === 0) {
      peer.satisfy(this.wants);
      this.rounds.spreadNews(this.nowMs);
    }
    // It said goodbye and does not answer any more.
    const hasLeft = !isBusy && !peer.isListed && peer.announcedBy === "";
    const { nodeId } = peer;
    if (hasLeft) this.peers.remove(peer);
    // Another address of that node may do better.
    const heir = this.peers.byNodeId(nodeId) ?? peer;
    peer.handOverTo(heir);
    if (heir.isPending) this.pending.add(heir);
    if (keys.size > 0) this.leaveKeys(heir, keys);
    // A sync brings what a fetch could not, where syncs are wanted at all.
    if (job.mode === "fetch" && !isBusy) this.want(heir, 0);
  }
}

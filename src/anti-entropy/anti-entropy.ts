/**
 * Heals this node and its peers: keeps the Merkle tree, syncs by a schedule and on demand,
 * and serves peers that come by themselves. The protocol is `core/sync/session.ts`; here are
 * its connections, its timing and its statistics.
 */
import { formatNodeAddress, type NodeAddress } from "../config/address.ts";
import type { Config } from "../config/schema.ts";
import type { Link, LinkHandler, SyncControl, SyncReport } from "../ports.ts";
import { unixMsOf } from "../core/data/clock.ts";
import { compareExpiries, latestVersionOf } from "../core/data/merge.ts";
import { Entry, compareVersions } from "../core/data/entry.ts";
import { CURRENT } from "../core/data/capabilities.ts";
import type { MerkleTree } from "../core/tree/merkle.ts";
import { seriesWithin, within, type Fact, type Series } from "../fact.ts";
import type { ClusterSecrets } from "../security/cluster-secrets.ts";
import { delay, every, type Cancel } from "../timing.ts";
import { noTracer } from "../tracer.ts";
import {
  antiEntropyFacts,
  antiEntropySeries,
  type AntiEntropyParts,
} from "./anti-entropy-facts.ts";
import type { AntiEntropyOptions } from "./anti-entropy-options.ts";
import { AskedSyncs } from "./asked-syncs.ts";
import { formatDestination, parseDestination, type Destination } from "./destination.ts";
import { LongestSlice } from "./longest-slice.ts";
import { DifferenceMap } from "./difference-map.ts";
import { PeerSeal } from "./peer-seal.ts";
import type { PresenceView } from "./presence-view.ts";
import { REFUSAL_REASONS } from "./refusal-reasons.ts";
import { Relay } from "./relay.ts";
import { Scheduler, type Job, type JobResult } from "./scheduler.ts";
import { INTERRUPTED, ROUND_GREETING, Sessions, yieldOf } from "./sessions.ts";
import { SyncStatistics } from "./sync-statistics.ts";
import { Trees } from "./trees.ts";
import { LAG_MS } from "./tree-updater.ts";
import { Ways } from "./ways.ts";

const TICK_MS = 250;
/** How long a start waits for the broker, for presence after that, and for the first syncs. */
const START_BROKER_MS = 1_000;
const START_PRESENCE_MS = 100;
const START_SYNC_MS = 3_000;
/** How long a stop tries to hand over what was not published. */
const STOP_SYNC_MS = 3_000;
const MAX_QUEUED_BYTES = 256 * 1024;

/** A peer with which a session has succeeded. */
export interface MetPeer {
  /** Where it is; null where it is reached through the broker only. */
  readonly hostPort: NodeAddress | null;
  /** By which way it is reached: "tcp", "tls" or "broker". */
  readonly way: string;
  /** Whether the last session with it succeeded, too. */
  readonly isThere: boolean;
}

/** See the file header. */
export class AntiEntropy implements SyncControl {
  /** What this node compares, which sees what happens in the store. */
  readonly trees: Trees;

  private readonly treeSlices: LongestSlice;
  private readonly scheduler: Scheduler;
  private readonly statistics: SyncStatistics;
  private readonly sessions: Sessions;
  /** Null when nothing goes through the broker. */
  private readonly relay: Relay | null;
  private readonly waysTo: Ways;
  private readonly askedSyncs: AskedSyncs;
  private readonly seal: PeerSeal;
  /** Where this node and its peers differ, as sessions find it. */
  readonly differences: DifferenceMap;
  private readonly sessionSlices: LongestSlice;
  private cancelTicks: Cancel = () => {};
  private isStopping = false;
  /** The addresses in the configuration. */
  private listed: ReadonlySet<string>;
  private readonly present = new Entry();

  /** For INFO. */
  static readonly facts: readonly Fact<AntiEntropy>[] = within(
    (it: AntiEntropy) => it.parts,
    antiEntropyFacts,
  );

  /** For metrics. */
  static readonly series: readonly Series<AntiEntropy>[] = seriesWithin(
    (it: AntiEntropy) => it.parts,
    antiEntropySeries,
  );

  constructor(private readonly options: AntiEntropyOptions) {
    const { store, settings, nodeId, logger, timing, random } = options;
    this.treeSlices = this.createGauge();
    this.trees = new Trees({
      ...{ store, timing, cluster: options.cluster, secrets: options.secrets ?? null },
      capabilities: options.capabilities ?? CURRENT,
      longestSlice: this.treeSlices,
    });
    this.statistics = new SyncStatistics(nodeId, logger, timing.nowMs, options.traffic);
    this.sessionSlices = this.createGauge();
    this.differences = new DifferenceMap(timing);
    this.relay = this.createRelay();
    this.listed = listedIn(settings);
    const isListed = (address: string): boolean => this.listed.has(address);
    this.waysTo = new Ways(options.dial, this.relay, isListed, timing, logger);
    this.seal = new PeerSeal(options.secrets ?? null, options.randomWords);
    this.sessions = this.createSessions();
    this.askedSyncs = new AskedSyncs({
      ...{ nodeId, timing, random, sessions: this.sessions },
      destinationOf: (nodeId) => this.scheduler.destinationOf(nodeId),
      isPeer: (address) => this.isPeer(address),
    });
    this.scheduler = new Scheduler({
      nodeId,
      get peerList() {
        return settings.peer_list;
      },
      get intervalMs() {
        return settings.interval_seconds * 1_000;
      },
      get discoveryMs() {
        return settings.peer_discovery_interval * 1_000;
      },
      presence: () => options.presence() ?? ALONE,
      prefersTls: options.prefersTls ?? (() => false),
      isAcquainted: (nodeId) => options.members.has(nodeId) && !options.members.isGone(nodeId),
      rootHex: () => this.rootHex,
      isHealing: () => this.isHealing(),
      acceptsUpToMs: () => store.acceptsUpToMs(),
      hasRoom: (isStranger) =>
        options.isTakingPart() && this.sessions.hasRoom(isStranger ? "stranger" : "known"),
      run: (peer, job, isStranger) => this.runJob(peer, job, isStranger),
      random,
    });
  }

  /** The Merkle root in hex as of a few seconds ago; null before it is first computed. */
  get rootHex(): string | null {
    return this.trees.rootHex;
  }

  /** The tree that has that root. */
  get tree(): MerkleTree {
    return this.trees.current;
  }

  /** Each peer that was met, by its id. */
  peersMet(): ReadonlyMap<string, MetPeer> {
    const peers = this.scheduler.distinctPeers();
    const ways = this.waysTo.of(peers);
    const met = peers.filter(({ nodeId, isMet }) => nodeId !== "" && isMet);
    return new Map(
      met.map(({ nodeId, hostPort, failures }) => {
        return [nodeId, { hostPort, way: ways.get(nodeId) ?? "", isThere: failures === 0 }];
      }),
    );
  }

  /**
   * Begins. Resolves after one sync with each peer that can be found in a second, of a crowd with a
   * few, so that a node is not called ready before it has what its peers have; or after a few
   * seconds, when that goes on in the background.
   */
  async start(): Promise<void> {
    this.trees.start();
    // Somebody may have said SHUTDOWN by now, here and below.
    if (this.isStopping) return;
    const { timing } = this.options;
    this.cancelTicks = every(timing, TICK_MS, () => this.scheduler.tick(timing.nowMs()));
    if (!this.isHealing()) return;
    await this.awaitPresence();
    if (this.isStopping) return;
    this.scheduler.tick(timing.nowMs());
    const wasTimeKnown = this.isTimeKnown;
    await Promise.race([this.scheduler.syncWithAll(), delay(timing, START_SYNC_MS)]);
    // What this node did not take before a peer told it the time it takes now.
    if (wasTimeKnown || !this.isTimeKnown) return;
    await Promise.race([this.scheduler.syncWithAll(), delay(timing, START_SYNC_MS)]);
  }

  /** Ends the sessions under way, for a node that stops or takes part no longer. */
  interrupt(): void {
    this.sessions.interrupt();
  }

  /**
   * Before the end: takes nobody any more. With `hasUnsent`, some of this node's writes may be
   * nowhere else: then one sync with a peer is tried, for a few seconds.
   */
  async handOver(hasUnsent: boolean): Promise<void> {
    this.isStopping = true;
    if (!hasUnsent || !this.isHealing()) return;
    await Promise.race([this.scheduler.syncWithAll(1), delay(this.options.timing, STOP_SYNC_MS)]);
  }

  /** Ends for good. */
  stop(): void {
    this.isStopping = true;
    this.cancelTicks();
    this.sessions.stop();
    this.relay?.stop();
    this.trees.stop();
  }

  /** `SYNC`. */
  sync(peer: NodeAddress | string, isFull: boolean, isVerified: boolean): Promise<SyncReport> {
    return this.askedSyncs.sync(peer, isFull, isVerified);
  }

  /** Whether that is the address of a peer: from the configuration, or from presence. */
  isPeer(address: NodeAddress): boolean {
    return this.scheduler.isPeer(formatNodeAddress(address));
  }

  /** `FORGET`. */
  forget(nodeId: string): string | null {
    const { members, logger } = this.options;
    const directory = this.options.directory();
    if (nodeId === this.options.nodeId) return "this is the node itself";
    const isOnline = directory?.isOnline(nodeId) ?? null;
    if (isOnline === true) return "the node is online; stop it first";
    if (isOnline === null && !members.has(nodeId)) return "no node of that id is known here";
    members.noteGone(nodeId);
    directory?.forget(nodeId);
    logger.info("A member is forgotten", { peer: nodeId });
    return null;
  }

  /** `PEER`. */
  accept(isRound: boolean): ((link: Link) => LinkHandler) | string {
    const refusal = this.refusal(isRound);
    if (refusal !== null) return refusal;
    return (link) => {
      const begun = this.scheduler.wants;
      return this.sessions.serve(link, isRound, (result) => {
        if (result.isUpToNow) this.scheduler.noteVisit(result.peerNodeId, begun);
        if (result.ok) this.scheduler.noteServed(yieldOf(result));
      });
    };
  }

  /** `PEER VIA node_id`. */
  passOn(nodeId: string): ((link: Link) => LinkHandler) | string {
    if (this.isStopping) return REFUSAL_REASONS.stopping;
    return (link) => this.sessions.passOn(link, this.scheduler.destinationOf(nodeId));
  }

  private refusal(isRound: boolean): string | null {
    if (this.isStopping) return REFUSAL_REASONS.stopping;
    return isRound && !this.isHealing() ? REFUSAL_REASONS.noRounds : null;
  }

  /** Events of that node were lost on their way here. */
  noteGap(nodeId: string): void {
    this.scheduler.noteGap(nodeId);
  }

  /** That node holds a version of the key whose value was too large to be sent. */
  noteReference(nodeId: string, entry: Entry): void {
    const { store } = this.options;
    const { present } = this;
    const id = store.locate(entry.key, entry.keyOffset, entry.keyLength);
    if (id >= 0) {
      store.read(id, present);
      const isNews = compareVersions(entry, present) > 0 || compareExpiries(entry, present) > 0;
      if (!isNews && !store.isMissing(id)) return;
    }
    this.scheduler.noteReference(nodeId, entry.keyBytes());
  }

  /**
   * An entry came that is dated too far ahead. If a node has it, that is asked for it when its time
   * has come; else it is set aside.
   */
  noteFuture(entry: Entry, nodeId: string | null): void {
    if (nodeId === null) this.options.setAside.put(entry, "future", () => {});
    else {
      const { timeHigh, timeLow } = latestVersionOf(entry);
      this.scheduler.notePostponed(nodeId, unixMsOf(timeHigh, timeLow));
    }
  }

  /**
   * The time has changed here, or is in doubt: a few peers are asked what time it is, and for what
   * was not taken before.
   */
  noteTimeChange(): void {
    this.scheduler.noteTimeChange();
  }

  /** Whether this node has met a node of that id at an address of its own choice. */
  knows(nodeId: string): boolean {
    return this.scheduler.knows(nodeId);
  }

  /** Some of the settings are others than before. */
  reconfigure(): void {
    this.listed = listedIn(this.options.settings);
    this.scheduler.reconfigure();
    this.sessions.reconfigure();
  }

  /** Sessions are sealed with these from now on, or not at all. */
  renewSecrets(secrets: ClusterSecrets | null): void {
    this.trees.renew(secrets);
    this.seal.renew(secrets);
  }

  /** `CONFIG RESETSTAT`. */
  resetPeaks(): void {
    this.sessionSlices.reset();
    this.treeSlices.reset();
  }

  private get parts(): AntiEntropyParts {
    const { clock, members, setAside } = this.options;
    const { scheduler, statistics, sessions, relay, waysTo: ways, seal } = this;
    const { sessionSlices, treeSlices } = this;
    return {
      ...{ clock, members, setAside },
      ...{ scheduler, statistics, sessions, relay, ways, seal, sessionSlices, treeSlices },
    };
  }

  private get isTimeKnown(): boolean {
    return this.options.clock.state === "trusted";
  }

  private isHealing(): boolean {
    return this.options.settings.enabled && this.options.isTakingPart();
  }

  private async awaitPresence(): Promise<void> {
    const { timing } = this.options;
    const startedMs = timing.nowMs();
    const view = () => this.options.presence();
    while (view()?.connected === false && timing.nowMs() - startedMs < START_BROKER_MS) {
      await delay(timing, 10);
    }
    if (view()?.connected) await delay(timing, START_PRESENCE_MS);
  }

  private async runJob(peer: Destination, job: Job, isStranger: boolean): Promise<JobResult> {
    const greeting = job.mode === "fetch" ? "PEER" : ROUND_GREETING;
    const request = { ...job, occasion: isStranger ? "stranger" : "known", greeting } as const;
    const outcome = await this.sessions.run(peer, request);
    const { ok, failure, reason, peerNodeId, hasMoved, hasLearned } = outcome;
    const isSelf = failure === "self";
    // Nor is anything wrong with a peer when this node has ended the session itself.
    const isBusy = failure === "busy" || reason === INTERRUPTED;
    const nodeId = isSelf ? this.options.nodeId : peerNodeId;
    if (this.isMisled(peer, nodeId, failure)) {
      this.waysTo.noteStranger(peer);
      return { ok: false, isBusy, hasMoved, hasLearned, peerNodeId: "" };
    }
    return { ok: ok || isSelf, isBusy, hasMoved, hasLearned, peerNodeId: nodeId };
  }

  /**
   * Whether at the address of a node that can be reached through the broker, too, somebody else
   * answers: networks behind different routers use the same addresses.
   */
  private isMisled({ relayTo }: Destination, nodeId: string, failure: string | null): boolean {
    if (relayTo === "" || nodeId === relayTo) return false;
    return nodeId !== "" || failure === "protocol" || failure === "unreachable";
  }

  private createRelay(): Relay | null {
    const { messenger, timing, randomWords, nodeId, settings, logger } = this.options;
    if (messenger === null || settings.broker_bytes_per_second === 0) return null;
    return new Relay({
      messenger,
      timing,
      randomWords,
      nodeId,
      get bytesASecond() {
        return settings.broker_bytes_per_second;
      },
      refusal: (isRound) => this.refusal(isRound),
      accept: (isRound) => this.accept(isRound),
      logger,
    });
  }

  private createGauge(): LongestSlice {
    return new LongestSlice(this.options.timing.nowMs, this.options.threadCpuMs);
  }

  private createSessions(): Sessions {
    const { options } = this;
    const { store, settings, cluster, nodeId, epoch, logger } = options;
    const { timing, randomWords, clock, members } = options;
    const { maxQueuedBytes = MAX_QUEUED_BYTES } = this.options;
    return new Sessions({
      timing,
      reach: this.waysTo.reach,
      seal: this.seal,
      trees: this.trees,
      randomWords,
      maxQueuedBytes,
      longestSlice: this.sessionSlices,
      tracer: this.options.tracer ?? noTracer,
      random: this.options.random,
      differences: this.differences,
      onPeerTime: (nodeId, unixMs, address) => clock.noteTime(nodeId, unixMs, address),
      common: {
        nowMs: clock.nowMs,
        isTimeKnown: () => clock.isSure,
        store,
        contacts: members.contacts,
        get forgetAfterMs() {
          return members.forgetAfterMs;
        },
        cluster,
        nodeId,
        epoch,
        lagMs: LAG_MS,
        get maxFrameBytes() {
          return options.maxFrameBytes;
        },
        ...(this.options.capabilities && { capabilities: this.options.capabilities }),
        onSetAside: (entry, reason, done) => this.options.setAside.put(entry, reason, done),
      },
      durability: this.options.durability,
      get maxSessions() {
        return settings.max_concurrent_syncs;
      },
      isKnown: (nodeId) => this.knows(nodeId),
      get silenceMs() {
        return options.silenceMs;
      },
      statistics: this.statistics,
      onPostponed: (peer, entryMs) => this.scheduler.notePostponed(peer, entryMs),
      onBug: (error) =>
        logger.error("A bug in MerkleKV", {
          error: String(error),
          stack: error instanceof Error ? error.stack : undefined,
        }),
    });
  }
}

function listedIn({ peer_list }: Config["anti_entropy"]): ReadonlySet<string> {
  return new Set(peer_list.map(canonical));
}

function canonical(address: string): string {
  const destination = parseDestination(address);
  return destination === undefined ? address : formatDestination(destination);
}

const ALONE: PresenceView = {
  connected: false,
  connections: 0,
  droppedEvents: 0,
  takeChanges: () => [],
  announceRoot: () => {},
};

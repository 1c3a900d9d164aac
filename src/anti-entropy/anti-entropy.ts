/**
 * Heals this node and its peers: keeps the Merkle tree, syncs by a schedule and on demand,
 * and serves peers that come by themselves. The protocol is `core/sync-session.ts`; here are
 * its connections, its timing and its accounts.
 *
 * A session counts against `max_concurrent_syncs` whoever began it. A peer that comes when there
 * are enough is told so and comes again; SYNC waits for its turn.
 */
import { formatHostPort, type HostPort } from "../config/address.ts";
import type { Config } from "../config/schema.ts";
import type { Link, LinkHandler, SyncControl, SyncReport } from "../commands/services.ts";
import { Contacts } from "../core/contacts.ts";
import { Entry, compareVersions } from "../core/entry.ts";
import { MerkleTree } from "../core/merkle.ts";
import type { Store } from "../core/store.ts";
import {
  SyncSession,
  busyFrame,
  type SyncFailure,
  type SyncMode,
  type SyncResult,
} from "../core/sync-session.ts";
import type { Logger } from "../observability/log.ts";
import { SyncAccounts } from "./accounts.ts";
import { Conversation } from "./conversation.ts";
import { DialError, dial } from "./dial.ts";
import { Scheduler, type Job, type PresenceView } from "./scheduler.ts";
import { SetAside } from "./set-aside.ts";
import { LAG_MS, TreeKeeper } from "./tree-keeper.ts";

const TICK_MS = 500;
/** How long a start waits for the broker, for presence after that, and for the first syncs. */
const START_BROKER_MS = 1_000;
const START_PRESENCE_MS = 100;
const START_SYNC_MS = 3_000;
/** How long a stop tries to hand over what was not published. */
const STOP_SYNC_MS = 3_000;
/** How long SYNC comes again to a busy peer. */
const BUSY_MS = 15_000;

/** What it is made with. */
export interface AntiEntropyOptions {
  readonly store: Store;
  readonly settings: Config["anti_entropy"];
  /** Where the file of what was set aside lies. */
  readonly storagePath: string;
  /** Nodes sync only within one: the topic prefix. */
  readonly cluster: string;
  readonly nodeId: string;
  /** New at each start, a positive safe integer. */
  readonly epoch: number;
  /** Longest frame, able to hold the largest entry. */
  readonly maxFrameBytes: number;
  /** A peer that is silent for so long in a session is given up, in ms. */
  readonly silenceMs: number;
  /** How replication stands; null without a broker. */
  readonly presence: () => PresenceView | null;
  /** Whether this node takes part in the cluster now: false after REPLICATE disable. */
  readonly isTakingPart: () => boolean;
  readonly logger: Logger;
}

/** How a session that this node began came out. */
type Outcome = Pick<SyncResult, "ok" | "reason" | "peerNodeId" | "rootsEqual"> & {
  readonly failure: SyncFailure | "unreachable" | null;
};

/** See the file header. */
export class AntiEntropy implements SyncControl {
  /** Belongs into `store.observers`. */
  readonly tree: MerkleTree;

  private readonly keeper: TreeKeeper;
  private readonly contacts = new Contacts();
  private readonly setAside: SetAside;
  private readonly scheduler: Scheduler;
  private readonly accounts: SyncAccounts;
  private readonly conversations = new Set<Conversation>();
  /** Sessions under way, and those about to connect. */
  private active = 0;
  private readonly waiting: (() => void)[] = [];
  private ticker: ReturnType<typeof setInterval> | undefined;
  private isStopping = false;
  private readonly present = new Entry();

  constructor(private readonly options: AntiEntropyOptions) {
    const { store, settings, nodeId, storagePath, logger } = options;
    this.tree = new MerkleTree(store);
    this.keeper = new TreeKeeper(this.tree);
    this.accounts = new SyncAccounts(nodeId, logger);
    const maxFileBytes = settings.max_set_aside_mb * 1_048_576;
    this.setAside = new SetAside(storagePath, nodeId, maxFileBytes, logger);
    this.scheduler = new Scheduler({
      nodeId,
      peerList: settings.peer_list,
      intervalMs: settings.interval_seconds * 1_000,
      discoveryMs: settings.peer_discovery_interval * 1_000,
      presence: () => options.presence() ?? ALONE,
      rootHex: () => this.rootHex,
      isHealing: () => this.isHealing(),
      hasRoom: () => this.hasRoom(),
      run: (peer, job) => this.runJob(peer, job),
      random: Math.random,
    });
  }

  /** The Merkle root in hex as of a few seconds ago; null before it is first computed. */
  get rootHex(): string | null {
    return this.keeper.rootHex;
  }

  /**
   * Begins. Resolves after one sync with each peer that can be found in a second, so that a
   * node is not called ready before it has what its peers have; or after a few seconds, when
   * that goes on in the background.
   */
  async start(): Promise<void> {
    this.keeper.start();
    if (this.isHealing()) {
      await this.awaitPresence();
      this.scheduler.tick(performance.now());
      await Promise.race([this.scheduler.syncWithAll(), Bun.sleep(START_SYNC_MS)]);
    }
    if (this.isStopping) return;
    this.ticker = setInterval(() => this.scheduler.tick(performance.now()), TICK_MS);
  }

  /** Ends the sessions under way, so that nobody who waits for one holds up the stop. */
  interrupt(): void {
    for (const conversation of this.conversations) conversation.close("the node stops");
  }

  /**
   * Ends for good. With `hasUnsent`, some of this node's writes may be nowhere else: then
   * one sync with a peer is tried first, for a few seconds.
   */
  async stop(hasUnsent: boolean): Promise<void> {
    clearInterval(this.ticker);
    if (hasUnsent && this.isHealing()) {
      await Promise.race([this.scheduler.syncWithAll(), Bun.sleep(STOP_SYNC_MS)]);
    }
    this.isStopping = true;
    this.interrupt();
    for (const proceed of this.waiting.splice(0)) proceed();
    this.keeper.stop();
    this.setAside.close();
  }

  /** `SYNC`. */
  async sync(
    host: string,
    port: number,
    isFull: boolean,
    isVerified: boolean,
  ): Promise<SyncReport> {
    const modes: SyncMode[] = isFull ? ["full"] : [];
    if (isVerified) modes.push("verify");
    if (modes.length === 0) modes.push("now");
    const untilMs = performance.now() + BUSY_MS;
    for (;;) {
      const outcome = await this.run({ host, port }, modes[0]!, "PEER");
      if (outcome.failure === "busy" && performance.now() < untilMs) {
        await Bun.sleep(100 + Math.random() * 400);
      } else {
        if (outcome.ok) modes.shift();
        if (modes.length === 0 || !outcome.ok) return outcome;
      }
    }
  }

  /** `PEER`. */
  accept(isRound: boolean): ((link: Link) => LinkHandler) | string {
    if (this.isStopping) return "this node is stopping";
    if (isRound && !this.isHealing()) return "this node takes part in no rounds now";
    if (!this.hasRoom()) {
      this.accounts.turnedAway++;
      return refuseAsBusy;
    }
    return (link) => {
      const startedMs = performance.now();
      this.active++;
      return this.converse(link, "responder", undefined, undefined, (result) => {
        this.accounts.note(result, link.address, "responder");
        if (result.ok) this.scheduler.noteVisit(result.peerNodeId, startedMs);
      });
    };
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
      const order = compareVersions(
        entry.timeHigh,
        entry.timeLow,
        entry.originHigh,
        entry.originLow,
        present.timeHigh,
        present.timeLow,
        present.originHigh,
        present.originLow,
      );
      if (order <= 0) return;
    }
    this.scheduler.noteReference(nodeId, entry.keyBytes());
  }

  /** An entry came that is dated too far ahead. */
  noteFuture(entry: Entry): void {
    this.setAside.put(entry, "future");
  }

  /** For INFO. */
  facts(): Record<string, string | number> {
    return {
      sync_active: this.active,
      sync_peers: this.scheduler.peerCount,
      ...this.accounts.facts(),
      set_aside_entries: this.setAside.entries,
    };
  }

  private isHealing(): boolean {
    return this.options.settings.enabled && this.options.isTakingPart();
  }

  private hasRoom(): boolean {
    return this.active < this.options.settings.max_concurrent_syncs;
  }

  private async awaitPresence(): Promise<void> {
    const startedMs = performance.now();
    const view = () => this.options.presence();
    while (view()?.connected === false && performance.now() - startedMs < START_BROKER_MS) {
      await Bun.sleep(10);
    }
    if (view()?.connected) await Bun.sleep(START_PRESENCE_MS);
  }

  private async runJob(peer: HostPort, job: Job) {
    const outcome =
      job.mode === "fetch"
        ? await this.run(peer, "fetch", "PEER", job.keys)
        : await this.run(peer, job.mode, "PEER ROUND");
    const { ok, failure, peerNodeId } = outcome;
    return { ok, isBusy: failure === "busy", peerNodeId };
  }

  /** One session with a peer, as soon as there is room for it. Never rejects. */
  private async run(
    { host, port }: HostPort,
    mode: SyncMode,
    greeting: string,
    keys?: Uint8Array[],
  ): Promise<Outcome> {
    while (!this.hasRoom() && !this.isStopping) {
      await new Promise<void>((resolve) => this.waiting.push(resolve));
    }
    if (this.isStopping) return failed("closed", "the node stops");
    const { promise, resolve } = Promise.withResolvers<Outcome>();
    this.active++;
    let isHandedOver = false;
    try {
      await dial(
        host,
        port,
        greeting,
        (link) => {
          isHandedOver = true;
          return this.converse(link, "initiator", mode, keys, resolve);
        },
        (line) => resolve(failed("unreachable", line)),
      );
    } catch (error) {
      if (!isHandedOver) this.release();
      if (!(error instanceof DialError)) throw error;
      resolve(failed("unreachable", error.message));
    }
    const outcome = await promise;
    this.accounts.note(outcome, formatHostPort(host, port), "initiator");
    return outcome;
  }

  private converse(
    link: Link,
    role: "initiator" | "responder",
    mode: SyncMode | undefined,
    fetchKeys: Uint8Array[] | undefined,
    onEnd: (result: SyncResult) => void,
  ): LinkHandler {
    const { store, cluster, nodeId, epoch, maxFrameBytes, silenceMs, logger } = this.options;
    const conversation: Conversation = new Conversation({
      link,
      silenceMs,
      create: (send, end) =>
        new SyncSession({
          role,
          ...(mode ? { mode } : {}),
          ...(fetchKeys ? { fetchKeys } : {}),
          store,
          tree: this.tree,
          contacts: this.contacts,
          cluster,
          nodeId,
          epoch,
          lagMs: LAG_MS,
          maxFrameBytes,
          nowMs: Date.now,
          monotonicMs: () => performance.now(),
          send,
          onSetAside: (entry, reason) => void this.setAside.put(entry, reason),
          onEnd: end,
        }),
      onEnd: (result) => {
        this.conversations.delete(conversation);
        this.release();
        onEnd(result);
      },
      onBug: (error) =>
        logger.error("A bug in MerkleKV", {
          error: String(error),
          stack: error instanceof Error ? error.stack : undefined,
        }),
    });
    this.conversations.add(conversation);
    conversation.start(role === "initiator");
    return conversation;
  }

  private release(): void {
    this.active--;
    this.waiting.shift()?.();
  }
}

const ALONE: PresenceView = { connected: false, droppedEvents: 0, peers: [] };

function failed(failure: Outcome["failure"], reason: string): Outcome {
  return { ok: false, failure, reason, peerNodeId: "", rootsEqual: null };
}

function refuseAsBusy(link: Link): LinkHandler {
  link.send(busyFrame());
  link.end();
  return { receive() {}, drained() {}, closed() {} };
}

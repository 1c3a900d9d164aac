/**
 * One copy of the data and all that keeps it: journal → store → tree → replicator → anti-entropy,
 * put together once, for the node and for the simulation alike. It knows the order in which these
 * start and stop, and what follows when the disk fails. It takes time, chance, disk and network
 * from the world it is given; it knows nothing of clients.
 */
import { AntiEntropy } from "./anti-entropy/anti-entropy.ts";
import { Members } from "./anti-entropy/members.ts";
import { ClockWatch } from "./clock-watch.ts";
import type { Config } from "./config/schema.ts";
import { HybridClock } from "./core/data/clock.ts";
import type { BrokerTls } from "./replication/transport.ts";
import { OPEN_PEERS, prefersTls, type PeerSecurity } from "./anti-entropy/peer-security.ts";
import type { Capabilities } from "./core/data/capabilities.ts";
import { runOrigin } from "./core/data/counter-fold.ts";
import { originOf } from "./core/data/origin.ts";
import { Store } from "./core/store/store.ts";
import type { Contacts } from "./core/sync/contacts.ts";
import { resumeIncarnation } from "./durability/incarnation.ts";
import { MemoryJournal, type Journal, type JournalFailure } from "./durability/journal.ts";
import { openLog } from "./durability/open-log.ts";
import type { RecoveryProgress } from "./durability/recovery.ts";
import type { DiskKeys } from "./durability/sealing.ts";
import { SetAside } from "./durability/set-aside.ts";
import {
  CONTACTS_METADATA,
  contactsMetadata,
  FORGOTTEN_METADATA,
  forgottenMetadata,
  readContacts,
  whenChanged,
} from "./durability/store-metadata.ts";
import { ReplicaUpkeep } from "./replica-upkeep.ts";
import { PeerTraffic } from "./peer-traffic.ts";
import type { Logger } from "./observability/log.ts";
import type { Sealing } from "./replication/broker-seal.ts";
import { Replicator } from "./replication/replicator.ts";
import type { ClusterSecrets } from "./security/cluster-secrets.ts";
import { SweepLoop } from "./sweep-loop.ts";
import type { Tracer } from "./tracer.ts";
import type { World } from "./world.ts";

/** Under which the journal remembers the replicator's last epoch. */
const EPOCH_METADATA = "epoch";
/** Under which it remembers what keeps old messages at the broker from having an effect. */
const SEAL_METADATA = "seal";

/** What a replica is made with; settings are by the names of the config file. */
export interface ReplicaOptions {
  readonly world: World;
  readonly nodeId: string;
  /** Name of the cluster; the topic prefix unless given. */
  readonly clusterName?: string;
  /** What is said to other nodes is sealed with these; null, and unless given: it is not. */
  readonly secrets?: ClusterSecrets | null;
  readonly storage: Pick<
    Config["storage"],
    | "engine"
    | "persistence_enabled"
    | "path"
    | "fsync"
    | "memory_limit_mb"
    | "max_clock_skew_ms"
    | "tombstone_grace_seconds"
  >;
  /** For what is kept on disk; none unless given. */
  readonly keys?: DiskKeys;
  readonly mqtt: Omit<Config["mqtt"], "embedded" | "tls">;
  /** How TLS is spoken with the broker; as with anybody unless given. */
  readonly brokerTls?: BrokerTls;
  readonly antiEntropy: Config["anti_entropy"];
  /** The broker's address, asked for once the data is back. When it rejects, so does `open`. */
  readonly brokerAddress: () => Promise<string>;
  /** `host:port` at which peers reach this node. */
  readonly address: () => string;
  /** The same where TLS is spoken; empty, and unless given: nowhere. */
  readonly tlsAddress?: () => string;
  /** How peers are spoken to; in plain text unless given. */
  readonly peerSecurity?: PeerSecurity;
  /** The program's version. */
  readonly version: string;
  /** Longest frame between nodes, able to hold the largest entry. */
  readonly maxFrameBytes: number;
  /** A peer that is silent for so long in a session is given up, in ms. */
  readonly silenceMs: number;
  readonly logger: Logger;
  /** Told of what belongs to traces; nobody is unless given. */
  readonly tracer?: Tracer;
  /** Told how far the data is back from disk, now and then. */
  readonly onRecovery?: (progress: RecoveryProgress) => void;
  readonly bounds?: ReplicaBounds;
  /** What this node speaks to others; what the program does, unless given. */
  readonly capabilities?: Capabilities;
}

/** Smaller bounds than the usual ones, so that little data meets them too. */
export interface ReplicaBounds {
  /** Of a segment of the log. */
  readonly segmentBytes: number;
  /** A session produces no more while so many bytes of it wait to be sent. */
  readonly maxQueuedBytes: number;
  /** How often rows of the store are swept, in ms, and how many at once. */
  readonly sweepEveryMs: number;
  readonly sweepRows: number;
}

/** A replica; see the file header. */
export class Replica {
  readonly antiEntropy: AntiEntropy;
  /** Null when the node is to replicate to nobody. */
  readonly replicator: Replicator | null;
  readonly setAside: SetAside;
  /** What time it is, and what follows when that is not clear. */
  readonly clockWatch: ClockWatch;
  /** What goes between this node and others. */
  readonly traffic = new PeerTraffic();
  /** What members this node has heard up to when. */
  readonly contacts: Contacts;
  /** Who of them belongs to the cluster. */
  private readonly members: Members;
  /**
   * Called when writes cannot be kept any more, when the reason changes, and (with null) when they
   * can again. The store has been told already.
   */
  onFailureChange: (failure: JournalFailure | null) => void = () => {};
  private readonly sweeper: SweepLoop;

  /**
   * Brings back what is on disk and puts the parts together; nothing goes on by itself before
   * `start`. Rejects with an OperationalError of one line when that cannot be done.
   */
  static async open(options: ReplicaOptions): Promise<Replica> {
    let replica: Replica | null = null;
    let hadPeers = options.antiEntropy.peer_list.length > 0;
    const clockWatch = createClockWatch(options, () => replica?.hasPeers ?? hadPeers);
    const store = createStore(options, clockWatch);
    const journal = await openJournal(options, store, (recovered) => {
      hadPeers ||= readContacts(recovered.metadata(CONTACTS_METADATA)).size > 0;
      clockWatch.begin(store.clock);
    });
    journal.onFailureChange = () => {
      const { failure } = journal;
      store.setReadOnly(failure !== null);
      replica?.onFailureChange(failure);
    };
    try {
      // The process before may have vouched for what it knew, up to its end.
      store.deletions.vouch(store.clock.seenMs());
      const brokerAddress = await options.brokerAddress();
      replica = new Replica(options, store, clockWatch, journal, brokerAddress);
      await replica.setAside.countEarlier();
      return replica;
    } catch (error) {
      await journal.close();
      throw error;
    }
  }

  private constructor(
    private readonly options: ReplicaOptions,
    readonly store: Store,
    clockWatch: ClockWatch,
    readonly journal: Journal,
    brokerAddress: string,
  ) {
    // What recovery brought back was journalled and published before; the rest sees what is new.
    store.observers.push(journal.observer);
    this.contacts = readContacts(
      journal.metadata(CONTACTS_METADATA),
      journal.metadata(FORGOTTEN_METADATA),
      store.deletions.learningMs(),
    );
    const { contacts } = this;
    const follow = (name: string, make: (contacts: Contacts) => Uint8Array): void =>
      journal.followMetadata(
        name,
        whenChanged(
          () => contacts.changes,
          () => make(contacts),
        ),
      );
    follow(CONTACTS_METADATA, contactsMetadata);
    follow(FORGOTTEN_METADATA, forgottenMetadata);
    this.members = new Members(this.contacts, store, () => options.antiEntropy.forget_after_days);
    this.replicator = options.mqtt.enabled ? this.createReplicator(brokerAddress) : null;
    if (this.replicator !== null) store.observers.push(this.replicator.observer);
    this.setAside = this.createSetAside();
    this.clockWatch = clockWatch;
    this.antiEntropy = this.createAntiEntropy();
    clockWatch.onChange = () => this.antiEntropy.noteTimeChange();
    const { sweepEveryMs, sweepRows } = options.bounds ?? {};
    const upkeep = new ReplicaUpkeep({
      ...{ store, timing: options.world.timing, storage: options.storage, logger: options.logger },
      ...{ contacts, members: this.members, replicator: this.replicator },
      onMissing: () => this.antiEntropy.noteTimeChange(),
    });
    this.sweeper = new SweepLoop({
      store,
      timing: options.world.timing,
      prepare: () => upkeep.look(),
      ...(sweepEveryMs && { everyMs: sweepEveryMs }),
      ...(sweepRows && { sliceRows: sweepRows }),
    });
  }

  /** Begins. Resolves when it has what its peers have, or after a few seconds (`AntiEntropy`). */
  async start(): Promise<void> {
    this.sweeper.start();
    this.clockWatch.start();
    this.replicator?.start();
    await this.antiEntropy.start();
  }

  /**
   * Some of the settings in the options are others than before. `reconnects`: those that a
   * connection to the broker has.
   */
  reconfigure(reconnects: boolean): void {
    this.store.setMemoryLimit(this.options.storage.memory_limit_mb * 1_048_576);
    this.replicator?.reconfigure(reconnects);
    this.antiEntropy.reconfigure();
  }

  /** What is said to other nodes is sealed with these from now on, or not at all. */
  renewSecrets(secrets: ClusterSecrets | null): void {
    this.antiEntropy.renewSecrets(secrets);
    this.replicator?.renewSecrets(secrets);
  }

  /** Ends sessions with peers, for a node that is about to stop. */
  interrupt(): void {
    this.antiEntropy.interrupt();
  }

  /** Passes on what no other node has yet, and ends with everything on disk. */
  async stop(): Promise<void> {
    await this.replicator?.finish();
    // Peers may be reached through the broker only.
    await this.antiEntropy.handOver(this.hasUnsent());
    await this.replicator?.stop();
    this.antiEntropy.stop();
    await this.setAside.close();
    this.sweeper.stop();
    this.clockWatch.stop();
    await this.journal.close();
  }

  /** Whether another node is known, by what was heard of it or by the configuration. */
  private get hasPeers(): boolean {
    const { contacts, options, replicator } = this;
    if (contacts.size > 0 || options.antiEntropy.peer_list.length > 0) return true;
    return (replicator?.peers().length ?? 0) > 0;
  }

  /** Whether the others may not have, from the broker, all that clients of this node wrote. */
  private hasUnsent(): boolean {
    const { replicator, store } = this;
    if (replicator === null) return store.size > 0;
    const { waiting, unacknowledged, refused, hasUnfetched } = replicator.status();
    return hasUnfetched || waiting + unacknowledged + refused > 0;
  }

  private createReplicator(brokerAddress: string): Replicator {
    const { options, journal, store } = this;
    const { world, mqtt, nodeId, address, tlsAddress, brokerTls, version, logger } = options;
    const created = new Replicator({
      store,
      settings: withBroker(mqtt, brokerAddress),
      nodeId,
      address,
      ...(tlsAddress && { tlsAddress }),
      ...(brokerTls && { brokerTls }),
      isRelaying: options.antiEntropy.broker_bytes_per_second > 0,
      version,
      trees: () => this.antiEntropy.trees,
      lastEpoch: Number(new TextDecoder().decode(journal.metadata(EPOCH_METADATA))),
      whenSafe(callback) {
        if (journal.safePosition === journal.position) callback();
        else journal.whenSafe({ onSafe: callback });
      },
      now: world.wallMs,
      random: world.random,
      timing: world.timing,
      connect: world.connect,
      sealing: this.sealing(),
      logger: logger.child("replication"),
      traffic: this.traffic,
      ...(options.tracer && { tracer: options.tracer }),
      ...(options.capabilities && { capabilities: options.capabilities }),
      hooks: {
        onGap: (source) => this.antiEntropy.noteGap(source),
        onReference: (source, entry) => this.antiEntropy.noteReference(source, entry),
        onFuture: (entry, source) => this.antiEntropy.noteFuture(entry, source),
        isMet: (source) => this.antiEntropy.knows(source),
        isMember: (source) => this.members.has(source),
        memberCount: () => this.members.count,
        isForgotten: (source) => this.members.isGone(source),
        formerMembers: this.formerMembers(),
      },
    });
    journal.setMetadata(EPOCH_METADATA, new TextEncoder().encode(String(created.epoch)));
    const { changes, make } = created.sealMemory();
    journal.followMetadata(SEAL_METADATA, whenChanged(changes, make));
    return created;
  }

  private sealing(): Sealing {
    const { secrets = null, world } = this.options;
    const { randomWords } = world;
    const memory = this.journal.metadata(SEAL_METADATA) ?? new Uint8Array(0);
    return { secrets, randomWords, memory };
  }

  /** Whom this node had met when it started, itself left out. */
  private formerMembers(): { count: number; has(nodeId: string): boolean } {
    const contacts = this.contacts.clone();
    const has = (nodeId: string): boolean => {
      const { high, low } = originOf(nodeId);
      return contacts.of(high, low) > 0;
    };
    return { count: contacts.size - Number(has(this.options.nodeId)), has };
  }

  private createSetAside(): SetAside {
    const { world, storage, antiEntropy, nodeId, logger, keys } = this.options;
    return new SetAside({
      files: world.files,
      wallMs: world.wallMs,
      directory: storage.path,
      nodeId,
      get maxBytes() {
        return antiEntropy.max_set_aside_mb * 1_048_576;
      },
      ...(keys && { keys }),
      logger: logger.child("sync"),
    });
  }

  private createAntiEntropy(): AntiEntropy {
    const { options, replicator } = this;
    const { world, nodeId, logger } = options;
    const { timing, threadCpuMs, random, randomWords } = world;
    const security = options.peerSecurity ?? OPEN_PEERS;
    return new AntiEntropy({
      ...{ timing, threadCpuMs, random, randomWords, nodeId },
      dial: world.dialler(security),
      prefersTls: () => prefersTls(security),
      clock: this.clockWatch.clock,
      messenger: replicator?.messenger ?? null,
      store: this.store,
      durability: this.journal,
      settings: options.antiEntropy,
      setAside: this.setAside,
      members: this.members,
      cluster: options.clusterName ?? options.mqtt.topic_prefix,
      secrets: options.secrets ?? null,
      epoch: replicator?.epoch ?? world.wallMs(),
      get maxFrameBytes() {
        return options.maxFrameBytes;
      },
      traffic: this.traffic,
      ...(options.capabilities && { capabilities: options.capabilities }),
      get silenceMs() {
        return options.silenceMs;
      },
      ...(options.bounds && { maxQueuedBytes: options.bounds.maxQueuedBytes }),
      presence: () => replicator?.presence() ?? null,
      directory: () => replicator?.directory() ?? null,
      isTakingPart: () => replicator?.isEnabled ?? true,
      logger: logger.child("sync"),
      ...(options.tracer && { tracer: options.tracer }),
    });
  }
}

/** The settings as they are whenever one is read, but for a broker of the node's own. */
function withBroker(mqtt: ReplicaOptions["mqtt"], brokerAddress: string): ReplicaOptions["mqtt"] {
  if (brokerAddress === mqtt.broker_address) return mqtt;
  return Object.create(mqtt, { broker_address: { value: brokerAddress } });
}

function createClockWatch(options: ReplicaOptions, hasPeers: () => boolean): ClockWatch {
  const { world, storage, logger } = options;
  const { wallMs, sleptMs, timing } = world;
  return new ClockWatch({
    ...{ wallMs, sleptMs, timing, hasPeers },
    mayHavePeers: options.mqtt.enabled,
    maxSkewMs: storage.max_clock_skew_ms,
    graceMs: storage.tombstone_grace_seconds * 1000,
    logger: logger.child("clock"),
  });
}

function createStore({ world, nodeId, storage }: ReplicaOptions, watch: ClockWatch): Store {
  const [low, high, run] = world.randomWords(3);
  return new Store({
    clock: new HybridClock(watch.clock.nowMs, storage.max_clock_skew_ms),
    origin: originOf(nodeId),
    counterOrigin: runOrigin(originOf(nodeId), run),
    hashSeed: { low, high },
    random: world.random,
    memoryLimitBytes: storage.memory_limit_mb * 1_048_576,
    maxClockSkewMs: storage.max_clock_skew_ms,
    tombstoneGraceMs: storage.tombstone_grace_seconds * 1000,
    mayForget: () => watch.clock.mayForget,
    expiredMs: () => watch.expiredForAllMs,
  });
}

/** Brings back what is on disk, unless the node keeps nothing there. */
async function openJournal(
  options: ReplicaOptions,
  store: Store,
  onRecovered: (journal: Journal) => void,
): Promise<Journal> {
  const { world, nodeId, storage, bounds, keys } = options;
  const { engine, persistence_enabled, path, fsync } = storage;
  if (engine === "memory" || !persistence_enabled) {
    const journal = new MemoryJournal();
    onRecovered(journal);
    store.counts.noteRun();
    return journal;
  }
  const { journal, recovered } = await openLog({
    directory: path,
    nodeId,
    fsync,
    store,
    files: world.files,
    timing: world.timing,
    lock: world.lock,
    logger: options.logger.child("storage"),
    ...(options.onRecovery && { onRecovery: options.onRecovery }),
    ...(keys && { keys }),
    ...(bounds && { segmentBytes: bounds.segmentBytes }),
  });
  // Before anything is given a time.
  onRecovered(journal);
  resumeIncarnation(store.counts, journal, recovered, fsync);
  return journal;
}

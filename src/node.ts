/**
 * The composition root: the only place that puts the parts of a node together and knows the
 * order in which they start and stop.
 *
 * Start: data from disk, broker (if embedded), listener, replication, then a first sync with the
 * peers.
 * Stop: the reverse, so that the last writes of clients still reach the broker, or a peer.
 */
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import { AntiEntropy } from "./anti-entropy/anti-entropy.ts";
import type { Services } from "./commands/services.ts";
import { Statistics } from "./commands/statistics.ts";
import { Session } from "./commands/session.ts";
import { Backups } from "./durability/backup.ts";
import { realFileSystem, type FileSystem } from "./durability/file-system.ts";
import { resumeIncarnation } from "./durability/incarnation.ts";
import { MemoryJournal, type Journal } from "./durability/journal.ts";
import { openLog } from "./durability/open-log.ts";
import { CONTACTS_FACT, contactsFact, readContacts } from "./durability/store-facts.ts";
import { SetAside } from "./durability/set-aside.ts";
import { eventLoop } from "./timing.ts";
import { formatHostPort } from "./config/address.ts";
import { keyNames, type Config } from "./config/schema.ts";
import { HybridClock } from "./core/data/clock.ts";
import { BASE_BYTES, MAX_ENTRY_PARTS, PART_BYTES } from "./core/data/counter.ts";
import { runOrigin, settledMs } from "./core/data/counter-fold.ts";
import { MAX_KEY_BYTES } from "./core/data/entry.ts";
import { Store } from "./core/store/store.ts";
import { OperationalError } from "./operational-error.ts";
import type { Logger } from "./observability/log.ts";
import type { ReplicationControl } from "./ports.ts";
import { PLAIN } from "./protocol/reply.ts";
import { EmbeddedBroker } from "./replication/embedded-broker.ts";
import { maxMessageBytes, Replicator } from "./replication/replicator.ts";
import { originOf } from "./core/data/origin.ts";
import { Listener } from "./server/listener.ts";
import { version } from "./version.ts";

/** A running node. */
export interface Node {
  /** Where it listens for clients. */
  readonly address: { readonly host: string; readonly port: number };
  /** Stops it gracefully; further calls wait for the same stop. */
  stop(): Promise<void>;
  /** Settles once the node has stopped, for instance because a client said SHUTDOWN. */
  readonly stopped: Promise<void>;
}

/** How often a slice of the store's background work is done, and over how many rows at most. */
const SWEEP_MS = 100;
const SWEEP_ROWS = 10_000;
/** How long such a slice may hold up the event loop, and the pause after one that took so long. */
const SWEEP_SLICE_MS = 1;
const SWEEP_PAUSE_MS = 3;
/** How often it is looked at whether counters can be folded. */
const SETTLE_EVERY_MS = 10_000;
/** Under which the journal remembers the replicator's last epoch. */
const EPOCH_FACT = "epoch";

/** The largest counter in one piece; one that is larger travels in several. */
const MAX_COUNTER_BYTES = MAX_ENTRY_PARTS * PART_BYTES + BASE_BYTES;
/** A frame's own fields and the key beside the value. */
const FRAME_MARGIN_BYTES = MAX_KEY_BYTES + 1_024;

/**
 * Starts a node, with its data on this machine's disk unless told otherwise. Throws an
 * OperationalError of one line when it cannot: a port in use, for one.
 */
export async function startNode(
  config: Config,
  logger: Logger,
  files: FileSystem = realFileSystem,
): Promise<Node> {
  const store = createStore(config);
  const { mqtt, network } = config;
  const journal = await openJournal(config, store, logger, files);
  let onFailure = (): void => {};
  journal.onFailureChange = () => {
    const { failure } = journal;
    store.isReadOnly = failure !== null;
    if (failure === null) return logger.info("Writing to disk again");
    logger.error("Writes are refused", { reason: failure.message });
    // Their writes were not answered, and nobody knows yet what will become of them.
    onFailure();
  };
  // The process before may have vouched for what it knew, up to its end.
  store.vouchedMs = store.clockMs();
  const broker = await startBroker(config, logger).catch(async (error) => {
    await journal.close();
    throw error;
  });
  // What recovery brought back was journalled and published before; the rest sees what is new.
  store.observers.push(journal.observer);
  const replicator = mqtt.enabled ? createReplicator() : null;
  if (replicator !== null) store.observers.push(replicator.observer);
  const contacts = readContacts(journal.fact(CONTACTS_FACT));
  journal.followFact(CONTACTS_FACT, () => contactsFact(contacts));
  const setAside = createSetAside();
  await setAside.countEarlier();
  const antiEntropy = createAntiEntropy();
  for (let id = 0; id < store.idLimit; id++) if (store.isUsed(id)) antiEntropy.tree.changed(id);
  store.observers.push(antiEntropy.tree);
  const backups = createBackups();
  // Before a client can ask for one, whose beginnings would be taken for leftovers.
  await backups.start();

  let settleAtMs = 0;
  let stopping: Promise<void> | undefined;
  const stopped = Promise.withResolvers<void>();
  const services = createServices();
  const session = new Session(0, "", 0, PLAIN);
  const listener = new Listener(
    network,
    { store, services, session, copiedBytes: 0 },
    logger.child("server"),
    reservedFiles(config),
  );
  try {
    listener.start();
  } catch (error) {
    await backups.stop();
    await broker?.stop();
    await journal.close();
    throw listenProblem(error, config);
  }
  onFailure = () => listener.onFailure();
  const sweeper = startSweeping(store, settle);
  replicator?.start();
  await antiEntropy.start();
  const address = { host: network.bind_address, port: listener.port };
  logger.info("Serving clients", { address: formatHostPort(address.host, address.port) });

  const stop = (): Promise<void> => {
    stopping ??= (async () => {
      logger.info("Stopping");
      antiEntropy.interrupt();
      await listener.stop();
      await replicator?.stop();
      await antiEntropy.stop(hasUnsent());
      await setAside.close();
      sweeper.stop();
      await backups.stop();
      await journal.close();
      await broker?.stop();
      logger.info("Stopped");
      stopped.resolve();
    })();
    return stopping;
  };
  return { address, stop, stopped: stopped.promise };

  function createReplicator(): Replicator {
    const address =
      broker === null ? mqtt.broker_address : `mqtt://${brokerHost(config)}:${broker.port}`;
    const lastEpoch = Number(new TextDecoder().decode(journal.fact(EPOCH_FACT)));
    const created = new Replicator({
      store,
      settings: { ...mqtt, broker_address: address },
      nodeId: config.node_id,
      address: () => formatHostPort(advertisedHost(config), listener.port),
      version,
      rootHex: () => antiEntropy.rootHex,
      lastEpoch,
      whenSafe(callback) {
        if (journal.safePosition === journal.position) callback();
        else journal.whenSafe({ onSafe: callback });
      },
      now: Date.now,
      random: Math.random,
      logger: logger.child("replication"),
      hooks: {
        onGap: (nodeId) => antiEntropy.noteGap(nodeId),
        onReference: (nodeId, entry) => antiEntropy.noteReference(nodeId, entry),
        onFuture: (entry, nodeId) => antiEntropy.noteFuture(entry, nodeId),
        isMet: (nodeId) => antiEntropy.knows(nodeId),
      },
    });
    journal.setFact(EPOCH_FACT, new TextEncoder().encode(String(created.epoch)));
    return created;
  }

  function createBackups(): Backups {
    const { path, backup_path, backup_interval_hours, backup_keep } = config.storage;
    const { max_backups, min_free_mb } = config.storage;
    return new Backups({
      files,
      timing: eventLoop,
      store,
      nodeId: config.node_id,
      facts: () => journal.allFacts(),
      directory: backup_path === "" ? join(path, "backups") : backup_path,
      intervalHours: backup_interval_hours,
      keep: backup_keep,
      maxCount: max_backups,
      minFreeBytes: min_free_mb * 1_048_576,
      logger: logger.child("backup"),
    });
  }

  function createSetAside(): SetAside {
    return new SetAside({
      files,
      directory: config.storage.path,
      nodeId: config.node_id,
      maxBytes: config.anti_entropy.max_set_aside_mb * 1_048_576,
      logger: logger.child("sync"),
    });
  }

  function createAntiEntropy(): AntiEntropy {
    return new AntiEntropy({
      store,
      durability: journal,
      settings: config.anti_entropy,
      setAside,
      contacts,
      cluster: mqtt.topic_prefix,
      nodeId: config.node_id,
      epoch: replicator?.epoch ?? Date.now(),
      maxFrameBytes: Math.max(network.max_value_bytes, MAX_COUNTER_BYTES) + FRAME_MARGIN_BYTES,
      silenceMs: network.connection_timeout * 1_000,
      presence: () => replicator?.presence() ?? null,
      isTakingPart: () => replicator?.isEnabled ?? true,
      logger: logger.child("sync"),
    });
  }

  /** Lets counters be folded that nothing more is heard of, unless another process counts as this node. */
  function settle(): void {
    if (performance.now() < settleAtMs) return;
    settleAtMs = performance.now() + SETTLE_EVERY_MS;
    const { runStartsMs, origin } = store;
    const graceMs = config.storage.tombstone_grace_seconds * 1000;
    const isAlone = replicator === null || !replicator.hasHeardTwinWithin(graceMs);
    const heardOf = replicator?.peers().map(({ nodeId }) => originOf(nodeId)) ?? [];
    store.settledMs = isAlone
      ? settledMs(runStartsMs, Date.now(), graceMs, origin, contacts, heardOf)
      : 0;
  }

  /** Whether the broker does not have all that clients of this node wrote. */
  function hasUnsent(): boolean {
    if (replicator === null) return store.size > 0;
    const { waiting, unacknowledged } = replicator.status();
    return waiting + unacknowledged > 0;
  }

  function createServices(): Services {
    return {
      version,
      nodeId: config.node_id,
      port: () => listener.port,
      startedAtMs: Date.now(),
      statistics: new Statistics(),
      limits: { maxValueBytes: network.max_value_bytes, maxReplyBytes: network.max_output_bytes },
      replication: replicator === null ? null : replicationControl(replicator, antiEntropy),
      durability: journal,
      backups,
      compact: () => journal.compact(),
      memoryBytes: () => process.memoryUsage.rss(),
      synchronization: antiEntropy,
      merkleRoot: () => antiEntropy.rootHex ?? "0".repeat(64),
      clientList: () => listener.list(),
      clientFacts: () => listener.facts(),
      killClients: (idOrAddress) => listener.kill(idOrAddress),
      settings: () => settingsOf(config),
      reportBug: (error) =>
        logger.error("A bug in MerkleKV", {
          error: String(error),
          stack: error instanceof Error ? error.stack : undefined,
        }),
      shutdown: () => void stop(),
    };
  }
}

/**
 * Files that a node needs to open beside its clients' sockets: the log and its next segment,
 * snapshots, backups, what is set aside, the way to the broker, lookups of names, and peers.
 */
function reservedFiles({ anti_entropy, mqtt }: Config): number {
  const forBroker = mqtt.broker_address === "embedded" ? 64 : 0;
  return 32 + 2 * Math.min(anti_entropy.max_concurrent_syncs, 16) + forBroker;
}

/** Where peers reach this node: an address to bind to may mean every one there is. */
function advertisedHost({ network }: Config): string {
  const { advertise_address, bind_address } = network;
  if (advertise_address !== "") return advertise_address;
  if (bind_address !== "0.0.0.0" && bind_address !== "::") return bind_address;
  const own = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
  const reachable = own.filter(({ internal, scopeid }) => !internal && !scopeid);
  const best = reachable.find(({ family }) => family === "IPv4") ?? reachable[0];
  return best?.address ?? "127.0.0.1";
}

/** Brings back what is on disk, unless the node keeps nothing there. */
async function openJournal(
  config: Config,
  store: Store,
  logger: Logger,
  files: FileSystem,
): Promise<Journal> {
  const { engine, persistence_enabled, path, fsync } = config.storage;
  if (engine === "memory" || !persistence_enabled) {
    store.noteRun();
    return new MemoryJournal();
  }
  const { journal, recovered } = await openLog({
    directory: path,
    nodeId: config.node_id,
    fsync,
    store,
    files,
    logger: logger.child("storage"),
  });
  resumeIncarnation(store, journal, recovered, fsync);
  return journal;
}

function createStore(config: Config): Store {
  const { storage } = config;
  const [low, high, run] = crypto.getRandomValues(new Uint32Array(3));
  return new Store({
    clock: new HybridClock(Date.now),
    origin: originOf(config.node_id),
    counterOrigin: runOrigin(originOf(config.node_id), run!),
    hashSeed: { low: low!, high: high! },
    random: Math.random,
    memoryLimitBytes: storage.memory_limit_mb * 1_048_576,
    maxClockSkewMs: storage.max_clock_skew_ms,
    tombstoneGraceMs: storage.tombstone_grace_seconds * 1000,
  });
}

async function startBroker(config: Config, logger: Logger): Promise<EmbeddedBroker | null> {
  const { enabled, broker_address, embedded } = config.mqtt;
  if (!enabled || broker_address !== "embedded") return null;
  try {
    const { bind_address, bind_port, ...limits } = embedded;
    // The node's own messages must get through.
    const max_packet_bytes = Math.max(limits.max_packet_bytes, maxMessageBytes(config.mqtt));
    const broker = await EmbeddedBroker.start(
      bind_address,
      bind_port,
      { ...limits, max_packet_bytes },
      logger.child("broker"),
    );
    const address = formatHostPort(bind_address, broker.port);
    logger.info("Embedded broker listening", { address });
    return broker;
  } catch (error) {
    throw new OperationalError((error as Error).message);
  }
}

/** Where the node itself reaches its embedded broker. */
function brokerHost(config: Config): string {
  const bound = config.mqtt.embedded.bind_address;
  if (bound === "0.0.0.0") return "127.0.0.1";
  if (bound === "::") return "[::1]";
  return bound.includes(":") ? `[${bound}]` : bound;
}

function listenProblem(error: unknown, config: Config): OperationalError {
  const { bind_address, bind_port } = config.network;
  const address = formatHostPort(bind_address, bind_port);
  const { code, message } = error as { code?: string; message?: string };
  const why =
    code === "EADDRINUSE"
      ? "the port is in use; stop what uses it or set another network.bind_port"
      : `${code ?? message}; check network.bind_address and network.bind_port`;
  return new OperationalError(`cannot listen on ${address}: ${why}`);
}

/**
 * Sweeps the store for as long as it runs. A slice is over when its time is, however many entries
 * expired at once; then the next one follows soon.
 */
function startSweeping(store: Store, settle: () => void): { stop(): void } {
  let timer: ReturnType<typeof setTimeout>;
  let untilMs = 0;
  let wasCut = false;
  const isOver = (): boolean => (wasCut = performance.now() >= untilMs);
  const slice = (): void => {
    untilMs = performance.now() + SWEEP_SLICE_MS;
    wasCut = false;
    settle();
    const isFlushing = store.sweep(SWEEP_ROWS, isOver);
    // A flush in progress is finished without much delay, a slice a turn of the event loop.
    if (isFlushing) timer = setTimeout(slice, 0);
    else timer = setTimeout(slice, wasCut ? SWEEP_PAUSE_MS : SWEEP_MS);
  };
  timer = setTimeout(slice, SWEEP_MS);
  return { stop: () => clearTimeout(timer) };
}

function replicationControl(replicator: Replicator, antiEntropy: AntiEntropy): ReplicationControl {
  return {
    status: () => replicator.status(),
    enable: () => replicator.enable(),
    async disable() {
      await replicator.disable();
      antiEntropy.interrupt();
    },
    facts() {
      const { connected, waiting, unacknowledged, duplicateNodeId, counters } = replicator.status();
      return {
        replication_connected: connected ? 1 : 0,
        replication_waiting: waiting,
        replication_unacknowledged: unacknowledged,
        replication_duplicate_node_id: duplicateNodeId ? 1 : 0,
        ...Object.fromEntries(
          Object.entries(counters).map(([name, value]) => [`replication_${name}`, value]),
        ),
      };
    },
  };
}

/** The settings for CONFIG GET, and the two that redis-benchmark asks for. */
function settingsOf(config: Config): Map<string, string> {
  const settings = new Map([
    ["save", ""],
    ["appendonly", "no"],
  ]);
  for (const name of keyNames) {
    let value: unknown = config;
    for (const part of name.split(".")) value = (value as Record<string, unknown>)[part];
    const isSecret = name.endsWith("password");
    settings.set(name, isSecret ? "" : String(value));
  }
  return settings;
}

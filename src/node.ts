/**
 * The composition root of a node: configuration, a replica (`replica.ts`), and around it what
 * people and other programs see of one: client port, embedded broker, backups.
 *
 * Start: data from disk, broker (if embedded), listener, replication, then a first sync with the
 * peers.
 * Stop: the reverse, so that the last writes of clients still reach the broker, or a peer.
 */
import type { UserDirectory } from "./access/directory.ts";
import type { User } from "./access/user.ts";
import { ClientSession } from "./commands/client-session.ts";
import type { Context } from "./commands/command.ts";
import type { Services } from "./commands/services.ts";
import { commandTable } from "./commands/table.ts";
import { formatHostPort } from "./config/address.ts";
import { LiveConfig, type Change, type Commit, type Outcome } from "./config/live-config.ts";
import type { Config } from "./config/schema.ts";
import { backupDirectory, Backups } from "./durability/backup.ts";
import { DiskSpace } from "./durability/disk-space.ts";
import type { Check } from "./http/http-port.ts";
import { Companions } from "./node-companions.ts";
import { warnOfLooseFiles, warnOfMissingSecret, warnOfPlainText } from "./node-exposure.ts";
import { nodeSeries } from "./node-facts.ts";
import { checksOf, type ServingNode } from "./node-http.ts";
import { reservedFiles } from "./node-open-files.ts";
import { replicaOptions } from "./node-replica.ts";
import { createServices, partsOf, type ServedNode } from "./node-services.ts";
import { isAboutConnection, reportChange } from "./node-settings.ts";
import { announceUsers } from "./node-users.ts";
import { treeCellsOf } from "./node-view.ts";
import type { Logger } from "./observability/log.ts";
import { OperationalError } from "./operational-error.ts";
import { PLAIN } from "./protocol/reply.ts";
import { Replica } from "./replica.ts";
import { InnerClients } from "./server/inner-client.ts";
import { JournalGate } from "./server/journal-gate.ts";
import { Listener } from "./server/listener.ts";
import { RunQueue } from "./timing.ts";
import { realWorld, type World } from "./world.ts";

/** A running node. */
export interface Node {
  /** Where it listens for clients. */
  readonly address: {
    readonly host: string;
    /** For plain text, or for TLS where that is the only one. */
    readonly port: number;
    /** Null where no TLS is spoken. */
    readonly tlsPort: number | null;
    /** Where it serves HTTP, `host:port`; null where it does not. */
    readonly http: string | null;
  };
  /** What it takes to be ready, and how that stands now; as `/readyz` tells it. */
  readiness(): readonly Check[];
  /** The blocks of memory in which its data lies, and what is kept of each entry. */
  blocks(): Iterable<Uint8Array | Uint32Array>;
  /** Opens anew what it appends to, after it was moved away; reads certificates and users. */
  reopenFiles(): void;
  /** Takes what the file of settings says now; `cause` is for the log. */
  reload(cause: string): Promise<Outcome>;
  /** Stops it gracefully; further calls wait for the same stop. */
  stop(): Promise<void>;
  /** Settles once the node has stopped, for instance because a client said SHUTDOWN. */
  readonly stopped: Promise<void>;
}

/**
 * Starts a node, in the world of this process unless told otherwise. Throws an OperationalError of
 * one line when it cannot: a port in use, for one.
 */
export async function startNode(
  settings: Config | LiveConfig,
  logger: Logger,
  world: World = realWorld,
): Promise<Node> {
  const live = settings instanceof LiveConfig ? settings : LiveConfig.fixed(settings);
  const node = await RunningNode.open(live, logger, world);
  await node.start();
  return node;
}

/** The parts of a node, from its start to its stop. */
class RunningNode implements Node, ServedNode {
  readonly stopped: Promise<void>;
  readonly listener: Listener;
  readonly backups: Backups;
  readonly startedMs: number;
  readonly diskSpace: DiskSpace;
  private readonly config: Config;
  /** Who comes by HTTP. */
  /** For clients of all ports, so that those of one do not take the turns of another's. */
  private readonly journalGate: JournalGate;
  private readonly innerClients: InnerClients;
  private readonly services: Services;
  private readonly runQueue: RunQueue;
  private hasSynced = false;
  private readonly hasStopped = Promise.withResolvers<void>();
  private stopping: Promise<void> | undefined;

  /** With its data back, and the broker there if it has its own. Nobody is served yet. */
  static async open(live: LiveConfig, logger: Logger, world: World): Promise<RunningNode> {
    const { config } = live;
    let node: RunningNode | null = null;
    const companions = await Companions.open(config, logger, world, () => node?.serving ?? null);
    const options = replicaOptions(config, logger, world, companions, () => node!.listener);
    try {
      const replica = await Replica.open(options);
      node = new RunningNode(live, logger, world, replica, companions);
      return node;
    } catch (error) {
      await companions.stop();
      throw error;
    }
  }

  private constructor(
    readonly live: LiveConfig,
    readonly logger: Logger,
    readonly world: World,
    readonly replica: Replica,
    readonly companions: Companions,
  ) {
    this.config = live.config;
    this.stopped = this.hasStopped.promise;
    this.runQueue = new RunQueue(world.timing);
    this.startedMs = world.timing.nowMs();
    this.diskSpace = new DiskSpace(world.files, live.config.storage.path);
    this.backups = this.createBackups();
    this.services = createServices(this);
    this.journalGate = new JournalGate(this.services.durability, this.runQueue);
    this.listener = this.createListener();
    this.innerClients = new InnerClients(this.createContext(), this.journalGate);
    this.followChanges();
  }

  /** Users, certificates, secrets and settings may be others later, and writes may fail. */
  private followChanges(): void {
    const { live, replica, companions } = this;
    const { users, certificates, secrets, tracing, audit } = companions;
    this.users.onGone = (user) => this.endUser(user);
    certificates.onChange = () => companions.noteCertificates();
    secrets.onChange = () => {
      replica.renewSecrets(secrets.current);
      this.warnOfMissingSecret();
    };
    tracing.onChange = () => this.services.tracing.arrange();
    live.parts.push(certificates, users, secrets, tracing, this);
    if (audit !== null) live.parts.push(audit);
    replica.onFailureChange = (failure) => {
      // Writes that wait to be safe were not answered, and nobody knows what will become of them.
      if (failure === null) return;
      this.listener.onFailure();
      this.innerClients.onFailure();
    };
  }

  private get users(): UserDirectory {
    return this.companions.users.directory;
  }

  /** What is made of settings, but for what is a part of its own. */
  prepare({ changed }: Change): Commit {
    const { broker } = this.companions;
    if (broker?.tlsPort != null && changed.has("tls.client_certificates")) {
      const why = "the embedded broker speaks TLS, and asks for others only after a restart";
      throw new OperationalError(`tls.client_certificates: ${why}`);
    }
    const apply = (): void => {
      this.listener.reconfigure();
      this.services.watch.configure(this.config.slowlog);
      if (changed.has("tls.client_certificates")) this.companions.showCertificatesByHttp();
      this.backups.reconfigure();
      this.replica.reconfigure(isAboutConnection(changed));
    };
    return { apply };
  }

  get address(): Node["address"] {
    const { port, tlsPort } = this.listener;
    return {
      host: this.config.network.bind_address,
      port,
      tlsPort,
      http: this.companions.http?.address ?? null,
    };
  }

  /** For the HTTP port. */
  get serving(): ServingNode {
    const { replica, hasSynced, services } = this;
    return {
      replica,
      hasSynced,
      view: {
        facts: () => services.info(),
        members: () => services.members(),
        treeCells: () => treeCellsOf(replica),
        differences: () => replica.antiEntropy.differences.states(),
      },
      series: () => nodeSeries(partsOf(this, services)),
      openClient: (user, caller, trace) => this.innerClients.open(user, caller, trace),
      tracer: this.companions.tracing,
      reportBug: (error) => services.reportBug(error),
    };
  }

  /** Serves clients, and resolves when the replica has what its peers have. */
  async start(): Promise<void> {
    const { backups, companions, config, listener, logger, replica } = this;
    this.warnOfMissingSecret();
    await warnOfLooseFiles(config, logger);
    // Before a client can ask for one, whose beginnings would be taken for leftovers.
    await backups.start();
    try {
      listener.start();
    } catch (error) {
      await backups.stop();
      await replica.journal.close();
      await companions.stop();
      throw error;
    }
    const started = replica.start();
    const { host, http } = this.address;
    const { plainPort, tlsPort } = listener;
    announceUsers(config, this.users, logger);
    logger.info("Serving clients", {
      address: plainPort === null ? undefined : formatHostPort(host, plainPort),
      tls: tlsPort === null ? undefined : formatHostPort(host, tlsPort),
      http: http ?? undefined,
    });
    warnOfPlainText(config, listener, logger);
    await started;
    this.hasSynced = true;
  }

  private warnOfMissingSecret(): void {
    const isMissing = this.companions.secrets.current === null;
    if (isMissing) warnOfMissingSecret(this.config, this.logger);
  }

  *blocks(): Generator<Uint8Array | Uint32Array> {
    const { store, antiEntropy } = this.replica;
    yield* store.blocks();
    yield* antiEntropy.tree.buckets.blocks();
  }

  readiness(): readonly Check[] {
    return checksOf(this.serving);
  }

  reopenFiles(): void {
    this.companions.reopenFiles();
  }

  reload(cause: string): Promise<Outcome> {
    return reportChange(cause, this.live.reload(), this.logger);
  }

  stop(): Promise<void> {
    this.stopping ??= this.stopParts();
    return this.stopping;
  }

  private async stopParts(): Promise<void> {
    this.logger.info("Stopping");
    this.replica.interrupt();
    this.innerClients.stop();
    await this.listener.stop();
    await this.backups.stop();
    await this.replica.stop();
    await this.companions.stop();
    this.logger.info("Stopped");
    this.hasStopped.resolve();
  }

  private createBackups(): Backups {
    const { config, world, replica, logger } = this;
    const { storage } = config;
    return new Backups({
      files: world.files,
      keys: this.companions.keys,
      timing: world.timing,
      store: replica.store,
      nodeId: config.node_id,
      metadata: () => replica.journal.allMetadata(),
      get directory() {
        return backupDirectory(storage);
      },
      get intervalHours() {
        return storage.backup_interval_hours;
      },
      get keep() {
        return storage.backup_keep;
      },
      get maxCount() {
        return storage.max_backups;
      },
      get minFreeBytes() {
        return storage.min_free_mb * 1_048_576;
      },
      logger: logger.child("backup"),
    });
  }

  /** Closes the connections of a user; returns how many. */
  endUser(user: User): number {
    this.innerClients.endUser(user);
    return this.listener.endUser(user);
  }

  private createContext(): Context {
    return {
      store: this.replica.store,
      services: this.services,
      commands: commandTable,
      session: new ClientSession(0, "", 0, PLAIN, this.users.nobody),
      runQueue: this.runQueue,
      copiedBytes: 0,
      rights: null,
    };
  }

  private createListener(): Listener {
    const { config, logger } = this;
    const { certificates } = this.companions;
    const tls =
      config.tls.cert_file === ""
        ? null
        : {
            material: () => certificates.own!.current,
            clientCertificates: () => config.tls.client_certificates,
          };
    const files = reservedFiles(config);
    return new Listener(
      config.network,
      this.createContext(),
      this.journalGate,
      logger.child("server"),
      files,
      tls,
    );
  }
}

/**
 * The composition root of a node: configuration, a replica (`replica.ts`), and around it what
 * people and other programs see of one: client port, embedded broker, backups.
 *
 * Start: data from disk, broker (if embedded), listener, replication, then a first sync with the
 * peers.
 * Stop: the reverse, so that the last writes of clients still reach the broker, or a peer.
 */
import { join } from "node:path";
import { Denials } from "./access/denials.ts";
import type { UserDirectory } from "./access/directory.ts";
import type { User } from "./access/user.ts";
import type { AntiEntropy } from "./anti-entropy/anti-entropy.ts";
import type { Context } from "./commands/command.ts";
import { CommandTracing } from "./commands/command-tracing.ts";
import { CommandWatch } from "./commands/command-watch.ts";
import type { Services } from "./commands/services.ts";
import { Statistics } from "./commands/statistics.ts";
import { commandTable } from "./commands/table.ts";
import { ClientSession } from "./commands/client-session.ts";
import { Backups } from "./durability/backup.ts";
import { DiskSpace } from "./durability/disk-space.ts";
import { findLooseFiles } from "./durability/loose-files.ts";
import type { RecoveryProgress } from "./durability/recovery.ts";
import { loadDiskKeys, type DiskKeys } from "./durability/sealing.ts";
import { formatHostPort, isLoopbackHost } from "./config/address.ts";
import { LiveConfig, type Change, type Commit, type Outcome } from "./config/live-config.ts";
import type { Config } from "./config/schema.ts";
import { BASE_BYTES, MAX_ENTRY_PARTS, PART_BYTES } from "./core/data/counter.ts";
import { MAX_KEY_BYTES } from "./core/data/entry.ts";
import { advertisedAddress, advertisedTlsAddress } from "./node-address.ts";
import { addressOfOwn, brokerTls, startBroker } from "./node-broker.ts";
import { NodeCertificates } from "./node-certificates.ts";
import { NodeSecrets } from "./node-secrets.ts";
import { membersOf, treeCellsOf } from "./node-view.ts";
import { infoSections, nodeSeries, type NodeParts } from "./node-facts.ts";
import { isAboutConnection, reportChange, settingsControl } from "./node-settings.ts";
import { NodeTracing } from "./node-tracing.ts";
import { announceUsers, NodeUsers } from "./node-users.ts";
import {
  checksOf,
  httpConnections,
  openNodeHttp,
  type NodeHttp,
  type ServingNode,
} from "./node-http.ts";
import type { Check } from "./http/http-port.ts";
import { AuditFile } from "./observability/audit-file.ts";
import type { Logger } from "./observability/log.ts";
import { OperationalError } from "./operational-error.ts";
import { noAudit, type ReplicationControl } from "./ports.ts";
import { PLAIN } from "./protocol/reply.ts";
import { Replica, type ReplicaOptions } from "./replica.ts";
import type { EmbeddedBroker } from "./replication/embedded-broker.ts";
import { placesBeyondLoopback } from "./replication/exposure.ts";
import type { Replicator } from "./replication/replicator.ts";
import { InnerClients } from "./server/inner-client.ts";
import { openFiles } from "./server/open-files.ts";
import { Listener } from "./server/listener.ts";
import type { ClusterSecrets } from "./security/cluster-secrets.ts";
import { RunQueue } from "./timing.ts";
import { version } from "./version.ts";
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
  /** Opens anew what it appends to, after it was moved away; reads certificates and users. */
  reopenFiles(): void;
  /** Takes what the file of settings says now; `cause` is for the log. */
  reload(cause: string): Promise<Outcome>;
  /** Stops it gracefully; further calls wait for the same stop. */
  stop(): Promise<void>;
  /** Settles once the node has stopped, for instance because a client said SHUTDOWN. */
  readonly stopped: Promise<void>;
}

/** The largest counter in one piece; one that is larger travels in several. */
const MAX_COUNTER_BYTES = MAX_ENTRY_PARTS * PART_BYTES + BASE_BYTES;
/** A frame's own fields and the key beside the value. */
const FRAME_MARGIN_BYTES = MAX_KEY_BYTES + 1_024;

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

/** What a node has beside its replica. */
interface Companions {
  /** Null unless the node has one of its own. */
  readonly broker: EmbeddedBroker | null;
  /** Null when nothing is audited. */
  readonly audit: AuditFile | null;
  readonly certificates: NodeCertificates;
  readonly nodeUsers: NodeUsers;
  readonly secrets: NodeSecrets;
  readonly tracing: NodeTracing;
  /** What files are sealed with. */
  readonly keys: DiskKeys;
  /** Null when no HTTP is served. */
  readonly http: NodeHttp | null;
}

/** The parts of a node, from its start to its stop. */
class RunningNode implements Node {
  readonly stopped: Promise<void>;
  private readonly broker: EmbeddedBroker | null;
  private readonly audit: AuditFile | null;
  private readonly certificates: NodeCertificates;
  private readonly nodeUsers: NodeUsers;
  private readonly secrets: NodeSecrets;
  private readonly tracing: NodeTracing;
  private readonly config: Config;
  private readonly keys: DiskKeys;
  private readonly http: NodeHttp | null;
  private readonly listener: Listener;
  /** Who comes by HTTP. */
  private readonly innerClients: InnerClients;
  private readonly backups: Backups;
  private readonly services: Services;
  private readonly startedMs: number;
  private readonly diskSpace: DiskSpace;
  private readonly runQueue: RunQueue;
  private hasSynced = false;
  private readonly hasStopped = Promise.withResolvers<void>();
  private stopping: Promise<void> | undefined;

  /** With its data back, and the broker there if it has its own. Nobody is served yet. */
  static async open(live: LiveConfig, logger: Logger, world: World): Promise<RunningNode> {
    const { config } = live;
    let broker: EmbeddedBroker | null = null;
    let node: RunningNode | null = null;
    let recovery: RecoveryProgress | null = null;
    const certificates = new NodeCertificates(config, logger, world);
    const nodeUsers = new NodeUsers(config, logger.child("access"), world);
    const secrets = new NodeSecrets(config, logger.child("secrets"), world);
    const keys = loadDiskKeys(config.storage, world.randomWords);
    const audit = config.audit.file === "" ? null : new AuditFile(config.audit, world);
    const tracing = await NodeTracing.open(config, logger.child("tracing"), world.timing);
    const startOwnBroker = async (): Promise<string> => {
      broker = await startBroker(config, logger, world.timing, certificates);
      return broker === null ? config.mqtt.broker_address : addressOfOwn(broker, config);
    };
    const http = openNodeHttp(
      config,
      world.timing,
      nodeUsers.directory,
      audit ?? noAudit,
      () => node?.serving ?? null,
      {
        pem: () => certificates.own!.current.pem,
        clientCertificates: () => config.tls.client_certificates,
      },
      () => recovery,
      connectionsByHttp(),
    );
    const { tls } = config;
    const surroundings = {
      onRecovery: (progress: RecoveryProgress) => void (recovery = progress),
      brokerAddress: startOwnBroker,
      address: () => advertisedAddress(config, node!.listener.plainPort),
      tlsAddress: () => advertisedTlsAddress(config, node!.listener.tlsPort),
      peerSecurity: {
        material: () => certificates.own?.current ?? null,
        get serverName() {
          return tls.server_name;
        },
        plaintext: config.network.plaintext,
        isInsecure: false,
      },
      brokerTls: brokerTls(config, certificates),
      tracer: tracing,
    };
    const options = replicaOptions(config, logger, world, keys, secrets.current, surroundings);
    const opening = Replica.open(options);
    const replica = await opening.catch(async (error: unknown) => {
      await audit?.close();
      http?.stop();
      certificates.stop();
      nodeUsers.stop();
      secrets.stop();
      await tracing.stop();
      throw error;
    });
    const companions = { broker, audit, certificates, nodeUsers, secrets, tracing, keys, http };
    node = new RunningNode(live, logger, world, replica, companions);
    return node;
  }

  private constructor(
    private readonly live: LiveConfig,
    private readonly logger: Logger,
    private readonly world: World,
    private readonly replica: Replica,
    companions: Companions,
  ) {
    ({
      broker: this.broker,
      audit: this.audit,
      certificates: this.certificates,
      nodeUsers: this.nodeUsers,
      secrets: this.secrets,
      tracing: this.tracing,
      keys: this.keys,
      http: this.http,
    } = companions);
    this.config = live.config;
    this.stopped = this.hasStopped.promise;
    this.runQueue = new RunQueue(world.timing);
    this.startedMs = world.timing.nowMs();
    this.diskSpace = new DiskSpace(world.files, live.config.storage.path);
    this.backups = this.createBackups();
    this.services = this.createServices();
    this.listener = this.createListener();
    this.innerClients = new InnerClients(this.createContext());
    this.users.onGone = (user) => this.endUser(user);
    this.certificates.onChange = () => {
      this.broker?.noteCertificates();
      this.showCertificates();
    };
    this.secrets.onChange = () => {
      replica.renewSecrets(this.secrets.current);
      this.warnOfListeners();
    };
    this.tracing.onChange = () => this.services.tracing.arrange();
    const { secrets, tracing } = this;
    live.parts.push(this.certificates, this.nodeUsers, secrets, tracing, this);
    if (this.audit !== null) live.parts.push(this.audit);
    replica.onFailureChange = (failure) => {
      // Writes that wait to be safe were not answered, and nobody knows what will become of them.
      if (failure === null) return;
      this.listener.onFailure();
      this.innerClients.onFailure();
    };
  }

  private get users(): UserDirectory {
    return this.nodeUsers.directory;
  }

  /** What is made of settings, but for what is a part of its own. */
  prepare({ changed }: Change): Commit {
    if (this.broker?.tlsPort != null && changed.has("tls.client_certificates")) {
      const why = "the embedded broker speaks TLS, and asks for others only after a restart";
      throw new OperationalError(`tls.client_certificates: ${why}`);
    }
    const apply = (): void => {
      this.listener.reconfigure();
      this.services.watch.configure(this.config.slowlog);
      if (changed.has("tls.client_certificates")) this.showCertificates();
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
      http: this.http?.address ?? null,
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
      series: () => nodeSeries(this.partsWith(services)),
      openClient: (user, caller, trace) => this.innerClients.open(user, caller, trace),
      tracer: this.tracing,
      reportBug: (error) => services.reportBug(error),
    };
  }

  /** Serves clients, and resolves when the replica has what its peers have. */
  async start(): Promise<void> {
    const { backups, listener, logger, replica } = this;
    this.warnOfListeners();
    await this.warnOfLooseFiles();
    // Before a client can ask for one, whose beginnings would be taken for leftovers.
    await backups.start();
    try {
      listener.start();
    } catch (error) {
      await backups.stop();
      await this.broker?.stop();
      await replica.journal.close();
      await this.audit?.close();
      this.http?.stop();
      this.certificates.stop();
      this.nodeUsers.stop();
      this.secrets.stop();
      await this.tracing.stop();
      throw error;
    }
    const started = replica.start();
    const { host } = this.address;
    const { plainPort, tlsPort } = listener;
    announceUsers(this.config, this.users, logger);
    logger.info("Serving clients", {
      address: plainPort === null ? undefined : formatHostPort(host, plainPort),
      tls: tlsPort === null ? undefined : formatHostPort(host, tlsPort),
      http: this.http?.address,
    });
    this.warnOfPlainText();
    await started;
    this.hasSynced = true;
  }

  /** Of HTTP. If the port cannot be opened again, somebody has taken it. */
  private showCertificates(): void {
    try {
      this.http?.noteCertificates();
    } catch (error) {
      this.logger.error("HTTP is served no more until a restart", { error });
    }
  }

  /** Who has made certificates may think that nothing is said without them. */
  private warnOfPlainText(): void {
    const { plaintext, bind_address } = this.config.network;
    const { plainPort, tlsPort } = this.listener;
    if (tlsPort === null || plainPort === null) return;
    if (plaintext !== "on" || isLoopbackHost(bind_address)) return;
    const message = "Other machines may speak plain text to this node beside TLS";
    const set = 'network.plaintext = "loopback", or "off"';
    this.logger.warn(message, { port: plainPort, set });
  }

  readiness(): readonly Check[] {
    return checksOf(this.serving);
  }

  reopenFiles(): void {
    this.certificates.reopen();
    this.nodeUsers.reopen();
    this.secrets.reopen();
    try {
      this.audit?.reopen();
    } catch (error) {
      const message = "The audit file cannot be reopened; the old one stays in use";
      this.logger.error(message, { error });
    }
  }

  reload(cause: string): Promise<Outcome> {
    return reportChange(cause, this.live.reload(), this.logger);
  }

  stop(): Promise<void> {
    this.stopping ??= this.stopParts();
    return this.stopping;
  }

  /** Without a secret, all that nodes tell each other is as safe as the ways it takes. */
  private warnOfListeners(): void {
    if (this.secrets.current !== null) return;
    const places = placesBeyondLoopback(this.config);
    if (places.length === 0) return;
    const message =
      "This cluster has no secret: whoever is at these places, or between here and there, can read and forge what nodes tell each other";
    const set = "cluster.secret_file, the same on every node; merklekv keygen makes one";
    this.logger.warn(message, { places, set });
  }

  private async stopParts(): Promise<void> {
    this.logger.info("Stopping");
    this.replica.interrupt();
    this.innerClients.stop();
    await this.listener.stop();
    await this.backups.stop();
    await this.replica.stop();
    await this.broker?.stop();
    await this.audit?.close();
    this.http?.stop();
    this.certificates.stop();
    this.nodeUsers.stop();
    this.secrets.stop();
    await this.tracing.stop();
    this.logger.info("Stopped");
    this.hasStopped.resolve();
  }

  /** Others may read what was made before, or elsewhere. */
  private async warnOfLooseFiles(): Promise<void> {
    const { storage, logging, audit } = this.config;
    const places = [storage.path, backupDirectory(storage), logging.file_path, audit.file];
    const paths = places.filter((path) => path !== "");
    const loose = await findLooseFiles(paths);
    if (loose === null) return;
    const { first, count: files, remedy: run } = loose;
    const message = "Other users of this machine may read or change files of this node";
    this.logger.warn(message, { files, first: first.path, mode: first.mode, run });
  }

  private createBackups(): Backups {
    const { config, world, replica, logger } = this;
    const { storage } = config;
    return new Backups({
      files: world.files,
      keys: this.keys,
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
  private endUser(user: User): number {
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
    const { certificates } = this;
    const tls =
      config.tls.cert_file === ""
        ? null
        : {
            material: () => certificates.own!.current,
            clientCertificates: () => config.tls.client_certificates,
          };
    const files = reservedFiles(config);
    return new Listener(config.network, this.createContext(), logger.child("server"), files, tls);
  }

  private partsWith(services: Services): NodeParts {
    const { replica, listener, certificates, secrets, audit, live, diskSpace, tracing } = this;
    const about = { services, replica, listener, certificates, secrets, audit, live };
    return { ...about, diskSpace, tracing };
  }

  private createServices(): Services {
    const { config, world, replica, logger } = this;
    const { journal, replicator, antiEntropy } = replica;
    const services: Services = {
      version,
      nodeId: config.node_id,
      port: () => this.listener.port,
      uptimeMs: () => world.timing.nowMs() - this.startedMs,
      random: world.random,
      randomWords: world.randomWords,
      users: this.users,
      denials: new Denials(),
      peersProveThemselves: () => this.secrets.current !== null,
      log: logger.child("server"),
      statistics: new Statistics(),
      watch: new CommandWatch(config.slowlog),
      tracing: new CommandTracing({
        tracer: this.tracing,
        writes: replicator?.tracedWrites ?? null,
        random: world.random,
        nowMs: world.timing.nowMs,
      }),
      limits: {
        get maxValueBytes() {
          return config.network.max_value_bytes;
        },
        get maxReplyBytes() {
          return config.network.max_output_bytes;
        },
      },
      replication: replicator === null ? null : replicationControl(replicator, antiEntropy),
      durability: journal,
      time: replica.clockWatch,
      backups: this.backups,
      audit: this.audit ?? noAudit,
      compact: () => journal.compact(),
      memoryBytes: () => process.memoryUsage.rss(),
      heapBytes() {
        // What is used counts buffers, too, in which the data set lies.
        const { heapUsed, external } = process.memoryUsage();
        return Math.max(0, heapUsed - external);
      },
      synchronization: antiEntropy,
      merkleRoot: () => antiEntropy.rootHex ?? "0".repeat(64),
      clientList: () => this.listener.list(),
      info: () => infoSections(this.partsWith(services)),
      members: () => membersOf(replica, config.node_id, this.address, world.timing.nowMs()),
      killUser: (user) => this.endUser(user),
      killClients: (idOrAddress) => this.listener.kill(idOrAddress),
      settings: settingsControl(this.live, logger),
      reportBug: (error) =>
        logger.error("A bug in MerkleKV", {
          error: String(error),
          stack: error instanceof Error ? error.stack : undefined,
        }),
      shutdown: () => void this.stop(),
    };
    return services;
  }
}

function backupDirectory({ path, backup_path }: Config["storage"]): string {
  return backup_path === "" ? join(path, "backups") : backup_path;
}

function replicaOptions(
  config: Config,
  logger: Logger,
  world: World,
  keys: DiskKeys,
  secrets: ClusterSecrets | null,
  surroundings: Pick<
    ReplicaOptions,
    | "brokerAddress"
    | "address"
    | "tlsAddress"
    | "peerSecurity"
    | "brokerTls"
    | "onRecovery"
    | "tracer"
  >,
): ReplicaOptions {
  const { network } = config;
  return {
    ...surroundings,
    world,
    nodeId: config.node_id,
    clusterName: config.cluster.name,
    secrets,
    storage: config.storage,
    keys,
    mqtt: config.mqtt,
    antiEntropy: config.anti_entropy,
    version,
    get maxFrameBytes() {
      return Math.max(network.max_value_bytes, MAX_COUNTER_BYTES) + FRAME_MARGIN_BYTES;
    },
    get silenceMs() {
      return network.connection_timeout * 1_000;
    },
    logger,
  };
}

/**
 * Files that a node needs to open beside its clients' sockets: the log and its next segment,
 * snapshots, backups, what is set aside, the way to the broker, lookups of names, and peers.
 */
function reservedFiles(config: Config): number {
  const { anti_entropy, http, mqtt } = config;
  const forBroker = mqtt.broker_address === "embedded" ? 64 : 0;
  const isServed = http.bind_address !== "" || http.bind_port !== 0;
  const forHttp = isServed ? connectionsByHttp() : 0;
  return 32 + 2 * Math.min(anti_entropy.max_concurrent_syncs, 16) + forBroker + forHttp;
}

function connectionsByHttp(): number {
  return httpConnections(openFiles()?.limit ?? Infinity);
}

function replicationControl(replicator: Replicator, antiEntropy: AntiEntropy): ReplicationControl {
  return {
    status: () => replicator.status(),
    enable: () => replicator.enable(),
    async disable() {
      // While the broker can still carry the word.
      antiEntropy.interrupt();
      await replicator.disable();
      antiEntropy.interrupt();
    },
  };
}

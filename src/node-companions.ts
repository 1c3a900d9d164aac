/**
 * What a node has beside its replica and its client port: certificates, secrets, users, traces,
 * the audit, the HTTP port and a broker of its own. All of it is there before the data is, and is
 * ended, in one order, after the data is safe.
 */
import type { Config } from "./config/schema.ts";
import type { RecoveryProgress } from "./durability/recovery.ts";
import { loadDiskKeys, type DiskKeys } from "./durability/sealing.ts";
import { addressOfOwn, startBroker } from "./node-broker.ts";
import { NodeCertificates } from "./node-certificates.ts";
import { openNodeHttp, type NodeHttp, type ServingNode } from "./node-http.ts";
import { maxHttpConnections } from "./node-open-files.ts";
import { NodeSecrets } from "./node-secrets.ts";
import { NodeTracing } from "./node-tracing.ts";
import { NodeUsers } from "./node-users.ts";
import { AuditFile } from "./observability/audit-file.ts";
import type { Logger } from "./observability/log.ts";
import { noAudit } from "./ports.ts";
import type { EmbeddedBroker } from "./replication/embedded-broker.ts";
import type { World } from "./world.ts";

/** See the file header. */
export class Companions {
  readonly certificates: NodeCertificates;
  readonly users: NodeUsers;
  readonly secrets: NodeSecrets;
  /** What files are sealed with. */
  readonly keys: DiskKeys;
  /** Null when nothing is audited. */
  readonly audit: AuditFile | null;
  readonly tracing: NodeTracing;
  /** Null when no HTTP is served. */
  readonly http: NodeHttp | null;
  private ownBroker: EmbeddedBroker | null = null;
  private recovery: RecoveryProgress | null = null;

  /**
   * As the settings have it. `serving` returns null until the data is back from disk. Throws an
   * OperationalError of one line when the settings, or files that they name, are not good.
   */
  static async open(
    config: Config,
    logger: Logger,
    world: World,
    serving: () => ServingNode | null,
  ): Promise<Companions> {
    const certificates = new NodeCertificates(config, logger, world);
    const users = new NodeUsers(config, logger.child("access"), world);
    const secrets = new NodeSecrets(config, logger.child("secrets"), world);
    const keys = loadDiskKeys(config.storage, world.randomWords);
    const audit = config.audit.file === "" ? null : new AuditFile(config.audit, world);
    const tracing = await NodeTracing.open(config, logger.child("tracing"), world.timing);
    const opened = { certificates, users, secrets, keys, audit, tracing };
    return new Companions(config, logger, world, opened, serving);
  }

  private constructor(
    private readonly config: Config,
    private readonly logger: Logger,
    private readonly world: World,
    opened: Pick<Companions, "certificates" | "users" | "secrets" | "keys" | "audit" | "tracing">,
    serving: () => ServingNode | null,
  ) {
    ({
      certificates: this.certificates,
      users: this.users,
      secrets: this.secrets,
      keys: this.keys,
      audit: this.audit,
      tracing: this.tracing,
    } = opened);
    const { certificates, users, audit } = this;
    this.http = openNodeHttp({
      config,
      timing: world.timing,
      wallMs: world.wallMs,
      users: users.directory,
      audit: audit ?? noAudit,
      serving,
      recovery: () => this.recovery,
      tls: {
        pem: () => certificates.own!.current.pem,
        clientCertificates: () => config.tls.client_certificates,
      },
      maxConnections: maxHttpConnections(),
    });
  }

  /** The broker that this node hosts, once it is started; null unless it hosts one. */
  get broker(): EmbeddedBroker | null {
    return this.ownBroker;
  }

  /** Starts the broker that this node hosts, if it does; returns where the node's broker is. */
  async startBroker(): Promise<string> {
    const { config, logger, world, certificates } = this;
    this.ownBroker = await startBroker(config, logger, world.timing, certificates);
    if (this.ownBroker === null) return config.mqtt.broker_address;
    return addressOfOwn(this.ownBroker, config);
  }

  /** How far the data is back from disk, for whoever asks by HTTP whether the node is ready. */
  noteRecovery(progress: RecoveryProgress): void {
    this.recovery = progress;
  }

  /** Other certificates are in use: whoever shows them shows the new ones. */
  noteCertificates(): void {
    this.ownBroker?.noteCertificates();
    this.showCertificatesByHttp();
  }

  /** Opens HTTP with what the settings say of TLS now. */
  showCertificatesByHttp(): void {
    try {
      this.http?.noteCertificates();
    } catch (error) {
      // Between its closing and its opening somebody has taken the port.
      this.logger.error("HTTP is served no more until a restart", { error });
    }
  }

  /** Reads anew what it follows, and opens anew what it appends to, as after a rotation. */
  reopenFiles(): void {
    this.certificates.reopen();
    this.users.reopen();
    this.secrets.reopen();
    try {
      this.audit?.reopen();
    } catch (error) {
      const message = "The audit file cannot be reopened; the old one stays in use";
      this.logger.error(message, { error });
    }
  }

  /** Ends all of it. */
  async stop(): Promise<void> {
    await this.ownBroker?.stop();
    await this.audit?.close();
    this.http?.stop();
    this.certificates.stop();
    this.users.stop();
    this.secrets.stop();
    await this.tracing.stop();
  }
}

/** The certificates of a node: its own, and those it shows to the broker and asks of it. */
import { Certificates } from "./certificates.ts";
import type { Change, Commit } from "./config/live-config.ts";
import type { Config, KeyName } from "./config/schema.ts";
import { within, type Fact } from "./fact.ts";
import type { Logger } from "./observability/log.ts";
import type { TlsFiles } from "./security/tls-material.ts";
import type { World } from "./world.ts";

const FILE_KEYS = ["cert_file", "key_file", "ca_file"] as const;

/** See the file header. */
export class NodeCertificates {
  /** Of `[tls]`; null when the node neither serves TLS nor has authorities of its own. */
  own: Certificates | null;
  /** Of `[mqtt.tls]`; null when there are none. */
  broker: Certificates | null;
  /** Told when others than before are in use in `[tls]`. */
  onChange: () => void = () => {};

  /** Reads all. Throws an OperationalError when some cannot be used. */
  constructor(
    { tls, mqtt }: Config,
    private readonly logger: Logger,
    private readonly world: World,
  ) {
    this.own = this.open("tls", tls);
    try {
      this.broker = mqtt.enabled ? this.open("mqtt.tls", mqtt.tls) : null;
    } catch (error) {
      this.own?.stop();
      throw error;
    }
  }

  /** Takes other files, once it is known that they are good. */
  prepare({ next, changed }: Change): Commit {
    const { tls, mqtt } = next;
    const isOther = (section: string): boolean =>
      FILE_KEYS.some((key) => changed.has(`${section}.${key}` as KeyName));
    const { own, broker } = this;
    const isOwnOther = isOther("tls");
    const nextOwn = isOwnOther ? this.open("tls", tls) : own;
    let nextBroker = broker;
    try {
      if (mqtt.enabled && isOther("mqtt.tls")) nextBroker = this.open("mqtt.tls", mqtt.tls);
    } catch (error) {
      if (nextOwn !== own) nextOwn?.stop();
      throw error;
    }
    return {
      apply: () => {
        if (nextOwn !== own) own?.stop();
        if (nextBroker !== broker) broker?.stop();
        this.own = nextOwn;
        this.broker = nextBroker;
        if (isOwnOther) this.onChange();
      },
      abandon() {
        if (nextOwn !== own) nextOwn?.stop();
        if (nextBroker !== broker) nextBroker?.stop();
      },
    };
  }

  private open(section: "tls" | "mqtt.tls", files: TlsFiles): Certificates | null {
    const { cert_file, key_file, ca_file } = files;
    if (cert_file === "" && ca_file === "") return null;
    const { wallMs, timing } = this.world;
    const logger = this.logger.child("tls");
    const paths = { cert_file, key_file, ca_file };
    const opened = new Certificates({ section, files: paths, wallMs, timing, logger });
    if (section === "tls") opened.onChange = () => this.onChange();
    return opened;
  }

  /** For INFO. */
  static readonly facts: readonly Fact<NodeCertificates>[] = [
    ...within((it: NodeCertificates) => it.own, Certificates.facts("tls")),
    ...within((it: NodeCertificates) => it.broker, Certificates.facts("mqtt_tls")),
  ];

  /** Reads all again. */
  reopen(): void {
    this.own?.reopen();
    this.broker?.reopen();
  }

  /** Looks at the files no more. */
  stop(): void {
    this.own?.stop();
    this.broker?.stop();
  }
}

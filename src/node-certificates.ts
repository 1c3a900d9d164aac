/** The certificates of a node: its own, and those it shows to the broker and asks of it. */
import { Certificates } from "./certificates.ts";
import type { Config } from "./config/schema.ts";
import { within, type Fact } from "./fact.ts";
import type { Logger } from "./observability/log.ts";
import type { World } from "./world.ts";

/** See the file header. */
export class NodeCertificates {
  /** Of `[tls]`; null when the node neither serves TLS nor has authorities of its own. */
  readonly own: Certificates | null;
  /** Of `[mqtt.tls]`; null when there are none. */
  readonly broker: Certificates | null;

  /** Reads all. Throws an OperationalError when some cannot be used. */
  constructor({ tls, mqtt }: Config, logger: Logger, { wallMs, timing }: World) {
    const open = (section: string, files: Config["tls"] | Config["mqtt"]["tls"]) => {
      const { cert_file, key_file, ca_file } = files;
      if (cert_file === "" && ca_file === "") return null;
      const paths = { cert_file, key_file, ca_file };
      const parts = { wallMs, timing, logger: logger.child("tls") };
      return new Certificates({ section, files: paths, ...parts });
    };
    this.own = open("tls", tls);
    try {
      this.broker = mqtt.enabled ? open("mqtt.tls", mqtt.tls) : null;
    } catch (error) {
      this.own?.stop();
      throw error;
    }
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

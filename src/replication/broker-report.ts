/**
 * What the log says of the broker: one line for each thing that an operator can do something about,
 * with the setting that it is about, and once in an outage.
 */
import { formatHostPort, type BrokerAddress } from "../config/address.ts";
import type { Logger } from "../observability/log.ts";
import { explainTlsProblem, type TlsSettingNames } from "../security/tls-problems.ts";
import { CODES, meaningOf, type Meaning } from "./mqtt-codes.ts";

const AWAY = "The broker is away; writes wait here until it is back";
const REFUSES = "The broker refuses the connection; writes wait here until it does not";

/** As MQTT 3.1.1 has it: of a connection, not of a topic. */
const NOT_LET_IN = 5;
/** Most lines on one outage. */
const MAX_LINES = 4;

const NAMES: TlsSettingNames = {
  authorities: "mqtt.tls.ca_file",
  certificate: "mqtt.tls.cert_file, and the broker's own settings",
  serverName: "mqtt.tls.server_name, and the host in mqtt.broker_address",
};

/** Something can be done about what the system says of TLS and of WebSockets. */
function adviceOn(problem: string): Meaning {
  const found = explainTlsProblem({ message: problem }, NAMES);
  if (found !== null) {
    return { reason: found.reason, advice: found.see || "the broker, and mqtt.broker_address" };
  }
  if (/Unexpected server response/.test(problem)) {
    return { reason: problem, advice: "the path in mqtt.broker_address" };
  }
  return { reason: problem, advice: "" };
}

/** See the file header. */
export class BrokerReport {
  /** What was said of this outage; an operator has no use for hearing it at each attempt. */
  private readonly said = new Set<string>();
  private lacks = "";
  private readonly refusedTopics = new Set<string>();

  constructor(
    private readonly broker: BrokerAddress,
    private readonly logger: Logger,
  ) {}

  /** Something was said that is to be taken back when the connection is up. */
  get isAway(): boolean {
    return this.said.size > 0;
  }

  /** The connection is up, over that protocol. */
  connected(protocol: string): void {
    const message = this.isAway ? "The broker is back" : "Connected to the broker";
    this.said.clear();
    this.logger.info(message, { broker: this.place(), protocol });
  }

  /** The broker took what it was sent, and this is done without. */
  proven(lacks: readonly string[]): void {
    const without = lacks.join(", ");
    if (without !== "" && without !== this.lacks) {
      const reason = "nodes announce themselves and compare more often instead";
      this.logger.warn("The broker works, but not with all that is used", { without, reason });
    }
    this.lacks = without;
  }

  /**
   * The connection is lost, or did not come about: with the code that the broker gave, or for what
   * the system says. The next attempt is in `delayMs`; at once, when there is another way.
   * `isTrying`: what the broker takes is still being found out.
   */
  lost(code: number | null, problem: string, delayMs: number, isTrying: boolean): void {
    const { reason, advice } =
      code === null
        ? adviceOn(problem || "it closed the connection")
        : meaningOf(code === CODES.notAuthorized ? NOT_LET_IN : code);
    const fields = { broker: this.place(), reason, ...(advice && { see: advice }) };
    const message = advice ? REFUSES : AWAY;
    // Of an outage it is said that there is one, and what may be done about it.
    const news = advice ? reason : AWAY;
    if (delayMs > 0 && !isTrying && !this.said.has(news) && this.said.size < MAX_LINES) {
      this.said.add(news);
      this.logger.warn(message, fields);
    } else {
      this.logger.debug("The broker cannot be reached", { ...fields, retry_ms: delayMs });
    }
  }

  /** It refused a subscription with that code, or ended the connection over it (null). */
  refusedSubscription(topic: string, code: number | null): void {
    if (this.refusedTopics.has(topic)) return;
    this.refusedTopics.add(topic);
    const { reason, advice: see } =
      code === null
        ? { reason: "it ends the connection over it", advice: "the broker's access rules" }
        : meaningOf(code);
    this.logger.warn("The broker refused a subscription", { topic, reason, see });
  }

  /** A packet of that length was too long; shorter ones are sent from now on. */
  tooLong(bytes: number, maxBytes: number): void {
    const see = "mqtt.max_packet_bytes, and the broker's limit of a message or packet";
    const message = "The broker does not take a message of that length; shorter ones are sent";
    this.logger.warn(message, { bytes, max_bytes: maxBytes, see });
  }

  /** Fewer messages are sent from now on: so many in a second at most. */
  tooMany(perSecond: number): void {
    const see = "mqtt.max_messages_per_second, and the broker's limit of messages a second";
    const message = "The broker does not take so many messages a second; fewer are sent";
    this.logger.warn(message, { messages_per_second: perSecond, see });
  }

  private place(): string {
    const { protocol, host, port } = this.broker;
    return `${protocol}://${formatHostPort(host, port)}`;
  }
}

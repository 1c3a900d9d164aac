/**
 * All facts of a node in one table, from which `INFO` and its documentation follow. The parts say
 * what their facts are; here is only their order.
 */
import { AntiEntropy } from "./anti-entropy/anti-entropy.ts";
import { ClockWatch } from "./clock-watch.ts";
import {
  accessFacts,
  clientFacts,
  keyspaceFacts,
  memoryFacts,
  nodeStateOf,
  replicationFacts,
  serverFacts,
  taggedFacts,
  trafficFacts,
  type NodeState,
} from "./commands/facts.ts";
import { CommandWatch } from "./commands/command-watch.ts";
import type { Services } from "./commands/services.ts";
import { Statistics } from "./commands/statistics.ts";
import { LiveConfig } from "./config/live-config.ts";
import { DiskSpace } from "./durability/disk-space.ts";
import { journalFacts, journalSeries } from "./durability/log-facts.ts";
import { seriesWithin, within, type FactSection, type Series } from "./fact.ts";
import { NodeCertificates } from "./node-certificates.ts";
import { NodeSecrets } from "./node-secrets.ts";
import { NodeTracing } from "./node-tracing.ts";
import { PeerTraffic } from "./peer-traffic.ts";
import { AuditFile } from "./observability/audit-file.ts";
import type { Replica } from "./replica.ts";
import { Replicator } from "./replication/replicator.ts";
import { Listener } from "./server/listener.ts";

/** The parts of a node that facts are about. */
export interface NodeParts {
  readonly services: Services;
  readonly listener: Listener;
  readonly certificates: NodeCertificates;
  readonly secrets: NodeSecrets;
  readonly replica: Replica;
  readonly live: LiveConfig;
  readonly diskSpace: DiskSpace;
  readonly tracing: NodeTracing;
  /** Null when nothing is audited. */
  readonly audit: AuditFile | null;
}

/** A node when somebody asks. */
type Asked = NodeParts & { readonly moment: NodeState };

const moment = (asked: Asked): NodeState => asked.moment;

/** Everything that INFO may show, in its order. */
export const infoTable: readonly FactSection<Asked>[] = [
  {
    title: "Server",
    facts: [...within(moment, serverFacts), ...within((it: Asked) => it.live, LiveConfig.facts)],
  },
  {
    title: "Clients",
    facts: [...within(moment, clientFacts), ...within((it: Asked) => it.listener, Listener.facts)],
  },
  {
    title: "TLS",
    facts: [
      ...within((it: Asked) => it.listener, Listener.tlsFacts),
      ...within((it: Asked) => it.certificates, NodeCertificates.facts),
    ],
  },
  { title: "Access", facts: within(moment, accessFacts) },
  { title: "Memory", facts: within(moment, memoryFacts) },
  {
    title: "Stats",
    facts: [...within(moment, trafficFacts), ...within((it: Asked) => it.audit, AuditFile.facts)],
  },
  { title: "Tracing", facts: within((it: Asked) => it.tracing, NodeTracing.facts) },
  {
    title: "Replication",
    facts: [
      ...within(moment, replicationFacts),
      ...within((it: Asked) => it.replica.replicator, Replicator.facts),
      ...within((it: Asked) => it.replica.antiEntropy, AntiEntropy.facts),
      ...within((it: Asked) => it.secrets, NodeSecrets.facts),
      ...within((it: Asked) => it.replica.traffic, PeerTraffic.facts),
    ],
  },
  { title: "Clock", facts: within((it: Asked) => it.replica.clockWatch, ClockWatch.facts) },
  {
    title: "Persistence",
    facts: [
      ...within((it: Asked) => it.replica.journal, journalFacts),
      ...within((it: Asked) => it.diskSpace, DiskSpace.facts),
    ],
  },
  {
    title: "Keyspace",
    facts: [...within(moment, keyspaceFacts), ...within(moment, taggedFacts)],
  },
];

/**
 * The table, about this node as it is whenever it is asked for. It is always the same one: what is
 * made of its rows needs to be made only once.
 */
export function infoOf(node: NodeParts): () => readonly FactSection<void>[] {
  const now = (): NodeState => nodeStateOf(node.services, node.replica.store);
  const asked = { ...node, moment: now() };
  const sections = infoTable.map(({ title, facts }) => ({
    title,
    facts: within(() => asked, facts),
  }));
  return () => {
    // Two facts that say the same thing agree.
    asked.moment = now();
    return sections;
  };
}

/** Everything that only metrics show, as there are many of a kind. */
export const seriesTable: readonly Series<NodeParts>[] = [
  ...seriesWithin((it: NodeParts) => it.services.statistics, Statistics.series),
  ...seriesWithin((it: NodeParts) => it.services.watch, CommandWatch.series),
  ...seriesWithin((it: NodeParts) => it.replica.replicator, Replicator.series),
  ...seriesWithin((it: NodeParts) => it.replica.antiEntropy, AntiEntropy.series),
  ...seriesWithin((it: NodeParts) => it.replica.traffic, PeerTraffic.series),
  ...seriesWithin((it: NodeParts) => it.replica.clockWatch, ClockWatch.series),
  ...seriesWithin((it: NodeParts) => it.replica.journal, journalSeries),
];

/** The same of this node. */
export function nodeSeries(node: NodeParts): readonly Series<void>[] {
  return seriesWithin(() => node, seriesTable);
}

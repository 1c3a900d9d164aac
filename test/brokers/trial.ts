/** What three nodes with their defaults do over a broker with its defaults. */
import { mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ClusterNode, type ClusterNodeOptions } from "../support/cluster.ts";
import { endProcess } from "../support/end-process.ts";
import { eventually } from "../support/eventually.ts";
import { freePort } from "../support/mosquitto.ts";
import type { BrokerKind } from "./broker-kinds.ts";

const BROKER_START_MS = 90_000;
const JOIN_MS = 90_000;
const WRITES_MS = 90_000;
const PIPELINED_WRITES = 20_000;
const LARGE_BYTES = 3 * 1_048_576;
const MEDIUM_BYTES = 100_000;
/** Settings of the nodes that differ from the defaults: they compare as often as they do, and log less. */
const NODE = { antiEntropy: { interval_seconds: 300 } };
/** And of those of a cluster with a secret. */
const SEALED_NODE = {
  ...NODE,
  env: { MERKLE_KV_CLUSTER_SECRET: "a secret for trials only, of 40 bytes..." },
};

/** What is tried, in this order. */
export const STEPS = [
  "three nodes meet",
  "a write arrives",
  "20,000 writes",
  "100 KB, 3 MiB",
  "kill -9",
  "broker restarts",
] as const;

/** A step, and how it went: "yes" or why not. */
export type Findings = Map<(typeof STEPS)[number], string>;

/** What came of a trial. */
export interface Trial {
  readonly findings: Findings;
  /** Which MQTT the nodes spoke in the end. */
  readonly protocol: string;
  /** What the nodes warned of, each once. */
  readonly warnings: readonly string[];
}

/** Tries a broker that is installed; with a cluster secret if `isSealed`. Never rejects for what the broker does. */
export async function tryBroker(kind: BrokerKind, isSealed = false): Promise<Trial> {
  const broker = await RunningBroker.start(kind);
  const nodes: ClusterNode[] = [];
  const findings: Findings = new Map();
  const settings = isSealed ? SEALED_NODE : NODE;
  try {
    for (const [i, id] of ["a", "b", "c"].entries()) {
      nodes.push(await ClusterNode.start(id, { ...settings, broker: broker.addressOf(i) }));
    }
    const steps = new Steps(broker, nodes, settings);
    for (const name of STEPS) {
      findings.set(name, await outcomeOf(steps.all[name]));
      // Without each other they can do no more.
      if (name === STEPS[0] && findings.get(name) !== "yes") break;
    }
    const output = nodes.map(({ process }) => process.output()).join("\n");
    return { findings, protocol: protocolIn(output), warnings: warningsIn(output) };
  } finally {
    await Promise.allSettled(nodes.map((node) => node.process.kill()));
    await broker.end();
  }
}

async function outcomeOf(step: () => Promise<unknown>): Promise<string> {
  try {
    await step();
    return "yes";
  } catch (error) {
    return (error as Error).message.split("\n")[0];
  }
}

/** The steps of a trial. */
class Steps {
  readonly all: Record<(typeof STEPS)[number], () => Promise<unknown>> = {
    "three nodes meet": () => this.meet(),
    "a write arrives": () => this.write("first"),
    "20,000 writes": () => this.writeMany(),
    "100 KB, 3 MiB": () => this.writeLarge(),
    "kill -9": () => this.killOne(),
    "broker restarts": () => this.restartBroker(),
  };

  constructor(
    private readonly broker: RunningBroker,
    private readonly nodes: ClusterNode[],
    private readonly settings: ClusterNodeOptions,
  ) {}

  private async meet(): Promise<void> {
    for (const node of this.nodes) {
      const isIn = async (): Promise<boolean> => (await node.fact("replication_nodes")) === 3;
      await eventually(`${node.id} sees three nodes`, isIn, JOIN_MS);
    }
  }

  /** A write on each node arrives at the others. */
  private async write(name: string): Promise<void> {
    for (const { id } of this.nodes) await this.nodeOf(id).ask(`SET ${name}:${id} ${name}`);
    for (const node of this.nodes)
      for (const { id } of this.nodes) {
        const has = async (): Promise<boolean> => (await node.ask(`GET ${name}:${id}`)) === name;
        await eventually(`${node.id} has what was written to ${id}`, has, WRITES_MS);
      }
  }

  private async writeMany(): Promise<void> {
    const lines = Array.from({ length: PIPELINED_WRITES }, (_, i) => `SET many:${i} value ${i}`);
    await this.nodes[0].askAll(lines);
    await this.untilEqual();
  }

  private async writeLarge(): Promise<void> {
    await this.nodes[1].ask(`SET medium ${"m".repeat(MEDIUM_BYTES)}`);
    await this.nodes[2].ask(`SET large ${"l".repeat(LARGE_BYTES)}`);
    await this.untilEqual();
  }

  /** A node that was killed and lost its data comes back under its name, and is no twin of itself. */
  private async killOne(): Promise<void> {
    const killed = this.nodes[2];
    await killed.process.kill();
    const broker = this.broker.addressOf(2);
    this.nodes[2] = await ClusterNode.start(killed.id, { ...this.settings, broker });
    await this.untilEqual();
    for (const node of this.nodes) {
      const isAlone = async (): Promise<boolean> =>
        (await node.fact("replication_duplicate_node_id")) === 0;
      await eventually(`${node.id} sees no twin`, isAlone, WRITES_MS);
    }
  }

  private async restartBroker(): Promise<void> {
    await this.broker.restart();
    await this.meet();
    await this.write("again");
  }

  private nodeOf(id: string): ClusterNode {
    return this.nodes.find((node) => node.id === id)!;
  }

  private async untilEqual(): Promise<void> {
    const areEqual = async (): Promise<boolean> => {
      const hashes = await Promise.all(this.nodes.map((node) => node.ask("HASH")));
      return new Set(hashes).size === 1;
    };
    await eventually("all three hold the same", areEqual, WRITES_MS);
  }
}

/** A broker under way, in a directory of its own. */
class RunningBroker {
  private children: Bun.Subprocess[] = [];

  private constructor(
    private readonly kind: BrokerKind,
    private readonly port: number,
    private readonly directory: string,
  ) {}

  static async start(kind: BrokerKind): Promise<RunningBroker> {
    const directory = mkdtempSync(join(tmpdir(), "merklekv-broker-"));
    let port: number;
    do port = await freePort();
    while (kind.secondPort !== undefined && (await canConnect(kind.secondPort(port))));
    const broker = new RunningBroker(kind, port, directory);
    await broker.begin();
    return broker;
  }

  /** Where the node with this number connects. */
  addressOf(node: number): string {
    const second = this.kind.secondPort?.(this.port);
    return `mqtt://127.0.0.1:${node === 1 && second !== undefined ? second : this.port}`;
  }

  async restart(): Promise<void> {
    await this.kill();
    await this.begin();
  }

  async end(): Promise<void> {
    await this.kill();
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** One process after the other: a bridge that finds nobody waits long before it looks again. */
  private async begin(): Promise<void> {
    const { kind, port, directory } = this;
    this.children = [];
    for (const [i, { command, env }] of kind.start(port, directory).entries()) {
      const child = Bun.spawn([...command], {
        cwd: directory,
        env: { ...process.env, ...env },
        stdin: "ignore",
        stdout: Bun.file(join(directory, `output${i}.log`)),
        stderr: Bun.file(join(directory, `errors${i}.log`)),
      });
      this.children.push(child);
      const at = [port, kind.secondPort?.(port)][i];
      if (at === undefined) continue;
      const listens = (): Promise<boolean> => {
        // Then it is somebody else who listens there.
        if (child.exitCode !== null) throw new Error(`it ended with ${child.exitCode}`);
        return canConnect(at);
      };
      await eventually(`${kind.name} listens`, listens, BROKER_START_MS);
    }
  }

  private async kill(): Promise<void> {
    await Promise.all(this.children.map((child) => endProcess(child)));
  }
}

function canConnect(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.on("connect", () => (socket.destroy(), resolve(true)));
    socket.on("error", () => resolve(false));
  });
}

function protocolIn(output: string): string {
  const protocols = new Set([...output.matchAll(/protocol="MQTT ([\d.]+)"/g)].map(([, it]) => it));
  return [...protocols].join(", ");
}

/** The warnings of a log, without time and fields. */
function warningsIn(output: string): string[] {
  const lines = output.split("\n").filter((line) => /\b(WARN|ERROR)\b/i.test(line));
  return [...new Set(lines.map((line) => line.replace(/^\S+\s+\S+\s+/, "")))];
}

/** Nodes as processes of the real binary, spoken to in lines. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { merklekvBinary } from "./binary.ts";
import { LineClient } from "./line-client.ts";
import type { Namespace } from "./namespaces.ts";
import { startNodeProcess, type NodeProcess } from "./process.ts";

/** What a test node is started with, beyond its id. Keys are those of the TOML sections. */
export interface ClusterNodeOptions {
  /** The broker's address; without one the node replicates to nobody. */
  readonly broker?: string;
  readonly network?: Readonly<Record<string, number | string>>;
  readonly mqtt?: Readonly<Record<string, number | boolean | string>>;
  readonly antiEntropy?: Readonly<Record<string, unknown>>;
  readonly cluster?: Readonly<Record<string, unknown>>;
  readonly storage?: Readonly<Record<string, number | string>>;
  readonly env?: Record<string, string>;
  /** What to run instead of the built binary. */
  readonly binary?: string;
  /** Where it runs; on this machine unless given. */
  readonly namespace?: Namespace;
}

/** One node with a connection in the plain dialect. */
export class ClusterNode {
  private constructor(
    readonly id: string,
    readonly process: NodeProcess,
    private readonly host: string,
    private client: LineClient,
  ) {}

  /** Starts a node on a free port; it logs everything. */
  static async start(id: string, options: ClusterNodeOptions = {}): Promise<ClusterNode> {
    const config = configOf(id, options);
    const { env, namespace, binary } = options;
    const host = namespace?.address ?? "127.0.0.1";
    const enter = namespace && ["ip", "netns", "exec", namespace.name, await merklekvBinary()];
    const command = enter ?? (binary === undefined ? undefined : [binary]);
    const process = await startNodeProcess({
      config,
      ...(command && { command }),
      ...(env && { env }),
    });
    return new ClusterNode(id, process, host, await LineClient.connect(process.port, host));
  }

  /** Writes its file of settings anew. */
  configure(options: ClusterNodeOptions): void {
    writeFileSync(join(this.process.directory, "node.toml"), configOf(this.id, options));
  }

  /** `host:port` of its client port. */
  get address(): string {
    return `${this.host}:${this.process.port}`;
  }

  /** Sends a line; the first line of the reply. */
  ask(line: string): Promise<string> {
    return this.client.send(line);
  }

  /** Sends many lines at once that are each answered with one. */
  async askAll(lines: readonly string[]): Promise<string[]> {
    this.client.sendRaw(lines.map((line) => `${line}\n`).join(""));
    return this.client.readLines(lines.length);
  }

  /** The facts of INFO. */
  async info(): Promise<Map<string, string>> {
    this.client.sendRaw("INFO\n");
    const facts = new Map<string, string>();
    await this.client.readLine();
    for (let line; (line = await this.client.readLine()) !== "";) {
      const colon = line.indexOf(":");
      facts.set(line.slice(0, colon), line.slice(colon + 1));
    }
    return facts;
  }

  /** One fact of INFO that is a number. */
  async fact(name: string): Promise<number> {
    const value = (await this.info()).get(name);
    if (value === undefined) throw new Error(`INFO of ${this.id} has no ${name}`);
    return Number(value);
  }

  /** How many lines of its log match. */
  logged(pattern: RegExp): number {
    return this.process
      .output()
      .split("\n")
      .filter((line) => pattern.test(line)).length;
  }

  /** Stops it in good order. */
  async stop(): Promise<void> {
    await this.client.close();
    await this.process.stop();
  }
}

function configOf(id: string, options: ClusterNodeOptions): string {
  const { broker } = options;
  const mqtt = broker === undefined ? { enabled: false } : { broker_address: broker };
  return [
    `node_id = "${id}"`,
    ...section("network", { bind_port: 0, ...options.network }),
    ...section("mqtt", { ...mqtt, ...options.mqtt }),
    // Nothing happens by itself within a test unless the test asks for it.
    ...section("anti_entropy", { interval_seconds: 3600, ...options.antiEntropy }),
    ...section("cluster", { ...options.cluster }),
    ...section("storage", { ...options.storage }),
    ...section("logging", { level: "debug" }),
  ].join("\n");
}

function section(name: string, values: Record<string, unknown>): string[] {
  return [
    `[${name}]`,
    ...Object.entries(values).map(([key, value]) => `${key} = ${JSON.stringify(value)}`),
  ];
}

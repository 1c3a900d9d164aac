/** A node in this process whose file of settings can be written anew, and is then reloaded. */
import { expect } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { LiveConfig, type Outcome } from "../../src/config/live-config.ts";
import type { KeyName } from "../../src/config/schema.ts";
import { startNode, type Node } from "../../src/node.ts";
import { createLogger, type RootLogger } from "../../src/observability/log.ts";
import { eventLoop, randomHex, realWorld } from "../../src/world.ts";
import { EmbeddedBroker } from "../../src/replication/embedded-broker.ts";
import { LineClient } from "./line-client.ts";

/** Values by the full names of their keys. */
export type Values = Partial<Record<KeyName, unknown>>;

/** See the file header. */
export class ReloadingNode {
  client!: LineClient;
  private node!: Node;
  private readonly clients: LineClient[] = [];

  private constructor(
    readonly directory: string,
    private values: Values,
    readonly live: LiveConfig,
    readonly logger: RootLogger,
  ) {}

  /** Starts one that is alone and keeps nothing, but for what is given. */
  static async start(given: Values, env: Record<string, string> = {}): Promise<ReloadingNode> {
    const directory = mkdtempSync(join(tmpdir(), "merklekv-reload-"));
    const values: Values = {
      node_id: "n",
      "network.bind_port": 0,
      "network.tls_port": 0,
      "mqtt.enabled": false,
      "storage.engine": "memory",
      "storage.path": join(directory, "data"),
      "anti_entropy.interval_seconds": 3600,
      "logging.file_path": join(directory, "log"),
      ...given,
    };
    const path = join(directory, "node.toml");
    writeFileSync(path, tomlOf(values));
    const opened = LiveConfig.load({ path, env, randomHex });
    if (!("live" in opened)) throw new Error(opened.join("\n"));
    const { live } = opened;
    const logger = createLogger(live.config.logging, realWorld);
    live.parts.push(logger);
    const it = new ReloadingNode(directory, values, live, logger);
    it.node = await startNode(live, logger);
    it.client = await it.connect();
    return it;
  }

  get port(): number {
    return this.node.address.port;
  }

  get tlsPort(): number {
    return this.node.address.tlsPort!;
  }

  /** Where it serves HTTP, `host:port`. */
  get http(): string {
    return this.node.address.http!;
  }

  get address(): string {
    return `127.0.0.1:${this.port}`;
  }

  /** Another connection; closed with the node. */
  async connect(host = "127.0.0.1"): Promise<LineClient> {
    const client = await LineClient.connect(this.port, host);
    this.clients.push(client);
    return client;
  }

  /** Writes these values into the file, and reloads it. */
  change(values: Values): Promise<Outcome> {
    this.values = { ...this.values, ...values };
    return this.write(tomlOf(this.values));
  }

  /** Writes that file, and reloads it. */
  write(toml: string): Promise<Outcome> {
    writeFileSync(join(this.directory, "node.toml"), toml);
    return this.node.reload("a test");
  }

  /** The first line of the answer. */
  ask(line: string): Promise<string> {
    return this.client.send(line);
  }

  /** The first lines of the answers to as many requests. */
  askAll(lines: readonly string[]): Promise<string[]> {
    this.client.sendRaw(lines.map((line) => `${line}\n`).join(""));
    return this.client.readLines(lines.length);
  }

  /** What CONFIG GET says of a key. */
  async setting(key: KeyName): Promise<string> {
    const line = await this.client.send(`CONFIG GET ${key}`);
    await this.client.readLine();
    return line.slice(key.length + 1);
  }

  /** A fact of INFO. */
  async fact(name: string): Promise<string | undefined> {
    this.client.sendRaw("INFO\n");
    let found: string | undefined;
    for (let line; (line = await this.client.readLine()) !== "";) {
      if (line.startsWith(`${name}:`)) found = line.slice(name.length + 1);
    }
    return found;
  }

  /** What a file in its directory holds. */
  read(name: string): string {
    try {
      return readFileSync(join(this.directory, name), "utf8");
    } catch {
      return "";
    }
  }

  /** Stops it and removes what it left. */
  async remove(): Promise<void> {
    for (const client of this.clients) await client.close();
    await this.node.stop();
    await this.logger.close();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** Dotted keys may stand at the top of a file. */
export function tomlOf(values: Values): string {
  return Object.entries(values)
    .map(([key, value]) => `${key} = ${JSON.stringify(value)}\n`)
    .join("");
}

/** What a test has started, to be taken away after it. */
export class Started {
  private readonly closers: (() => unknown)[] = [];

  /** Starts a node. */
  async node(values: Values = {}, env: Record<string, string> = {}): Promise<ReloadingNode> {
    const node = await ReloadingNode.start(values, env);
    this.closers.push(() => node.remove());
    return node;
  }

  /** Starts a broker; its address. */
  async broker(): Promise<string> {
    const broker = await EmbeddedBroker.start(eventLoop, "127.0.0.1", 0);
    this.closers.push(() => broker.stop());
    return `mqtt://127.0.0.1:${broker.port}`;
  }

  /** `close` is called at the end, too. */
  also(close: () => unknown): void {
    this.closers.push(close);
  }

  /** Ends all, what was started last first. */
  async end(): Promise<void> {
    for (const close of this.closers.splice(0).reverse()) await close();
  }
}

/** Changes these values; expects that all of that is in effect then. */
export async function change(node: ReloadingNode, values: Values): Promise<void> {
  const outcome = await node.change(values);
  expect(outcome).toMatchObject({ ok: true, needRestart: [] });
  expect(outcome.ok && [...outcome.changed].sort()).toEqual(
    Object.keys(values).sort() as KeyName[],
  );
}

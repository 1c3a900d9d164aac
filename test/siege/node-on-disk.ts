/** A node of the real binary whose directory outlives it, so that it can be started again. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runBinary, type BinaryProcess } from "../support/process.ts";

const READY = /ready: node \S+ on \S+:(\d+)(?:, TLS on \S+:(\d+))?(?:, HTTP on \S+:(\d+))?$/m;

/** Settings of a node as `[section]` to key to value. */
export type Sections = Readonly<Record<string, Readonly<Record<string, unknown>>>>;

/** See the file header. */
export class NodeOnDisk {
  private readonly directory = mkdtempSync(join(tmpdir(), "merklekv-siege-"));
  private running: BinaryProcess | undefined;
  private written = "";
  private listensOn = 0;
  private speaksTlsOn = 0;
  private speaksHttpOn = 0;

  private constructor(
    readonly id: string,
    sections: Sections,
    private readonly command: readonly string[] | undefined,
  ) {
    const lines = [`node_id = "${id}"`];
    for (const [name, values] of Object.entries(sections)) {
      lines.push(`[${name}]`);
      for (const [key, value] of Object.entries(values)) {
        lines.push(`${key} = ${JSON.stringify(value)}`);
      }
    }
    writeFileSync(join(this.directory, "node.toml"), `${lines.join("\n")}\n`);
  }

  /** Starts one on a free port, and waits until it is ready. */
  static async start(
    id: string,
    sections: Sections,
    command?: readonly string[],
  ): Promise<NodeOnDisk> {
    const node = new NodeOnDisk(id, sections, command);
    await node.resume();
    return node;
  }

  /** The port of its present run. */
  get port(): number {
    return this.listensOn;
  }

  /** The port for TLS of its present run. */
  get tlsPort(): number {
    return this.speaksTlsOn;
  }

  /** The port for HTTP of its present run. */
  get httpPort(): number {
    return this.speaksHttpOn;
  }

  /** Tells it to read its files again. */
  hangUp(): void {
    this.process.signal("SIGHUP");
  }

  get pid(): number {
    return this.process.pid;
  }

  /** Everything that all its runs have written. */
  output(): string {
    return this.written + (this.running?.output() ?? "");
  }

  /** As `BinaryProcess.waitFor`, in what its present run has written. */
  waitFor(pattern: RegExp): Promise<RegExpExecArray> {
    return this.process.waitFor(pattern);
  }

  /** Whether it runs: false after an exit that nobody asked for. */
  async isRunning(): Promise<boolean> {
    return (await Promise.race([this.process.exited, Promise.resolve(null)])) === null;
  }

  /** Starts it again after `kill` or `stop`, and waits until it is ready. */
  async resume(): Promise<void> {
    const { command } = this;
    const process = await runBinary(["serve", "--config", "node.toml", "--exit-with-stdin"], {
      cwd: this.directory,
      ...(command !== undefined && { command }),
    });
    this.running = process;
    const [, port, tlsPort = "0", httpPort = "0"] = await process.waitFor(READY);
    this.listensOn = Number(port);
    this.speaksTlsOn = Number(tlsPort);
    this.speaksHttpOn = Number(httpPort);
  }

  /** SIGKILL. */
  async kill(): Promise<void> {
    await this.process.kill();
    this.keepOutput();
  }

  /** A clean stop; the exit code. */
  async stop(): Promise<number> {
    const code = await this.process.stop();
    this.keepOutput();
    return code;
  }

  /** Ends it and removes its directory. */
  async remove(): Promise<void> {
    await this.running?.kill();
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** Resident memory now, or with "peak" the most since `forgetPeak`; in bytes. */
  memoryBytes(which: "now" | "peak" = "now"): number {
    const status = readFileSync(`/proc/${this.pid}/status`, "utf8");
    const line = which === "now" ? /^VmRSS:\s+(\d+) kB/m : /^VmHWM:\s+(\d+) kB/m;
    return Number(line.exec(status)![1]) * 1024;
  }

  /** Begins to look for the peak of memory anew. */
  forgetPeak(): void {
    writeFileSync(`/proc/${this.pid}/clear_refs`, "5");
  }

  private get process(): BinaryProcess {
    if (this.running === undefined) throw new Error(`node ${this.id} does not run`);
    return this.running;
  }

  private keepOutput(): void {
    this.written = this.output();
    this.running = undefined;
  }
}

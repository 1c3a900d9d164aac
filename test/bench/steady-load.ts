/**
 * A load that goes on until it is disposed of, and what a node answers of it in an interval: so the
 * same process is measured with something and without, a second apart. Two processes differ by more
 * than what is looked for: each has its memory elsewhere, and its code compiled otherwise.
 */
import { LineClient } from "../support/line-client.ts";
import { benchmarkPath, KEYS, request } from "./load.ts";
import { ProcessorTime, spawnQuietly, type Server } from "./servers.ts";

/** More than it ever comes to. */
const REQUESTS = 2_000_000_000;
const CONNECTIONS = 50;

/** What came of an interval. */
export interface Answered {
  readonly requests: number;
  readonly seconds: number;
  /** Of all threads of the node. */
  readonly processorSeconds: number;
}

/** See the file header. */
export class SteadyLoad implements AsyncDisposable {
  private readonly processor: ProcessorTime;

  private constructor(
    node: Server,
    private readonly asker: LineClient,
    private readonly child: Bun.Subprocess,
  ) {
    this.processor = new ProcessorTime(node.pid);
  }

  /** Begins with it: random ones of the million keys, with redis-benchmark. */
  static async start(node: Server, command: "SET" | "GET", pipeline: number): Promise<SteadyLoad> {
    const load = [
      "-c",
      `${CONNECTIONS}`,
      "-r",
      `${KEYS}`,
      "-P",
      `${pipeline}`,
      "-n",
      `${REQUESTS}`,
    ];
    const what = ["-d", "22", "-t", command.toLowerCase()];
    const asker = await LineClient.connect(node.port);
    const child = spawnQuietly([benchmarkPath!, "-p", `${node.port}`, ...load, ...what]);
    return new SteadyLoad(node, asker, child);
  }

  /** What is answered in so many ms, while `meanwhile` is done once in the middle. */
  async interval(ms: number, meanwhile: () => Promise<void>): Promise<Answered> {
    if (this.child.exitCode !== null) throw new Error("redis-benchmark has ended");
    const before = await this.moment();
    const end = Bun.sleep(ms);
    await Bun.sleep(ms / 3);
    await meanwhile();
    await end;
    const after = await this.moment();
    return {
      requests: after.requests - before.requests,
      seconds: (after.ms - before.ms) / 1_000,
      processorSeconds: (after.processorNs - before.processorNs) / 1e9,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.child.kill("SIGKILL");
    await this.child.exited;
    await this.asker.close();
  }

  private async moment(): Promise<{ requests: number; ms: number; processorNs: number }> {
    const { asker, processor } = this;
    asker.sendRaw(request("INFO", "stats"));
    const length = Number((await asker.readLine()).slice(1));
    const text = (await asker.readBytes(length + 2)).toString();
    const [ms, processorNs] = [performance.now(), processor.readNs()];
    return { requests: Number(/total_commands_processed:(\d+)/.exec(text)![1]), ms, processorNs };
  }
}

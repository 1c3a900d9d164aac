/**
 * The processes of the demo: each is this very program, told everything through its environment, so
 * that no file is needed. Each holds the end of a pipe whose other end is here: when this process
 * ends, by whatever means, they stop.
 */
import { createServer } from "node:net";
import { OperationalError } from "../operational-error.ts";
import { exitWithStdin } from "./signals.ts";

const START_DEADLINE_MS = 20_000;
const STOP_DEADLINE_MS = 5_000;
/** Lines of a child's log kept, to show when it dies. */
const LOG_LINES = 20;

/** A running child. */
export interface Child {
  /** "node 1" */
  readonly name: string;
  /** The port its ready line names. */
  readonly port: number;
}

/** Starts children and ends them all together. */
export class DemoCluster {
  /** Rejects, with one clear line and the end of its log, when a child ends unasked. */
  readonly failed: Promise<never>;
  private readonly fail: (error: Error) => void;
  private readonly running = new Set<Bun.Subprocess<"pipe", "pipe", "pipe">>();
  private readonly byName = new Map<string, Bun.Subprocess<"pipe", "pipe", "pipe">>();
  private isStopping = false;

  constructor() {
    const { promise, reject } = Promise.withResolvers<never>();
    promise.catch(() => {}); // whoever waits for it hears of it
    this.failed = promise;
    this.fail = reject;
  }

  /** Starts a child and resolves once it is ready. Rejects when it does not become so. */
  async start(name: string, args: string[], env: Record<string, string> = {}): Promise<Child> {
    if (this.isStopping) throw new OperationalError("the demo is stopping");
    const child = Bun.spawn([...selfCommand(), ...args, exitWithStdin.long], {
      env: { ...foreignEnvironment(), ...env },
      stdin: "pipe",
      stdout: "pipe",
      stderr: "pipe",
      detached: true, // Ctrl-C in the terminal is for this process, which tells the others
    });
    this.running.add(child);
    this.byName.set(name, child);
    const log: string[] = [];
    const { promise: ready, resolve, reject } = Promise.withResolvers<number>();
    const timer = setTimeout(
      () => reject(new OperationalError(`${name} did not start in 20 s`)),
      START_DEADLINE_MS,
    );
    const gathered = [child.stdout, child.stderr].map(async (stream) => {
      for await (const line of linesOf(stream)) {
        const port = / ready: .*:(\d+)$/.exec(line)?.[1];
        if (port) resolve(Number(port));
        if (log.push(line) > LOG_LINES) log.shift();
      }
    });
    void child.exited.then(async (code) => {
      await Promise.all(gathered);
      this.running.delete(child);
      const error = new OperationalError(
        `${name} ended with exit code ${code}\n${log.join("\n")}`.trimEnd(),
      );
      reject(error);
      const isAsked = this.isStopping || this.byName.get(name) !== child;
      if (!isAsked) this.fail(error);
    });
    try {
      return { name, port: await ready };
    } finally {
      clearTimeout(timer);
    }
  }

  /** Ends one child the hard way, as `kill -9` does. Its name is free afterwards. */
  async kill(name: string): Promise<void> {
    const child = this.byName.get(name);
    this.byName.delete(name);
    child?.kill("SIGKILL");
    await child?.exited;
  }

  /** Ends every child: politely, and after 5 s by force. */
  async stop(): Promise<void> {
    this.isStopping = true;
    const ending = [...this.running].map(async (child) => {
      void child.stdin.end();
      const timer = setTimeout(() => child.kill("SIGKILL"), STOP_DEADLINE_MS);
      await child.exited;
      clearTimeout(timer);
    });
    await Promise.all(ending);
  }
}

/** How this program is run: the compiled binary, or Bun with its sources. */
function selfCommand(): string[] {
  return isCompiled() ? [process.execPath] : [process.execPath, Bun.main];
}

/** Whether this is the compiled binary. */
export function isCompiled(): boolean {
  return Bun.main.startsWith("/$bunfs/") || /^B:[/\\]~BUN/.test(Bun.main);
}

/**
 * The first `count` ports in a row from `first` on if all are free, else zeros, which means any.
 */
export async function portsFrom(first: number, count: number): Promise<number[]> {
  const ports = Array.from({ length: count }, (_, i) => first + i);
  const free = await Promise.all(ports.map(isFree));
  return free.every(Boolean) ? ports : ports.map(() => 0);
}

function isFree(port: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const server = createServer();
  server.once("error", () => resolve(false));
  server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  return promise;
}

/** The environment without settings of ours: the demo's nodes are the same everywhere. */
function foreignEnvironment(): Record<string, string | undefined> {
  const kept = Object.entries(process.env).filter(([name]) => !name.startsWith("MERKLE_KV_"));
  return Object.fromEntries(kept);
}

async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let unfinished = "";
  for await (const chunk of stream) {
    const lines = (unfinished + decoder.decode(chunk, { stream: true })).split("\n");
    unfinished = lines.pop()!;
    yield* lines;
  }
  if (unfinished !== "") yield unfinished;
}

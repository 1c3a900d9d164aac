/** Runs the real binary: a node with a configuration of its own in a directory of its own. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { merklekvBinary } from "./binary.ts";
import { DEADLINE_MS, within } from "./eventually.ts";

/** Any run of the binary. */
export interface BinaryProcess {
  readonly pid: number;
  /** Everything written to stdout and stderr so far. */
  output(): string;
  /** Resolves with the first match in the output; rejects when the process ends or a deadline passes. */
  waitFor(pattern: RegExp): Promise<RegExpExecArray>;
  /** Sends a line, or whatever text, to its standard input. */
  write(text: string): void;
  /** Ends its standard input. */
  endInput(): void;
  signal(name: NodeJS.Signals): void;
  /** SIGTERM, then waits; the exit code. Throws when it does not end by a deadline (it is killed). */
  stop(): Promise<number>;
  /** SIGKILL, then waits. */
  kill(): Promise<void>;
  /**
   * Its exit code, or 128 + the signal's number, once it has ended by itself and all that it wrote
   * was read. Throws when it does not end by a deadline (it is killed).
   */
  ended(): Promise<number>;
  /** The same without a deadline, for those who do not wait for it. */
  readonly exited: Promise<number>;
}

/** A running node. */
export interface NodeProcess extends BinaryProcess {
  /** The port clients connect to, on 127.0.0.1. */
  readonly port: number;
  /** And over TLS; 0 where it does not speak it. */
  readonly tlsPort: number;
  /** Where it was started; removed when the process ends. */
  readonly directory: string;
}

/** Variables a test's own environment may hold that would change what the binary does. */
const MEDDLING = /^(MERKLE_KV_|BUN_OPTIONS$|BUN_BE_BUN$)/;

/**
 * Starts the binary, or another `command`, with these arguments. Its standard input is a pipe that
 * stays open.
 */
export async function runBinary(
  args: string[],
  options: { env?: Record<string, string>; cwd?: string; command?: readonly string[] } = {},
): Promise<BinaryProcess> {
  const inherited = Object.entries(process.env).filter(([name]) => !MEDDLING.test(name));
  const child = Bun.spawn([...(options.command ?? [await merklekvBinary()]), ...args], {
    cwd: options.cwd ?? tmpdir(),
    env: { ...Object.fromEntries(inherited), ...options.env },
    stdin: "pipe",
    stdout: "pipe",
    stderr: "pipe",
  });
  let output = "";
  let hasEnded = false;
  let news = Promise.withResolvers<void>(); // settles when one of these two changes
  const announce = () => {
    news.resolve();
    news = Promise.withResolvers<void>();
  };
  const gather = async (stream: ReadableStream<Uint8Array>) => {
    const decoder = new TextDecoder();
    for await (const chunk of stream) {
      output += decoder.decode(chunk, { stream: true });
      announce();
    }
  };
  const gathered = Promise.all([gather(child.stdout), gather(child.stderr)]);
  const exited = child.exited.then(async (code) => {
    await gathered;
    hasEnded = true;
    announce();
    return code;
  });

  const waitFor = async (pattern: RegExp) => {
    const { promise: late, resolve } = Promise.withResolvers<"late">();
    const timer = setTimeout(() => resolve("late"), DEADLINE_MS);
    try {
      for (let timedOut: unknown; ; timedOut = await Promise.race([news.promise, late])) {
        const match = pattern.exec(output);
        if (match) return match;
        if (!hasEnded && !timedOut) continue;
        const problem = hasEnded ? "ended" : `went on for ${DEADLINE_MS} ms`;
        throw new Error(`merklekv ${problem} without ${pattern}; its output:\n${output}`);
      }
    } finally {
      clearTimeout(timer);
    }
  };
  const kill = async () => {
    child.kill("SIGKILL");
    await exited;
  };
  const ended = async () => {
    try {
      return await within(DEADLINE_MS, exited, `merklekv did not end within ${DEADLINE_MS} ms`);
    } catch (error) {
      child.kill("SIGKILL");
      throw new Error(`${(error as Error).message}; its output:\n${output}`);
    }
  };
  const stop = () => {
    child.kill("SIGTERM");
    return ended();
  };
  return {
    pid: child.pid,
    output: () => output,
    waitFor,
    write: (text) => {
      void child.stdin.write(text);
      void child.stdin.flush();
    },
    endInput: () => void child.stdin.end(),
    signal: (name) => child.kill(name),
    stop,
    kill,
    ended,
    exited,
  };
}

/** Runs the binary to its end, as `ended` has it. Standard input holds `input` and no more. */
export async function runToEnd(
  args: string[],
  options: {
    env?: Record<string, string>;
    cwd?: string;
    input?: string;
    command?: readonly string[];
  } = {},
): Promise<{ code: number; output: string }> {
  const child = await runBinary(args, options);
  // Who reads nothing may have ended before it is written.
  if (options.input) child.write(options.input);
  child.endInput();
  return { code: await child.ended(), output: child.output() };
}

/**
 * Starts a node and waits until it is ready. `config` is TOML; without one the node is alone on a
 * free port, and `file` is one that is there. The node ends with the test process, however that
 * ends.
 * Rejects with the node's output when it does not come up.
 */
export async function startNodeProcess(
  options: {
    config?: string;
    file?: string;
    env?: Record<string, string>;
    command?: readonly string[];
  } = {},
): Promise<NodeProcess> {
  const directory = mkdtempSync(join(tmpdir(), "merklekv-test-"));
  const { file = join(directory, "node.toml"), config = soloConfig("solo") } = options;
  if (options.file === undefined) writeFileSync(file, config);
  const child = await runBinary(["serve", "--config", file, "--exit-with-stdin"], {
    ...options,
    cwd: directory,
  });
  const remove = () => rmSync(directory, { recursive: true, force: true });
  void child.exited.then(remove);
  try {
    const ready = await child.waitFor(
      /ready: node \S+ on \S+:(\d+)(?:, TLS on \S+:(\d+))?(?:, HTTP on \S+)?$/m,
    );
    const [, port, tlsPort = "0"] = ready;
    return { ...child, port: Number(port), tlsPort: Number(tlsPort), directory };
  } catch (error) {
    await child.kill();
    throw error;
  }
}

/** The TOML of a node that listens on a free port and replicates to nobody. */
export function soloConfig(nodeId: string): string {
  return `node_id = "${nodeId}"\n[network]\nbind_port = 0\n[mqtt]\nenabled = false\n`;
}

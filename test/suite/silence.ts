/**
 * What is alive where nothing is said any more: a run of tests that hangs mostly waits for a process
 * that it has begun, and ends without a word about it. Takes Linux; elsewhere nothing is told.
 */
import { fstatSync, readdirSync, readFileSync, writeSync } from "node:fs";

/** Longer than a test waits for anything, and shorter than it may take. */
const QUIET_MS = 100_000;
const LOOK_MS = 5_000;
const MOST_COLUMNS = 200;

/**
 * Writes into an open file, which holds what a process says, once it has not grown for `quietMs`,
 * which processes that one has begun and are alive. Returns what ends that.
 */
export function tellOfSilence(
  file: number,
  pid: number,
  { quietMs = QUIET_MS, lookMs = LOOK_MS } = {},
): () => void {
  let [bytes, sinceMs, isTold] = [0, performance.now(), false];
  const timer = setInterval(() => {
    const { size } = fstatSync(file);
    if (size !== bytes) return void ([bytes, sinceMs, isTold] = [size, performance.now(), false]);
    if (isTold || performance.now() - sinceMs < quietMs) return;
    isTold = true;
    const alive = descendantsOf(pid).map((line) => `\n  ${line}`);
    const told = `Nothing was said for ${quietMs / 1_000} s. Alive:${alive.join("") || " nobody"}\n`;
    bytes = size + writeSync(file, told);
  }, lookMs);
  return () => clearInterval(timer);
}

/** Those that a process has begun, and those that they have: id, state, and command line of each. */
export function descendantsOf(pid: number): string[] {
  const children = Map.groupBy(allProcesses(), ({ parent }) => parent);
  const below = (parent: number): string[] =>
    (children.get(parent) ?? []).flatMap((it) => [
      `${it.pid} ${it.state} ${it.command}`.slice(0, MOST_COLUMNS),
      ...below(it.pid),
    ]);
  return below(pid);
}

interface Running {
  readonly pid: number;
  readonly parent: number;
  /** One letter, as in proc(5): S sleeps, R runs, T is stopped, Z is dead and not yet waited for. */
  readonly state: string;
  readonly command: string;
}

function allProcesses(): Running[] {
  const names = process.platform === "linux" ? readdirSync("/proc") : [];
  return names.filter((name) => /^\d+$/.test(name)).flatMap((name) => readProcess(name) ?? []);
}

/** Null for one that is gone meanwhile. */
function readProcess(name: string): Running | null {
  try {
    // The name in brackets may hold anything.
    const [, command, rest] = /^\d+ \((.*)\) ([^)]*)$/s.exec(readOf(name, "stat"))!;
    const [state, parent] = rest.split(" ");
    const line = readOf(name, "cmdline").replaceAll("\0", " ").trim();
    return { pid: Number(name), parent: Number(parent), state, command: line || command };
  } catch {
    return null;
  }
}

function readOf(name: string, file: string): string {
  return readFileSync(`/proc/${name}/${file}`, "latin1");
}

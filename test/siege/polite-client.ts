/**
 * A client that behaves: one request every few milliseconds on one connection, in a process of its own,
 * so that the work of an attack does not count as the node's. Run with the port and the process id
 * of the node as its arguments; it says "begun" once it is answered, goes on until its standard input ends, and then prints a
 * `PoliteReport` as a line of JSON.
 */
import { readdirSync, readFileSync } from "node:fs";
import { connect } from "node:net";

/** What it saw. */
export interface PoliteReport {
  /** Requests answered. */
  readonly requests: number;
  /** The longest it waited for an answer, and what 99 % of answers took at most, in ms. */
  readonly worstMs: number;
  readonly p99Ms: number;
  /**
   * The longest wait without the time in which the node's event loop, this client, or whoever works
   * for the event loop while that sleeps (who writes the journal) could have gone on and the machine
   * had no processor for it: what the wait would be on an idle machine.
   */
  readonly worstIdleMs: number;
  /**
   * The most that the event loop of the node worked during one such wait, in ms of processor time.
   * Like `worstIdleMs`, and unlike the wait, it does not depend on what else the machine does.
   */
  readonly worstWorkMs: number;
  /** Why it could not go on; null when it could. */
  readonly failure: string | null;
  /** Reads that did not show what was written last. */
  readonly wrongReads: number;
  /** What it wrote last to each key and was told OK, which must be there for good. */
  readonly acknowledged: Readonly<Record<string, string>>;
}

/** What a thread has had of the processors so far. */
interface Times {
  /** How long it ran. */
  readonly workMs: number;
  /** How long it could have run, and had to wait. */
  readonly delayedMs: number;
}

const NONE: Times = { workMs: 0, delayedMs: 0 };

/** Keys it writes to, one after the other. */
const KEYS = 500;
const PAUSE_MS = 2;

if (import.meta.main) await visit(Number(process.argv[2]), Number(process.argv[3]));

async function visit(port: number, nodePid: number): Promise<void> {
  const socket = connect({ port, host: "127.0.0.1", noDelay: true });
  const waits: number[] = [];
  const acknowledged: Record<string, string> = {};
  let wrongReads = 0;
  let worstWorkMs = 0;
  let worstIdleMs = 0;
  let isOver = false;
  let failure: string | null = null;
  let received = "";
  let wake = (): void => {};
  socket.on("data", (chunk) => {
    received += chunk;
    wake();
  });
  socket.on("error", (error) => (failure = error.message));
  socket.on("close", () => {
    failure ??= "the node closed the connection";
    isOver = true;
    wake();
  });
  process.stdin.on("data", () => {});
  process.stdin.on("end", () => (isOver = true));

  const ask = async (line: string): Promise<string | null> => {
    const nodeBefore = timesOf(nodePid);
    const helpersBefore = helpersOf(nodePid);
    const ownBefore = timesOf(process.pid);
    const begunMs = performance.now();
    socket.write(`${line}\n`);
    while (!received.includes("\n") && failure === null) {
      await new Promise<void>((resolve) => (wake = resolve));
    }
    const waitMs = performance.now() - begunMs;
    const ownAfter = timesOf(process.pid);
    const nodeAfter = timesOf(nodePid);
    const workMs = nodeAfter.workMs - nodeBefore.workMs;
    const delayedMs =
      nodeAfter.delayedMs - nodeBefore.delayedMs + ownAfter.delayedMs - ownBefore.delayedMs;
    const asleepMs = Math.max(0, waitMs - workMs - delayedMs);
    const helpedLateMs = Math.min(asleepMs, longestDelayMs(helpersBefore, helpersOf(nodePid)));
    waits.push(waitMs);
    worstIdleMs = Math.max(worstIdleMs, waitMs - delayedMs - helpedLateMs);
    worstWorkMs = Math.max(worstWorkMs, workMs);
    if (failure !== null) return null;
    const end = received.indexOf("\n");
    const reply = received.slice(0, end);
    received = received.slice(end + 1);
    return reply;
  };

  await ask("PING");
  console.log("begun");
  for (let i = 0; !isOver; i++) {
    const key = `polite:${i % KEYS}`;
    const value = `value ${i}`;
    const answer = await ask(`SET ${key} ${value}`);
    if (answer === "OK") acknowledged[key] = value;
    else if (answer !== null) failure = `SET was answered with ${answer}`;
    if (failure === null && (await ask(`GET ${key}`)) !== value && failure === null) wrongReads++;
    if (failure !== null) break;
    await Bun.sleep(PAUSE_MS);
  }
  waits.sort((a, b) => a - b);
  const report: PoliteReport = {
    requests: waits.length,
    worstMs: waits.at(-1) ?? 0,
    p99Ms: waits[Math.floor(waits.length * 0.99)] ?? 0,
    worstIdleMs,
    worstWorkMs,
    failure,
    wrongReads,
    acknowledged,
  };
  console.log(JSON.stringify(report));
  process.exit(0);
}

/** Those of a thread: by default of the first one of the process, which has the event loop. */
function timesOf(pid: number, thread: number | string = pid): Times {
  try {
    const [ran, delayed] = readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "utf8").split(" ");
    return { workMs: Number(ran) / 1e6, delayedMs: Number(delayed) / 1e6 };
  } catch {
    // The system does not tell, or the thread is gone.
    return NONE;
  }
}

/** Those of all other threads of a process. */
function helpersOf(pid: number): ReadonlyMap<string, Times> {
  const found = new Map<string, Times>();
  try {
    for (const thread of readdirSync(`/proc/${pid}/task`)) {
      if (thread !== `${pid}`) found.set(thread, timesOf(pid, thread));
    }
  } catch {
    // Likewise.
  }
  return found;
}

function longestDelayMs(before: ReadonlyMap<string, Times>, after: typeof before): number {
  let longestMs = 0;
  for (const [thread, { delayedMs }] of after) {
    longestMs = Math.max(longestMs, delayedMs - (before.get(thread) ?? NONE).delayedMs);
  }
  return longestMs;
}

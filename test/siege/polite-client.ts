/**
 * A client that behaves: one request every few milliseconds on one connection, in a process of its own,
 * so that the work of an attack does not count as the node's. Run with the port and the process id
 * of the node as its arguments; it says "begun" once it is answered, goes on until its standard input ends, and then prints a
 * `PoliteReport` as a line of JSON.
 */
import { readFileSync } from "node:fs";
import { connect } from "node:net";

/** What it saw. */
export interface PoliteReport {
  /** Requests answered. */
  readonly requests: number;
  /** The longest it waited for an answer, and what 99 % of answers took at most, in ms. */
  readonly worstMs: number;
  readonly p99Ms: number;
  /**
   * The most that the event loop of the node worked during one such wait, in ms of processor time.
   * Unlike the wait, it does not depend on what else the machine does.
   */
  readonly worstWorkMs: number;
  /** Why it could not go on; null when it could. */
  readonly failure: string | null;
  /** Reads that did not show what was written last. */
  readonly wrongReads: number;
  /** What it wrote last to each key and was told OK, which must be there for good. */
  readonly acknowledged: Readonly<Record<string, string>>;
}

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
    const workedMs = workMs(nodePid);
    const begunMs = performance.now();
    socket.write(`${line}\n`);
    while (!received.includes("\n") && failure === null) {
      await new Promise<void>((resolve) => (wake = resolve));
    }
    waits.push(performance.now() - begunMs);
    worstWorkMs = Math.max(worstWorkMs, workMs(nodePid) - workedMs);
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
    worstWorkMs,
    failure,
    wrongReads,
    acknowledged,
  };
  console.log(JSON.stringify(report));
  process.exit(0);
}

/**
 * Processor time that the first thread of a process, which has the event loop, has used so far. 0
 * where the system does not tell, or the process is gone.
 */
function workMs(pid: number): number {
  try {
    const [nanoseconds] = readFileSync(`/proc/${pid}/task/${pid}/schedstat`, "utf8").split(" ");
    return Number(nanoseconds) / 1e6;
  } catch {
    return 0;
  }
}

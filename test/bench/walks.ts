/**
 * Walks over a million keys, beside redis: SCAN in steps of a thousand, and KEYS for a thousand
 * of them and for all. How many keys a second are gone through, and how long others wait at most
 * meanwhile: a second client asks 200 times a second. It does so as long again when nobody walks: a
 * machine that does other things lets it wait by itself. So the processor time of each turn of the
 * event loop is looked at besides, in this process.
 */
import { fill, KEYS, request } from "./load.ts";
import { Turns } from "./own-turns.ts";
import { PacedLoad } from "./paced-load.ts";
import { inTurns, type Plan } from "./plan.ts";
import type { Measurement } from "./report.ts";
import { redisPath, type Server, startMerklekv, startRedis, untilAtRest } from "./servers.ts";

const AT_LEAST = 1.0;
const WAIT_AT_MOST_MS = 5;
const TURN_AT_MOST_MS = 2;
const PINGS_A_SECOND = 200;
const STEP = "1000";

/** Walks, and returns how many keys were found. */
type Walk = (client: Walker) => Promise<number>;

/** What is walked, and how many keys are to be found. */
const WALKS: readonly { name: string; keys: number; walk: Walk }[] = [
  { name: "SCAN of 1,000,000 keys, 1,000 at a time", keys: KEYS, walk: scan },
  {
    name: "KEYS, 1,000 of 1,000,000",
    keys: 1_000,
    walk: (client) => client.keys("key:000000123*"),
  },
  { name: "KEYS, all 1,000,000", keys: KEYS, walk: (client) => client.keys("*") },
];

/** The part. */
export async function walks(plan: Plan): Promise<Measurement[]> {
  await using ours = await startMerklekv("bench", { engine: "memory" });
  await using redis = redisPath === null ? null : await startRedis();
  const servers = redis === null ? [ours] : [ours, redis];
  for (const server of servers) {
    await fill(server, "SET");
    await untilAtRest(server);
  }
  const measurements: Measurement[] = [];
  for (const { name, keys, walk } of WALKS) {
    const runs = await inTurns(plan, servers, name, (server) => timed(server, keys, walk));
    const others = (of: (run: Timed) => number) =>
      runs[1] && { otherName: "redis", others: runs[1].map(of) };
    measurements.push(
      {
        name: `${name}: keys gone through`,
        unit: "/s",
        ours: runs[0].map((run) => run.perSecond),
        ...others((run) => run.perSecond),
        target: { of: "ratio", atLeast: AT_LEAST },
      },
      {
        name: `${name}: longest wait of others`,
        unit: "ms",
        ours: runs[0].map((run) => run.waitMs),
        ...others((run) => run.waitMs),
        target: { of: "value", atMost: WAIT_AT_MOST_MS },
      },
      {
        name: `${name}: the same when nobody walks`,
        unit: "ms",
        ours: runs[0].map((run) => run.quietWaitMs),
        ...others((run) => run.quietWaitMs),
      },
    );
  }
  return [...measurements, ...(await turns(plan))];
}

/** How long KEYS holds the event loop at a time. Nothing is compiled yet when it is first asked. */
async function turns(plan: Plan): Promise<Measurement[]> {
  const inProcess = new Turns();
  const longestMs = async (): Promise<number> =>
    Math.max(...(await inProcess.while(request("KEYS", "*"))));
  const first = await longestMs();
  const ours: number[] = [];
  for (let round = 0; round < plan.rounds; round++) ours.push(await longestMs());
  const name = "KEYS, all 1,000,000: longest turn, processor time";
  return [
    { name: `${name}, the first time`, unit: "ms", ours: [first] },
    { name, unit: "ms", ours, target: { of: "value", atMost: TURN_AT_MOST_MS } },
  ];
}

interface Timed {
  readonly perSecond: number;
  readonly waitMs: number;
  /** The same when nobody walks, for as long. */
  readonly quietWaitMs: number;
}

async function timed(server: Server, keys: number, walk: Walk): Promise<Timed> {
  const client = new Walker();
  await client.connect(server.port);
  const next = (): string => "PING\r\n";
  const pings = await PacedLoad.start(server, { perSecond: PINGS_A_SECOND, connections: 1, next });
  await Bun.sleep(100);
  pings.slowestMs = 0;
  const startedMs = performance.now();
  const found = await walk(client);
  const tookMs = performance.now() - startedMs;
  const waitMs = pings.slowestMs;
  pings.slowestMs = 0;
  await Bun.sleep(tookMs);
  const quietWaitMs = pings.slowestMs;
  await pings.stop();
  client.end();
  if (found !== keys) throw new Error(`${server.name} found ${found} keys, not ${keys}`);
  return { perSecond: (KEYS * 1_000) / tookMs, waitMs, quietWaitMs };
}

async function scan(client: Walker): Promise<number> {
  let found = 0;
  let cursor = "0";
  do {
    // `*2`, the cursor, and then the list.
    found += await client.list(request("SCAN", cursor, "COUNT", STEP), 4);
    cursor = client.head[2];
  } while (cursor !== "0");
  return found;
}

const LF = 0x0a;

/** Reads lists of keys and only counts them: the load shares this process with who waits. */
class Walker {
  /** The lines of the reply up to the length of its list. */
  head: string[] = [];
  private headLines = 0;
  private headText = "";
  private linesLeft = 0;
  private replied = Promise.withResolvers<void>();
  private socket: Bun.Socket | null = null;

  async connect(port: number): Promise<void> {
    this.socket = await Bun.connect({ hostname: "127.0.0.1", port, socket: this });
  }

  keys(pattern: string): Promise<number> {
    return this.list(request("KEYS", pattern), 1);
  }

  /** How long the list is that a request is answered with; its length is in line `headLines`. */
  async list(asked: string, headLines: number): Promise<number> {
    this.head = [];
    this.headText = "";
    this.headLines = headLines;
    this.replied = Promise.withResolvers<void>();
    this.socket!.write(asked);
    await this.replied.promise;
    return Number(this.head.at(-1)!.slice(1));
  }

  end(): void {
    this.socket!.end();
  }

  readonly data = (_socket: Bun.Socket, chunk: Uint8Array): void => {
    let at = 0;
    while (this.head.length < this.headLines && at < chunk.length) {
      const byte = chunk[at++];
      if (byte !== LF) this.headText += String.fromCharCode(byte);
      else {
        this.head.push(this.headText.trimEnd());
        this.headText = "";
        if (this.head.length === this.headLines) {
          this.linesLeft = 2 * Number(this.head.at(-1)!.slice(1));
        }
      }
    }
    for (; at < chunk.length; at++) if (chunk[at] === LF) this.linesLeft--;
    if (this.head.length === this.headLines && this.linesLeft === 0) this.replied.resolve();
  };

  readonly close = (): void => this.replied.reject(new Error("the server hung up"));
}

/** A load of so many requests a second, whatever the answers take: redis-benchmark knows only as many as it can. */
import type { Server } from "./servers.ts";

/** What a load is to be. */
export interface Pace {
  readonly perSecond: number;
  readonly connections: number;
  /** The next request: a line that is answered with a line. */
  readonly next: () => string;
}

/** Requests sent together, and not answered in full. */
interface Sent {
  atMs: number;
  count: number;
}

/** A load under way, from its making until `stop`. */
export class PacedLoad {
  /** Requests sent so far. */
  sent = 0;
  /** The longest that an answer took since this was set to 0, in ms. */
  slowestMs = 0;
  private readonly startedMs = performance.now();
  private readonly timer: ReturnType<typeof setInterval>;
  private nextLane = 0;

  private constructor(
    private readonly lanes: readonly Lane[],
    private readonly pace: Pace,
  ) {
    this.timer = setInterval(() => this.send(), 1);
  }

  /** Connects and begins. */
  static async start(server: Server, pace: Pace): Promise<PacedLoad> {
    const lanes = Array.from({ length: pace.connections }, () => new Lane());
    await Promise.all(lanes.map((lane) => lane.connect(server.port)));
    const load = new PacedLoad(lanes, pace);
    for (const lane of lanes)
      lane.onAnswer = (ms) => (load.slowestMs = Math.max(load.slowestMs, ms));
    return load;
  }

  /** Ends when all is answered. Throws when the server fell behind by more than ten seconds. */
  async stop(): Promise<void> {
    clearInterval(this.timer);
    const deadlineMs = performance.now() + 10_000;
    while (this.lanes.some((lane) => lane.isWaiting)) {
      if (performance.now() > deadlineMs) throw new Error("requests were not answered within 10 s");
      await Bun.sleep(5);
    }
    for (const lane of this.lanes) lane.end();
  }

  /** Sends what is due, all on one connection; the next takes its turn after it. */
  private send(): void {
    const elapsedMs = performance.now() - this.startedMs;
    const due = Math.floor((elapsedMs * this.pace.perSecond) / 1000) - this.sent;
    if (due <= 0) return;
    let batch = "";
    for (let i = 0; i < due; i++) batch += this.pace.next();
    this.sent += due;
    this.lanes[this.nextLane].write(batch, due);
    this.nextLane = (this.nextLane + 1) % this.lanes.length;
  }
}

/** One connection of it. */
class Lane {
  onAnswer = (_ms: number): void => {};
  private socket: Bun.Socket | undefined;
  private unsent: Buffer = Buffer.alloc(0);
  private readonly waiting: Sent[] = [];

  async connect(port: number): Promise<void> {
    this.socket = await Bun.connect({
      hostname: "127.0.0.1",
      port,
      socket: { data: (_socket, chunk) => this.take(chunk), drain: () => this.drain() },
    });
  }

  get isWaiting(): boolean {
    return this.waiting.length > 0;
  }

  write(batch: string, count: number): void {
    this.waiting.push({ atMs: performance.now(), count });
    this.unsent = Buffer.concat([this.unsent, Buffer.from(batch)]);
    this.drain();
  }

  end(): void {
    this.socket!.end();
  }

  private drain(): void {
    if (this.unsent.length === 0) return;
    const taken = this.socket!.write(this.unsent);
    if (taken > 0) this.unsent = this.unsent.subarray(taken);
  }

  private take(chunk: Uint8Array): void {
    let answers = 0;
    for (const byte of chunk) if (byte === 0x0a) answers++;
    const now = performance.now();
    while (answers > 0) {
      const first = this.waiting[0];
      this.onAnswer(now - first.atMs);
      const taken = Math.min(answers, first.count);
      answers -= taken;
      first.count -= taken;
      if (first.count === 0) this.waiting.shift();
    }
  }
}

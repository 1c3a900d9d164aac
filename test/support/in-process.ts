/**
 * A node's client side without a network: real store, commands and connections over a socket that
 * a test controls byte by byte. Time stands still until it is moved.
 */
import type { Socket } from "bun";
import { noAudit, type SyncControl } from "../../src/ports.ts";
import { MemoryJournal } from "../../src/durability/journal.ts";
import { nodeStateOf, serverFacts } from "../../src/commands/facts.ts";
import type { User } from "../../src/access/user.ts";
import { CommandTracing } from "../../src/commands/command-tracing.ts";
import { CommandWatch } from "../../src/commands/command-watch.ts";
import type { Outcome } from "../../src/config/live-config.ts";
import type { Services } from "../../src/commands/services.ts";
import { Statistics } from "../../src/commands/statistics.ts";
import { ReadingTurns } from "../../src/reading-turns.ts";
import { ClientSession } from "../../src/commands/client-session.ts";
import { HybridClock } from "../../src/core/data/clock.ts";
import { Store } from "../../src/core/store/store.ts";
import { within } from "../../src/fact.ts";
import { OperationalError } from "../../src/operational-error.ts";
import { silentLogger, type Fields } from "../../src/observability/log.ts";
import { PLAIN, Reply, type Dialect } from "../../src/protocol/reply.ts";
import { RespParser } from "../../src/protocol/resp-parser.ts";
import { Deadlines } from "../../src/server/deadlines.ts";
import { ClientMemory } from "../../src/server/client-memory.ts";
import { Connection, type SharedByConnections } from "../../src/server/connection.ts";
import { JournalGate } from "../../src/server/journal-gate.ts";
import { ReadAhead } from "../../src/server/read-ahead.ts";
import { ThrottledWarnings } from "../../src/server/throttled-warnings.ts";
import { PipelineSlice } from "../../src/server/pipeline-slice.ts";
import { RunQueue } from "../../src/timing.ts";
import { eventLoop } from "../../src/world.ts";
import { commandTable } from "../../src/commands/table.ts";
import { testRights } from "./users.ts";
import { seeded } from "./random.ts";

/** What a server may be made with; sizes in bytes. */
export interface ServerOptions {
  readonly maxLineBytes?: number;
  readonly maxValueBytes?: number;
  readonly maxOutputBytes?: number;
  readonly memoryLimitBytes?: number;
  readonly clientMemoryBytes?: number;
  /** Whether a slice used up makes those who come in the same turn wait for the next. */
  readonly isPatient?: boolean;
  /** Replaces what `Services` would do. */
  readonly services?: Partial<Services>;
}

const NO_NETWORK = "there is no network";
/** Of a node that reaches nobody. */
export const noSynchronization: SyncControl = {
  sync: async () => ({ ok: false, reason: NO_NETWORK, rootsEqual: null, hasSetAside: false }),
  isPeer: () => false,
  accept: () => NO_NETWORK,
  passOn: () => NO_NETWORK,
  forget: () => NO_NETWORK,
  resetPeaks() {},
};
const noDisk = async (): Promise<never> => {
  throw new OperationalError("there is no disk");
};
const UNCHANGEABLE: Outcome = { ok: false, problems: ["the settings of a test stay"] };

/** See the file header. */
export class InProcessServer {
  nowMs = 1_700_000_000_000;
  /** How much time goes by, as far as slices of work know, whenever one looks at the clock. */
  lookMs = 0;
  private runMs = 0;
  readonly store: Store;
  readonly statistics = new Statistics();
  readonly watch = new CommandWatch({ log_slower_than: -1, max_len: 128 });
  readonly shared: SharedByConnections;
  readonly clients: InProcessClient[] = [];
  /** What commands reported as bugs; a test expects none. */
  readonly bugs: unknown[] = [];
  /** What was said in the log. */
  readonly warnings: Fields[] = [];
  /** Input that was thrown away unread. */
  discardedBytes = 0;
  private nextId = 1;

  constructor(options: ServerOptions = {}) {
    const maxLineBytes = options.maxLineBytes ?? 1_048_576;
    const maxValueBytes = options.maxValueBytes ?? 8_388_608;
    const maxOutputBytes = options.maxOutputBytes ?? 67_108_864;
    this.store = new Store({
      clock: new HybridClock(() => this.nowMs, 1_000),
      origin: { high: 1, low: 2 },
      hashSeed: { high: 3, low: 4 },
      random: seeded(1),
      memoryLimitBytes: options.memoryLimitBytes ?? 0,
      maxClockSkewMs: 1_000,
      tombstoneGraceMs: 1_000,
    });
    const services: Services = {
      version: "1.0.0",
      nodeId: "test",
      port: () => 7379,
      uptimeMs: () => this.nowMs,
      startedUnixMs: 0,
      random: seeded(2),
      statistics: this.statistics,
      watch: this.watch,
      tracing: CommandTracing.none(),
      limits: { maxValueBytes, maxReplyBytes: maxOutputBytes },
      replication: null,
      audit: noAudit,
      ...testRights(),
      log: silentLogger,
      randomWords: (count: number) => new Uint32Array(count),
      durability: new MemoryJournal(),
      time: { state: "trusted", writeRefusal: null, knowsExpiries: true, hasPeers: () => false },
      backups: { create: noDisk, read: noDisk, remove: noDisk },
      compact: noDisk,
      memoryBytes: () => 1_048_576,
      heapBytes: () => 1_048_576,
      merkleRoot: () => "0".repeat(64),
      merkleKey: () => "name",
      clientList: () => this.clients.map(({ session }) => session.describe(this.nowMs, 0)),
      info: () => [
        { title: "Server", facts: within(() => nodeStateOf(services, this.store), serverFacts) },
      ],
      members: () => [],
      killUser: (user: User) => this.killUser(user),
      killClients: (idOrAddress: string) => this.kill(idOrAddress),
      settings: {
        values: () => new Map([["save", ""]]),
        set: async () => UNCHANGEABLE,
        unset: async () => UNCHANGEABLE,
        reload: async () => UNCHANGEABLE,
      },
      reportBug: (error: unknown) => void this.bugs.push(error),
      shutdown: () => {
        for (const { connection } of this.clients) connection.end();
      },
      synchronization: noSynchronization,
      ...options.services,
    };
    const runQueue = new RunQueue(eventLoop);
    const notices = new ThrottledWarnings(
      { ...silentLogger, warn: (message, fields) => this.warnings.push({ message, ...fields }) },
      () => this.nowMs,
    );
    // Who comes after a slice was used up is served at once, unless a test is about that.
    if (options.isPatient !== true) runQueue.spend = () => {};
    this.shared = {
      context: {
        store: this.store,
        services,
        session: new ClientSession(0, "", 0, PLAIN, services.users.nobody),
        commands: commandTable,
        runQueue,
        copiedBytes: 0,
        rights: null,
      },
      limits: { maxLineBytes, maxOutputBytes },
      parser: new RespParser(maxValueBytes, maxValueBytes + maxLineBytes),
      reply: new Reply(maxOutputBytes + 1_048_576),
      readAhead: new ReadAhead(this.store),
      runQueue,
      readingTurns: new ReadingTurns(runQueue.timing),
      journalGate: new JournalGate(services.durability, runQueue),
      notices,
      slice: new PipelineSlice(() => (this.runMs += this.lookMs)),
      memory: new ClientMemory(
        options.clientMemoryBytes ?? Infinity,
        { [Symbol.iterator]: () => this.clients.map(({ connection }) => connection).values() },
        runQueue,
        () => this.nowMs,
      ),
      deadlines: new Deadlines(
        () => 30,
        this.statistics,
        notices,
        () => this.nowMs,
      ),
      nowMs: () => this.nowMs,
      onDiscarded: (count) => (this.discardedBytes += count),
    };
  }

  /** A new connection. */
  connect(dialect: Dialect = PLAIN, host = "127.0.0.1"): InProcessClient {
    const id = this.nextId++;
    const address = `${host}:${id}`;
    const user = this.shared.context.services.users.arrive(address, null);
    const session = new ClientSession(id, address, this.nowMs, dialect, user);
    const client = new InProcessClient(this.shared, session);
    this.clients.push(client);
    return client;
  }

  private killUser(user: User): number {
    const found = this.clients.filter(({ session }) => session.user === user);
    for (const { connection } of found) connection.end();
    return found.length;
  }

  private kill(idOrAddress: string): number {
    const found = this.clients.filter(
      ({ session }) => String(session.id) === idOrAddress || session.address === idOrAddress,
    );
    for (const { connection } of found) connection.end();
    return found.length;
  }
}

/** One connection and the other end of its socket. */
export class InProcessClient {
  readonly connection: Connection;
  /** Bytes the socket takes before it is full; `read` makes room again. */
  capacity = Infinity;
  isPaused = false;
  /** The server has said all it will. */
  isShutDown = false;
  isTerminated = false;
  /** Calls to the socket's `write`. */
  writes = 0;
  private readonly received: Buffer[] = [];

  constructor(
    shared: SharedByConnections,
    readonly session: ClientSession,
  ) {
    const socket = {
      write: (bytes: Uint8Array, at = 0, length = bytes.length) =>
        this.take(bytes.subarray(at, at + length)),
      pause: () => (this.isPaused = true),
      resume: () => (this.isPaused = false),
      shutdown: () => (this.isShutDown = true),
      terminate: () => (this.isTerminated = true),
    };
    this.connection = new Connection(socket as unknown as Socket<Connection>, session, shared);
  }

  /** Delivers bytes in one chunk, as if they had arrived just now. Text is latin1. */
  send(data: string | Uint8Array): this {
    // A copy, because the connection may write into what it is given.
    this.connection.onData(Uint8Array.from(Buffer.from(data as string, "latin1")));
    return this;
  }

  /** Delivers chunks in turn, as the runtime would: none while reading is paused. */
  async deliver(chunks: Iterable<Uint8Array>): Promise<void> {
    for (const chunk of chunks) {
      await this.whenReading();
      this.send(chunk);
    }
    await this.whenReading();
  }

  /** What the server has sent since the last call, as latin1 text. */
  read(): string {
    const text = Buffer.concat(this.received).toString("latin1");
    this.received.length = 0;
    return text;
  }

  /** Lets the socket take that many more bytes and tells the connection so. */
  drain(capacity: number): void {
    this.capacity += capacity;
    this.connection.onDrain();
  }

  private take(bytes: Uint8Array): number {
    if (this.isShutDown || this.isTerminated) return -1;
    this.writes++;
    const count = Math.min(bytes.length, this.capacity);
    this.capacity -= count;
    this.received.push(Buffer.from(bytes.subarray(0, count)));
    return count;
  }

  /** Waits until the connection reads; what takes long goes on at turns of the event loop. */
  async whenReading(): Promise<void> {
    while (this.isPaused && this.capacity > 0) {
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
}

/** A request as a RESP array of bulk strings; text is latin1. */
export function respRequest(...parts: (string | Uint8Array)[]): Buffer {
  const pieces = [Buffer.from(`*${parts.length}\r\n`)];
  for (const part of parts) {
    const bytes = Buffer.from(part as string, "latin1");
    pieces.push(Buffer.from(`$${bytes.length}\r\n`), bytes, Buffer.from("\r\n"));
  }
  return Buffer.concat(pieces);
}

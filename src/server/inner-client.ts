/**
 * Requests that do not come on the client port, run as if they did: by the same commands, with the
 * rights of a user, counted and audited, held back while the journal is behind, and answered when
 * what they wrote, or may have read, is safe.
 */
import type { User } from "../access/user.ts";
import { ClientSession } from "../commands/client-session.ts";
import { releaseLarge, releaseLargeOf, unfilled } from "../core/bytes.ts";
import { heldValue } from "../commands/long-value.ts";
import type { Context, ReplyContinuation } from "../commands/command.ts";
import type { Services } from "../commands/services.ts";
import { executeArray } from "../commands/execute.ts";
import {
  ClientGone,
  LostWrite,
  type EntryFacts,
  type HeldValue,
  type InnerClient,
  type RequestTurn,
  type Watcher,
} from "../ports.ts";
import { PLAIN, RESP3, Reply } from "../protocol/reply.ts";
import type { Request } from "../protocol/request.ts";
import { readRespReply, RespError } from "../protocol/resp-value.ts";
import { nextTurn } from "../timing.ts";
import type { TraceContext } from "../trace-context.ts";
import { KeyWatch, entryFacts } from "./key-watch.ts";
import { JournalGate } from "./journal-gate.ts";
import { WordRequest, type Word } from "./word-request.ts";

const FIRST_REPLY_BYTES = 1_024;
/** A reply may be so much longer than the longest value. */
const BESIDE_VALUE_BYTES = 1024 * 1024;
/** Who has made so much to write waits with others who do, in its next request. */
const HEAVY_BYTES = 64 * 1024;
const MOST_HEAVY_HOSTS = 1_024;
/** A longer reply keeps the buffer that it was written in. */
const MOST_COPIED_BYTES = 2 * 1024 * 1024;
/** Long replies that are gathered at a time. */
const MOST_LONG_REPLIES = 4;

/** Whence a client comes: its address, `host:port`, and the name in its certificate, if any. */
export type InnerOrigin = Pick<ClientSession, "address" | "certificateName">;

/** All of them at a node. */
export class InnerClients {
  /** Those whose writes are not safe yet. */
  private readonly unsafe = new Set<(error: LostWrite) => void>();
  private readonly keyWatch: KeyWatch;
  private readonly context: Context;
  private isStopped = false;
  private longReplies = 0;
  private readonly waitingToAsk: (() => void)[] = [];

  /** What the commands of turns are put and answered in: theirs until the next one is run. */
  private words = new WordRequest();
  private readonly reply = new Reply(0, FIRST_REPLY_BYTES);

  /** Hosts whose last request made much to write. */
  private readonly heavyHosts = new Set<string>();

  /** `context` is theirs alone, the gate is that of all clients. */
  constructor(
    context: Context,
    private readonly gate: JournalGate,
  ) {
    const { services, runQueue, store } = context;
    this.context = { ...context, services: withShorterReplies(services) };
    this.keyWatch = new KeyWatch(store, services.durability, runQueue.timing);
  }

  /** A client of that user, who comes so, and whose commands belong to that trace. */
  open(user: User, from: InnerOrigin, trace: TraceContext | null = null): InnerClient {
    const { address, certificateName } = from;
    const session = new ClientSession(
      0,
      address,
      this.context.runQueue.timing.nowMs(),
      PLAIN,
      user,
    );
    session.certificateName = certificateName;
    session.respDialect = RESP3;
    session.trace = trace;
    return {
      inTurn: (work) => this.inTurn(session, work),
      ask: async (words) => readRespReply(await this.ask(session, words)),
      askForBytes: (words) => this.askForBytes(session, words),
      watch: (watcher) => this.watch(user, watcher),
      end: () => session.end(),
    };
  }

  /** Ends what goes on for a user. */
  endUser(user: User): void {
    this.keyWatch.endUser(user);
  }

  /** Nothing is run any more, and nobody told of changes: the node is stopping. */
  stop(): void {
    this.isStopped = true;
    this.keyWatch.stop();
  }

  /** The disk has failed: nobody knows what becomes of writes that were not safe. */
  onFailure(): void {
    const { failure } = this.context.services.durability;
    const error = new LostWrite(failure?.message ?? "the disk has failed");
    for (const reject of this.unsafe) reject(error);
    this.unsafe.clear();
    this.gate.onSafe();
  }

  private async inTurn<T>(session: ClientSession, work: (turn: RequestTurn) => T): Promise<T> {
    const turn: RequestTurn = {
      run: (words) => {
        const later = this.executeNow(session, words);
        if (later !== undefined) throw new Error(`${String(words[0])} does not answer at once`);
        return readRespReply(this.reply.written);
      },
      get: (key) => this.get(session, key),
      has: (key) => this.context.store.find(key, 0, key.length) >= 0,
      entry: (key) => this.entry(key),
    };
    const [value, safe] = await this.enter(session, () => work(turn));
    await safe;
    return value;
  }

  private get(session: ClientSession, key: Uint8Array): HeldValue | RespError | null {
    const later = this.executeNow(session, ["GET", key]);
    if (later !== undefined) return heldValue(session);
    const value = readRespReply(this.reply.written);
    if (value instanceof RespError) return value;
    if (!(value instanceof Uint8Array)) return null;
    const bytes = unfilled(value.length);
    bytes.set(value);
    return { bytes, release: () => releaseLarge(bytes) };
  }

  /** A few at a time, for each may take much memory until it is there. */
  private async askForBytes(session: ClientSession, words: readonly Word[]): Promise<Uint8Array> {
    if (this.longReplies >= MOST_LONG_REPLIES) {
      await new Promise<void>((resolve) => this.waitingToAsk.push(resolve));
      // Otherwise all who wait would be answered in one turn of the event loop.
      await nextTurn(this.context.runQueue.timing);
    } else this.longReplies++;
    try {
      return await this.ask(session, words);
    } finally {
      // Whoever is next has the place that becomes free.
      const next = this.waitingToAsk.shift();
      if (next === undefined) this.longReplies--;
      else next();
    }
  }

  private async ask(session: ClientSession, words: readonly Word[]): Promise<Uint8Array> {
    const reply = this.newReply();
    const written = new WordRequest();
    const [later, safe] = await this.enter(session, () => {
      written.write(words);
      const later = this.execute(session, written.request, reply);
      if (later === undefined) written.forget();
      return later;
    });
    if (later !== undefined) {
      const write = await later;
      reply.dialect = RESP3;
      while (write(reply) === true) await nextTurn(this.context.runQueue.timing);
      // What only reads was given up when it had gone, so this may be no whole reply.
      if (session.isOver) throw new ClientGone("The client has gone");
    }
    await safe;
    return trimmed(reply.written);
  }

  private newReply(): Reply {
    return new Reply(this.mostReplyBytes, FIRST_REPLY_BYTES);
  }

  private get mostReplyBytes(): number {
    return 2 * this.context.services.limits.maxReplyBytes;
  }

  /** Runs what answers at once, in the request and to the reply that all of these share. */
  private executeNow(
    session: ClientSession,
    words: readonly Word[],
  ): Promise<ReplyContinuation> | undefined {
    const { reply, words: written } = this;
    reply.reset();
    reply.maxBytes = this.mostReplyBytes;
    written.write(words);
    const later = this.execute(session, written.request, reply);
    // Who goes on with a request needs the memory that it lies in.
    if (written.request.detached === null) written.forget();
    else this.words = new WordRequest();
    return later;
  }

  /**
   * Does it when the journal has room. With its result comes a promise that what was written is
   * safe, to be awaited at once.
   */
  private enter<T>(
    session: ClientSession,
    work: () => T,
  ): Promise<readonly [T, Promise<void> | undefined]> {
    const { heavyHosts } = this;
    const { address } = session;
    const host = address.slice(0, address.lastIndexOf(":"));
    const { promise, resolve, reject } =
      Promise.withResolvers<readonly [T, Promise<void> | undefined]>();
    const run = (): void => {
      // The log may be closed already.
      if (this.isStopped) return reject(new ClientGone("The node is stopping"));
      if (session.isOver) return reject(new ClientGone("The client has gone"));
      const { durability } = this.context.services;
      const before = durability.position;
      const { store } = this.context;
      store.beginRun();
      try {
        const value = work();
        if (durability.position - before < HEAVY_BYTES) heavyHosts.delete(host);
        else if (heavyHosts.size < MOST_HEAVY_HOSTS) heavyHosts.add(host);
        resolve([value, this.whenSafe(before)]);
      } catch (error) {
        reject(error);
      } finally {
        store.endRun();
      }
    };
    if (this.gate.canEnter) run();
    else this.gate.wait(run, !heavyHosts.has(host));
    return promise;
  }

  /** Undefined when there is nothing to wait for. */
  private whenSafe(positionBefore: number): Promise<void> | undefined {
    const { durability } = this.context.services;
    const { position, safePosition, failure } = durability;
    if (safePosition >= position) return undefined;
    // Reads are answered at once only while nothing can be kept.
    if (failure !== null && position === positionBefore) return undefined;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.unsafe.add(reject);
    const onSafe = (): void => {
      this.unsafe.delete(reject);
      resolve();
    };
    durability.whenSafe({ onSafe });
    return promise;
  }

  private execute(
    session: ClientSession,
    request: Request,
    reply: Reply,
  ): Promise<ReplyContinuation> | undefined {
    const { context } = this;
    context.session = session;
    const row = context.commands.row(request.bytes, request.start(-1), request.length(-1));
    if (row?.command.needsConnection === true) {
      reply.dialect = session.respDialect;
      return void reply.respError("ERR this command needs a connection of the client port");
    }
    return executeArray(request, reply, context) ?? undefined;
  }

  private entry(key: Uint8Array): EntryFacts | null {
    const { store } = this.context;
    const id = store.find(key, 0, key.length);
    return id < 0 ? null : entryFacts(store, id);
  }

  private watch(user: User, watcher: Watcher): (() => void) | null {
    const { users } = this.context.services;
    const get = users.permissions.find("get")!;
    return this.keyWatch.add(user, watcher, () => user.definition.readableBy(get));
  }
}

/**
 * What is asked within the node is gathered before any of it is sent, so it is to be shorter than
 * on a connection.
 */
function withShorterReplies(services: Services): Services {
  const limits = {
    get maxValueBytes() {
      return services.limits.maxValueBytes;
    },
    get maxReplyBytes() {
      const { maxReplyBytes, maxValueBytes } = services.limits;
      return Math.min(maxReplyBytes, maxValueBytes + BESIDE_VALUE_BYTES);
    },
  };
  return Object.create(services, { limits: { value: limits } }) as Services;
}

/**
 * The same bytes, which are kept until they are read, without the room that their buffer has grown
 * by. Of very long ones there are few at a time, and a copy of one takes long.
 */
function trimmed(written: Uint8Array): Uint8Array {
  const { length, buffer } = written;
  if (length > MOST_COPIED_BYTES || buffer.byteLength < 1.25 * length) return written;
  const copy = unfilled(length);
  copy.set(written);
  releaseLargeOf(written);
  return copy;
}

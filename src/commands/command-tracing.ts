/**
 * Which commands are traced, and their spans: one for the command, from its beginning until its
 * reply may leave, and in it one for the time that its writes wait for the disk.
 *
 * Traced is what a client asks for by a context of its own, and of all else one in so many. Those
 * are counted down to, which costs next to nothing for all between, and are bounded in a second:
 * where commands come by the hundred thousand, the spans of one in a hundred would take more time
 * than all the others.
 */
import type { ChangeObserver } from "../core/store/outcome.ts";
import type { Durability } from "../ports.ts";
import type { Reply } from "../protocol/reply.ts";
import { inTrace, noTracer, type Span, type TracedWrites, type Tracer } from "../tracer.ts";
import type { AskedRow } from "./asked-row.ts";
import type { ClientSession } from "./client-session.ts";

/** No more than this part of so many commands are traced in a second by the ratio alone. */
const MOST_CANDIDATES_A_SECOND = 1_000;
/** What was not traced of that in this time may be made up for at once, in ms. */
const BURST_MS = 1_000;
/** How much further it is to the next look at the clock, at most, while commands come too soon. */
const MOST_STRIDE = 32;

/** Where a command is run. */
interface Surroundings {
  readonly session: ClientSession;
  readonly store: { readonly observers: ChangeObserver[] };
  readonly services: { readonly durability: Durability };
}

/** What it is made with. */
export interface CommandTracingOptions {
  readonly tracer: Tracer;
  /** Told what traced commands write; null where that is told nobody. */
  readonly writes: TracedWrites | null;
  /** From 0 to below 1. */
  readonly random: () => number;
  /** Milliseconds of a monotonic clock. */
  readonly nowMs: () => number;
}

/** See the file header. */
export class CommandTracing {
  private readonly tracer: Tracer;
  /** So many more commands until the next that is traced. */
  private left = 1;
  /** Distances are so much longer: twice with each that came too soon since the last traced one. */
  private stride = 1;
  /** Each that is traced by the ratio uses up a piece of time; used up is what is before this. */
  private usedUpToMs = 0;

  constructor(private readonly options: CommandTracingOptions) {
    this.tracer = options.tracer;
    this.arrange();
  }

  /** Traces nothing. */
  static none(): CommandTracing {
    return new CommandTracing({ tracer: noTracer, writes: null, random: () => 0, nowMs: () => 0 });
  }

  /** The tracer's ratio is another than before, or whether it is on. */
  arrange(): void {
    this.stride = 1;
    this.left = this.distance();
    this.usedUpToMs = Math.min(this.usedUpToMs, this.options.nowMs());
  }

  /** Whether the command that this client gives now is traced: then it is run by `run`. */
  isDue(session: ClientSession): boolean {
    // Off is a long way to the next one: there is nothing else to look at.
    if (session.trace === null && --this.left > 0) return false;
    return this.tracer.isOn && (session.trace !== null || this.isTurn());
  }

  /** Runs a command by `execute`, and tells of it. */
  run<Later extends Promise<unknown>>(
    row: AskedRow,
    reply: Reply,
    { session, services, store }: Surroundings,
    execute: () => void | Later,
  ): void | Later {
    const { durability } = services;
    const { errors } = reply;
    const { writes } = this.options;
    const span = this.begin(row, session);
    const before = durability.position;
    if (writes !== null) {
      writes.context = span.context;
      store.observers.push(writes);
    }
    try {
      const execution = inTrace(span.context, execute);
      if (execution === undefined) this.end(span, reply.errors > errors, before, durability);
      else void execution.then(() => this.end(span, false, before, durability));
      return execution;
    } finally {
      if (writes !== null) store.observers.splice(store.observers.indexOf(writes), 1);
    }
  }

  private begin({ command }: AskedRow, { id, address, trace }: ClientSession): Span {
    const [name] = command.names;
    // Who comes by HTTP has no connection here; the request of HTTP is what is answered.
    const kind = id === 0 ? "internal" : "server";
    return this.tracer.begin(name, kind, trace, {
      "db.system.name": "merklekv",
      "db.operation.name": name,
      "network.peer.address": address,
    });
  }

  /** The command has run; its reply leaves when what was written before it is safe. */
  private end(span: Span, hasFailed: boolean, before: number, durability: Durability): void {
    const { position, safePosition } = durability;
    const failure = hasFailed ? "the reply is an error" : undefined;
    if (position === before) return span.end({}, failure);
    const journal = this.tracer.begin("journal", "internal", span.context);
    const onSafe = (): void => {
      journal.end({ "merklekv.journal.bytes": position - before });
      span.end({}, failure);
    };
    if (safePosition >= position) onSafe();
    else durability.whenSafe({ onSafe });
  }

  /** It is a command's turn by the ratio; false when it comes too soon after the last. */
  private isTurn(): boolean {
    const { ratio } = this.tracer;
    if (ratio <= 0) return false;
    const nowMs = this.options.nowMs();
    const everyMs = 1_000 / (ratio * MOST_CANDIDATES_A_SECOND);
    const usedUpToMs = Math.max(this.usedUpToMs, nowMs - Math.max(BURST_MS, everyMs)) + everyMs;
    const isTurn = usedUpToMs <= nowMs;
    if (isTurn) this.usedUpToMs = usedUpToMs;
    this.stride = isTurn ? 1 : Math.min(2 * this.stride, MOST_STRIDE);
    this.left = this.distance();
    return isTurn;
  }

  /** To the next that is traced: by chance, so that no pattern of commands keeps step with it. */
  private distance(): number {
    const { isOn, ratio } = this.tracer;
    if (!isOn || ratio <= 0) return NEVER;
    const most = Math.min((2 * this.stride) / ratio, NEVER);
    return 1 + Math.floor(this.options.random() * (most - 1));
  }
}

/** A whole number of 32 bits, as the count is kept in one. */
const NEVER = 2 ** 30;

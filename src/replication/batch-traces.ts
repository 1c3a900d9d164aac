/**
 * Traces on their way to other nodes. A command that is traced notes which ids it wrote; the batch
 * that takes one of them tells of the trace, and has two spans in it: `publish`, from the making of
 * the batch to the broker's acknowledgement, and in that `broker`, from when the batch was given to
 * the broker. What peers do with the batch belongs to `publish`.
 */
import type { TraceContext } from "../trace-context.ts";
import type { Span, SpanFacts, TracedWrites, Tracer } from "../tracer.ts";

/** Most writes that wait for their batch; further ones are not told of. */
const MAX_WAITING = 4_096;
/** Most traces that a batch tells of. */
export const MAX_BATCH_TRACES = 64;

/** Traced writes that wait to be published. */
export class WaitingTraces implements TracedWrites {
  context: TraceContext | null = null;
  private readonly writes = new Map<number, TraceContext>();
  private flush: TraceContext | null = null;

  /** Whether there are none. */
  get isEmpty(): boolean {
    return this.writes.size === 0 && this.flush === null;
  }

  changed(id: number, local: boolean): void {
    if (!local || this.context === null) return;
    if (this.writes.size < MAX_WAITING) this.writes.set(id, this.context);
  }

  removed(id: number): void {
    this.writes.delete(id);
  }

  flushed(local: boolean, cleared: boolean): void {
    if (cleared) this.writes.clear();
    if (local) this.flush = this.context;
  }

  /** Forgets those that wait. */
  clear(): void {
    this.writes.clear();
    this.flush = null;
  }

  /** Takes those of a batch of these ids. */
  take(ids: Int32Array, hasFlush: boolean): TakenTraces {
    const writes = new Map<number, TraceContext>();
    for (const id of ids) {
      const context = this.writes.get(id);
      if (context !== undefined) writes.set(id, context);
      this.writes.delete(id);
    }
    const flush = hasFlush ? this.flush : null;
    if (hasFlush) this.flush = null;
    return { writes, flush };
  }

  /** The batch has not arrived: they wait again, unless their keys were written anew. */
  putBack({ writes, flush }: TakenTraces): void {
    for (const [id, context] of writes) {
      if (!this.writes.has(id) && this.writes.size < MAX_WAITING) this.writes.set(id, context);
    }
    this.flush ??= flush;
  }
}

/** What a batch took of those that waited. */
export interface TakenTraces {
  readonly writes: ReadonlyMap<number, TraceContext>;
  readonly flush: TraceContext | null;
}

/** The traces of one batch. */
export class BatchTraces {
  private readonly publish: readonly Span[];
  private broker: readonly Span[] = [];
  /** The broker has it. */
  isDelivered = false;
  private isOver = false;

  constructor(
    private readonly tracer: Tracer,
    readonly taken: TakenTraces,
    facts: SpanFacts,
  ) {
    const { writes, flush } = taken;
    const parents = new Set(writes.values());
    if (flush !== null) parents.add(flush);
    this.publish = Array.from(parents)
      .slice(0, MAX_BATCH_TRACES)
      .map((parent) => tracer.begin("publish", "producer", parent, facts));
  }

  /** What peers are told that their part belongs to. */
  get contexts(): readonly TraceContext[] {
    return this.publish.map((span) => span.context);
  }

  /** The batch is given to the broker. */
  sent(): void {
    if (this.isOver) return;
    this.broker = this.publish.map((span) => this.tracer.begin("broker", "client", span.context));
  }

  /** The broker has acknowledged the batch; or with a reason, it has not, or does not take it. */
  end(failure?: string): void {
    if (this.isOver) return;
    this.isOver = true;
    this.isDelivered = failure === undefined;
    for (const span of [...this.broker, ...this.publish]) span.end({}, failure);
  }
}

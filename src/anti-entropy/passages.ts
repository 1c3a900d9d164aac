/**
 * Connections that are passed on to other nodes: `PEER VIA`. Each takes the place of a session that
 * a client asked for. In a cluster with a secret only who has that is passed on.
 */
import type { Link, LinkHandler } from "../ports.ts";
import type { Timing } from "../timing.ts";
import type { Destination } from "./destination.ts";
import { OpeningGate } from "./opening-gate.ts";
import type { PeerSeal } from "./peer-seal.ts";
import { Pipe } from "./pipe.ts";
import { REFUSAL_REASONS } from "./refusal-reasons.ts";
import type { Semaphore } from "./semaphore.ts";
import type { SyncStatistics } from "./sync-statistics.ts";
import type { Reach } from "./ways.ts";

/** How long one waits for its place, in ms. */
const ENTER_MS = 15_000;
/** How long whoever comes may take to show that he has the secret, in ms. */
const SHOW_MS = 5_000;
/** Most who have not shown that; the oldest makes room for another. */
const MAX_GATES = 32;
const CROWDED = "others came that have not shown that they have the secret either";

/** What they are made with; as in SessionsOptions. */
export interface PassagesOptions {
  readonly timing: Timing;
  readonly reach: Reach;
  readonly seal: PeerSeal;
  readonly silenceMs: number;
  readonly statistics: SyncStatistics;
}

/** See the file header. */
export class Passages {
  private readonly pipes = new Set<Pipe>();
  private readonly gates = new Set<OpeningGate>();

  constructor(
    private readonly options: PassagesOptions,
    private readonly places: Semaphore,
  ) {}

  /** Passes a connection on to another node, as soon as there is room for it. */
  passOn(link: Link, peer: Destination): LinkHandler {
    const { timing, seal, statistics } = this.options;
    if (!seal.isSealing) return this.openPipe(link, peer);
    const [oldest] = this.gates;
    if (this.gates.size >= MAX_GATES) oldest.close(CROWDED);
    const gate: OpeningGate = new OpeningGate({
      ...{ link, timing, patienceMs: SHOW_MS },
      examine: (bytes) => seal.examineGuest(bytes),
      passOn: () => this.openPipe(link, peer),
      onEnd: (problem) => {
        this.gates.delete(gate);
        if (problem !== null) statistics.noteNotPassedOn(link.address, problem);
      },
    });
    this.gates.add(gate);
    return gate;
  }

  /** Ends them. */
  interrupt(reason: string): void {
    for (const gate of this.gates) gate.close(reason);
    for (const pipe of this.pipes) pipe.end();
  }

  private openPipe(link: Link, peer: Destination): LinkHandler {
    const { timing, silenceMs } = this.options;
    const pipe = new Pipe(link, timing, silenceMs);
    this.pipes.add(pipe);
    void pipe.ended.then(() => this.pipes.delete(pipe));
    void this.connect(pipe, peer);
    return pipe.nearHandler;
  }

  private async connect(pipe: Pipe, peer: Destination): Promise<void> {
    const line = `ERROR Connection failed - ${REFUSAL_REASONS.unreachable}\n`;
    const refuse = (): void => pipe.refuse(line);
    const { places } = this;
    if (!(await places.acquire(ENTER_MS))) return refuse();
    await this.options.reach(peer, "PEER", (far) => pipe.connect(far), refuse).catch(refuse);
    await pipe.ended;
    places.release();
  }
}

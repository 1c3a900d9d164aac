/** A process of a simulated node, from its start to its end: what goes with it when it ends. */
import type { Replica } from "../../src/replica.ts";
import type { Link, LinkHandler } from "../../src/ports.ts";
import type { BrokerTransport } from "./broker.ts";
import type { Life } from "./disk.ts";
import type { LinkEnd, Party } from "./links.ts";

/** See the file header. */
export class SimProcess implements Life, Party {
  isOver = false;
  /** Null until it has read its disk. */
  replica: Replica | null = null;
  transport: BrokerTransport | null = null;
  readonly links = new Set<LinkEnd>();

  constructor(
    readonly id: string,
    readonly place: number,
  ) {}

  accept(isRound: boolean): ((link: Link) => LinkHandler) | string | null {
    return this.replica?.antiEntropy.accept(isRound) ?? null;
  }

  /** It is gone, and with "power" the whole machine. */
  end(how: "kill" | "power"): void {
    this.isOver = true;
    this.transport?.vanish();
    for (const link of [...this.links]) link.vanish(how);
  }
}

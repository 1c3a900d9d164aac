/**
 * What an attack of the siege is, and the stage it plays on. An attack does the worst it can to a
 * running node and knows nothing of measuring: `besiege.ts` has a polite client beside it, watches
 * memory and the log, and looks afterwards for what was lost.
 */
import type { Socket } from "node:net";
import type { NodeOnDisk } from "./node-on-disk.ts";
import type { Mosquitto } from "../support/mosquitto.ts";

/** One way to hurt a node. */
export interface Attack {
  /** Short and unique, in lower case with hyphens: `--only` takes it. */
  readonly name: string;
  /** What is done, in a few words, for the table. */
  readonly what: string;
  /**
   * What stands on the stage: a node alone, with a broker, or with a broker and an honest peer.
   * "alone" unless said otherwise.
   */
  readonly scene?: "alone" | "broker" | "cluster";
  /** Further settings of the node, as `[section]` to key to value. */
  readonly settings?: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  /** What to run instead of the built binary, for instance under a limit of open files. */
  readonly command?: readonly string[];
  /**
   * Errors that the node is right to log. Any other line of the level ERROR counts as false, and so
   * does "A bug in MerkleKV" always.
   */
  readonly mayLog?: RegExp;
  /**
   * Attacks, and resolves when the worst is over. Whatever it demands of the node's answers, or of
   * what the attack cost, it says with `stage.demand`.
   */
  run(stage: Stage): Promise<void>;
}

/** What an attack has to work with. */
export interface Stage {
  /** The node under attack. */
  readonly node: NodeOnDisk;
  /** An honest member of its cluster, in the scene "cluster". */
  readonly peer: NodeOnDisk;
  /** The broker, in the scenes "broker" and "cluster". */
  readonly broker: Mosquitto;
  /** 1 for the whole attack; less in the tests, where numbers of repetitions are to shrink. */
  readonly scale: number;
  /** `count` times the scale, at least 1. */
  times(count: number): number;
  /** Bytes of data that the attack legitimately leaves in the node: they are not its fault. */
  dataBytes: number;
  /**
   * A connection to the node's client port, or to another one; destroyed when the attack is over.
   * Errors are ignored.
   */
  connect(port?: number): Promise<Socket>;
  /** Notes a fault when the condition does not hold. */
  demand(condition: boolean, otherwise: string): void;
}

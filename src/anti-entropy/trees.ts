/**
 * The Merkle trees of a node over its store. Two nodes can compare trees of one key only, and by
 * the key a key's bucket is chosen, so it follows from the cluster's secret where there is one:
 * then nobody without the secret can look for keys that share a bucket. Ordinarily there is one
 * tree. There are more
 *
 * - while the secret is being changed: one for each secret that is understood. A session compares
 *   the tree of the secret with which it is sealed, which both sides have, whatever either seals
 *   with itself. So there is nothing to agree on.
 * - while there are peers of a release that knows only the key that follows from the cluster's name
 *   (`KEYS_BY_SECRET` in `capabilities.ts`), or sessions of a secret that is understood no more.
 *   Such a tree is made when a session asks for it, and dropped when none has for a while.
 *
 * A tree that is made anew takes in what is there in slices, in the background and by whoever waits
 * for it: as each tree does after a start.
 */
import { KEYS_BY_SECRET, type Capabilities } from "../core/data/capabilities.ts";
import type { Store } from "../core/store/store.ts";
import { MerkleTree } from "../core/tree/merkle.ts";
import {
  KEYED_BY_NAME,
  RecordDigester,
  TREE_KEY_BYTES,
  treeKeyOf,
} from "../core/tree/record-digest.ts";
import type { ClusterSecrets } from "../security/cluster-secrets.ts";
import { keyFor, type Secret } from "../security/keys.ts";
import type { Cancel, Timing } from "../timing.ts";
import type { LongestSlice } from "./longest-slice.ts";
import { TreeUpdater } from "./tree-updater.ts";

/** A tree that only sessions need is kept for so long after the last one, in ms. */
const KEPT_MS = 600_000;
const PURPOSE = "merkle tree";

/** What the trees are made with. */
export interface TreesOptions {
  readonly store: Store;
  readonly timing: Timing;
  /** Name of the cluster. */
  readonly cluster: string;
  readonly secrets: ClusterSecrets | null;
  /** What this node speaks: the version before keeps the tree of the cluster's name only. */
  readonly capabilities: Capabilities;
  /** Told how long the slices of updates take. */
  readonly longestSlice: LongestSlice;
}

/** A tree for as long as a session needs it. */
export interface TreeLoan {
  readonly tree: MerkleTree;
  /** The session is over. To be called once. */
  end(): void;
}

interface HeldTree {
  readonly tree: MerkleTree;
  readonly updater: TreeUpdater;
  /** Sessions that need it. */
  loans: number;
  /** Calls off that it is dropped; null while nothing is to be called off. */
  cancelDrop: Cancel | null;
}

/** See the file header. */
export class Trees {
  /** The key of the tree that this node shows and begins sessions with. */
  currentKey = KEYED_BY_NAME;
  private readonly held = new Map<string, HeldTree>();
  /** Tree keys by their names. None is ever left out: a session may have begun with it. */
  private readonly keys = new Map<string, Uint8Array>();
  /** Those whose trees are kept whether a session needs them or not. */
  private kept: ReadonlySet<string> = new Set();
  private isStarted = false;

  /** The trees see all that happens in the store from now on. */
  constructor(private readonly options: TreesOptions) {
    this.keys.set(KEYED_BY_NAME, treeKeyOf(options.cluster));
    this.renew(options.secrets);
  }

  /** Others are the secrets of the cluster from now on. */
  renew(secrets: ClusterSecrets | null): void {
    const isBySecret = (this.options.capabilities.features & KEYS_BY_SECRET) !== 0;
    const all = secrets === null || !isBySecret ? [] : [secrets.current, ...secrets.previous];
    for (const secret of all) this.keys.set(secret.id, this.keyOf(secret));
    this.currentKey = all[0]?.id ?? KEYED_BY_NAME;
    this.kept = new Set(all.length === 0 ? [KEYED_BY_NAME] : all.map(({ id }) => id));
    for (const key of this.kept) this.hold(key);
    for (const [key, held] of this.held) this.look(key, held);
  }

  /** Keeps them up to date from now on. */
  start(): void {
    this.isStarted = true;
    for (const { updater } of this.held.values()) updater.start();
  }

  /** Does so no more. */
  stop(): void {
    this.isStarted = false;
    for (const { updater, cancelDrop } of this.held.values()) {
      updater.stop();
      cancelDrop?.();
    }
  }

  /** The tree that this node shows and begins sessions with. */
  get current(): MerkleTree {
    return this.held.get(this.currentKey)!.tree;
  }

  /** Every tree that there is now. */
  all(): MerkleTree[] {
    return Array.from(this.held.values(), ({ tree }) => tree);
  }

  /** Its root in hex as of a few seconds ago; null before it is first computed. */
  get rootHex(): string | null {
    return this.held.get(this.currentKey)!.updater.rootHex;
  }

  /** The roots of all trees, as far as they are known, by their keys; the current one first. */
  roots(): Record<string, string> {
    const roots: Record<string, string> = {};
    for (const key of [this.currentKey, ...this.held.keys()]) {
      const { rootHex } = this.held.get(key)!.updater;
      if (rootHex !== null) roots[key] = rootHex;
    }
    return roots;
  }

  /**
   * A tree for a session that is sealed with the secret of that id, or KEYED_BY_NAME if it is not
   * sealed, with who has these features in common with this node.
   */
  lend(secretId: string, features: number): TreeLoan {
    const key = (features & KEYS_BY_SECRET) === 0 ? KEYED_BY_NAME : secretId;
    const held = this.hold(key);
    held.loans++;
    held.cancelDrop?.();
    held.cancelDrop = null;
    return {
      tree: held.tree,
      end: () => {
        held.loans--;
        this.look(key, held);
      },
    };
  }

  /** The tree of that key, which is made if there is none. */
  private hold(key: string): HeldTree {
    const known = this.held.get(key);
    if (known !== undefined) return known;
    const { store, timing, longestSlice } = this.options;
    const tree = new MerkleTree(store, new RecordDigester(this.keys.get(key)!));
    tree.markAll();
    store.observers.push(tree);
    const updater = new TreeUpdater(tree, store, timing, longestSlice);
    if (this.isStarted) updater.start();
    const held = { tree, updater, loans: 0, cancelDrop: null };
    this.held.set(key, held);
    return held;
  }

  /** Sees to it that a tree is dropped in time if nobody needs it, and that it is not otherwise. */
  private look(key: string, held: HeldTree): void {
    const isNeeded = held.loans > 0 || this.kept.has(key);
    if (isNeeded) {
      held.cancelDrop?.();
      held.cancelDrop = null;
    } else held.cancelDrop ??= this.options.timing.after(KEPT_MS, () => this.drop(key, held));
  }

  private drop(key: string, { tree, updater }: HeldTree): void {
    const { observers } = this.options.store;
    observers.splice(observers.indexOf(tree), 1);
    this.held.delete(key);
    updater.end();
  }

  private keyOf(secret: Secret): Uint8Array {
    const context = new TextEncoder().encode(this.options.cluster);
    return keyFor(secret, PURPOSE, context).subarray(0, TREE_KEY_BYTES);
  }
}

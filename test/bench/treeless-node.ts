/** MerkleKV without its Merkle tree, which no setting turns off: to measure what the tree costs. */
import { TreeUpdater } from "../../src/anti-entropy/tree-updater.ts";
import { MerkleTree } from "../../src/core/tree/merkle.ts";

MerkleTree.prototype.changed = () => {};
MerkleTree.prototype.removed = () => {};
TreeUpdater.prototype.start = () => {};

await import("../../src/main.ts");

/** MerkleKV without its Merkle tree, which no setting turns off: to measure what the tree costs. */
import { TreeKeeper } from "../../src/anti-entropy/tree-keeper.ts";
import { MerkleTree } from "../../src/core/tree/merkle.ts";

MerkleTree.prototype.changed = () => {};
MerkleTree.prototype.removed = () => {};
TreeKeeper.prototype.start = () => {};

await import("../../src/main.ts");

/** Why a node may not talk to a peer that says PEER to it, in the words that both of them know. */

/** See the file header. */
export const REFUSAL_REASONS = {
  stopping: "this node is stopping",
  noRounds:
    "this node takes part in no rounds: anti_entropy.enabled is false, or it was told REPLICATE disable",
  unreachable: "this node cannot reach that one",
} as const;

/** Who wrote a version: nodes as entries name them. */

/** A node's short name in versions, two unsigned 32-bit words; see `originOf`. */
export interface Origin {
  readonly high: number;
  readonly low: number;
}

const digest = new Uint8Array(32);
const view = new DataView(digest.buffer);

/** The origin of a node: the first 8 bytes of the SHA-256 of its id. */
export function originOf(nodeId: string): Origin {
  Bun.SHA256.hash(nodeId, digest);
  return { high: view.getUint32(0), low: view.getUint32(4) };
}

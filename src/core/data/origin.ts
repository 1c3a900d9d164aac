/** Who wrote a version: nodes as entries name them. */

/** A node's short name in versions, two unsigned 32-bit words; see `originOf`. */
export interface Origin {
  readonly high: number;
  readonly low: number;
}

/** The origin of a node: the first 8 bytes of the SHA-256 of its id. */
export function originOf(nodeId: string): Origin {
  const digest = new Bun.SHA256().update(nodeId).digest();
  const view = new DataView(digest.buffer, digest.byteOffset);
  return { high: view.getUint32(0), low: view.getUint32(4) };
}

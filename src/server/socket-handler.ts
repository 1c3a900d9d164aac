/** Who has a socket of the client port, and who comes by one. */
import type { Socket } from "bun";

/** What the listener tells whoever has a socket of the client port. */
export interface SocketHandler {
  /** Bytes came; they are the handler's to keep. */
  onData(chunk: Uint8Array): void;
  /** The kernel takes bytes again. */
  onDrain(): void;
  /** The other side says no more, but may still be reading. */
  onEnd(): void;
  /** The connection is gone. */
  onClose(): void;
}

/** Somebody who has come, and of whom it is known what can be known before a word is said. */
export interface Arrival {
  readonly socket: Socket<SocketHandler>;
  /** Where from, `host:port`. */
  readonly address: string;
  /** Whether TLS is spoken. */
  readonly isSecure: boolean;
  /** As `ClientSession` has it. */
  readonly certificateName: string | null;
}

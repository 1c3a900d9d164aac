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

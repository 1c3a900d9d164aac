/** The other side of a sync session, in the test's own process, over TCP, to be cut at any byte. */
import { OLDEST } from "../../src/core/data/capabilities.ts";
import { connect, createServer, type Socket } from "node:net";
import { HybridClock } from "../../src/core/data/clock.ts";
import { Contacts } from "../../src/core/sync/contacts.ts";
import { MerkleTree } from "../../src/core/tree/merkle.ts";
import { RecordDigester, treeKeyOf } from "../../src/core/tree/record-digest.ts";
import { originOf } from "../../src/core/data/origin.ts";
import { Store } from "../../src/core/store/store.ts";
import { SyncSession, type SyncMode, type SyncResult } from "../../src/core/sync/session.ts";

/** A store with a tree that speaks the protocol. */
export class SyncPeer {
  readonly store: Store;
  private readonly tree: MerkleTree;
  private readonly contacts = new Contacts();

  constructor(
    readonly nodeId: string,
    private readonly cluster = "merkle-kv",
  ) {
    this.store = new Store({
      clock: new HybridClock(Date.now),
      origin: originOf(nodeId),
      hashSeed: { high: 1, low: 2 },
      random: Math.random,
      memoryLimitBytes: 0,
      maxClockSkewMs: 60_000,
      tombstoneGraceMs: 86_400_000,
    });
    this.tree = new MerkleTree(this.store, new RecordDigester(treeKeyOf(cluster)));
    this.store.observers.push(this.tree);
  }

  /** Writes a string. */
  set(key: string, value: string): void {
    const [k, v] = [Buffer.from(key), Buffer.from(value)];
    this.store.set(k, 0, k.length, v, 0, v.length, 0);
  }

  /** The bytes with which it would begin a session, PEER included. */
  opening(mode: SyncMode = "now", fetchKeys: readonly Uint8Array[] = []): Buffer {
    const pieces = [Buffer.from("PEER\n")];
    const send = (bytes: Uint8Array) => pieces.push(Buffer.from(bytes));
    const session = this.session("initiator", mode, send, () => {}, fetchKeys);
    session.start();
    while (session.step());
    return Buffer.concat(pieces);
  }

  /** Begins a session with the node at a port and cuts the connection after so many bytes sent. */
  async visit(port: number, cutAfterBytes = Infinity): Promise<SyncResult> {
    const socket = connect(port, "127.0.0.1");
    await new Promise((resolve) => socket.once("connect", resolve));
    const send = cutting(socket, cutAfterBytes);
    send(Buffer.from("PEER\n"));
    return this.converse(socket, send, "initiator");
  }

  /** Listens for one visitor, whose connection is cut after so many bytes sent. */
  async receive(cutAfterBytes = Infinity): Promise<{ port: number; result: Promise<SyncResult> }> {
    const { promise, resolve } = Promise.withResolvers<SyncResult>();
    const server = createServer((socket) => {
      server.close();
      socket.once("data", (chunk: Buffer) => {
        socket.unshift(chunk.subarray(chunk.indexOf(10) + 1));
        resolve(this.converse(socket, cutting(socket, cutAfterBytes), "responder"));
      });
    });
    await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
    return { port: (server.address() as { port: number }).port, result: promise };
  }

  private converse(
    socket: Socket,
    send: (bytes: Uint8Array) => void,
    role: "initiator" | "responder",
  ): Promise<SyncResult> {
    const { promise, resolve } = Promise.withResolvers<SyncResult>();
    const session = this.session(role, "now", send, (result) => {
      socket.end();
      resolve(result);
    });
    const work = () => {
      while (session.step());
    };
    socket.on("data", (chunk: Buffer) => {
      session.receive(chunk);
      work();
    });
    socket.on("error", () => {}); // "close" follows
    socket.on("close", () => session.close("the connection was lost"));
    if (role === "initiator") session.start();
    work();
    return promise;
  }

  private session(
    role: "initiator" | "responder",
    mode: SyncMode,
    send: (bytes: Uint8Array) => void,
    onEnd: (result: SyncResult) => void = () => {},
    fetchKeys: readonly Uint8Array[] = [],
  ): SyncSession {
    return new SyncSession({
      role,
      ...(role === "initiator" && mode !== "inspect" ? { mode } : {}),
      fetchKeys,
      store: this.store,
      treeFor: () => this.tree,
      contacts: this.contacts,
      cluster: this.cluster,
      nodeId: this.nodeId,
      epoch: 1,
      salt: { high: 1, low: 2 },
      lagMs: 2_000,
      // Then as many bytes go over as there are.
      capabilities: OLDEST,
      maxFrameBytes: 10_000_000,
      nowMs: Date.now,
      monotonicMs: () => performance.now(),
      send,
      onSetAside: (_entry, _reason, done) => done(true),
      onEnd,
    });
  }
}

/** Sends up to a limit, then destroys the connection. */
function cutting(socket: Socket, limit: number): (bytes: Uint8Array) => void {
  let left = limit;
  return (bytes) => {
    if (left < 0) return;
    socket.write(Buffer.from(bytes.subarray(0, left)));
    left -= bytes.length;
    if (left < 0) socket.destroySoon();
  };
}

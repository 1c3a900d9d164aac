/**
 * The outgoing half of the peer transport: connects to another node's client port, says PEER
 * and carries bytes both ways. (The incoming half is the server's own connection, which the
 * command PEER hands over as a Link.)
 */
import { dns, type Socket } from "bun";
import { isIP } from "node:net";
import { PEER_REFUSALS } from "../access/refusal-texts.ts";
import type { Link, LinkHandler } from "../ports.ts";
import { formatNodeAddress, type NodeAddress } from "../config/address.ts";
import { specialAddress } from "../config/special-address.ts";
import type { Cancel, Timing } from "../timing.ts";
import { refusalToCall, reasonOfTls, tlsOptions, type PeerSecurity } from "./peer-security.ts";
import { REFUSAL_REASONS } from "./refusal-reasons.ts";
import { releaseLarge } from "../core/bytes.ts";
import { SendQueue } from "../send-queue.ts";

const CONNECT_MS = 5_000;
/** How long the other side has to take what is left and close, after `end`. */
const CLOSING_MS = 5_000;
/** Longest error line a node may refuse with, in bytes. */
const MAX_REFUSAL_BYTES = 1_024;
/** What a refusal begins with. As a frame's length it would be absurd. */
const REFUSAL = "ERROR";
/**
 * What a node may refuse with. Of whatever else answers at an address nothing is told: who may say
 * SYNC is not to read with it what this node can reach.
 */
const KNOWN_REFUSALS: readonly string[] = [
  "Too many connections",
  "Not authenticated",
  "Permission denied",
  ...PEER_REFUSALS,
  ...Object.values(REFUSAL_REASONS).map((reason) => `Connection failed - ${reason}`),
];
const NO_NODE = "what answers there is no MerkleKV node";

/**
 * How a node reaches a peer. Connects and sends `greeting` and a line end, together with the first
 * that is sent over the link. Of a greeting of several lines, all but the last are answered with a
 * line each, which nobody is given. `handle` is given the link once there is one and
 * returns who gets what comes. `onRefused` is called with what happened when the other side
 * answers with an error instead of a frame; the connection is then ended. Rejects with
 * an Error for people when there is no connection. Unless the address is `chosen` by whoever runs
 * the node, it must not be, or lead to, a special one.
 */
export type Dial = (
  address: NodeAddress,
  greeting: string,
  handle: (link: Link) => LinkHandler,
  onRefused: (reason: string) => void,
  chosen: boolean,
) => Promise<void>;

/** Reaches peers by TCP, and by TLS where that is spoken. */
export function tcpDialler(timing: Timing, security: PeerSecurity): Dial {
  return (address, greeting, handle, onRefused, chosen) => {
    const link = new OutgoingLink(address, greeting, onRefused, timing, security, chosen);
    return connect(link, handle, timing);
  };
}

async function connect(
  link: OutgoingLink,
  handle: (link: Link) => LinkHandler,
  timing: Timing,
): Promise<void> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const cancel = timing.after(CONNECT_MS, () => {
    link.abandon();
    reject(new Error(`no connection within ${CONNECT_MS / 1000} s`));
  });
  try {
    await Promise.race([late, link.open()]);
  } catch (error) {
    throw new Error(`cannot reach ${link.address}: ${reasonOf(error)}`);
  } finally {
    cancel();
  }
  link.attach(handle(link));
}

function reasonOf(error: unknown): string {
  const { code, message } = error as { code?: string; message: string };
  if (code === "ECONNREFUSED") return "connection refused";
  if (code === "ENOTFOUND" || code?.startsWith("DNS_")) return "the host name is not known";
  return message || String(code);
}

/** Throws an Error if a host leads to special addresses only. */
async function checkAddresses(host: string): Promise<void> {
  const found = isIP(host) === 0 ? await dns.lookup(host, { backend: "getaddrinfo" }) : [];
  const addresses = found.length > 0 ? found.map(({ address }) => address) : [host];
  const special = addresses.map(specialAddress);
  if (!special.includes(null)) throw new Error(refusalOf(special[0]!));
}

function refusalOf(special: string): string {
  return `it is ${special}, which only anti_entropy.peer_list may name`;
}

/** One connection made by this node. */
class OutgoingLink implements Link {
  readonly address: string;
  private socket: Socket<undefined> | undefined;
  private handler: LinkHandler | null = null;
  private readonly queue = new SendQueue({ write: (...what) => this.socket!.write(...what) });
  /** What came until it is clear that it is no refusal; null from then on. */
  private firstBytes: Buffer | null = Buffer.alloc(0);
  /** Lines of those that come first that answer lines of the greeting. */
  private answersLeft: number;
  private isOver = false;
  private hasEnded = false;
  private cancelClosing: Cancel = () => {};
  /** What is special about where the connection leads. */
  private special: string | null = null;

  constructor(
    private readonly place: NodeAddress,
    /** Said before anything else; empty once it is. */
    private greeting: string,
    private readonly onRefused: (reason: string) => void,
    private readonly timing: Timing,
    private readonly security: PeerSecurity,
    private readonly isChosen: boolean,
  ) {
    this.address = formatNodeAddress(place);
    this.answersLeft = greeting.split("\n").length - 1;
  }

  get queuedBytes(): number {
    return this.queue.length;
  }

  /** Resolves when the other side is there and, with TLS, proven to be who was called. */
  async open(): Promise<void> {
    const { host: hostname, port, isSecure } = this.place;
    const refusal = refusalToCall(this.place, this.security);
    if (refusal !== null) throw new Error(refusal);
    if (!this.isChosen) await checkAddresses(hostname);
    if (this.isOver) return;
    const secured = Promise.withResolvers<void>();
    // Nobody may wait for it when the connection does not come about.
    secured.promise.catch(() => {});
    await Bun.connect<undefined>({
      hostname,
      port,
      ...(isSecure && { tls: tlsOptions(this.security) }),
      socket: {
        // Here and not when the promise is kept: the other side may speak, or be gone, before.
        open: (socket) => this.onOpen(socket),
        ...(isSecure && {
          handshake: (socket: Socket<undefined>, isDone: boolean, error: Error | null) => {
            const isTrusted = isDone && (socket.authorized || this.security.isInsecure);
            if (isTrusted) return secured.resolve();
            secured.reject(new Error(reasonOfTls(error)));
            this.abandon();
          },
        }),
        data: (_socket, chunk) => this.onData(chunk),
        drain: () => this.onDrain(),
        end: () => this.onClose(),
        close: () => {
          secured.reject(new Error("it hung up during the TLS handshake"));
          this.onClose();
        },
        error: (_socket, error) => this.onError(error),
        connectError: () => {}, // the promise is rejected too
      },
    });
    if (this.special !== null) throw new Error(refusalOf(this.special));
    if (isSecure) await secured.promise;
  }

  private onOpen(socket: Socket<undefined>): void {
    this.socket = socket;
    socket.setNoDelay(true);
    // The name may lead elsewhere now than when it was looked up.
    if (!this.isChosen) this.special = specialAddress(socket.remoteAddress);
    if (this.isOver || this.special !== null) this.abandon();
  }

  /** With TLS 1.3 a certificate is refused when everything seems to be done. */
  private onError(error: Error): void {
    if (this.place.isSecure && this.firstBytes !== null && !this.isOver && this.handler !== null) {
      this.onRefused(reasonOfTls(error));
    }
    this.onClose();
  }

  attach(handler: LinkHandler): void {
    if (this.isOver) return handler.closed();
    this.handler = handler;
  }

  /** Nobody waits for the connection any longer. */
  abandon(): void {
    this.isOver = true;
    this.socket?.terminate();
  }

  send(bytes: Uint8Array): void {
    if (this.isOver || this.hasEnded) return;
    if (this.greeting !== "") {
      bytes = Buffer.concat([Buffer.from(`${this.greeting}\n`), bytes]);
      this.greeting = "";
    }
    this.queue.send(bytes);
  }

  pause(): void {
    this.socket!.pause();
  }

  resume(): void {
    this.socket!.resume();
  }

  end(): void {
    if (this.isOver || this.hasEnded) return;
    this.hasEnded = true;
    this.handler = null;
    this.resume();
    if (this.queuedBytes === 0) this.socket!.shutdown();
    this.cancelClosing = this.timing.after(CLOSING_MS, () => this.socket!.terminate());
  }

  private onData(chunk: Buffer): void {
    if (this.firstBytes === null) {
      if (!this.hasEnded) this.handler?.receive(chunk);
      return releaseLarge(chunk);
    }
    if (this.hasEnded) return;
    const firstBytes = Buffer.concat([this.firstBytes, chunk]);
    this.firstBytes = firstBytes;
    const text = firstBytes.toString("latin1", 0, MAX_REFUSAL_BYTES);
    const isRefusal = text.startsWith(REFUSAL);
    if (!isRefusal && REFUSAL.startsWith(text)) return;
    if (isRefusal && !text.includes("\n") && text.length < MAX_REFUSAL_BYTES) return;
    if (!isRefusal && this.answersLeft > 0) return this.passOverAnswer(firstBytes);
    this.firstBytes = null;
    if (!isRefusal) return this.handler?.receive(firstBytes);
    const { handler } = this;
    const line = text.split(/\r?\n/, 1)[0].replace(/^ERROR:? /, "");
    const known = KNOWN_REFUSALS.find((it) => it === line);
    this.onRefused(known === undefined ? NO_NODE : `the node there answered "${known}"`);
    this.end();
    handler?.closed();
  }

  private passOverAnswer(firstBytes: Buffer): void {
    const end = firstBytes.indexOf("\n") + 1;
    if (end === 0) return;
    this.answersLeft--;
    this.firstBytes = Buffer.alloc(0);
    if (end < firstBytes.length) this.onData(firstBytes.subarray(end));
  }

  private onDrain(): void {
    this.queue.flush();
    if (this.queuedBytes > 0) return;
    if (this.hasEnded) this.socket!.shutdown();
    else this.handler?.drained();
  }

  private onClose(): void {
    if (this.isOver) return;
    this.isOver = true;
    this.cancelClosing();
    this.queue.clear();
    const { handler } = this;
    this.handler = null;
    handler?.closed();
    this.socket?.terminate();
  }
}

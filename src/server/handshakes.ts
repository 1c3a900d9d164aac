/**
 * The TLS port's connections until it is known who they are. A connection is accepted as plain
 * text; what comes first has to be a whole ClientHello, and only then, in its turn, does TLS take
 * over. So each handshake begins with the certificates that are in use at that moment, handshakes,
 * which take a good part of a millisecond each, do not hold up everybody else, and what is no TLS
 * can be told what it is.
 *
 * Nothing but the end of a handshake says whom the other side is: only then there is a client.
 */
import type { Socket } from "bun";
import type { PeerCertificate, SecureContext } from "node:tls";
import { nameInCertificate } from "../security/certificate-name.ts";
import type { TlsMaterial } from "../security/tls-material.ts";
import { MAX_HELLO_BYTES, readHello } from "../protocol/tls-hello.ts";
import { httpAnswer, isHttp } from "../protocol/other-protocols.ts";
import { counter, gauge, type Fact } from "../fact.ts";
import type { RunQueue } from "../timing.ts";
import { releaseLarge } from "../core/bytes.ts";
import type { Arrival, SocketHandler } from "./socket-handler.ts";
import type { ThrottledWarnings } from "./throttled-warnings.ts";

/** `tls.client_certificates`. */
export type ClientCertificates = "none" | "request" | "require";

/** What the TLS port is served with. */
export interface TlsService {
  /** What is in use now. */
  material(): TlsMaterial;
  clientCertificates(): ClientCertificates;
}

/** What handshakes are made with, and where they lead. */
export interface HandshakesOptions extends TlsService {
  /** How long one may take, unless that is longer than any should take. */
  timeoutMs(): number;
  /** How many there may be just now. */
  places(): number;
  /** Takes over those of whom it is known who they are. */
  onSecure(arrival: Arrival): void;
  /** What a socket is heard with once TLS has taken over; see `Listener`. */
  readonly events: object;
  readonly runQueue: RunQueue;
  readonly notices: ThrottledWarnings;
  nowMs(): number;
}

/** Why a connection at the TLS port came to nothing. */
export type Refusal =
  "plain_text" | "late" | "crowded" | "no_certificate" | "certificate" | "failed";

/** What the log says of each; each is said now and then only. */
const MESSAGES: Record<Refusal, string> = {
  plain_text: "Something that is no TLS came to network.tls_port, and was not read",
  late: "A TLS handshake took too long",
  crowded: "A TLS handshake was ended for others",
  no_certificate: "A TLS client without a certificate was sent away",
  certificate: "A TLS client was sent away for its certificate",
  failed: "A TLS handshake failed",
};

/** There are always places for so many, which peers and administration come in by. */
export const LEAST_HANDSHAKES = 16;
/** Longest time from the beginning of the connection to the end of the handshake, in ms. */
const MAX_HANDSHAKE_MS = 10_000;
/** How long a client that was told that this is the wrong port may take to hang up, in ms. */
const REFUSED_MS = 1_000;
/** A hello with what TLS puts around it. */
const MAX_FIRST_BYTES = MAX_HELLO_BYTES + 1_024;

/** See the file header. */
export class Handshakes {
  /** Handshakes that ended well. */
  completed = 0;
  /** The others. */
  readonly refused: Record<Refusal, number> = {
    plain_text: 0,
    late: 0,
    crowded: 0,
    no_certificate: 0,
    certificate: 0,
    failed: 0,
  };
  /** Oldest first. */
  private readonly waiting = new Set<Handshake>();

  constructor(readonly options: HandshakesOptions) {}

  /** How many are under way. */
  get pending(): number {
    return this.waiting.size;
  }

  /** Takes in a new connection. When there are too many, who is silent for longest goes. */
  receive({ socket, address }: Arrival): void {
    const handshake = new Handshake(socket, address, this);
    socket.data = handshake;
    this.waiting.add(handshake);
    if (this.waiting.size <= Math.max(LEAST_HANDSHAKES, this.options.places())) return;
    const silent = this.waiting.values().find((it) => !it.hasSpoken);
    (silent ?? handshake).end("crowded", "there are too many at once");
  }

  /** Ends those that take too long; called a few times a second. */
  tick(): void {
    const now = this.options.nowMs();
    const timeoutMs = Math.min(this.options.timeoutMs(), MAX_HANDSHAKE_MS);
    for (const handshake of this.waiting) {
      const ageMs = now - handshake.sinceMs;
      if (handshake.isRefused && ageMs >= REFUSED_MS) handshake.leave();
      else if (ageMs >= timeoutMs) handshake.end("late", `not done within ${timeoutMs / 1000} s`);
    }
  }

  /** Ends all. */
  close(): void {
    for (const handshake of this.waiting) handshake.leave();
  }

  /** One is over. */
  forget(handshake: Handshake): void {
    this.waiting.delete(handshake);
  }

  /** Counts one that came to nothing, and says why. */
  note(refusal: Refusal, address: string, reason: string): void {
    this.refused[refusal]++;
    this.options.notices.warn(MESSAGES[refusal], { address, reason });
  }
}

/** For INFO. */
export const handshakeFacts: readonly Fact<Handshakes>[] = [
  gauge(
    "tls_pending_handshakes",
    "connections",
    "Connections at the TLS port of which it is not known yet who they are.",
    (it) => it.pending,
  ),
  counter("tls_handshakes", "handshakes", "TLS handshakes that ended well.", (it) => it.completed),
  ...(
    [
      ["plain_text", "What came to the TLS port and was no TLS."],
      ["late", "TLS handshakes that took too long."],
      [
        "crowded",
        "TLS handshakes that were ended for others, because there were too many at once.",
      ],
      ["no_certificate", "TLS clients without a certificate, which they need to have."],
      ["certificate", "TLS clients whose certificate was not valid."],
      ["failed", "TLS handshakes that failed for any other reason."],
    ] as const
  ).map(([refusal, help]) =>
    counter<Handshakes>(
      `tls_refused_${refusal}`,
      "connections",
      help,
      (it) => it.refused[refusal],
      {
        metric: {
          name: "tls_refused_connections",
          help: "Connections at the TLS port that came to nothing, by reason.",
          labels: { reason: refusal },
        },
      },
    ),
  ),
];

/** What carries TLS is heard by whoever speaks TLS over it, and by nobody else. */
const CARRIER: SocketHandler = {
  onData: releaseLarge,
  onDrain() {},
  onEnd() {},
  onClose() {},
};

/** One connection, from its beginning until it is known who is there. */
export class Handshake implements SocketHandler {
  sinceMs: number;
  /** Something has come that takes time. */
  hasSpoken = false;
  /** The client was told that it speaks something else than this port does. */
  isRefused = false;
  private isOver = false;
  private first: Uint8Array = new Uint8Array(0);
  /** The connection, and from some time on what TLS makes of it. */
  private socket: Socket<SocketHandler>;

  constructor(
    socket: Socket<SocketHandler>,
    private readonly address: string,
    private readonly all: Handshakes,
  ) {
    this.socket = socket;
    this.sinceMs = all.options.nowMs();
  }

  /** Gathers the hello. Nobody says more before it is answered. */
  onData(chunk: Uint8Array): void {
    if (this.isOver || this.isRefused) return releaseLarge(chunk);
    this.first = this.first.length === 0 ? chunk : Buffer.concat([this.first, chunk]);
    if (this.first.length > MAX_FIRST_BYTES && readHello(this.first) !== "none") {
      return this.end("failed", "it says more than a hello");
    }
    if (this.hasSpoken) return;
    const hello = readHello(this.first);
    if (hello === "none") return this.refuse();
    if (hello === "part") return;
    this.hasSpoken = true;
    this.all.options.runQueue.add(() => this.begin());
  }

  onDrain(): void {}

  onEnd(): void {
    if (!this.isOver) this.end("failed", "the other side hung up");
  }

  onClose(): void {
    if (!this.isOver && !this.isRefused) this.note("failed", "the other side hung up");
    this.isOver = true;
    this.all.forget(this);
  }

  /** TLS takes over. */
  private begin(): void {
    if (this.isOver) return;
    const { options } = this.all;
    const { events } = options;
    const clientCertificates = options.clientCertificates();
    const raw = this.socket as unknown as Upgradable;
    const { context } = options.material().context as SecureContext & { context: unknown };
    const requestCert = clientCertificates !== "none";
    const tls = {
      secureContext: context,
      requestCert,
      // Then who has none is told so by TLS itself.
      rejectUnauthorized: clientCertificates === "require",
    };
    const initialData = this.first;
    this.first = new Uint8Array(0);
    try {
      const pair = raw.upgradeTLS({ isServer: true, initialData, data: this, tls, socket: events });
      pair[0].data = CARRIER;
      if (this.isOver) return;
      this.socket = pair[1];
    } catch (error) {
      this.end("failed", (error as Error).message);
    }
  }

  /** TLS is there, or will not be. `socket` is what TLS has made of the connection. */
  onHandshake(socket: Socket<SocketHandler>, isDone: boolean, error: Error | null): void {
    if (this.isOver) return void socket.terminate();
    this.socket = socket;
    const { onSecure } = this.all.options;
    const clientCertificates = this.all.options.clientCertificates();
    if (!isDone) return this.fail(error);
    let certificateName: string | null = null;
    if (clientCertificates !== "none") {
      const certificate = (
        socket as unknown as { getPeerCertificate(): unknown }
      ).getPeerCertificate() as PeerCertificate | undefined;
      const hasOne = certificate?.subject !== undefined;
      // That the handshake is done says nothing of whether what was shown in it is true.
      if (!socket.authorized && (hasOne || clientCertificates === "require")) {
        const reason = error?.message ?? "it is not valid";
        return this.end("certificate", reason);
      }
      if (hasOne) certificateName = nameInCertificate(certificate);
    }
    this.isOver = true;
    this.all.forget(this);
    this.all.completed++;
    onSecure({ socket, address: this.address, isSecure: true, certificateName });
  }

  /** Ends it, for that reason. */
  end(refusal: Refusal, reason: string): void {
    if (this.isOver) return;
    if (!this.isRefused) this.note(refusal, reason);
    this.leave();
  }

  /** Closes the connection without a word. */
  leave(): void {
    this.isOver = true;
    this.all.forget(this);
    this.socket.terminate();
  }

  private fail(error: Error | null): void {
    const { message } = error ?? new Error("unknown");
    const known = FAILURES.find(([pattern]) => pattern.test(message));
    this.end(known?.[1] ?? "failed", known?.[2] ?? message.replace(/^.*OPENSSL_internal:/, ""));
  }

  private note(refusal: Refusal, reason: string): void {
    this.all.note(refusal, this.address, reason);
  }

  /** Tells whoever speaks plain text what this port is for, in its own words. */
  private refuse(): void {
    const [what, answer] = describePlainText(this.first);
    this.note("plain_text", what);
    this.isRefused = true;
    this.first = new Uint8Array(0);
    // It fits an empty send buffer.
    this.socket.write(answer);
    this.socket.shutdown();
    this.sinceMs = this.all.options.nowMs();
  }
}

/** What is part of the runtime's sockets, and left out of its types. */
interface Upgradable {
  upgradeTLS(options: {
    readonly isServer: true;
    readonly initialData: Uint8Array;
    readonly data: SocketHandler;
    readonly tls: object;
    readonly socket: object;
  }): [raw: Socket<SocketHandler>, tls: Socket<SocketHandler>];
}

/** What the TLS library says, what that counts as, and what it means for people. */
const FAILURES: readonly [RegExp, Refusal, string][] = [
  [
    /PEER_DID_NOT_RETURN_A_CERTIFICATE/,
    "no_certificate",
    'it shows none, and tls.client_certificates is "require"',
  ],
  [/CERTIFICATE_VERIFY_FAILED/, "certificate", "it is not valid"],
  [
    /ALERT_UNKNOWN_CA|ALERT_BAD_CERTIFICATE|ALERT_CERTIFICATE_UNKNOWN/,
    "failed",
    "the client does not trust this node's certificate",
  ],
  [/ALERT_CERTIFICATE_EXPIRED/, "failed", "this node's certificate has expired, says the client"],
  [/UNSUPPORTED_PROTOCOL/, "failed", "the client speaks no TLS from 1.2 on"],
  [/NO_SHARED_CIPHER/, "failed", "the client knows no cipher that is safe"],
];

/** What came instead of TLS, in words, and what to answer. */
function describePlainText(bytes: Uint8Array): [what: string, answer: string] {
  const line = "this port speaks TLS; connect with TLS, or to the port for plain text";
  const end = bytes.findIndex((byte) => byte === LF || byte === CR);
  if (end > 0 && isHttp(bytes, 0, end, true)) return ["an HTTP request", httpAnswer()];
  if (bytes[0] === STAR) return ["a request in Redis' protocol", `-ERR ${line}\r\n`];
  const isText = bytes.subarray(0, 16).every((byte) => byte >= 0x20 || byte === LF || byte === CR);
  const what = isText ? "a line of text" : "bytes that are neither text nor TLS";
  return [what, `ERROR: Connection failed - ${line}\r\n`];
}

const STAR = 0x2a;
const LF = 0x0a;
const CR = 0x0d;

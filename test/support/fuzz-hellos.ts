/**
 * Bad input for the port at which TLS is spoken: hellos that are changed, cut, cut up into records,
 * or made up, and what goes on after them. Over real connections, with the real TLS library behind
 * them. None of them becomes a client, each is counted by its reason, and good clients get in.
 */
import type { Socket } from "bun";
import { createServer } from "node:net";
import { readFileSync } from "node:fs";
import { connect, type ConnectionOptions } from "node:tls";
import { within } from "../../src/fact.ts";
import { silentLogger } from "../../src/observability/log.ts";
import { readHello } from "../../src/protocol/tls-hello.ts";
import { readTlsMaterial, tlsKeys } from "../../src/security/tls-material.ts";
import { Listener } from "../../src/server/listener.ts";
import { Authority } from "./certificates.ts";
import { Dice } from "./dice.ts";
import { eventually } from "./eventually.ts";
import { InProcessServer } from "./in-process.ts";
import { seeded } from "./random.ts";
import { ask, connectTls } from "./tls-client.ts";

/** Pieces that a mutation puts in: heads of records and messages, and lengths. */
const PIECES = [
  "\x16\x03\x01",
  "\x16\x03\x03\x00\x05hello",
  "\x15\x03\x03\x00\x02\x02\x28",
  "\x17\x03\x03\x00\x10",
  "\x01\x00\x02\x00\x03\x03",
  "\x00\x00",
  "\xff\xff",
  "\x00",
  "x".repeat(300),
];
const GOOD_EVERY = 250;
/** Steps between looks at whether each was counted. */
const LOOK_EVERY = 50;
const SETTINGS = {
  // Beside many addresses of this machine, so that a million connections find ports.
  bind_address: "0.0.0.0",
  bind_port: 0,
  tls_port: 0,
  plaintext: "off",
  max_connections: 100,
  connection_timeout: 30,
  idle_timeout: 0,
  dialect: "plain",
  max_line_bytes: 1_024,
  max_value_bytes: 1_024,
  max_output_bytes: 1_024,
  max_client_memory_mb: 1,
} as const;

/** See the file header. */
export class HelloFuzzer {
  readonly name = "TLS hellos";
  private readonly dice: Dice;
  private hellos: Buffer[] = [];
  private server: { authority: Authority; listener: Listener; core: InProcessServer } | null = null;
  private steps = 0;
  private made = 0;

  constructor(seed: number) {
    this.dice = new Dice(seeded(seed));
  }

  async step(): Promise<void> {
    if (this.server === null) await this.start();
    if (++this.steps % GOOD_EVERY === 0) await this.comeAndGo();
    await this.send(this.draw());
    if (this.steps % LOOK_EVERY > 0) return;
    await eventually("each is counted once, and nobody is left", () => {
      const left = this.sum(/^tls_(connections|pending_handshakes)$/);
      return left === 0 && this.sum(/^tls_(refused_|handshakes$)/) === this.made;
    });
  }

  check(): void {
    const { listener, authority, core } = this.server!;
    if (this.sum(/^tls_handshakes$/) !== Math.floor(this.steps / GOOD_EVERY)) {
      throw new Error("somebody got in, or a good client did not");
    }
    const [bug] = core.bugs;
    if (bug !== undefined) throw bug;
    void listener.stop();
    authority.remove();
  }

  /** The facts of that kind, added up. */
  private sum(kind: RegExp): number {
    const facts = within(() => this.server!.listener, Listener.tlsFacts);
    const some = facts.filter(({ name }) => kind.test(name));
    return some.reduce((total, fact) => total + Number(fact.read(undefined)), 0);
  }

  private async start(): Promise<void> {
    const authority = new Authority();
    const { cert, key } = authority.issue();
    const files = { cert_file: cert, key_file: key, ca_file: authority.caFile };
    const material = readTlsMaterial(tlsKeys("tls"), files, Date.now());
    const core = new InProcessServer();
    const tls = { material: () => material, clientCertificates: () => "request" as const };
    const listener = new Listener(
      SETTINGS,
      core.shared.context,
      core.shared.journalGate,
      silentLogger,
      0,
      tls,
    );
    listener.start();
    this.server = { authority, listener, core };
    const ca = readFileSync(authority.caFile);
    this.hellos = [
      await helloOf({ ca }),
      await helloOf({ ca, minVersion: "TLSv1.2", maxVersion: "TLSv1.2" }),
      await helloOf({ ca, servername: "localhost", ALPNProtocols: ["redis", "h2"] }),
    ];
  }

  /** A good client, for whom nothing has changed. */
  private async comeAndGo(): Promise<void> {
    const { authority, listener } = this.server!;
    this.made++;
    const socket = await connectTls({ port: listener.tlsPort!, caFile: authority.caFile });
    if ((await ask(socket, "PING")) !== "PONG") throw new Error("a good client gets no answer");
    const closed = new Promise((resolve) => socket.once("close", resolve));
    socket.destroy();
    await closed;
  }

  private draw(): Buffer {
    const { dice } = this;
    const hello = dice.one(this.hellos);
    switch (dice.below(5)) {
      case 0:
        return dice.bytes(60);
      case 1:
        return Buffer.concat([Buffer.from("\x16\x03\x01", "latin1"), dice.bytes(80)]);
      case 2:
        return this.inRecords(dice.chance(0.5) ? hello : dice.mutate(hello, PIECES));
      default:
        return dice.mutate(hello, PIECES);
    }
  }

  /** The same message in several records, as it may come. */
  private inRecords(hello: Buffer): Buffer {
    const pieces: Buffer[] = [];
    for (let rest = hello.subarray(5); rest.length > 0;) {
      const length = Math.min(rest.length, 1 + this.dice.below(200));
      const head = Buffer.from([0x16, 3, 1 + this.dice.below(3), 0, length]);
      pieces.push(head, rest.subarray(0, length));
      rest = rest.subarray(length);
    }
    return Buffer.concat(pieces);
  }

  /** Sends it, says something to whatever is answered, and resolves when it is over. */
  private async send(bytes: Buffer): Promise<void> {
    const { dice } = this;
    this.made++;
    const over = Promise.withResolvers<void>();
    const isWhole = readHello(bytes) === "whole";
    const cut = dice.chance(0.3) ? dice.below(bytes.length + 1) : bytes.length;
    const last = dice.bytes(100);
    const leave = (socket: Socket): void => {
      socket.write(last);
      socket.terminate();
    };
    await Bun.connect({
      hostname: `127.0.${dice.below(200)}.${1 + dice.below(200)}`,
      port: this.server!.listener.tlsPort!,
      socket: {
        open(socket) {
          socket.write(bytes.subarray(0, cut));
          if (cut < bytes.length) socket.write(bytes.subarray(cut));
          if (!isWhole) socket.shutdown();
        },
        data: leave,
        end: leave,
        error: () => {},
        close: () => over.resolve(),
      },
    });
    await over.promise;
  }
}

/** What a client says first. */
async function helloOf(options: ConnectionOptions): Promise<Buffer> {
  const { promise, resolve } = Promise.withResolvers<Buffer>();
  const server = createServer((socket) => socket.once("data", resolve));
  await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready));
  const { port } = server.address() as { port: number };
  const client = connect({ host: "127.0.0.1", port, ...options }).on("error", () => {});
  const hello = await promise;
  client.destroy();
  server.close();
  return hello;
}

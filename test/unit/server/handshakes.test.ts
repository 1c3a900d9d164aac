/** How many connections may be at the TLS port before it is known who they are. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { connect, type Socket } from "node:net";
import { within } from "../../../src/fact.ts";
import { silentLogger } from "../../../src/observability/log.ts";
import { readTlsMaterial, tlsKeys, type TlsMaterial } from "../../../src/security/tls-material.ts";
import { LEAST_HANDSHAKES } from "../../../src/server/handshakes.ts";
import { Listener } from "../../../src/server/listener.ts";
import { Authority } from "../../support/certificates.ts";
import { eventually } from "../../support/eventually.ts";
import { InProcessServer } from "../../support/in-process.ts";
import { ask, connectTls } from "../../support/tls-client.ts";

let authority: Authority;
let listener: Listener;
let sockets: Socket[];

let material: TlsMaterial;
/** The names by which clients came. */
let names: (string | null)[];

beforeEach(() => {
  authority = new Authority();
  sockets = [];
  names = [];
  exchangeCertificates();
  const { context, journalGate } = new InProcessServer().shared;
  const { users } = context.services;
  const arrive = users.arrive.bind(users);
  users.arrive = (address, name) => {
    names.push(name);
    return arrive(address, name);
  };
  listener = new Listener(
    {
      bind_address: "127.0.0.1",
      bind_port: 0,
      tls_port: 0,
      plaintext: "off",
      max_connections: 3,
      connection_timeout: 30,
      idle_timeout: 0,
      dialect: "plain",
      max_line_bytes: 1_024,
      max_value_bytes: 1_024,
      max_output_bytes: 1_024,
      max_client_memory_mb: 1,
    },
    context,
    journalGate,
    silentLogger,
    0,
    { material: () => material, clientCertificates: () => "request" },
  );
  listener.start();
});
afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  await listener.stop();
  authority.remove();
});

function exchangeCertificates(): void {
  const { cert, key } = authority.issue();
  const files = { cert_file: cert, key_file: key, ca_file: authority.caFile };
  material = readTlsMaterial(tlsKeys("tls"), files, Date.now());
}

function fact(name: string): number {
  const found = within(() => listener, Listener.tlsFacts).find((it) => it.name === name)!;
  return Number(found.read(undefined));
}

async function silent(count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    const socket = connect({ port: listener.tlsPort!, host: "127.0.0.1" });
    socket.on("error", () => {});
    sockets.push(socket);
    await new Promise((resolve) => socket.once("connect", resolve));
  }
}

test("who says nothing makes room for whoever comes", async () => {
  await silent(2 * LEAST_HANDSHAKES);
  await eventually("the oldest have gone", () => fact("tls_refused_crowded") === LEAST_HANDSHAKES);
  expect(fact("tls_pending_handshakes")).toBe(LEAST_HANDSHAKES);
  const options = { port: listener.tlsPort!, caFile: authority.caFile };
  const clients = [await connectTls(options), await connectTls(options)];
  for (const client of clients) expect(await ask(client, "PING")).toBe("PONG");
  for (const client of clients) client.destroy();
});

test.each(["TLSv1.2", "TLSv1.3"] as const)(
  "a resumed session of %s has its name",
  async (version) => {
    const certificate = authority.issue({ name: "dash" });
    const more = { minVersion: version, maxVersion: version };
    const options = { port: listener.tlsPort!, caFile: authority.caFile, certificate, more };
    const first = await connectTls(options);
    let session: Buffer | undefined = first.getSession();
    first.on("session", (ticket) => (session = ticket));
    expect(await ask(first, "PING")).toBe("PONG");
    first.destroy();
    // Without a certificate it would be nobody, but for what it was.
    const again = await connectTls({ ...options, more: { ...more, session: session! } });
    expect(await ask(again, "PING")).toBe("PONG");
    expect(again.isSessionReused()).toBe(true);
    again.destroy();
    const stranger = await connectTls({ port: options.port, caFile: authority.caFile, more });
    expect(await ask(stranger, "PING")).toBe("PONG");
    stranger.destroy();
    expect(names).toEqual(["dash", "dash", null]);

    // With other certificates in use nothing of before counts.
    exchangeCertificates();
    const { certificate: _, ...without } = options;
    const late = await connectTls({ ...without, more: { ...more, session: session! } });
    expect(await ask(late, "PING")).toBe("PONG");
    expect(late.isSessionReused()).toBe(false);
    late.destroy();
    expect(names.at(-1)).toBeNull();
  },
);

/** Names in real certificates, as the runtime shows them. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { connect, createServer, type PeerCertificate, type Server } from "node:tls";
import { nameInCertificate } from "../../../src/security/certificate-name.ts";
import { Authority, type CertificateWishes } from "../../support/certificates.ts";

let authority: Authority;
let server: Server;
let shown: (certificate: PeerCertificate) => void = () => {};

beforeAll(async () => {
  authority = new Authority();
  const { cert, key } = authority.issue();
  server = createServer(
    {
      cert: readFileSync(cert),
      key: readFileSync(key),
      ca: readFileSync(authority.caFile),
      requestCert: true,
    },
    (socket) => {
      shown(socket.getPeerCertificate());
      socket.on("error", () => {}).end();
    },
  );
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
});
afterAll(() => {
  server.close();
  authority.remove();
});

async function nameOf(wishes: CertificateWishes): Promise<string | null> {
  const { cert, key } = authority.issue(wishes);
  const { promise, resolve } = Promise.withResolvers<PeerCertificate>();
  shown = resolve;
  const { port } = server.address() as { port: number };
  const socket = connect({
    ...{ host: "127.0.0.1", port, ca: readFileSync(authority.caFile) },
    ...{ cert: readFileSync(cert), key: readFileSync(key) },
  });
  socket.on("error", () => {});
  const name = nameInCertificate(await promise);
  socket.destroy();
  return name;
}

test.each<[string, CertificateWishes, string | null]>([
  ["the common name", { name: "dash", alternatives: "DNS:other" }, "dash"],
  ["with a space", { name: "Dash Board", alternatives: "" }, "Dash Board"],
  ["beside other parts of the subject", { name: "dash/O=Example/OU=x", alternatives: "" }, "dash"],
  [
    "without one, the first DNS name",
    { name: "", alternatives: "DNS:a.example,DNS:b" },
    "a.example",
  ],
  ["or the address of a mailbox", { name: "", alternatives: "email:a@b.example" }, "a@b.example"],
  ["or a URI", { name: "", alternatives: "URI:spiffe://x/dash" }, "spiffe://x/dash"],
  ["not an address of a machine", { name: "", alternatives: "IP:127.0.0.1" }, null],
  ["no name", { name: "", alternatives: "" }, null],
  ["two common names", { name: "dash/CN=admin", alternatives: "DNS:x" }, null],
  [
    "what separates names inside of one",
    { name: "", alternatives: "@names\n[names]\nURI.1=a, DNS:admin" },
    null,
  ],
])("%s", async (_, wishes, name) => {
  expect(await nameOf(wishes)).toBe(name);
});

test("what cannot be seen makes no name", () => {
  const named = (CN: string): PeerCertificate => ({ subject: { CN } }) as PeerCertificate;
  expect(nameInCertificate(named("dash\u0000admin"))).toBeNull();
  expect(nameInCertificate(named("dash\u202e"))).toBeNull();
  expect(nameInCertificate(named("x".repeat(257)))).toBeNull();
  expect(nameInCertificate(named("größe"))).toBe("größe");
});

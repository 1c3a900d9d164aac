/** Where a node calls, and where it does not. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { OPEN_PEERS } from "../../../src/anti-entropy/peer-security.ts";
import { tcpDialler } from "../../../src/anti-entropy/dial.ts";
import type { LinkHandler } from "../../../src/ports.ts";
import { eventLoop } from "../../../src/world.ts";
import { eventually } from "../../support/eventually.ts";

const handler: LinkHandler = { receive() {}, drained() {}, closed() {} };
const dial = tcpDialler(eventLoop, OPEN_PEERS);
const call = (host: string, port: number, isChosen = false): Promise<void> =>
  dial(
    { host, port, isSecure: false },
    "PEER",
    (link) => {
      link.send(new Uint8Array(1));
      return handler;
    },
    () => {},
    isChosen,
  );

let heard = 0;
let server: Bun.TCPSocketListener<undefined>;
beforeAll(() => {
  server = Bun.listen({
    hostname: "0.0.0.0",
    port: 0,
    socket: { data: (_, chunk) => void (heard += chunk.length) },
  });
});
afterAll(() => server.stop(true));

test.each(["169.254.169.254", "fe80::1%lo", "::ffff:169.254.169.254", "100.100.100.200"])(
  "%s is not called unless it was chosen",
  async (host) => {
    await expect(call(host, 1)).rejects.toThrow(/only anti_entropy\.peer_list may name/);
  },
);

test.each(["0xa9fea9fe", "169.254.0xa9fe", "0x0", "0251.0376.0251.0376"])(
  "%s, which the system takes for such an address, is not either",
  async (host) => {
    // What is no host is refused before it comes to this; here nothing relies on that.
    await expect(call(host, server.port)).rejects.toThrow(/peer_list may name|not known/);
  },
);

test("an address is called that is none of these, or was chosen", async () => {
  await call("127.0.0.1", server.port);
  await call("localhost", server.port);
  await eventually("two calls", () => heard === 2 * "PEER\n".length + 2);
  await expect(call("0.0.0.0", server.port)).rejects.toThrow("address of no single host");
  await call("0.0.0.0", server.port, true);
  await eventually("the chosen one", () => heard === 3 * "PEER\n".length + 3);
});

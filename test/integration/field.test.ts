/**
 * The field, all at once: three nodes in networks of their own that reach nothing but the broker, the
 * broker with the limits of a hosted one, and the clock of one node in 1970.
 */
import { afterEach, describe, expect, test } from "bun:test";
import { ClusterNode } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";
import {
  createNamespace,
  removeNamespace,
  whyNoNamespaces,
  type Namespace,
} from "../support/namespaces.ts";
import { hostedLimits, OddBroker } from "../support/odd-broker.ts";
import { WrongClock, noWrongClock } from "../support/wrong-clock.ts";

/** A value for which the broker has no room in one message, and some of which each fills one. */
const LARGE = noise(500_000);
const BULKY = noise(50_000);

/** Text that does not get much shorter when it is compressed. */
function noise(length: number): string {
  const parts: string[] = [];
  for (let i = 0; i * 48_000 < length; i++) {
    parts.push(Buffer.from(crypto.getRandomValues(new Uint8Array(48_000))).toString("base64"));
  }
  return parts.join("").slice(0, length);
}

const missing = whyNoNamespaces() ?? (noWrongClock === "" ? null : noWrongClock);
if (missing !== null) console.warn(`skipped: ${missing}`);

const cleanUp: (() => unknown)[] = [];
afterEach(async () => {
  for (const each of cleanUp.splice(0).reverse()) await each();
});

async function start(
  number: number,
  broker: OddBroker,
  clock: WrongClock | null,
): Promise<ClusterNode> {
  const namespace: Namespace = createNamespace(number);
  cleanUp.push(() => removeNamespace(namespace));
  const node = await ClusterNode.start(`n${number}`, {
    namespace,
    broker: `mqtt://${namespace.gateway}:${broker.port}`,
    network: { bind_address: "0.0.0.0", bind_port: 7379 },
    antiEntropy: { interval_seconds: 60 },
    // Many small messages: more than such a broker takes in a second.
    mqtt: { batch_bytes: 1_024 },
    ...(clock !== null && { env: clock.env }),
  });
  cleanUp.push(() => node.process.kill());
  return node;
}

const lines = (count: number, line: (i: number) => string): string[] =>
  Array.from({ length: count }, (_, i) => line(i));

describe.skipIf(missing !== null)("behind NAT, over a hosted broker, one clock in 1970,", () => {
  test("three nodes come to hold the same", async () => {
    const broker = await OddBroker.start(hostedLimits(), "0.0.0.0");
    cleanUp.push(() => broker.stop());
    const clock = new WrongClock(20_000 - Date.now());
    cleanUp.push(() => clock.remove());
    const [n1, n2] = [await start(1, broker, null), await start(2, broker, null)];
    const n3 = await start(3, broker, clock);
    const nodes = [n1, n2, n3];
    const areEqual = async (): Promise<boolean> => {
      const hashes = await Promise.all(nodes.map((node) => node.ask("HASH")));
      return new Set(hashes).size === 1;
    };
    // What one misses, what both count, and what is deleted.
    await n2.ask("REPLICATE disable");
    await n1.askAll(lines(1_500, (i) => `SET missed:${i} value of ${i}`));
    await n2.askAll(lines(1_500, (i) => `SET alone:${i} value of ${i}`));
    await Promise.all([n1, n2].map((node) => node.askAll(lines(50, () => "INCR visits"))));
    await n1.askAll(lines(100, (i) => `DEL missed:${i}`));
    await n2.ask("REPLICATE enable");
    expect(await n2.ask(`SET large ${LARGE}`)).toBe("OK");
    await n1.askAll(lines(30, (i) => `SET bulky:${i} ${i}${BULKY}`));
    await n1.askAll(lines(3_000, (i) => `SET fresh:${i} ${i}`));

    // The broker takes so many messages a second and no more.
    await eventually("all hold the same", areEqual, 120_000);
    expect(await n3.ask("DBSIZE")).toBe(`${1_400 + 1_500 + 30 + 3_000 + 2}`);
    expect(await n3.ask("GET visits")).toBe("100");
    expect(await n3.ask("GET missed:7")).toBe("(null)");
    expect(await n1.ask("STRLEN large")).toBe(`${LARGE.length}`);

    clock.set(0);
    const write = async (): Promise<boolean> => (await n3.ask("SET last 1")) === "OK";
    await eventually("its clock is right", write);
    await eventually("and all hold that, too", areEqual);
    expect(await n1.ask("GET last")).toBe("1");
    expect((await n1.info()).get("sync_ways")).toMatch(/^n2=broker n3=(broker|untried)$/);
    expect(broker.hangUps).toBe(0);
  });
});

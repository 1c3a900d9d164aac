/** Which way is taken to a peer, and what is remembered of it. */
import { beforeEach, expect, test } from "bun:test";
import type { NodeAddress } from "../../../src/config/address.ts";
import type { Destination } from "../../../src/anti-entropy/destination.ts";
import { Ways } from "../../../src/anti-entropy/ways.ts";
import { silentLogger } from "../../../src/observability/log.ts";

const MINUTE_MS = 60_000;
const PEER: Destination = {
  hostPort: { host: "10.0.0.1", port: 7379, isSecure: false },
  relayTo: "n2",
};
const HIDDEN: Destination = { hostPort: null, relayTo: "n3" };
const STRANGER: Destination = {
  hostPort: { host: "10.0.0.9", port: 7379, isSecure: false },
  relayTo: "",
};

let nowMs: number;
let answersAtPort: boolean;
let isRelayOpen: boolean;
let answersThroughBroker: boolean;
let tried: string[];
let logged: string[];
let ways: Ways;

beforeEach(() => {
  nowMs = 0;
  answersAtPort = isRelayOpen = answersThroughBroker = true;
  tried = [];
  logged = [];
  const timing = { nowMs: () => nowMs, after: () => () => {}, soon: () => () => {} };
  const logger = { ...silentLogger, info: (message: string) => void logged.push(message) };
  const dial = async ({ host }: NodeAddress): Promise<void> => {
    tried.push(host);
    if (!answersAtPort) throw new Error(`cannot reach ${host}`);
  };
  const relay = {
    get isOpen() {
      return isRelayOpen;
    },
    async dial(nodeId: string): Promise<void> {
      tried.push(nodeId);
      if (!answersThroughBroker) throw new Error(`${nodeId} does not answer`);
    },
  };
  ways = new Ways(dial, relay, () => false, timing, logger);
});

const reach = (peer: Destination) =>
  ways.reach(
    peer,
    "PEER",
    () => ({ receive() {}, drained() {}, closed() {} }),
    () => {},
  );

test("a client port that answers is taken, and the broker left alone", async () => {
  await reach(PEER);
  expect(tried).toEqual(["10.0.0.1"]);
  expect(logged).toEqual([]);
});

test("one that does not is left alone for a minute, then for longer, and comes back", async () => {
  answersAtPort = false;
  await reach(PEER);
  await reach(PEER);
  expect(tried.splice(0)).toEqual(["10.0.0.1", "n2", "n2"]);
  nowMs += MINUTE_MS;
  await reach(PEER);
  expect(tried.splice(0)).toEqual(["10.0.0.1", "n2"]);
  nowMs += MINUTE_MS;
  await reach(PEER);
  expect(tried.splice(0)).toEqual(["n2"]);
  expect(logged.splice(0)).toEqual(["A peer is reached through the broker"]);
  answersAtPort = true;
  nowMs += MINUTE_MS;
  await reach(PEER);
  await reach(PEER);
  expect(tried).toEqual(["10.0.0.1", "10.0.0.1"]);
  expect(logged).toEqual(["A peer is reached at its address again"]);
});

test("who has no address is called through the broker at once", async () => {
  await reach(HIDDEN);
  expect(tried).toEqual(["n3"]);
});

test("while the broker is away there is only the port, whatever was found out", async () => {
  answersAtPort = false;
  await reach(PEER);
  isRelayOpen = false;
  tried = [];
  await expect(reach(PEER)).rejects.toThrow("cannot reach 10.0.0.1");
  await expect(reach(HIDDEN)).rejects.toThrow('"n3" has no address here');
  expect(tried).toEqual(["10.0.0.1"]);
});

test("who does not say that he hears calls is called at the port only", async () => {
  answersAtPort = false;
  await expect(reach(STRANGER)).rejects.toThrow("cannot reach 10.0.0.9");
  await expect(reach(STRANGER)).rejects.toThrow("cannot reach 10.0.0.9");
  expect(tried).toEqual(["10.0.0.9", "10.0.0.9"]);
});

test("when no way leads there, it is told of both", async () => {
  answersAtPort = answersThroughBroker = false;
  const both = "cannot reach 10.0.0.1; n2 does not answer";
  await expect(reach(PEER)).rejects.toThrow(both);
});

test("where another answers, the broker is taken next", async () => {
  await reach(PEER);
  ways.noteStranger(PEER);
  await reach(PEER);
  expect(tried).toEqual(["10.0.0.1", "n2"]);
});

test("the ways are shown by node id, up to a number", async () => {
  answersAtPort = false;
  await reach(PEER);
  const peers = [
    { ...HIDDEN, nodeId: "n3", isMet: false },
    { ...PEER, nodeId: "n2", isMet: true },
    { ...STRANGER, nodeId: "n1", isMet: true },
    { ...STRANGER, nodeId: "n0", isMet: false },
    { ...STRANGER, nodeId: "", isMet: false },
  ];
  expect(ways.describe(peers)).toBe("n0=untried n1=tcp n2=broker n3=broker");
  const many = Array.from({ length: 100 }, (_, i) => ({ ...HIDDEN, nodeId: `n${i}`, isMet: true }));
  const shown = ways.describe(many);
  expect(shown.split(" ").length).toBe(33);
  expect(shown).toEndWith(" …");
});

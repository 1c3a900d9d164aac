/** Bytes by what for and by whom, of few peers or many. */
import { expect, test } from "bun:test";
import { PeerTraffic } from "../../src/peer-traffic.ts";

const facts = (traffic: PeerTraffic): Map<string, unknown> =>
  new Map(PeerTraffic.facts.map((fact) => [fact.name, fact.read(traffic)]));

test("what went to all, and what came from each, is counted by what it was for", () => {
  const traffic = new PeerTraffic();
  traffic.note("", "updates", 500, 0);
  traffic.note("n2", "updates", 0, 70);
  traffic.note("n2", "sync_tcp", 10, 20);
  traffic.note("n2", "sync_tcp", 1, 2);
  traffic.note("n3", "values", 5, 600);
  const found = facts(traffic);
  expect(found.get("traffic_updates_sent_bytes")).toBe(500);
  expect(found.get("traffic_updates_received_bytes")).toBe(70);
  expect(found.get("traffic_sync_tcp_sent_bytes")).toBe(11);
  expect(found.get("traffic_sync_tcp_received_bytes")).toBe(22);
  expect(found.get("traffic_presence_sent_bytes")).toBe(0);
  expect(found.get("traffic_by_peer")).toBe("n3 values=5/600; n2 updates=0/70 sync_tcp=11/22");
});

test("of many peers those with the fewest bytes are counted together, and none is lost", () => {
  const traffic = new PeerTraffic();
  for (let i = 0; i < 5_000; i++) traffic.note(`stranger ${i}`, "presence", 0, 1);
  traffic.note("n2", "sync_broker", 1_000, 1_000);
  for (let i = 0; i < 5_000; i++) traffic.note(`stranger ${i}`, "presence", 0, 1);
  const text = facts(traffic).get("traffic_by_peer") as string;
  expect(text).toStartWith("n2 sync_broker=1000/1000; ");
  expect(text.split("; ").length).toBe(33);
  expect(text.length).toBeLessThan(2_000);
  const received = [...text.matchAll(/presence=0\/(\d+)/g)].map(([, bytes]) => Number(bytes));
  expect(received.reduce((sum, it) => sum + it, 0)).toBe(10_000);
});

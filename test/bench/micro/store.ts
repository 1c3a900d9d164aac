/** What the store costs: writes, reads, counting, entries from elsewhere, sweeping. */
import { HybridClock } from "../../../src/core/data/clock.ts";
import { Int64 } from "../../../src/core/data/int64.ts";
import { Entry } from "../../../src/core/data/entry.ts";
import { Store } from "../../../src/core/store/store.ts";
import { seeded } from "../../support/random.ts";

const KEYS = Number(process.argv[2] ?? 300_000);
const KEY_BYTES = 16;
const VALUE = new Uint8Array(22).fill(118);

const random = seeded(1);
let nowMs = 1_700_000_000_000;
const store = new Store({
  clock: new HybridClock(() => nowMs),
  origin: { high: 1, low: 2 },
  hashSeed: { high: 3, low: 4 },
  random,
  memoryLimitBytes: 4_000_000_000,
  maxClockSkewMs: 1_000,
  tombstoneGraceMs: 5_000,
});
const keys = new Uint8Array(KEYS * KEY_BYTES);
const encoder = new TextEncoder();
for (let i = 0; i < KEYS; i++) {
  const name = `key:${String(i).padStart(12, "0")}`;
  encoder.encodeInto(name, keys.subarray(i * KEY_BYTES));
}
const places = Uint32Array.from({ length: KEYS }, () => Math.floor(random() * KEYS) * KEY_BYTES);
const entry = new Entry();
const one = new Int64().set(0, 1);

function time(what: string, step: (at: number) => void): void {
  const started = Bun.nanoseconds();
  for (let i = 0; i < KEYS; i++) step(places[i]);
  const ns = (Bun.nanoseconds() - started) / KEYS;
  console.log(`${what.padEnd(36)} ${ns.toFixed(0).padStart(6)} ns`);
}

const set = (at: number) => void store.set(keys, at, KEY_BYTES, VALUE, 0, VALUE.length, 0);
for (let i = 0; i < KEYS; i++) set(i * KEY_BYTES);
time("set", set);
time("get", (at) => {
  const id = store.find(keys, at, KEY_BYTES);
  if (id >= 0) store.readValue(id, entry);
});
const incoming = new Entry().setValue(VALUE);
let counter = 0;
nowMs += 500;
time("apply, from elsewhere", (at) => {
  incoming.setKey(keys, at, KEY_BYTES).setVersion(Math.floor(nowMs / 65_536), counter++, 7, 7);
  store.apply(incoming);
});
time("delete", (at) => void store.delete(keys, at, KEY_BYTES));
time("increment", (at) => void store.increment(keys, at, KEY_BYTES, one));
time("increment again", (at) => void store.increment(keys, at, KEY_BYTES, one));
time("sweep of a row", () => void store.sweep(1));

/** What the block skip list costs: ns an operation, the longest insert, bytes a key. */

import { BlockSkipList } from "../../../src/core/store/block-skip-list.ts";
import { prefix32 } from "../../../src/core/store/key-order.ts";
import { compareBytes } from "../../../src/core/data/entry.ts";
import type { KeySlice, KeySource } from "../../../src/core/store/key-order.ts";
import { seeded } from "../../support/random.ts";

const KEYS = Number(process.argv[2] ?? 1_000_000);
/** Keys lie as far apart as records do in the arena. */
const RECORD_BYTES = 64;

class RecordKeys implements KeySource {
  private readonly records = new Uint8Array(KEYS * RECORD_BYTES);
  private readonly offsets = new Uint32Array(KEYS);
  private readonly lengths = new Uint32Array(KEYS);

  constructor(order: Uint32Array, keyOf: (n: number) => string) {
    const encoder = new TextEncoder();
    for (let id = 0; id < KEYS; id++) {
      const key = encoder.encode(keyOf(order[id]));
      this.offsets[id] = id * RECORD_BYTES;
      this.lengths[id] = key.length;
      this.records.set(key, id * RECORD_BYTES);
    }
  }

  locateKey(id: number, into: KeySlice): void {
    into.bytes = this.records;
    into.offset = this.offsets[id];
    into.length = this.lengths[id];
  }

  compareToKey(id: number, key: Uint8Array, offset: number, length: number): number {
    return compareBytes(this.records, this.offsets[id], this.lengths[id], key, offset, length);
  }

  prefix32(id: number, skip: number): number {
    return prefix32(this.records, this.offsets[id], this.lengths[id], skip);
  }
}

function shuffled(seed: number): Uint32Array {
  const random = seeded(seed);
  const order = Uint32Array.from({ length: KEYS }, (_, i) => i);
  for (let i = KEYS - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    const swap = order[i];
    order[i] = order[j];
    order[j] = swap;
  }
  return order;
}

function report(what: string, count: number, startedNs: number, more = ""): void {
  const ns = (Bun.nanoseconds() - startedNs) / count;
  console.log(`${what.padEnd(44)} ${ns.toFixed(0).padStart(6)} ns${more}`);
}

function build(what: string, keys: KeySource): BlockSkipList {
  const list = new BlockSkipList(keys, seeded(7));
  let longestNs = 0;
  const started = Bun.nanoseconds();
  let before = started;
  for (let id = 0; id < KEYS; id++) {
    list.insert(id);
    if ((id & 15) !== 0) continue;
    const now = Bun.nanoseconds();
    longestNs = Math.max(longestNs, now - before);
    before = now;
  }
  const bytes = (list.bytes() / KEYS).toFixed(2);
  report(
    `insert, ${what}`,
    KEYS,
    started,
    `   longest 16: ${(longestNs / 1e3).toFixed(0)} µs   ${bytes} bytes a key`,
  );
  return list;
}

const padded = (n: number): string => `key:${String(n).padStart(12, "0")}`;
const hex = (n: number): string => {
  const hash = Bun.hash.wyhash(String(n)).toString(16).padStart(16, "0");
  return `session:${hash}${hash}`;
};
const words = (n: number): string => `tenant-acme/region-eu-west/user/${n}/profile`;
const ascending = Uint32Array.from({ length: KEYS }, (_, i) => i);

const keys = new RecordKeys(shuffled(1), padded);
build("key:000000123456, random (cold)", keys);
const list = build("key:000000123456, random", keys);
build("key:000000123456, ascending", new RecordKeys(ascending, padded));
build("key:000000123456, descending", new RecordKeys(ascending.slice().reverse(), padded));
build("session:<32 hex digits>, random", new RecordKeys(shuffled(2), hex));
build("32-byte shared prefix, random", new RecordKeys(shuffled(3), words));

const order = shuffled(4);
const encoder = new TextEncoder();
const probes = Array.from({ length: 100_000 }, (_, i) => encoder.encode(padded(order[i])));
let started = Bun.nanoseconds();
let sum = 0;
for (const probe of probes) sum += list.at(list.seek(probe, 0, probe.length));
report("seek, random", probes.length, started);

started = Bun.nanoseconds();
let steps = 0;
for (let at = list.seek(probes[0], 0, 0); at >= 0; at = list.next(at)) {
  sum += list.at(at);
  steps++;
}
report("walk, a step", steps, started);

started = Bun.nanoseconds();
for (let i = 0; i < KEYS / 2; i++) list.remove(order[i]);
const half = (list.bytes() / list.size).toFixed(2);
report("remove, random half", KEYS / 2, started, `   ${half} bytes a key left`);
started = Bun.nanoseconds();
for (let i = 0; i < KEYS / 2; i++) list.insert(order[i]);
report("insert them again", KEYS / 2, started, `   (checksum ${sum})`);

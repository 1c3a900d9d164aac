/** What the Merkle tree costs: marking, hashing, slices, bytes a key. */

import { Entry } from "../../../src/core/data/entry.ts";
import { LATEST, MerkleTree } from "../../../src/core/tree/merkle.ts";
import { threadTimeNs } from "../breakdown/thread-time.ts";
import type { RecordSource } from "../../../src/core/tree/merkle.ts";
import { RecordDigester, treeKeyOf } from "../../../src/core/tree/record-digest.ts";
import { seeded } from "../../support/random.ts";

const KEYS = Number(process.argv[2] ?? 1_000_000);
const KEY_BYTES = 16;
const VALUE_BYTES = 22;
/** Records lie as far apart as they do in the arena. */
const RECORD_BYTES = 64;
const SLICE_MS = 2;

class Records implements RecordSource {
  readonly bytes = new Uint8Array(KEYS * RECORD_BYTES);
  readonly times = new Uint32Array(KEYS).fill(1);

  constructor() {
    const encoder = new TextEncoder();
    for (let id = 0; id < KEYS; id++)
      encoder.encodeInto(
        `key:${String(id).padStart(12, "0")}`,
        this.bytes.subarray(id * RECORD_BYTES),
      );
  }

  readonly idLimit = KEYS;

  isUsed(): boolean {
    return true;
  }

  isMissing(): boolean {
    return false;
  }

  touchRow(id: number): number {
    return this.times[id];
  }

  touchSlots(ids: Int32Array, count: number): number {
    let sum = 0;
    for (let i = 0; i < count; i++) sum ^= this.bytes[ids[i] * RECORD_BYTES];
    return sum;
  }

  read(id: number, into: Entry): void {
    const at = id * RECORD_BYTES;
    into.setKey(this.bytes, at, KEY_BYTES);
    into.setValue(this.bytes, at + KEY_BYTES, VALUE_BYTES);
    into.setVersion(this.times[id], 0, 1, 2);
  }
}

const records = new Records();
const tree = new MerkleTree(records, new RecordDigester(treeKeyOf("bench")));
const random = seeded(1);
const ids = Uint32Array.from({ length: KEYS }, () => Math.floor(random() * KEYS));

function report(what: string, ns: number, more = ""): void {
  console.log(`${what.padEnd(46)} ${ns.toFixed(0).padStart(6)} ns${more}`);
}

function mark(what: string, count: number): void {
  const started = threadTimeNs();
  for (let i = 0; i < count; i++) tree.changed(ids[i]);
  report(what, (threadTimeNs() - started) / count);
}

function update(what: string, high: number): void {
  const count = tree.waiting;
  let slices = 0;
  let longestMs = 0;
  const started = threadTimeNs();
  for (let more = true; more; slices++) {
    const before = performance.now();
    more = tree.update(high, LATEST, SLICE_MS, () => performance.now());
    longestMs = Math.max(longestMs, performance.now() - before);
  }
  const took = threadTimeNs() - started;
  report(
    what,
    took / count,
    ` an entry   ${(took / 1e6).toFixed(0)} ms, ${slices} slices, longest ${longestMs.toFixed(1)} ms`,
  );
}

for (let id = 0; id < KEYS; id++) tree.changed(id);
update(`build with ${KEYS} keys`, 1);
console.log(`memory: ${(tree.bytes() / KEYS).toFixed(1)} bytes a key, root ${tree.rootHex()}`);
mark("mark, random, not yet marked", KEYS / 2);
mark("mark, random, marked already", KEYS / 2);
update("update, nothing changed after all", 1);
for (const changes of [1, 100, 10_000]) {
  for (let i = 0; i < changes; i++) {
    records.times[ids[i]] = 2;
    tree.changed(ids[i]);
  }
  update(`update after ${changes} changes`, 2);
}
for (let i = 0; i < 10_000; i++) {
  records.times[ids[i]] = 3;
  tree.changed(ids[i]);
}
update("update, all of 10,000 above the watermark", 2);
const started = threadTimeNs();
const dropped = KEYS / 10;
for (let id = 0; id < dropped; id++) tree.removed(id);
report("remove", (threadTimeNs() - started) / dropped);

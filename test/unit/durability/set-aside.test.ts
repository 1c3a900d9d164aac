/** The file of entries that were set aside. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SetAside } from "../../../src/durability/set-aside.ts";
import { HybridClock, timeHighOf, timeLowOf } from "../../../src/core/data/clock.ts";
import { Int64 } from "../../../src/core/data/int64.ts";
import { Entry, KIND_TOMBSTONE } from "../../../src/core/data/entry.ts";
import { Store } from "../../../src/core/store/store.ts";
import type { SetAsideReason } from "../../../src/core/sync/options.ts";
import { unsealedLine } from "../../../src/durability/sealed-lines.ts";
import { noKeys, type DiskKeys } from "../../../src/durability/sealing.ts";
import { diskKeys } from "../../support/disk-keys.ts";
import { realFileSystem, type FileSystem } from "../../../src/durability/file-system.ts";
import { silentLogger } from "../../../src/observability/log.ts";
import { SimulatedDisk } from "../../support/simulated-disk.ts";

let directory: string;
beforeEach(() => (directory = mkdtempSync(join(tmpdir(), "merklekv-aside-"))));
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const create = (
  maxBytes = 1_000_000,
  nodeId = "n1",
  files: FileSystem = realFileSystem,
  keys: DiskKeys = noKeys,
) =>
  new SetAside({
    keys,
    directory: join(directory, "data"),
    nodeId,
    maxBytes,
    logger: silentLogger,
    files,
    wallMs: Date.now,
  });
const put = (aside: SetAside, entry: Entry, reason: SetAsideReason): Promise<boolean> =>
  new Promise((resolve) => aside.put(entry, reason, resolve));
const linesOf = (path: string): unknown[] =>
  readFileSync(path, "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
const bytes = (text: string) => new TextEncoder().encode(text);

const TIME_MS = Date.UTC(2026, 0, 2, 3, 4, 5, 678);

function entryOf(key: Uint8Array, value: Uint8Array): Entry {
  const entry = new Entry().setKey(key).setValue(value);
  return entry.setVersion(timeHighOf(TIME_MS), timeLowOf(TIME_MS) + 5, 0xabc, 0xdef);
}

test("there is no file until something is set aside", async () => {
  const aside = create();
  expect(existsSync(join(directory, "data"))).toBe(false);
  await aside.close();
});

test("what earlier processes set aside counts", async () => {
  const earlier = create();
  for (const key of ["a", "b", "c"]) await put(earlier, entryOf(bytes(key), bytes("v")), "stale");
  await earlier.close();
  const aside = create();
  await aside.countEarlier();
  expect(aside.entries).toBe(3);
  await put(aside, entryOf(bytes("d"), bytes("v")), "stale");
  expect(aside.entries).toBe(4);
  await aside.close();
  const another = create(1_000_000, "n2");
  await another.countEarlier();
  expect(another.entries).toBe(0);
});

test("every kind of entry is written so that nothing is lost", async () => {
  const aside = create();
  const string = entryOf(bytes("greeting"), bytes('say "hi"\n'));
  string.expiresAtMs = TIME_MS + 1000;
  expect(await put(aside, string, "stale")).toBe(true);
  expect(
    await put(aside, entryOf(new Uint8Array([0xff, 1]), new Uint8Array([0xfe])), "future"),
  ).toBe(true);
  const tombstone = entryOf(bytes("gone"), new Uint8Array(0));
  tombstone.kind = KIND_TOMBSTONE;
  expect(await put(aside, tombstone, "stale")).toBe(true);

  const store = new Store({
    clock: new HybridClock(() => TIME_MS),
    origin: { high: 1, low: 2 },
    hashSeed: { high: 1, low: 2 },
    random: () => 0,
    memoryLimitBytes: 0,
    maxClockSkewMs: 1,
    tombstoneGraceMs: 1,
  });
  const key = bytes("counter");
  store.increment(key, 0, key.length, new Int64().set(-1, -42));
  const counter = new Entry();
  store.read(store.find(key, 0, key.length), counter);
  expect(await put(aside, counter, "stale")).toBe(true);
  await aside.close();

  const at = expect.stringMatching(/^\d{4}-\d\d-\d\dT/);
  const common = { at, reason: "stale", time: "2026-01-02T03:04:05.678Z" };
  const origin = "00000abc00000def";
  expect(linesOf(aside.path)).toEqual([
    {
      ...common,
      kind: "string",
      key: "greeting",
      value: 'say "hi"\n',
      origin,
      expires: "2026-01-02T03:04:06.678Z",
    },
    {
      ...common,
      reason: "future",
      kind: "string",
      key_base64: "/wE=",
      value_base64: "/g==",
      origin,
    },
    { ...common, kind: "tombstone", key: "gone", origin },
    {
      ...common,
      kind: "counter",
      key: "counter",
      value: "-42",
      value_base64: Buffer.from(counter.valueBytes()).toString("base64"),
      origin: "0000000100000002",
    },
  ]);
  expect(aside.entries).toBe(4);
});

test("an entry that is offered again is not written again, a newer version is", async () => {
  const aside = create();
  const entry = entryOf(bytes("key"), bytes("value"));
  for (let i = 0; i < 3; i++) expect(await put(aside, entry, "future")).toBe(true);
  entry.timeLow++;
  expect(await put(aside, entry, "future")).toBe(true);
  await aside.close();
  expect(linesOf(aside.path).length).toBe(2);
  expect(aside.entries).toBe(2);
});

test("the file is continued after a restart and never grows beyond its bound", async () => {
  const first = create(500);
  expect(await put(first, entryOf(bytes("a"), bytes("x".repeat(100))), "stale")).toBe(true);
  await first.close();
  const second = create(500);
  expect(await put(second, entryOf(bytes("b"), bytes("x".repeat(100))), "stale")).toBe(true);
  expect(await put(second, entryOf(bytes("c"), bytes("x".repeat(100))), "stale")).toBe(false);
  await second.close();
  expect(linesOf(second.path)).toMatchObject([{ key: "a" }, { key: "b" }]);
});

test("a line cut short by a full disk does not spoil the next one", async () => {
  const disk = new SimulatedDisk();
  const aside = create(1_000_000, "n1", disk);
  disk.capacityBytes = disk.partBytes = 60;
  expect(await put(aside, entryOf(bytes("a"), bytes("x")), "stale")).toBe(false);
  disk.capacityBytes = Infinity;
  expect(await put(aside, entryOf(bytes("b"), bytes("x")), "stale")).toBe(true);
  expect(await put(aside, entryOf(bytes("c"), bytes("x")), "stale")).toBe(true);
  await aside.close();
  const text = new TextDecoder().decode(disk.contents(aside.path));
  const [cut, ...whole] = text.trimEnd().split("\n");
  expect(cut.length).toBe(60);
  expect(whole.map((line) => JSON.parse(line))).toMatchObject([{ key: "b" }, { key: "c" }]);
});

test("what counts as set aside survives a power cut, the new file's name included", async () => {
  const disk = new SimulatedDisk();
  const aside = create(1_000_000, "n1", disk);
  expect(await put(aside, entryOf(bytes("a"), bytes("x")), "stale")).toBe(true);
  disk.crash("none", Math.random);
  const text = new TextDecoder().decode(disk.contents(aside.path));
  expect(JSON.parse(text)).toMatchObject({ key: "a", value: "x" });
});

test.each(["failSyncsWith", "failWritesWith"] as const)(
  "what the disk does not take does not count, and the next one may: %s",
  async (failing) => {
    const disk = new SimulatedDisk();
    const aside = create(1_000_000, "n1", disk);
    disk[failing] = "EIO";
    const entry = entryOf(bytes("a"), bytes("x"));
    expect(await put(aside, entry, "stale")).toBe(false);
    expect(await put(aside, entry, "future")).toBe(false);
    expect(aside.entries).toBe(0);
    disk[failing] = null;
    expect(await put(aside, entry, "future")).toBe(true);
    disk.crash("none", Math.random);
    expect(new TextDecoder().decode(disk.contents(aside.path))).toEndWith("}\n");
  },
);

test("what waits for a slow disk is bounded: what comes from the future is offered again", async () => {
  const aside = create(1_000_000_000);
  const entry = entryOf(bytes("key"), new Uint8Array(1_000_000));
  const kept = await Promise.all(
    Array.from({ length: 20 }, (_, i) => {
      entry.originLow = i;
      return put(aside, entry, "future");
    }),
  );
  const taken = kept.filter((isKept) => isKept).length;
  expect(taken).toBeGreaterThan(0);
  expect(taken).toBeLessThan(20);
  await aside.close();
});

test("entries that come together share a sync", async () => {
  const disk = new SimulatedDisk();
  const aside = create(1_000_000, "n1", disk);
  const keys = Array.from({ length: 1_000 }, (_, i) => bytes(`k${i}`));
  const kept = await Promise.all(keys.map((key) => put(aside, entryOf(key, key), "stale")));
  expect(kept.every((isKept) => isKept)).toBe(true);
  expect(disk.syncs).toBeLessThanOrEqual(2);
});

test("nor does one that a crash cut short, after a restart", async () => {
  const first = create();
  expect(await put(first, entryOf(bytes("a"), bytes("x")), "stale")).toBe(true);
  await first.close();
  writeFileSync(first.path, '{"at":"20', { flag: "a" });
  const second = create();
  expect(await put(second, entryOf(bytes("b"), bytes("x")), "stale")).toBe(true);
  await second.close();
  const lines = readFileSync(second.path, "utf8").trimEnd().split("\n");
  expect(lines[1]).toBe('{"at":"20');
  expect([lines[0], lines[2]].map((line) => JSON.parse(line))).toMatchObject([
    { key: "a" },
    { key: "b" },
  ]);
});

test("however many entries come from the future, none is written twice", async () => {
  const aside = create(1_000_000_000);
  const entry = entryOf(bytes("key"), bytes("v"));
  for (let round = 0; round < 2; round++) {
    for (let i = 0; i < 66_000; i++) {
      entry.originLow = i;
      const isLast = i % 1_000 === 999 || i === 65_535;
      if (isLast) await put(aside, entry, "future");
      else aside.put(entry, "future");
    }
    expect(aside.entries).toBe(65_536);
  }
  expect(await put(aside, entryOf(bytes("old"), bytes("v")), "stale")).toBe(true);
  await aside.close();
});

test("entries from the future leave half of the file to those that are nowhere else", async () => {
  const aside = create(1_000);
  const entry = entryOf(bytes("key"), bytes("x".repeat(200)));
  expect(await put(aside, entry, "future")).toBe(true);
  entry.timeLow++;
  expect(await put(aside, entry, "future")).toBe(false);
  expect(await put(aside, entry, "stale")).toBe(true);
  await aside.close();
});

test("a directory that cannot be made is no reason to lose the entry", async () => {
  writeFileSync(join(directory, "data"), "a file is in the way");
  const aside = create();
  expect(await put(aside, entryOf(bytes("a"), bytes("b")), "stale")).toBe(false);
  expect(aside.entries).toBe(0);
  await aside.close();
});

test.each(["../../etc", "ü".repeat(120), "plain-1"])(
  "any node id makes a file name: %s",
  async (id) => {
    const aside = create(1_000, id);
    expect(await put(aside, entryOf(bytes("a"), bytes("b")), "stale")).toBe(true);
    await aside.close();
    expect(aside.path.startsWith(join(directory, "data", "set-aside-"))).toBe(true);
    expect(linesOf(aside.path).length).toBe(1);
  },
);

test("with a key no line tells anything, and each opens where it was written only", async () => {
  const values = ["v", "", "x".repeat(1_000), 'quo"te\n'];
  const plain = create();
  for (const value of values) await put(plain, entryOf(bytes("the-key"), bytes(value)), "stale");
  await plain.close();
  const expected = linesOf(plain.path).map((line) => ({ ...(line as object), at: "" }));
  rmSync(plain.path);

  let path = "";
  // Two processes, so two openings; with another key for the second.
  for (const [i, keys] of [diskKeys("one"), diskKeys("two", "one")].entries()) {
    const aside = create(1_000_000, "n1", realFileSystem, keys);
    ({ path } = aside);
    for (const value of values.slice(2 * i, 2 * i + 2)) {
      await put(aside, entryOf(bytes("the-key"), bytes(value)), "stale");
    }
    await aside.close();
  }
  const lines = readFileSync(path, "latin1").trimEnd().split("\n");
  expect(lines).toHaveLength(values.length);
  // Words so long that sealed bytes do not hold them by chance.
  expect(lines.join("")).not.toMatch(/the-key|string|"stale"|x{8}/);
  const keys = diskKeys("", "two", "one");
  const starts = lines.map((_, i) => lines.slice(0, i).join("\n").length + (i > 0 ? 1 : 0));
  const opened = lines.map((line, i) => unsealedLine(line, starts[i], path, keys));
  expect(opened.map((line) => ({ ...JSON.parse(line!), at: "" }))).toEqual(expected);
  for (const [i, line] of lines.entries()) {
    expect(unsealedLine(line, starts[i] + 1, path, keys)).toBeNull();
    expect(() => unsealedLine(line, starts[i], path, diskKeys("three"))).toThrow("the key");
  }
});

test("a sealed file keeps its limit, and how long its lines get is known before", async () => {
  const maxBytes = 3_000;
  const aside = create(maxBytes, "n1", realFileSystem, diskKeys("one"));
  let kept = 0;
  for (let i = 0; i < 40; i++) {
    if (await put(aside, entryOf(bytes(`k${i}`), bytes("v".repeat(i))), "stale")) kept++;
  }
  await aside.close();
  expect(kept).toBeGreaterThan(5);
  expect(readFileSync(aside.path).length).toBeLessThanOrEqual(maxBytes);
  expect(readFileSync(aside.path).length).toBeGreaterThan(maxBytes - 500);
});

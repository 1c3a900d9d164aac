/**
 * Files that are not as they were written: cut at every byte, a byte flipped at every offset,
 * files taken away or swapped. Always noticed, and never wrong data.
 */
import { describe, expect, test } from "bun:test";
import { DamageError } from "../../../src/durability/data-directory.ts";
import { DirectorySeals, noKeys } from "../../../src/durability/sealing.ts";
import { isTornEnd, readDataFile } from "../../../src/durability/data-file.ts";
import { FORMAT_VERSION, FRAME_HEADER_BYTES } from "../../../src/durability/frame.ts";
import { FrameBuffer } from "../../../src/durability/frame-buffer.ts";
import { FILE_LOG, FILE_SNAPSHOT } from "../../../src/durability/record.ts";
import { OperationalError } from "../../../src/operational-error.ts";
import { DIRECTORY, dataOf, openStore, set, untilSafe } from "../../support/journalled-store.ts";
import { SimulatedDisk } from "../../support/simulated-disk.ts";

const LOG = `${DIRECTORY}/0000000001.log`;

/** The bytes of a log of six frames (one a key), and where each frame ends. */
async function smallLog(
  stop: "cleanly" | "killed",
): Promise<{ bytes: Uint8Array; ends: number[] }> {
  const files = new SimulatedDisk();
  const opened = await openStore({ files });
  const ends = [withoutZeros(files.contents(LOG)).length];
  for (let i = 0; i < 5; i++) {
    set(opened.store, `key ${i}`, `value ${i}`);
    await untilSafe(opened);
    ends.push(withoutZeros(files.contents(LOG)).length);
  }
  if (stop === "cleanly") await opened.journal.close();
  return { bytes: withoutZeros(files.contents(LOG)), ends };
}

/** What was written of a log, without the zeros allocated behind it. */
function withoutZeros(bytes: Uint8Array): Uint8Array {
  return bytes.subarray(0, bytes.findLastIndex((byte) => byte !== 0) + 1);
}

function diskWith(contents: Record<string, Uint8Array>): SimulatedDisk {
  const files = new SimulatedDisk();
  for (const [path, bytes] of Object.entries(contents)) files.place(path, bytes);
  return files;
}

function keysUpTo(count: number): Record<string, string> {
  return Object.fromEntries(Array.from({ length: count }, (_, i) => [`key ${i}`, `value ${i}`]));
}

function flipped(bytes: Uint8Array, at: number): Uint8Array {
  const copy = bytes.slice();
  copy[at] ^= 0x5a;
  return copy;
}

describe("a log that a crash cut off", () => {
  test("at every byte of its last frame: only that frame is gone, and it is reported", async () => {
    const { bytes, ends } = await smallLog("killed");
    const lastStart = ends.at(-2)!;
    for (let cut = lastStart; cut <= bytes.length; cut++) {
      const left = bytes.subarray(0, cut);
      const files = diskWith({ [LOG]: left });
      const { store, recovered, journal } = await openStore({ files });
      expect(dataOf(store)).toEqual(keysUpTo(cut === bytes.length ? 5 : 4));
      const tornBytes = withoutZeros(left).length - lastStart;
      expect(recovered.tornBytes).toBe(cut === bytes.length ? 0 : tornBytes);
      expect(recovered.wasStoppedCleanly).toBe(false);
      set(store, "goes", "on");
      await untilSafe({ journal });
      const again = await openStore({ files });
      expect(dataOf(again.store)["goes"]).toBe("on");
      expect(again.recovered.tornBytes).toBe(0);
    }
  });

  test("before its head was whole: it is begun again", async () => {
    const { bytes, ends } = await smallLog("killed");
    for (let cut = 0; cut < ends[0]; cut++) {
      const left = bytes.subarray(0, cut);
      const files = diskWith({ [LOG]: left });
      const opened = await openStore({ files });
      expect(opened.recovered.tornBytes).toBe(withoutZeros(left).length);
      set(opened.store, "goes", "on");
      await untilSafe(opened);
      expect(dataOf((await openStore({ files })).store)).toEqual({ goes: "on" });
    }
  });

  test("with a value in the torn frame that is itself a log: that is not damage", async () => {
    const { bytes: inner } = await smallLog("cleanly");
    const files = new SimulatedDisk();
    const opened = await openStore({ files });
    set(opened.store, "key", "value");
    await untilSafe(opened);
    const end = withoutZeros(files.contents(LOG)).length;
    const many = new Uint8Array(inner.length * 50);
    for (let i = 0; i < 50; i++) many.set(inner, i * inner.length);
    set(opened.store, "log", many);
    await untilSafe(opened);
    const whole = withoutZeros(files.contents(LOG));
    const torn = withoutZeros(whole.subarray(0, -1));
    const again = await openStore({ files: diskWith({ [LOG]: torn }) });
    expect(dataOf(again.store)).toEqual({ key: "value" });
    expect(again.recovered.tornBytes).toBe(torn.length - end);
  });
});

describe("one byte flipped", () => {
  test("at every offset of a log that was killed: refused, or the last frame is cut", async () => {
    const { bytes, ends } = await smallLog("killed");
    for (let at = 0; at < bytes.length; at++) {
      const files = diskWith({ [LOG]: flipped(bytes, at) });
      if (at < ends.at(-2)!) {
        const frameStart = Math.max(0, ...ends.filter((end) => end <= at));
        const error = await openStore({ files }).catch((caught: unknown) => caught);
        expect(error).toBeInstanceOf(DamageError);
        expect(error).toMatchObject({ path: LOG, offset: frameStart });
        expect((error as Error).message).toContain(`${LOG} is damaged at byte ${frameStart}`);
      } else {
        const { store, recovered } = await openStore({ files });
        expect(dataOf(store)).toEqual(keysUpTo(4));
        expect(recovered.tornBytes).toBeGreaterThan(0);
      }
    }
  });

  test("at every offset of a log that was stopped cleanly: no data is ever cut", async () => {
    const { bytes } = await smallLog("cleanly");
    const endFrameStart = bytes.length - (FRAME_HEADER_BYTES + 7);
    for (let at = 0; at < bytes.length; at++) {
      const opening = openStore({ files: diskWith({ [LOG]: flipped(bytes, at) }) });
      if (at < endFrameStart) {
        expect(await opening.catch((error: unknown) => error)).toBeInstanceOf(DamageError);
      } else {
        const { store, recovered } = await opening;
        expect(dataOf(store)).toEqual(keysUpTo(5));
        expect(recovered.tornBytes).toBe(bytes.length - endFrameStart);
      }
    }
  });

  test("at every offset of a snapshot, and of a segment that is not the last: refused", async () => {
    const files = new SimulatedDisk();
    const opened = await openStore({ files, segmentBytes: 200 });
    // Large enough that what follows brings no further snapshot.
    const value = "x".repeat(500);
    const data: Record<string, string> = {};
    for (let i = 0; i < 5; i++) set(opened.store, `key ${i}`, (data[`key ${i}`] = value));
    await opened.journal.compact();
    for (let i = 5; i < 10; i++) {
      set(opened.store, `key ${i}`, (data[`key ${i}`] = `value ${i}`));
      await untilSafe(opened);
    }
    await opened.journal.close();
    const paths = files.paths().filter((path) => /log|snap/.test(path));
    expect(paths.length).toBeGreaterThan(2);
    const whole = Object.fromEntries(paths.map((path) => [path, files.contents(path)]));
    for (const path of paths.slice(0, -1)) {
      for (let at = 0; at < whole[path].length; at++) {
        const broken = diskWith({ ...whole, [path]: flipped(whole[path], at) });
        const error = await openStore({ files: broken }).catch((caught: unknown) => caught);
        expect(error).toBeInstanceOf(DamageError);
        expect((error as DamageError).path).toBe(path);
      }
      for (let cut = 0; cut < whole[path].length; cut++) {
        const broken = diskWith({ ...whole, [path]: whole[path].subarray(0, cut) });
        const error = await openStore({ files: broken }).catch((caught: unknown) => caught);
        expect(error).toBeInstanceOf(DamageError);
      }
      const { [path]: _, ...rest } = whole;
      // A snapshot that is gone takes the segments before it along: those are missing.
      expect(await openStore({ files: diskWith(rest) }).catch((e: unknown) => e)).toBeInstanceOf(
        DamageError,
      );
    }
    expect(dataOf((await openStore({ files: diskWith(whole) })).store)).toEqual(data);
  });
});

describe("what a power cut may leave of frames that were never synced", () => {
  test("a hole in them is cut off, later frames and all", async () => {
    const files = new SimulatedDisk();
    const opened = await openStore({ files, fsync: "never" });
    const ends = [files.contents(LOG).length];
    for (let i = 0; i < 5; i++) {
      set(opened.store, `key ${i}`, `value ${i}`);
      await untilSafe(opened);
      ends.push(files.contents(LOG).length);
    }
    const holed = flipped(files.contents(LOG), ends[2] + 40);
    const { store, recovered } = await openStore({
      files: diskWith({ [LOG]: holed }),
      fsync: "never",
    });
    expect(dataOf(store)).toEqual(keysUpTo(2));
    expect(recovered.tornBytes).toBe(holed.length - ends[2]);
  });
});

describe("somebody else's files", () => {
  const openError = async (contents: Record<string, Uint8Array>): Promise<Error> => {
    const files = diskWith(contents);
    const before = files.paths().map((path) => [path, files.contents(path)]);
    const error = await openStore({ files }).catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(OperationalError);
    expect((error as Error).message).not.toContain("\n");
    // Nothing was written.
    expect(files.paths().map((path) => [path, files.contents(path)])).toEqual(before);
    return error as Error;
  };
  const fileOf = (fill: (buffer: FrameBuffer) => void): Uint8Array => {
    const buffer = new FrameBuffer();
    fill(buffer);
    return buffer.finish(0).slice();
  };

  test("another node's", async () => {
    const bytes = fileOf((buffer) => buffer.addHead(FILE_LOG, 1, "n2"));
    expect((await openError({ [LOG]: bytes })).message).toBe(
      `${LOG} belongs to node "n2", not to "n1"; set that node_id or another storage.path`,
    );
  });

  test("another version's", async () => {
    const bytes = new FrameBuffer();
    bytes.addHead(FILE_LOG, 1, "n1");
    const view = (bytes as unknown as { bytes: Uint8Array }).bytes;
    view[FRAME_HEADER_BYTES + 2] = 99;
    expect((await openError({ [LOG]: bytes.finish(0).slice() })).message).toBe(
      `${LOG} is in format 99 and this merklekv reads formats 1 to ${FORMAT_VERSION}; use the version that wrote it`,
    );
  });

  test("an older version's is read, and gone on with", async () => {
    const { bytes } = await smallLog("killed");
    // The head's frame, as version 1 wrote it.
    const head = new FrameBuffer();
    head.addHead(FILE_LOG, 1, "n1");
    (head as unknown as { bytes: Uint8Array }).bytes[FRAME_HEADER_BYTES + 2] = 1;
    bytes.set(head.finish(0));
    const files = diskWith({ [LOG]: bytes });
    const first = await openStore({ files });
    expect(dataOf(first.store)).toEqual(keysUpTo(5));
    first.store.discard(0);
    await untilSafe(first);
    expect((await openStore({ files })).store.size).toBe(4);
  });

  test("a snapshot under a segment's name, and a segment under another number's", async () => {
    const snapshot = fileOf((buffer) => buffer.addHead(FILE_SNAPSHOT, 1, "n1"));
    expect((await openError({ [LOG]: snapshot })).message).toContain("is a snapshot, not a log");
    const renamed = fileOf((buffer) => buffer.addHead(FILE_LOG, 7, "n1"));
    expect((await openError({ [LOG]: renamed })).message).toContain("it is number 7");
  });

  test("bytes of any other kind", async () => {
    const bytes = new TextEncoder().encode("a letter to my aunt. ".repeat(10_000));
    expect(await openError({ [LOG]: bytes })).toBeInstanceOf(DamageError);
  });
});

test("a torn end is told from damage by what later frames say was synced", async () => {
  const { bytes, ends } = await smallLog("killed");
  const files = diskWith({ [LOG]: flipped(bytes, ends[1] + 3) });
  const expected = { fileKind: FILE_LOG, number: 1, nodeId: "n1" } as const;
  const sink = { entry() {}, floor() {}, metadata() {}, drop() {}, patch() {}, expiry() {} };
  const reading = await readDataFile(files, LOG, new DirectorySeals(noKeys), expected, sink);
  expect(reading).toMatchObject({ goodBytes: ends[1], frames: 2, entries: 1 });
  expect(await isTornEnd(files, LOG, reading)).toBe(false);
});

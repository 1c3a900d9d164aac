/**
 * Encryption at rest: whoever gets the disk reads nothing, and whoever can write to it makes no
 * frame count that was not written there. Without the key that is missing one line says which.
 */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { readU32 } from "../../../src/core/bytes.ts";
import type { OpenFile } from "../../../src/durability/file-system.ts";
import { writeFromFrames } from "../../../src/durability/salvage.ts";
import { checkDirectory } from "../../../src/durability/check.ts";
import { DamageError } from "../../../src/durability/data-directory.ts";
import { finishFrame, FRAME_HEADER_BYTES } from "../../../src/durability/frame.ts";
import { allFrames } from "../../../src/durability/frame-reader.ts";
import { FrameBuffer } from "../../../src/durability/frame-buffer.ts";
import {
  repairDirectory,
  restoreBackup,
  verifyBackup,
  verifyFrames,
} from "../../../src/durability/restore.ts";
import { MissingKey, SEALED_FRAME, type DiskKeys } from "../../../src/durability/sealing.ts";
import { backupsOf } from "../../support/backups.ts";
import { diskKeys, diskSecret } from "../../support/disk-keys.ts";
import { eventually } from "../../support/eventually.ts";
import { readFact } from "../../support/facts.ts";
import { journalFacts } from "../../../src/durability/log-facts.ts";
import {
  bytesOf,
  DIRECTORY,
  dataOf,
  openAfterKill,
  openStore,
  set,
  untilSafe,
  type JournalledStore,
} from "../../support/journalled-store.ts";
import { seeded } from "../../support/random.ts";
import { SimulatedDisk } from "../../support/simulated-disk.ts";

const LOG = `${DIRECTORY}/0000000001.log`;
const KEYS = diskKeys("one");
const BACKUP = "/backups/one.backup";

async function write(opened: JournalledStore, key: string, value: string): Promise<void> {
  set(opened.store, key, value);
  await untilSafe(opened);
}

/** A sealed log with a frame for each of that many keys, and the disk that it is on. */
async function sealedLog(count: number, keys = KEYS): Promise<SimulatedDisk> {
  const files = new SimulatedDisk();
  const opened = await openStore({ files, keys });
  for (let i = 0; i < count; i++) await write(opened, `key ${i}`, `value ${i}`);
  files.kill();
  return files;
}

const expectedOf = (count: number) =>
  Object.fromEntries(Array.from({ length: count }, (_, i) => [`key ${i}`, `value ${i}`]));

/** All that is on a disk, as one text. */
const textOf = (files: SimulatedDisk) =>
  files
    .paths()
    .map((path) => Buffer.from(files.contents(path)).toString("latin1"))
    .join("\n");

interface Frame {
  readonly position: number;
  readonly end: number;
  readonly syncedBytes: number;
  readonly payload: Uint8Array;
}

async function framesOf(files: SimulatedDisk, path: string): Promise<Frame[]> {
  const file = await files.open(path, "read");
  const frames: Frame[] = [];
  for await (const frame of allFrames(file)) frames.push(frame);
  return frames;
}

/** A frame with that payload, as whoever knows the format would make it. */
function forged(payload: Uint8Array, position: number, syncedBytes: number): Uint8Array {
  const frame = new Uint8Array(FRAME_HEADER_BYTES + payload.length);
  frame.set(payload, FRAME_HEADER_BYTES);
  return finishFrame(frame, frame.length, position, syncedBytes);
}

/** A file of frames with those payloads, in that order. */
function fileOf(payloads: readonly Uint8Array[]): Uint8Array {
  let position = 0;
  const frames = payloads.map((payload) => {
    const frame = forged(payload, position, position);
    position += frame.length;
    return frame;
  });
  return Buffer.concat(frames);
}

/** What opening comes to: the data, or the error. */
async function outcomeOf(files: SimulatedDisk, keys: DiskKeys = KEYS) {
  return openStore({ files, keys, fsync: "never" }).then(
    ({ store }) => dataOf(store),
    (error: unknown) => error as Error,
  );
}

const onDisk = (contents: Record<string, Uint8Array>): SimulatedDisk => {
  const files = new SimulatedDisk();
  for (const [path, bytes] of Object.entries(contents)) files.place(path, bytes);
  return files;
};

/** Sees every frame that is written, or is tried to be. */
class WatchedDisk extends SimulatedDisk {
  /** Frames by their nonces: what an opening writes again is the same, byte for byte. */
  readonly nonces = new Map<string, bigint | number>();
  repeated = 0;
  writes = 0;

  override async open(...how: Parameters<SimulatedDisk["open"]>): Promise<OpenFile> {
    const file = await super.open(...how);
    return {
      ...file,
      write: (bytes, position) => {
        this.writes++;
        if (bytes[FRAME_HEADER_BYTES] === SEALED_FRAME) {
          const clear = bytes.subarray(FRAME_HEADER_BYTES + 1, FRAME_HEADER_BYTES + 33);
          const nonce = Buffer.from(clear).toString("hex");
          // What an opening writes again may be several frames.
          const frame = Bun.hash(bytes.subarray(0, FRAME_HEADER_BYTES + readU32(bytes, 4)));
          if ((this.nonces.get(nonce) ?? frame) !== frame) this.repeated++;
          this.nonces.set(nonce, frame);
        }
        return file.write(bytes, position);
      },
    };
  }
}

describe("with a key", () => {
  test("no file tells a key or a value, and all of it comes back", async () => {
    const files = new SimulatedDisk();
    // A name so long that sealed bytes do not hold it by chance.
    const options = { keys: KEYS, nodeId: "name-of-the-node" };
    const opened = await openStore({ files, ...options });
    await write(opened, "key-in-log", "secret-in-log");
    await opened.journal.compact();
    await write(opened, "key-after", "secret-after");
    const metadata = () => opened.journal.allMetadata();
    await backupsOf(files, { store: opened.store, metadata }, { keys: KEYS }).create("one");
    expect(files.paths().some((path) => path.endsWith(".snap"))).toBe(true);
    expect(textOf(files)).not.toMatch(/secret-|key-(in|after)|name-of/);
    const again = await openAfterKill(files, options);
    expect(dataOf(again.store)).toEqual({
      "key-in-log": "secret-in-log",
      "key-after": "secret-after",
    });
  });

  test("a log cut anywhere in its last frame loses that frame, as any log does", async () => {
    const bytes = (await sealedLog(3)).contents(LOG);
    const frames = await framesOf(onDisk({ [LOG]: bytes }), LOG);
    const { position, end } = frames.at(-1)!;
    for (let cut = position; cut <= end; cut += 3) {
      const files = onDisk({ [LOG]: bytes.subarray(0, cut) });
      const { store, recovered, journal } = await openStore({ files, keys: KEYS });
      expect(dataOf(store)).toEqual(expectedOf(2));
      expect(recovered.wasStoppedCleanly).toBe(false);
      set(store, "goes", "on");
      await untilSafe({ journal });
      expect(dataOf((await openAfterKill(files, { keys: KEYS })).store)["goes"]).toBe("on");
    }
  });

  test("a byte changed anywhere is noticed, or cuts off an end that may be a crash's", async () => {
    const bytes = (await sealedLog(4)).contents(LOG);
    const frames = await framesOf(onDisk({ [LOG]: bytes }), LOG);
    const lastAt = frames.at(-1)!.position;
    for (let at = 0; at < frames.at(-1)!.end; at++) {
      const changed = bytes.slice();
      changed[at] ^= 0x5a;
      const outcome = await outcomeOf(onDisk({ [LOG]: changed }));
      if (at < lastAt) expect(outcome).toBeInstanceOf(Error);
      else expect(outcome).toEqual(expectedOf(3));
    }
  });

  test("no nonce is used twice, whatever fails and however often it is opened", async () => {
    const files = new WatchedDisk();
    const random = seeded(7);
    for (let run = 0; run < 6; run++) {
      const opened = await openStore({ files, keys: KEYS, fsync: "never" });
      for (let i = 0; i < 5; i++) await write(opened, `key ${i}`, `${run}`);
      files.failWritesWith = "EIO";
      files.partBytes = run * 10;
      set(opened.store, "late", `${run}`);
      const failed = files.writes;
      await eventually("a write that failed", () => files.writes > failed);
      files.failWritesWith = null;
      await untilSafe(opened);
      if (run % 3 === 0) await opened.journal.compact();
      set(opened.store, "unsafe", `${run}`);
      files.crash("some", random);
    }
    expect(files.repeated).toBe(0);
    expect(files.nonces.size).toBeGreaterThan(40);
  });
});

describe("a frame counts only where it was written", () => {
  test("within its file, whatever is done with any number of them", async () => {
    const files = await sealedLog(5);
    const payloads = (await framesOf(files, LOG)).map(({ payload }) => payload);
    const whole = expectedOf(5);
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(payloads.length - 1), { maxLength: 8 }), async (order) => {
        const chosen = order.map((i) => payloads[i]);
        const outcome = await outcomeOf(onDisk({ [LOG]: fileOf(chosen) }));
        if (outcome instanceof Error) return;
        // Only a beginning is taken: what a crash might have left.
        expect(order).toEqual(order.map((_, i) => i));
        expect(whole).toMatchObject(outcome);
      }),
      { numRuns: 300 },
    );
  });

  test("not in another file, of the same directory or of another", async () => {
    const files = new SimulatedDisk();
    const opened = await openStore({ files, keys: KEYS });
    await write(opened, "key 0", "value 0");
    await opened.journal.compact();
    await write(opened, "key 1", "value 1");
    files.kill();
    const second = `${DIRECTORY}/0000000002.log`;
    const [head, ...rest] = await framesOf(files, second);
    const others = await framesOf(await sealedLog(2), LOG);
    for (const other of others.slice(1)) {
      const payloads = [head, other, ...rest].map(({ payload }) => payload);
      const changed = files.copy();
      changed.place(second, fileOf(payloads));
      expect(await outcomeOf(changed)).toBeInstanceOf(DamageError);
    }
  });

  test("nor a file among those of another directory of the same node", async () => {
    const build = async (): Promise<SimulatedDisk> => {
      const files = new SimulatedDisk();
      const opened = await openStore({ files, keys: KEYS });
      await write(opened, "key 0", "value 0");
      await opened.journal.compact();
      await write(opened, "key 1", "value 1");
      files.kill();
      return files;
    };
    const [mine, theirs] = [await build(), await build()];
    for (const path of mine.paths()) {
      const mixed = mine.copy();
      mixed.place(path, theirs.contents(path));
      const outcome = await outcomeOf(mixed);
      expect(outcome).toBeInstanceOf(DamageError);
      expect((outcome as Error).message).toContain("or it is from elsewhere");
    }
    expect(await outcomeOf(theirs.copy())).toEqual({ "key 0": "value 0", "key 1": "value 1" });
  });

  test("with other words of how much was durable before it", async () => {
    const files = await sealedLog(2);
    const frames = await framesOf(files, LOG);
    const bytes = files.contents(LOG);
    const last = frames.at(-1)!;
    bytes.set(forged(last.payload, last.position, last.syncedBytes - 1), last.position);
    expect(await outcomeOf(onDisk({ [LOG]: bytes }))).toBeInstanceOf(DamageError);
  });
});

describe("what is not sealed", () => {
  const planted = (): Uint8Array => {
    const buffer = new FrameBuffer();
    buffer.addMetadata("planted", bytesOf("x"));
    return buffer.finish(0).slice(FRAME_HEADER_BYTES);
  };

  test("is no part of a file that is", async () => {
    const files = await sealedLog(2);
    const payloads = (await framesOf(files, LOG)).map(({ payload }) => payload);
    for (let at = 0; at <= payloads.length; at++) {
      const all = [...payloads.slice(0, at), planted(), ...payloads.slice(at)];
      expect(await outcomeOf(onDisk({ [LOG]: fileOf(all) }))).toBeInstanceOf(Error);
    }
  });

  test("is no file behind one that is; nor does a repair take it", async () => {
    const files = await sealedLog(2);
    const sealed = await openStore({ files, keys: KEYS });
    await sealed.journal.close();
    const plain = new SimulatedDisk();
    const other = await openStore({ files: plain });
    await write(other, "forged", "forged");
    await other.journal.compact();
    await write(other, "forged", "later");
    files.kill();
    const second = `${DIRECTORY}/0000000002.log`;
    files.place(second, plain.contents(second));
    const outcome = await outcomeOf(files.copy());
    expect(outcome).toBeInstanceOf(DamageError);
    expect((outcome as Error).message).toContain("it is not sealed, though");
    const report = await checkDirectory(files, DIRECTORY, KEYS);
    expect(report.files.map(({ problem }) => problem?.flaw.slice(0, 16) ?? null)).toEqual([
      null,
      "it is not sealed",
    ]);
    await repairDirectory(files, report, new Date(0), KEYS);
    expect(await outcomeOf(files)).toEqual(expectedOf(2));
  });

  test("may be what is there when a key comes: it is sealed at once", async () => {
    const files = new SimulatedDisk();
    const plain = await openStore({ files });
    await write(plain, "key 0", "value 0");
    expect(textOf(files)).toContain("value 0");
    const sealed = await openAfterKill(files, { keys: KEYS });
    expect(dataOf(sealed.store)).toEqual(expectedOf(1));
    await write(sealed, "key 1", "value 1");
    expect(textOf(files)).not.toContain("value 1");
    const { journal } = sealed;
    await eventually("all is sealed", () => !/value/.test(textOf(files)));
    expect(readFact(journalFacts, journal, "storage_other_keys")).toBe("");
    expect(readFact(journalFacts, journal, "storage_key")).toBe(diskSecret("one").id);
    expect(dataOf((await openAfterKill(files, { keys: KEYS })).store)).toEqual(expectedOf(2));
  });
});

describe("a key that changes", () => {
  test("old files are read, and then written anew, so that the old key is not needed", async () => {
    const files = await sealedLog(2);
    const both = diskKeys("two", "one");
    const opened = await openStore({ files, keys: both });
    expect(dataOf(opened.store)).toEqual(expectedOf(2));
    await write(opened, "key 2", "value 2");
    const others = () => readFact(journalFacts, opened.journal, "storage_other_keys");
    await eventually("nothing needs the old key", () => others() === "");
    files.kill();
    const report = await checkDirectory(files, DIRECTORY, diskKeys("two"));
    expect(report).toMatchObject({ isGood: true });
    expect(new Set(report.files.map(({ key }) => key))).toEqual(new Set([diskSecret("two").id]));
    expect(await outcomeOf(files, diskKeys("two"))).toEqual(expectedOf(3));
  });

  test("a kill at any time in between loses nothing, and either key still helps", async () => {
    for (let turns = 0; turns < 40; turns++) {
      const files = await sealedLog(2);
      const opened = await openStore({ files, keys: diskKeys("two", "one") });
      set(opened.store, "key 2", "value 2");
      for (let i = 0; i < turns; i++) await new Promise((resolve) => setImmediate(resolve));
      files.kill();
      const outcome = await outcomeOf(files, diskKeys("three", "one", "two"));
      expect(outcome).toMatchObject(expectedOf(2));
    }
  });

  test("one that is taken away leaves all readable by others from then on", async () => {
    const files = await sealedLog(2);
    const opened = await openStore({ files, keys: diskKeys("", "one") });
    await write(opened, "key 2", "value 2");
    await eventually("nothing is sealed", async () => {
      return readFact(journalFacts, opened.journal, "storage_other_keys") === "";
    });
    files.kill();
    expect(await outcomeOf(files, diskKeys(""))).toEqual(expectedOf(3));
  });
});

describe("without the key", () => {
  const id = diskSecret("one").id;

  test.each([diskKeys(""), diskKeys("two"), diskKeys("two", "three")])(
    "%#: it is named",
    async (keys) => {
      const files = await sealedLog(2);
      const before = files.contents(LOG);
      const outcome = (await outcomeOf(files, keys)) as Error;
      expect(outcome).toBeInstanceOf(MissingKey);
      expect(outcome.message).toStartWith(
        `${LOG} is sealed with the key ${id}, which is not there; `,
      );
      await expect(checkDirectory(files, DIRECTORY, keys)).rejects.toThrow(`the key ${id}`);
      const salvage = writeFromFrames(files, DIRECTORY, "n1", [LOG], keys);
      await expect(salvage).rejects.toThrow(`the key ${id}`);
      expect(files.contents(LOG)).toEqual(before);
      expect(files.paths()).toEqual([LOG]);
    },
  );

  test("a backup is named too, and what can be seen of it is whether it is whole", async () => {
    const files = new SimulatedDisk();
    const opened = await openStore({ files, keys: KEYS });
    await write(opened, "key 0", "value 0");
    const metadata = () => opened.journal.allMetadata();
    const backups = backupsOf(files, { store: opened.store, metadata }, { keys: KEYS });
    const { bytes } = await backups.create("one");
    await expect(verifyBackup(files, BACKUP)).rejects.toThrow(`the key ${id}`);
    await verifyFrames(files, BACKUP, bytes);
    await expect(verifyFrames(files, BACKUP, bytes + 1)).rejects.toThrow("is not whole");
    const changed = files.contents(BACKUP);
    changed[100] ^= 1;
    files.place("/changed", changed);
    await expect(verifyFrames(files, "/changed", bytes)).rejects.toThrow("is not whole");
    expect(await verifyBackup(files, BACKUP, KEYS)).toMatchObject({ entries: 1, nodeId: "n1" });
    const options = { force: true, now: new Date(0) };
    await restoreBackup(files, BACKUP, "/restored", options, diskKeys("two", "one"));
    const restored = await openStore({ files, directory: "/restored", keys: diskKeys("two") });
    expect(dataOf(restored.store)).toEqual(expectedOf(1));
  });
});

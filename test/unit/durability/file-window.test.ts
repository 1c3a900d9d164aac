/** Windows into a file, wherever their pieces begin and end, and what a reader of frames makes of them. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { Entry } from "../../../src/core/data/entry.ts";
import { readFrames } from "../../../src/durability/frame-reader.ts";
import { WINDOW_BYTES, WindowAhead } from "../../../src/durability/file-window.ts";
import { FRAME_HEADER_BYTES } from "../../../src/durability/frame.ts";
import { FrameBuffer } from "../../../src/durability/frame-buffer.ts";
import { type RecordSink } from "../../../src/durability/record-reader.ts";
import { FILE_LOG } from "../../../src/durability/record.ts";
import { DirectorySeals, noKeys } from "../../../src/durability/sealing.ts";
import { seeded } from "../../support/random.ts";
import { SimulatedDisk } from "../../support/simulated-disk.ts";
import { NO_RECORDS } from "../../support/no-records.ts";

async function fileOf(bytes: Uint8Array) {
  const file = await new SimulatedDisk(async () => {}).open("/file", "create");
  await file.write(bytes, 0);
  return file;
}

function noise(length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  const random = seeded(7);
  for (let i = 0; i < length; i++) bytes[i] = random() * 256;
  return bytes;
}

const content = noise(5 * WINDOW_BYTES + 12_345);
const step = fc.record({
  gap: fc.oneof(fc.constant(0), fc.nat(300), fc.nat(2 * WINDOW_BYTES)),
  length: fc.oneof(fc.nat(300), fc.nat(WINDOW_BYTES), fc.nat(2 * WINDOW_BYTES)),
});

test("a window that reads ahead shows what is in the file, from wherever on", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 30, size: "max" }), async (steps) => {
      const window = new WindowAhead(await fileOf(content), content.length);
      let position = 0;
      for (const { gap, length } of steps) {
        position += gap;
        const isThere = position + length <= content.length;
        if (!window.holds(position, length)) {
          expect(await window.load(position, length)).toBe(isThere);
        }
        if (!isThere) break;
        expect(window.holds(position, length)).toBeTrue();
        const from = position - window.start;
        const seen = window.bytes.subarray(from, from + length);
        if (Buffer.compare(seen, content.subarray(position, position + length)) !== 0) {
          throw new Error(`${length} bytes from ${position} on are not those of the file`);
        }
        position += length;
      }
      await window.settled();
    }),
    { numRuns: 40 },
  );
});

/** Frames of one entry each, whose values have these lengths. */
function framesOf(lengths: readonly number[]): { bytes: Uint8Array; values: Uint8Array[] } {
  const buffer = new FrameBuffer();
  const parts: Uint8Array[] = [];
  const values: Uint8Array[] = [];
  let position = 0;
  const add = (): void => {
    const frame = buffer.finish(position).slice();
    position += frame.length;
    parts.push(frame);
    buffer.reset();
  };
  buffer.addHead(FILE_LOG, 1, "n1");
  add();
  for (const length of lengths) {
    const value = content.subarray(length % 1_000, (length % 1_000) + length);
    values.push(value);
    buffer.addEntry(
      new Entry()
        .setKey(new Uint8Array([1]))
        .setVersion(1, 2, 3, 4)
        .setValue(value),
    );
    add();
  }
  return { bytes: Buffer.concat(parts), values };
}

describe("a reader of frames", () => {
  test("reads each of them, however large, and tells how far it is", async () => {
    const some = fc.oneof(fc.nat(40), fc.nat(300_000), fc.nat(2 * WINDOW_BYTES));
    await fc.assert(
      fc.asyncProperty(fc.array(some, { maxLength: 12, size: "max" }), async (lengths) => {
        const { bytes, values } = framesOf(lengths);
        const read: number[] = [];
        const told: number[] = [];
        const sink: RecordSink = {
          ...NO_RECORDS,
          entry: ({ value, valueOffset, valueLength }) => {
            const seen = value.subarray(valueOffset, valueOffset + valueLength);
            read.push(Buffer.compare(seen, values[read.length]));
          },
        };
        const opener = new DirectorySeals(noKeys).opener("/file");
        const reading = await readFrames(await fileOf(bytes), opener, sink, (at) => told.push(at));
        expect(reading).toMatchObject({ goodBytes: bytes.length, flaw: null });
        expect(read).toEqual(values.map(() => 0));
        expect(told).toEqual([...told].sort((a, b) => a - b));
        // Once a window at least, besides frames that are larger than one.
        const large = lengths.filter((length) => length > WINDOW_BYTES / 2).length;
        expect(told.length).toBeGreaterThanOrEqual(bytes.length / WINDOW_BYTES - 2 * large - 1);
      }),
      { numRuns: 30 },
    );
  });

  test("tells how far it is where every window ends within a frame", async () => {
    const { bytes } = framesOf(Array.from({ length: 12 }, () => 250_000));
    const told: number[] = [];
    const opener = new DirectorySeals(noKeys).opener("/file");
    await readFrames(await fileOf(bytes), opener, NO_RECORDS, (at) => told.push(at));
    expect(told.length).toBeGreaterThan(4);
  });

  test("what cannot be read is an error when it is asked for, and none before", async () => {
    const { bytes } = framesOf([200_000, 200_000, 200_000, 200_000]);
    const file = await fileOf(bytes);
    const read = file.read.bind(file);
    file.read = (into, position) =>
      position > 0 ? Promise.reject(new Error("the disk is broken")) : read(into, position);
    const seen: number[] = [];
    const sink: RecordSink = { ...NO_RECORDS, entry: () => void seen.push(1) };
    const opener = new DirectorySeals(noKeys).opener("/file");
    await expect(readFrames(file, opener, sink)).rejects.toThrow("the disk is broken");
    expect(seen.length).toBe(Math.floor(WINDOW_BYTES / (200_000 + FRAME_HEADER_BYTES)));
    // Damage before that ends the reading, and what is ahead does not matter.
    bytes[100] ^= 1;
    await file.write(bytes, 0);
    const reading = await readFrames(file, new DirectorySeals(noKeys).opener("/file"), NO_RECORDS);
    expect(reading.flaw).toBe("a frame's checksum is wrong");
  });
});

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { SendQueue } from "../../src/send-queue.ts";

/** A socket whose kernel takes what it is told to take, and then nothing. */
class NarrowSocket {
  readonly taken: number[] = [];
  room = 0;

  write(bytes: Uint8Array, at = 0, length = bytes.length): number {
    expect(at).toBe(0);
    const count = Math.min(this.room, length);
    for (const byte of bytes.subarray(0, count)) this.taken.push(byte);
    this.room -= count;
    return count;
  }
}

/** Bytes in a buffer of their own that is `spare` longer than they are. */
function replyOf(length: number, spare: number, first: number): Uint8Array {
  const buffer = new Uint8Array(length + spare);
  for (let i = 0; i < length; i++) buffer[i] = first + i;
  return buffer.subarray(0, length);
}

describe("SendQueue", () => {
  test("tells once, and not in the middle of it, that nobody is there", async () => {
    let isGone = false;
    const told: string[] = [];
    const socket = { write: (bytes: Uint8Array) => (isGone ? -1 : bytes.length - 1) };
    const outbox = new SendQueue(socket, () => void told.push("gone"));
    outbox.send(Buffer.from("one"));
    isGone = true;
    outbox.flush();
    outbox.clear();
    outbox.send(Buffer.from("two"));
    told.push("sent");
    await Promise.resolve();
    expect(told).toEqual(["sent", "gone"]);
  });

  test("counts the rest of a large reply of which the kernel took the most", () => {
    const socket = new NarrowSocket();
    const outbox = new SendQueue(socket);
    const bytes = replyOf(100_000, 0, 0);
    socket.room = 90_000;
    const sent = outbox.trySend(bytes, bytes.length, 0, 0);
    outbox.queue(bytes.subarray(sent), 0);
    expect(outbox.length).toBe(10_000);
    expect(outbox.heldBytes).toBe(10_000);
  });

  test("sends everything in order and knows its length, however little the kernel takes", () => {
    const reply = fc.record({
      length: fc.integer({ min: 1, max: 200_000 }),
      spare: fc.integer({ min: 0, max: 200_000 }),
      room: fc.integer({ min: 0, max: 250_000 }),
      isHandedOver: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(reply, { maxLength: 8 }), (replies) => {
        const socket = new NarrowSocket();
        const outbox = new SendQueue(socket);
        const wanted: number[] = [];
        for (const { length, spare, room, isHandedOver } of replies) {
          const bytes = replyOf(length, spare, wanted.length);
          for (const byte of bytes) wanted.push(byte);
          socket.room = room;
          outbox.flush(0);
          if (isHandedOver) {
            const sent = outbox.trySend(bytes, length, 0, 0);
            if (sent < length) outbox.queue(bytes.subarray(sent), 0);
          } else outbox.send(new Uint8Array(bytes.buffer), length, 0, 0);
          expect(outbox.length).toBe(wanted.length - socket.taken.length);
        }
        socket.room = Infinity;
        outbox.flush(0);
        expect(outbox.length).toBe(0);
        expect(Bun.hash(new Uint8Array(socket.taken))).toBe(Bun.hash(new Uint8Array(wanted)));
      }),
      { numRuns: 20 },
    );
  });

  test("short ones are joined, and none leaves before the journal is as far as it asks for", () => {
    const act = fc.record({
      length: fc.oneof(fc.integer({ min: 1, max: 100 }), fc.constant(40_000)),
      isLater: fc.boolean(),
      room: fc.integer({ min: 0, max: 300 }),
      safe: fc.nat(5),
    });
    fc.assert(
      fc.property(fc.array(act, { maxLength: 60 }), (acts) => {
        const socket = new NarrowSocket();
        const outbox = new SendQueue(socket);
        const wanted: number[] = [];
        /** For each byte, what it asks for. */
        const asked: number[] = [];
        let position = 0;
        let safePosition = 0;
        for (const { length, isLater, room, safe } of acts) {
          if (isLater) position++;
          const bytes = replyOf(length, 0, wanted.length);
          for (const byte of bytes) {
            wanted.push(byte);
            asked.push(position);
          }
          safePosition = Math.min(position, safePosition + safe);
          socket.room = room;
          outbox.send(bytes, length, position, safePosition);
          bytes.fill(0);
          expect(asked.slice(0, socket.taken.length).every((it) => it <= safePosition)).toBe(true);
          outbox.flush(safePosition);
          expect(asked.slice(0, socket.taken.length).every((it) => it <= safePosition)).toBe(true);
          expect(outbox.length).toBe(wanted.length - socket.taken.length);
          expect(outbox.heldBytes).toBeGreaterThanOrEqual(outbox.length);
          expect(outbox.heldBytes).toBeLessThanOrEqual(2 * outbox.length + 65_536);
        }
        socket.room = Infinity;
        outbox.flush(position);
        expect(Buffer.compare(Buffer.from(socket.taken), Buffer.from(wanted))).toBe(0);
      }),
      { numRuns: 50 },
    );
  });
});

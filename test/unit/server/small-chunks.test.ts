/** Chunks that come in one turn of the event loop are handed on together, and nobody can tell. */
import { describe, expect, test } from "bun:test";
import type { Socket } from "bun";
import fc from "fast-check";
import { ReadAhead } from "../../../src/server/read-ahead.ts";
import { SmallChunks } from "../../../src/server/small-chunks.ts";
import type { SocketHandler } from "../../../src/server/socket-handler.ts";
import type { Timing } from "../../../src/timing.ts";
import { InProcessServer, respRequest } from "../../support/in-process.ts";

type Peer = Socket<SocketHandler>;

/** Small chunks, and turns of an event loop that end when the test says so. */
class Loop {
  readonly failed: [socket: Peer, message: string][] = [];
  readonly chunks: SmallChunks;
  private readonly tasks: (() => void)[] = [];

  constructor(readAhead = new ReadAhead(new InProcessServer().store)) {
    const timing = { soon: (task: () => void) => this.tasks.push(task) } as unknown as Timing;
    const onError = (socket: Peer, { message }: Error): void => {
      this.failed.push([socket, message]);
    };
    this.chunks = new SmallChunks({ readAhead, timing, onError });
  }

  endTurn(): void {
    for (const task of this.tasks.splice(0)) task();
  }
}

/** A socket whose handler notes what it gets. */
function listening(name: string, heard: string[], onData = (): void => {}): Peer {
  const data = {
    onData(chunk: Uint8Array) {
      heard.push(`${name}${chunk.length}`);
      onData();
    },
  };
  return { data } as unknown as Peer;
}

const NAMES = ["a", "b", "c", "d", "e", "f"];

describe("small chunks", () => {
  test("of a turn are handed on at its end, in the order in which they came", () => {
    const loop = new Loop();
    const heard: string[] = [];
    NAMES.forEach((name, i) => loop.chunks.add(listening(name, heard), new Uint8Array(i + 1)));
    expect(heard).toEqual([]);
    loop.endTurn();
    expect(heard).toEqual(["a1", "b2", "c3", "d4", "e5", "f6"]);
  });

  test("come before a large one, and before what else is told", () => {
    const loop = new Loop();
    const heard: string[] = [];
    loop.chunks.add(listening("a", heard), new Uint8Array(1));
    loop.chunks.add(listening("b", heard), new Uint8Array(10_000));
    expect(heard).toEqual(["a1", "b10000"]);
    loop.chunks.add(listening("c", heard), new Uint8Array(1));
    loop.chunks.flush();
    expect(heard).toEqual(["a1", "b10000", "c1"]);
  });

  test("are handed on at once where they hardly ever come together, but for a few", () => {
    const loop = new Loop();
    const heard: string[] = [];
    const alone = listening("a", heard);
    let late = 0;
    for (let i = 0; i < 650; i++) {
      loop.chunks.add(alone, new Uint8Array(1));
      if (heard.length === i) late++;
      loop.endTurn();
      expect(heard.length).toBe(i + 1);
    }
    expect(late).toBe(10);
  });

  test("go to the others when one of them fails, or ends another", () => {
    const loop = new Loop();
    const heard: string[] = [];
    const failing = listening("b", heard, () => {
      throw new Error("no");
    });
    const ending = listening("c", heard, () => loop.chunks.flush());
    const sockets = [listening("a", heard), failing, ending, listening("d", heard)];
    for (const socket of sockets) loop.chunks.add(socket, new Uint8Array(1));
    loop.endTurn();
    expect(heard).toEqual(["a1", "b1", "c1", "d1"]);
    expect(loop.failed).toEqual([[failing, "no"]]);
  });

  test("are answered as if each had been handed on by itself", () => {
    const key = fc.constantFrom("k", "key:000000000001", "key:000000000002", "z".repeat(60));
    const request = fc
      .tuple(fc.constantFrom("SET", "GET", "INCR", "DEL", "MGET", "APPEND"), key, key)
      .map(([name, first, second]) =>
        ["SET", "MGET", "APPEND"].includes(name)
          ? respRequest(name, first, second)
          : respRequest(name, first),
      );
    // Of some requests the end comes later, with the next of the same client.
    const chunk = fc
      .tuple(fc.array(request, { minLength: 1, maxLength: 5 }), fc.boolean())
      .map(([requests, isCut]) => [Buffer.concat(requests), isCut] as const);
    const turns = fc.array(fc.array(fc.tuple(fc.nat(11), chunk), { maxLength: 24 }));
    fc.assert(
      fc.property(turns, (all) => {
        const [gathered, plain] = [new InProcessServer(), new InProcessServer()];
        const pairs = Array.from({ length: 12 }, () => {
          const [one, other] = [gathered.connect(), plain.connect()];
          return { one, other, socket: { data: one.connection } as unknown as Peer };
        });
        const rests = new Map<number, Buffer>();
        const loop = new Loop(gathered.shared.readAhead);
        for (const turn of all) {
          for (const [who, [bytes, isCut]] of turn) {
            const whole = Buffer.concat([rests.get(who) ?? Buffer.alloc(0), bytes]);
            const end = isCut ? whole.length - 3 : whole.length;
            rests.set(who, whole.subarray(end));
            pairs[who].other.send(whole.subarray(0, end));
            loop.chunks.add(pairs[who].socket, Uint8Array.from(whole.subarray(0, end)));
          }
          loop.endTurn();
          for (const { one, other } of pairs) expect(one.read()).toBe(other.read());
          gathered.store.verify();
        }
        expect(gathered.bugs).toEqual([]);
        expect(loop.failed).toEqual([]);
      }),
      { numRuns: 60 },
    );
  });
});

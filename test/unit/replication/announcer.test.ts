/** When nodes announce themselves: as few of many as is enough, and nobody too late. */
import { describe, expect, test } from "bun:test";
import { Announcer } from "../../../src/replication/announcer.ts";
import { Timeline } from "../../sim/timeline.ts";
import { seeded } from "../../support/random.ts";

const MINUTE_MS = 60_000;
/** A message, its topic, and what MQTT adds to it. */
const MESSAGE_BYTES = 300;
const LATENCY_MS = 50;

/** So many nodes that hear each other, and nothing of them but when they announce themselves. */
class Fleet {
  readonly timeline = new Timeline();
  readonly announcers: Announcer[] = [];
  /** When each announced itself. */
  readonly announced: number[][] = [];
  private readonly random = seeded(11);
  /** Who has announced itself on its connection, and may be heard of by who comes. */
  private readonly known = new Set<number>();

  constructor(
    readonly size: number,
    private readonly doesBrokerKeep = true,
  ) {
    for (let place = 0; place < size; place++) {
      this.announced.push([]);
      this.announcers.push(
        new Announcer({
          timing: {
            nowMs: () => this.timeline.nowMs,
            after: (delayMs, task) => this.timeline.after(delayMs, task),
            soon: (task) => this.timeline.after(0, task),
          },
          random: this.random,
          members: () => this.known.size,
          expectedMembers: () => size,
          announce: () => this.hear(place),
        }),
      );
    }
  }

  /** These come, each at some moment of so many ms. */
  come(places: Iterable<number>, withinMs: number): void {
    for (const place of places) {
      this.known.delete(place);
      this.announcers[place].down();
      this.timeline.after(this.random() * withinMs, () => this.announcers[place].up());
    }
  }

  /** All have long been there. */
  settle(): void {
    this.come(this.places(), 1_000);
    this.pass(10 * MINUTE_MS);
    for (const times of this.announced) times.length = 0;
  }

  places(): number[] {
    return [...this.announced.keys()];
  }

  pass(ms: number): void {
    this.timeline.runUntil(this.timeline.nowMs + ms);
  }

  get messages(): number {
    return this.announced.reduce((sum, { length }) => sum + length, 0);
  }

  private hear(place: number): void {
    this.announced[place].push(this.timeline.nowMs);
    if (this.known.has(place)) return;
    this.timeline.after(LATENCY_MS, () => {
      this.known.add(place);
      for (const [other, announcer] of this.announcers.entries()) {
        if (other !== place) announcer.answer(this.doesBrokerKeep, true);
      }
    });
  }
}

describe("a thousand nodes", () => {
  test("that come back together cost each less than 2 KB/s, and all are heard in four minutes", () => {
    for (const [withinMs, doesBrokerKeep] of [
      [500, true],
      [5_000, true],
      [30_000, true],
      [5_000, false],
    ] as const) {
      const fleet = new Fleet(1_000, doesBrokerKeep);
      fleet.come(fleet.places(), withinMs);
      fleet.pass(MINUTE_MS);
      expect((fleet.messages * MESSAGE_BYTES) / 60).toBeLessThan(2_048);
      // There are enough to begin with.
      const early = fleet.announced.filter(([first]) => first < withinMs + 2_000).length;
      expect(early).toBeGreaterThan(15);
      fleet.pass(4 * MINUTE_MS);
      expect((fleet.messages * MESSAGE_BYTES) / 300).toBeLessThan(2_048);
      expect(fleet.announced.every(({ length }) => length > 0)).toBe(true);
    }
  });

  test("hear of one that comes alone at once, and a few of them answer it", () => {
    const fleet = new Fleet(1_000);
    fleet.settle();
    fleet.come([7], 0);
    fleet.pass(2_100);
    expect(fleet.announced[7].length).toBe(1);
    expect(fleet.messages).toBeGreaterThan(3);
    expect(fleet.messages).toBeLessThan(40);
  });

  test("answer all in time where the broker keeps nothing, and none twice for two that come", () => {
    const fleet = new Fleet(1_000, false);
    fleet.settle();
    fleet.come([7, 8], 1_000);
    fleet.pass(3 * MINUTE_MS + 10_000);
    expect(fleet.announced.every(({ length }) => length > 0)).toBe(true);
    // Some of them would have said it again anyway, or were drawn.
    expect(fleet.messages).toBeLessThan(1_500);
  });

  test("with another root again and again, or newcomers, cost no more than that", () => {
    for (const doesBrokerKeep of [true, false]) {
      const fleet = new Fleet(1_000, doesBrokerKeep);
      fleet.settle();
      for (let i = 0; i < 30; i++) {
        for (const announcer of fleet.announcers) announcer.rootChanged();
        if (!doesBrokerKeep) fleet.come([i], 0);
        fleet.pass(10_000);
      }
      expect((fleet.messages * MESSAGE_BYTES) / 300).toBeLessThan(2_048);
    }
  });
});

test("up to a hundred all say at once that they are back, and again when it is time", () => {
  const fleet = new Fleet(100);
  fleet.come(fleet.places(), 0);
  fleet.pass(0);
  expect(fleet.messages).toBe(100);
  fleet.pass(MINUTE_MS);
  expect(fleet.announced.every(({ length }) => length === 2)).toBe(true);
});

test("made-up nodes do not keep one from announcing itself that comes", () => {
  const fleet = new Fleet(1_000);
  fleet.settle();
  fleet.come([7], 0);
  for (let i = 0; i < 200; i++) {
    fleet.pass(10);
    fleet.announcers[7].answer(true, false);
  }
  fleet.pass(100);
  expect(fleet.announced[7].length).toBe(1);
});

test("what is urgent does not wait its turn, in whatever fleet", () => {
  const fleet = new Fleet(1_000);
  fleet.settle();
  fleet.announcers[7].urgently();
  fleet.pass(100);
  expect(fleet.announced[7].length).toBe(1);
  // Nor while this node listens who else comes.
  fleet.come(fleet.places(), 100);
  fleet.pass(100);
  for (let i = 0; i < 50; i++) fleet.announcers[8].answer(true, true);
  fleet.announcers[8].urgently();
  fleet.pass(100);
  expect(fleet.announced[8].length).toBe(1);
});

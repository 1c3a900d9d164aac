/** Who is new is heard in turns. */
import { expect, test } from "bun:test";
import { Arrivals, HEARD_A_TURN } from "../../src/arrivals.ts";
import { eventLoop } from "../../src/world.ts";

/** Arrivals whose turns the test lets pass; `heard` says who may speak so far. */
function arrivals() {
  const due: (() => void)[] = [];
  const all = new Arrivals({ ...eventLoop, soon: (task) => (due.push(task), () => {}) });
  const heard = new Set<number>();
  let count = 0;
  return {
    heard,
    come(many: number): void {
      for (let i = 0; i < many; i++) {
        const number = count++;
        heard.add(number);
        const pause = (): void => void heard.delete(number);
        all.add({ pause, resume: () => void heard.add(number) });
      }
    },
    pass(): void {
      for (const task of due.splice(0)) task();
    },
    get isIdle(): boolean {
      return due.length === 0;
    },
  };
}

test("a few are heard at once", () => {
  const door = arrivals();
  for (let turn = 0; turn < 3; turn++) {
    door.come(HEARD_A_TURN);
    expect(door.heard.size).toBe((turn + 1) * HEARD_A_TURN);
    door.pass();
  }
  door.pass();
  expect(door.isIdle).toBe(true);
});

test("of many a few are heard in each turn, in the order in which they came", () => {
  const door = arrivals();
  door.come(2 * HEARD_A_TURN + 3);
  const sizes = [door.heard.size];
  while (!door.isIdle) {
    // Whoever comes meanwhile is last in line.
    if (sizes.length === 2) door.come(1);
    door.pass();
    sizes.push(door.heard.size);
    expect([...door.heard].toSorted((a, b) => a - b)).toEqual([...door.heard.keys()]);
  }
  const all = 2 * HEARD_A_TURN + 4;
  expect(sizes).toEqual([HEARD_A_TURN, 2 * HEARD_A_TURN, all, all]);
});

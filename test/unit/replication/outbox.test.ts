/** The outbox against a plain queue of distinct ids. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { CHANGED_EXPIRY, CHANGED_VALUE } from "../../../src/core/store/outcome.ts";
import { Outbox } from "../../../src/replication/outbox.ts";

const LIMIT = 40;

/** A queue of ids in order of arrival, each once. */
class Model {
  queue: number[] = [];
  /** Of those, the ones of which the value was written. */
  values = new Set<number>();
  ours = new Set<number>();
  dropped = 0;
  add(id: number, hasValue: boolean): void {
    if (hasValue && (this.queue.includes(id) || this.queue.length < LIMIT)) this.values.add(id);
    if (this.queue.includes(id)) return;
    if (this.queue.length >= LIMIT) this.dropped++;
    else {
      this.queue.push(id);
      this.ours.add(id);
    }
  }
}

const id = fc.nat(60);
const operation = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant("write" as const), id }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("expire" as const), id }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("foreign" as const), id }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant("take" as const), id }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("restore" as const), id }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("clear" as const), id }) },
);

test("ids come out once each, in order, and never more than the limit", () => {
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 300 }), (operations) => {
      const model = new Model();
      const outbox = new Outbox(
        () => LIMIT,
        () => {},
      );
      for (const step of operations) {
        if (step.do === "write") {
          outbox.changed(step.id, true, CHANGED_VALUE);
          model.add(step.id, true);
        } else if (step.do === "expire") {
          outbox.changed(step.id, true, CHANGED_EXPIRY);
          model.add(step.id, false);
        } else if (step.do === "foreign") {
          outbox.changed(step.id, false, CHANGED_VALUE);
        } else if (step.do === "take") {
          const expected = model.queue.shift() ?? -1;
          expect(outbox.take()).toBe(expected);
          if (expected >= 0) expect(outbox.isExpiryOnly).toBe(!model.values.delete(expected));
        } else if (step.do === "restore") {
          const isExpiry = step.id % 2;
          outbox.restore(Int32Array.of(step.id), Uint8Array.of(isExpiry));
          if (model.ours.has(step.id)) model.add(step.id, isExpiry === 0);
        } else {
          outbox.flushed(false, true);
          model.queue = [];
          model.values.clear();
          model.ours.clear();
        }
        expect(outbox.size).toBe(model.queue.length);
        expect(outbox.dropped).toBe(model.dropped);
      }
    }),
  );
});

describe("an id whose entry is gone", () => {
  test("is passed over", () => {
    const outbox = new Outbox(
      () => LIMIT,
      () => {},
    );
    for (const each of [1, 2, 3]) outbox.changed(each, true, CHANGED_VALUE);
    outbox.removed(2);
    expect([outbox.take(), outbox.take(), outbox.take()]).toEqual([1, 3, -1]);
  });

  test("comes out once when it names another entry", () => {
    const outbox = new Outbox(
      () => LIMIT,
      () => {},
    );
    outbox.changed(1, true, CHANGED_VALUE);
    outbox.removed(1);
    outbox.changed(1, true, CHANGED_VALUE);
    expect([outbox.take(), outbox.take()]).toEqual([1, -1]);
  });

  test("is not put back", () => {
    const outbox = new Outbox(
      () => LIMIT,
      () => {},
    );
    outbox.changed(1, true, CHANGED_VALUE);
    outbox.take();
    outbox.removed(1);
    outbox.restore(Int32Array.of(1), Uint8Array.of(0));
    expect(outbox.isEmpty).toBe(true);
  });
});

test("it wakes for the first id, and for a batch's worth", () => {
  const woken: boolean[] = [];
  const outbox = new Outbox(
    () => LIMIT,
    (full) => woken.push(full),
  );
  outbox.fullAt = 3;
  for (const each of [1, 1, 2, 3, 4]) outbox.changed(each, true, CHANGED_VALUE);
  expect(woken).toEqual([false, true]);
  while (outbox.take() >= 0);
  outbox.changed(5, true, CHANGED_VALUE);
  expect(woken).toEqual([false, true, false]);
});

test("a loss is told once", () => {
  const outbox = new Outbox(
    () => 1,
    () => {},
  );
  outbox.changed(1, true, CHANGED_VALUE);
  expect(outbox.takeLoss()).toBe(false);
  outbox.changed(2, true, CHANGED_VALUE);
  expect([outbox.takeLoss(), outbox.takeLoss()]).toEqual([true, false]);
});

test("a local flush waits, a foreign one does not", () => {
  const outbox = new Outbox(
    () => LIMIT,
    () => {},
  );
  outbox.flushed(false, true);
  expect(outbox.isEmpty).toBe(true);
  outbox.flushed(true, true);
  expect(outbox.isEmpty).toBe(false);
});

test("many ids, far apart", () => {
  const outbox = new Outbox(
    () => 1_000_000,
    () => {},
  );
  for (let i = 0; i < 5_000; i++) outbox.changed(i * 1_000, true, CHANGED_VALUE);
  for (let i = 0; i < 2_500; i++) expect(outbox.take()).toBe(i * 1_000);
  for (let i = 0; i < 5_000; i++) outbox.changed(i, true, CHANGED_VALUE);
  expect(outbox.size).toBe(7_500);
});

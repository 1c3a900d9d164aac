/** The contact vector against a naive one: a map, and each operation as its docstring has it. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { Contacts, MAX_MEMBERS, type Contact } from "../../src/core/sync/contacts.ts";

interface Row extends Contact {
  metMs: number;
}

/** The same without arrays, and without any thought of speed. */
class NaiveContacts {
  rows: Row[] = [];

  row(high: number, low: number): Row {
    const known = this.rows.find((it) => it.originHigh === high && it.originLow === low);
    if (known !== undefined) return known;
    const times = { ms: 0, purgedUpToMs: 0, learnedMs: 0, forgottenMs: 0, metMs: 0 };
    const row = { originHigh: high, originLow: low, ...times };
    this.rows.push(row);
    this.rows.sort((a, b) => a.originHigh - b.originHigh || a.originLow - b.originLow);
    return row;
  }

  note(high: number, low: number, ms: number, purgedUpToMs: number, learnedMs: number): void {
    const row = this.row(high, low);
    const isNews = purgedUpToMs > row.purgedUpToMs || row.ms < purgedUpToMs;
    if (isNews) row.learnedMs = Math.max(row.learnedMs, learnedMs);
    row.ms = Math.max(row.ms, ms);
    row.purgedUpToMs = Math.max(row.purgedUpToMs, purgedUpToMs);
  }

  dropSpent(spentUpToMs: number, latestPurgeMs: number): number {
    const isDropped = (it: Row): boolean =>
      !(it.originHigh === 0 && it.originLow === 0) &&
      it.ms <= spentUpToMs &&
      it.forgottenMs <= spentUpToMs &&
      (it.purgedUpToMs === 0 || it.learnedMs < latestPurgeMs);
    const claims = this.rows.filter((it) => isDropped(it) && it.purgedUpToMs > 0);
    this.rows = this.rows.filter((it) => !isDropped(it));
    return Math.max(0, ...claims.map((it) => it.learnedMs));
  }
}

const time = fc.nat(20).map((it) => it * 1_500);
const member = fc.record({ high: fc.nat(3), low: fc.nat(5) });
const operation = fc.oneof(
  fc.record({ do: fc.constant("note" as const), of: member, a: time, b: time, c: time }),
  fc.record({ do: fc.constant("meet" as const), of: member, a: time, b: time, c: time }),
  fc.record({ do: fc.constant("forget" as const), of: member, a: time, b: time, c: time }),
  fc.record({ do: fc.constant("relearn" as const), of: member, a: time, b: time, c: time }),
  fc.record({ do: fc.constant("drop" as const), of: member, a: time, b: time, c: time }),
);

function rowsOf(contacts: Contacts): Contact[] {
  return Array.from({ length: contacts.size }, (_, at) => contacts.at(at));
}

test("it holds what a naive one holds, in the order of origins", () => {
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 60, size: "max" }), (operations) => {
      const contacts = new Contacts();
      const naive = new NaiveContacts();
      for (const { do: what, of, a, b, c } of operations) {
        const { high, low } = of;
        const row = (): Row => naive.row(high, low);
        if (what === "note") {
          contacts.note(high, low, a, b, c);
          naive.note(high, low, a, b, c);
        } else if (what === "meet") {
          contacts.meet(high, low, a);
          row().ms = Math.max(row().ms, a);
        } else if (what === "forget") {
          contacts.forget(high, low, a);
          row().forgottenMs = Math.max(row().forgottenMs, a);
        } else if (what === "relearn") {
          contacts.relearn(a);
          for (const it of naive.rows) {
            if (it.purgedUpToMs > 0) it.learnedMs = Math.max(it.learnedMs, a);
          }
        } else expect(contacts.dropSpent(a, b)).toBe(naive.dropSpent(a, b));
        const gone = (it: Row) => it.forgottenMs > 0 && it.forgottenMs >= it.ms;
        const known = naive.rows.find((it) => it.originHigh === high && it.originLow === low);
        expect(contacts.of(high, low)).toBe(known?.ms ?? 0);
        expect(contacts.has(high, low)).toBe(known !== undefined);
        expect(contacts.isForgotten(high, low)).toBe(known !== undefined && gone(known));
        const somebody = naive.rows.filter((it) => it.originHigh > 0 || it.originLow > 0);
        expect(contacts.living).toBe(somebody.filter((it) => !gone(it)).length);
      }
      const expected = naive.rows.map(({ metMs: _, ...row }) => row);
      expect(rowsOf(contacts)).toEqual(expected);
      expect(rowsOf(contacts.clone())).toEqual(expected);
      const told = expected.map((row) => ({
        ...row,
        ms: Math.floor(row.ms / 4_000) * 4_000,
        purgedUpToMs: Math.ceil(Math.min(row.purgedUpToMs, 9_500) / 1_000) * 1_000,
        forgottenMs: Math.floor(row.forgottenMs / 1_000) * 1_000,
      }));
      expect(rowsOf(contacts.told(4_000, 9_500))).toEqual(told);
      expect(rowsOf(contacts)).toEqual(expected);
    }),
  );
});

test("those that were said to be gone make room first, then those out of contact for longest", () => {
  const contacts = new Contacts();
  for (let i = 0; i < MAX_MEMBERS + 3; i++) contacts.note(1, i, 1_000 + i);
  contacts.forget(1, 2_000, 10_000_000);
  contacts.meet(1, 0, 1_000);
  contacts.trim();
  expect(contacts.size).toBe(MAX_MEMBERS);
  const gone = [1, 2, 2_000];
  for (const low of gone) expect(contacts.has(1, low)).toBe(false);
  for (const low of [0, 3, 1_999, MAX_MEMBERS + 2]) expect(contacts.has(1, low)).toBe(true);
});

test("a purge of one that made room counts as nobody's, and is never forgotten", () => {
  const contacts = new Contacts();
  contacts.note(1, 0, 10, 5);
  for (let i = 1; i <= MAX_MEMBERS; i++) contacts.note(1, i, 1_000 + i);
  contacts.trim();
  expect(contacts.size).toBe(MAX_MEMBERS);
  expect(contacts.get(0, 0)).toMatchObject({ ms: 0, purgedUpToMs: 5 });
  for (let i = 1; i <= MAX_MEMBERS; i++) contacts.note(2, i, 1_000 + i);
  contacts.trim();
  expect(contacts.get(0, 0)).toMatchObject({ ms: 0, purgedUpToMs: 5 });
});

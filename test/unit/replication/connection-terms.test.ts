/** What is asked of a broker next, by how the attempt before ended. */
import { describe, expect, test } from "bun:test";
import { ConnectionTerms } from "../../../src/replication/connection-terms.ts";

const ALL = { hasWill: true, retains: true, qos: 1 };

describe("a broker that says nothing is tried", () => {
  test.each([
    ["auto", [5, 4, 5, 4, 5]],
    ["5", [5, 5, 5]],
    ["3.1.1", [4, 4, 4]],
  ] as const)("with %s, in turn, with a will and without", (setting, versions) => {
    const terms = new ConnectionTerms(setting);
    const asked = versions.map(() => {
      const { version, hasWill } = terms.terms;
      const isMore = terms.noteUnanswered();
      return { version, hasWill, isMore };
    });
    expect(asked.map(({ version }) => version)).toEqual([...versions]);
    const rungs = setting === "auto" ? 4 : 2;
    expect(asked.map(({ hasWill }) => hasWill)).toEqual(
      versions.map((_, i) => i % rungs < rungs / 2),
    );
    // After the last there is a pause.
    expect(asked.map(({ isMore }) => isMore)).toEqual(versions.map((_, i) => (i + 1) % rungs > 0));
  });
});

test.each([1, 0x84])("a version that is refused with code %i is not asked for again", (code) => {
  const terms = new ConnectionTerms("auto");
  expect(terms.noteCode(code)).toBe(true);
  expect(terms.terms).toEqual({ ...ALL, version: 4 } as never);
  terms.noteAccepted({});
  expect(terms.isGuessed).toBe(false);
  // But when this connection is over, for then the broker may be another.
  terms.forgetRefusals();
  expect(terms.terms.version).toBe(5);
});

test("nothing is left to try when the only version is refused", () => {
  expect(new ConnectionTerms("5").noteCode(0x84)).toBe(false);
});

test("retained messages and QoS 1 are done without where they are refused, or not offered", () => {
  const refused = new ConnectionTerms("auto");
  expect(refused.noteCode(0x9a)).toBe(true);
  expect(refused.noteCode(0x9b)).toBe(true);
  expect(refused.terms).toEqual({ version: 5, hasWill: true, retains: false, qos: 0 });
  expect(refused.lacks).toEqual(["retained messages", "QoS 1"]);
  expect(refused.noteCode(0x9a)).toBe(false);

  const announced = new ConnectionTerms("auto");
  announced.noteAccepted({ retainAvailable: false, maximumQoS: 0 });
  expect(announced.terms).toEqual(refused.terms);
});

test("who is not authorized is tried without a will once", () => {
  const terms = new ConnectionTerms("auto");
  expect(terms.noteCode(0x87)).toBe(true);
  expect(terms.terms).toMatchObject({ version: 5, hasWill: false });
  for (let i = 0; i < 10; i++) expect(terms.noteCode(0x87)).toBe(false);
});

test("connections that end before anything is acknowledged ask for less and less, and then for all", () => {
  const terms = new ConnectionTerms("3.1.1");
  const asked = Array.from({ length: 6 }, () => {
    terms.noteUnproven();
    const { retains, qos } = terms.terms;
    return `${retains} ${qos}`;
  });
  expect(asked).toEqual(["true 1", "false 1", "false 1", "false 0", "false 0", "true 1"]);
});

test("what was acknowledged in between shows that nothing is wrong", () => {
  const terms = new ConnectionTerms("3.1.1");
  for (let i = 0; i < 6; i++) {
    terms.noteUnproven();
    terms.noteProven();
  }
  expect(terms.lacks).toEqual([]);
});

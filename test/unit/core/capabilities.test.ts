import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  agree,
  agreeWithAll,
  areCapabilities,
  CURRENT,
  describeDisagreement,
  MAX_FEATURES,
  MAX_VERSION,
  OLDEST,
  READS_COMPRESSED,
  type Capabilities,
} from "../../../src/core/data/capabilities.ts";

const someone = fc
  .tuple(fc.integer({ min: 1, max: 12 }), fc.nat(6), fc.nat(15))
  .map(([lowest, more, features]): Capabilities => ({ lowest, highest: lowest + more, features }));

function speaks({ lowest, highest }: Capabilities, version: number): boolean {
  return lowest <= version && version <= highest;
}

describe("two nodes", () => {
  test("use the highest version that both speak, and the features that both have", () => {
    fc.assert(
      fc.property(someone, someone, (a, b) => {
        const common = Array.from({ length: 20 }, (_, it) => it).filter(
          (it) => speaks(a, it) && speaks(b, it),
        );
        const expected =
          common.length === 0
            ? null
            : { version: common.at(-1)!, features: a.features & b.features };
        expect(agree(a, b)).toEqual(expected);
        expect(agree(b, a)).toEqual(expected);
      }),
    );
  });

  test("that have no version in common say both ranges, and which of them is to be upgraded", () => {
    const older = { lowest: 2, highest: 2, features: 0 };
    const newer = { lowest: 3, highest: 5, features: 0 };
    expect(describeDisagreement(older, newer)).toBe(
      "it speaks versions 3 to 5 of the protocol between nodes, this node version 2; " +
        "upgrade this node, through a release that speaks both if there is one in between",
    );
    expect(describeDisagreement(newer, older)).toBe(
      "it speaks version 2 of the protocol between nodes, this node versions 3 to 5; " +
        "upgrade it, through a release that speaks both if there is one in between",
    );
  });
});

test("towards many, a node uses what all of them understand that understand it at all", () => {
  fc.assert(
    fc.property(someone, fc.array(someone), (own, others) => {
      const { version, features } = agreeWithAll(own, others);
      const heard = others.filter((it) => agree(own, it) !== null);
      for (const it of heard) {
        expect(version).toBeLessThanOrEqual(it.highest);
        expect(features & ~it.features).toBe(0);
      }
      if (heard.length === 0) expect({ version, features }).toEqual(agree(own, own)!);
      else expect([own.highest, ...heard.map((it) => it.highest)]).toContain(version);
    }),
  );
});

test.each([
  { lowest: 0, highest: 1, features: 0 },
  { lowest: 3, highest: 2, features: 0 },
  { lowest: 1, highest: MAX_VERSION + 1, features: 0 },
  { lowest: 1.5, highest: 2, features: 0 },
  { lowest: 1, highest: 2, features: -1 },
  { lowest: 1, highest: 2, features: MAX_FEATURES + 1 },
  { lowest: 1, highest: 2, features: NaN },
  { lowest: "1", highest: "2", features: 0 },
])("are no capabilities: %j", (it) => {
  expect(areCapabilities(it as Capabilities)).toBe(false);
});

test("the program speaks with those that do not say what they speak", () => {
  expect(areCapabilities(CURRENT)).toBe(true);
  expect(agree(CURRENT, OLDEST)).not.toBeNull();
  expect(CURRENT.features & READS_COMPRESSED).not.toBe(0);
});

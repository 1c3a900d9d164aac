/** Who is served of the peers that come. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { Admission, type Guest } from "../../../src/anti-entropy/admission.ts";

interface TestGuest extends Guest {
  slow: boolean;
  dismissed: string;
}

function guest(nodeId: string, host = nodeId): TestGuest {
  return {
    nodeId,
    host,
    slow: false,
    dismissed: "",
    hasHadItsTurn() {
      return this.slow;
    },
    dismiss(reason) {
      this.dismissed = reason;
    },
  };
}

const isKnown = (nodeId: string) => nodeId.startsWith("n");
const FULL = "it holds as many sessions as it may";

describe("a peer", () => {
  test("gets no more than its share under one id, and none from one address but one of the places", () => {
    const admission = new Admission(4, isKnown);
    expect(admission.admit(guest("n1"))).toBeNull();
    expect(admission.admit(guest("n1", "other"))).toBeNull();
    expect(admission.admit(guest("n1", "third"))).toBe(FULL);

    const crowd = new Admission(4, isKnown);
    for (const id of ["n1", "n2", "n3"]) expect(crowd.admit(guest(id, "h"))).toBeNull();
    expect(crowd.admit(guest("n4", "h"))).toBe(FULL);
    expect(crowd.admit(guest("n4", "elsewhere"))).toBeNull();
  });

  test("that nobody has met leaves places to those that are known", () => {
    const admission = new Admission(3, isKnown);
    const strangers = ["x", "y", "z"].map((id) => admission.admit(guest(id)));
    expect(strangers).toEqual([null, null, FULL]);
    expect(admission.admit(guest("n1"))).toBeNull();
  });

  test("that had to make room gets twice the time when it comes again, until it needed no more", () => {
    const admission = new Admission(1, isKnown);
    let asked = 0;
    const come = () => {
      const newcomer = {
        ...guest("n1"),
        hasHadItsTurn: (patience: number) => ((asked = patience), true),
      };
      expect(admission.admit(newcomer)).toBeNull();
      return newcomer;
    };
    for (const patience of [1, 2, 4, 8, 16, 16]) {
      come();
      const other = guest("n2");
      expect(admission.admit(other)).toBeNull();
      expect(asked).toBe(patience);
      admission.leave(other, true);
    }
    admission.leave(come(), true);
    come();
    admission.admit(guest("n2"));
    expect(asked).toBe(1);
  });

  test("that is slow makes room, and only when somebody comes", () => {
    const admission = new Admission(1, isKnown);
    const [first, second] = [guest("n1"), guest("n2")];
    admission.admit(first);
    expect(admission.admit(second)).toBe(FULL);
    first.slow = true;
    expect(first.dismissed).toBe("");
    expect(admission.admit(second)).toBeNull();
    expect(first.dismissed).toMatch(/^others waited/);
    admission.leave(first, false);
    expect(admission.admit(guest("n3"))).toBe(FULL);
  });
});

test("there are never more guests than places, nor than anybody's share", () => {
  const arrival = fc.record({
    id: fc.constantFrom("n1", "n2", "n3", "x", "y", "z"),
    host: fc.constantFrom("a", "b", "c"),
    becomesSlow: fc.boolean(),
    leaves: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 6 }), fc.array(arrival), (places, arrivals) => {
      const admission = new Admission(places, isKnown);
      let inside: TestGuest[] = [];
      for (const { id, host, becomesSlow, leaves } of arrivals) {
        const newcomer = guest(id, host);
        const isAlone = inside.length === 0;
        const refusal = admission.admit(newcomer);
        if (isAlone) expect(refusal).toBeNull();
        inside = inside.filter((it) => it.dismissed === "");
        if (refusal === null) inside.push(newcomer);
        newcomer.slow = becomesSlow;
        const half = Math.ceil(places / 2);
        const count = (of: (it: Guest) => boolean) => inside.filter(of).length;
        expect(inside.length).toBeLessThanOrEqual(places);
        expect(count((it) => it.nodeId === id)).toBeLessThanOrEqual(half);
        expect(count((it) => it.host === host)).toBeLessThanOrEqual(Math.max(1, places - 1));
        expect(count((it) => !isKnown(it.nodeId))).toBeLessThanOrEqual(half);
        if (leaves) admission.leave(inside.shift() ?? newcomer, true);
      }
    }),
  );
});

/**
 * Every attack of the siege on a small scale: nothing lost, no exit, nothing false in the log, and
 * what the attack itself demands. `bun run siege` plays them whole, and measures.
 */
import { expect, test } from "bun:test";
import { mosquittoPath } from "../support/mosquitto.ts";
import { attacks } from "./attacks.ts";
import { besiege } from "./besiege.ts";

const SCALE = 0.05;

for (const attack of attacks) {
  const needsBroker = attack.scene !== undefined && attack.scene !== "alone";
  test.skipIf(needsBroker && mosquittoPath === null)(attack.what, async () => {
    const { lost, faults } = await besiege(attack, SCALE);
    expect(faults).toEqual([]);
    expect(lost).toBe(0);
  });
}

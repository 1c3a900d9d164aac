/** What clients do in the simulation, and what they must be answered. */
import { Int64 } from "../../src/core/data/int64.ts";
import { Entry } from "../../src/core/data/entry.ts";
import { APPLIED, NOT_A_NUMBER, UNCHANGED } from "../../src/core/store/outcome.ts";
import { KEEP_EXPIRY } from "../../src/core/store/own-writes.ts";
import type { Store } from "../../src/core/store/store.ts";
import type { Chance } from "./chance.ts";
import { shownBy } from "./oracle.ts";
import { MAX_EVENT_BYTES, type SimNode } from "./sim-node.ts";
import type { Simulation } from "./simulation.ts";

const YEAR_MS = 365 * 86_400_000;

/** What a client was told is written, and by whom. */
export interface Try {
  readonly by: string;
  readonly entry: Entry;
}

/** The clients of all nodes. */
export class Clients {
  private readonly delta = new Int64();
  private readonly view = new Entry();

  constructor(private readonly simulation: Simulation) {}

  /** A client does something at a node, or a few things in a row; the acts are named after `name`. */
  act(node: SimNode, name: string): void {
    const chance = this.simulation.chanceOfAct(name);
    const store = node.serving?.store;
    if (store === undefined) return;
    const burst = chance.happens(0.1) ? chance.between(2, 8) : 1;
    for (let i = 0; i < burst; i++) this.command(node, store, `${name}.${i}`);
  }

  private command(node: SimNode, store: Store, act: string): void {
    const { simulation } = this;
    const { plan, names } = simulation;
    const chance = simulation.chanceOfAct(act);
    const flushes = chance.happens(plan.troubles.flush);
    if (flushes && simulation.admits(`${act}.flush`, `${node.id} FLUSH`) && !this.refuses(node)) {
      this.flush(node, store);
    }
    const index = chance.below(plan.keys);
    const name = names[index];
    // Every other key is a counter most of the time.
    const isCounter = index % 2 === 1 ? chance.happens(0.8) : chance.happens(0.05);
    const isDeletion = !isCounter && chance.happens(0.3);
    const isExpiry = this.mayExpire(index % 2 === 1) && chance.happens(0.3);
    const what = isExpiry ? "EXPIRE" : isCounter ? "INCR" : isDeletion ? "DEL" : "SET";
    if (!simulation.admits(act, `${node.id} ${what} ${name}`)) return;
    if (this.refuses(node, name)) return void simulation.counts.refusedWrites++;
    if (isExpiry) this.expire(node, store, name, chance);
    else if (isCounter) this.increment(node, store, name, chance);
    else if (isDeletion) this.delete(node, store, name);
    else this.set(node, store, name, act, index % 2 === 1);
  }

  /** A client writes every key that the node takes a write of. Returns what was written. */
  tryWrites(node: SimNode): Try[] {
    const { names } = this.simulation;
    const { store } = node.serving!;
    const written = names.filter((name) => !this.refuses(node, name));
    return written.map((name) => {
      this.set(node, store, name, `try.${node.id}.${name}`);
      const key = this.simulation.keys.get(name)!;
      const entry = new Entry();
      store.read(store.locate(key, 0, key.length), entry);
      return { by: node.id, entry: entry.clone() };
    });
  }

  /** Whether the node takes no write of that key, or no FLUSH, as `commands/execute.ts` has it. */
  refuses(node: SimNode, name: string | null = null): boolean {
    const { clockWatch, journal, store } = node.serving!;
    // Its time may just have been set back.
    store.clock.settle();
    if (journal.failure !== null || clockWatch.writeRefusal !== null) return true;
    // By a clock that is years ahead, and that is believed, nobody writes here: no node could know,
    // and what is written stays where it is until its time.
    if (node.clockOffsetMs > YEAR_MS / 2 && clockWatch.state === "trusted") return true;
    const key = name === null ? null : this.simulation.keys.get(name)!;
    return clockWatch.hasPeers() && store.aheadUntilMs(key, 0, key?.length) > 0;
  }

  /** SET of a value of its own, which follows from the name of the act: a number if so. */
  set(node: SimNode, store: Store, name: string, act: string, isNumber = false): void {
    const { plan } = this.simulation;
    const chance = this.simulation.chanceOfAct(`${act} value`);
    const number = chance.below(1e9);
    let value = isNumber && chance.happens(0.9) ? String(number) : `v${number}`;
    if (!isNumber && chance.happens(0.1)) value = value.padEnd(MAX_EVENT_BYTES + 50, ".");
    const livesMs = this.mayExpire(isNumber) && chance.happens(0.3) ? lifetime(chance) : 0;
    const isLease = livesMs > 0 && node.serving!.clockWatch.knowsExpiries;
    const expiresAtMs = isLease ? store.clock.nowMs() + livesMs : 0;
    const key = this.simulation.keys.get(name)!;
    // A node that was away may have let go of the value with an expiry that nobody else heard of.
    // What a write elsewhere keeps then is no expiry, and that is all that can be asked.
    const mayKeep = plan.expiry && plan.troubles.absence === 0 && plan.troubles.isolation === 0;
    const keeps = mayKeep && chance.happens(0.2) && store.find(key, 0, key.length) >= 0;
    const bytes = new TextEncoder().encode(value);
    const given = keeps ? KEEP_EXPIRY : expiresAtMs;
    const outcome = store.set(key, 0, key.length, bytes, 0, bytes.length, given);
    this.simulation.counts.writes++;
    this.simulation.history.noteKey(
      name,
      () => `${node.id} SET ${name} ${value.slice(0, 10)} ${keeps ? "KEEPTTL" : expiresAtMs || ""}`,
    );
    if (outcome !== APPLIED) return this.simulation.oracle.fail(`SET came to ${outcome}`);
    this.simulation.oracle.wrote(node.place, store, name, value, keeps ? null : expiresAtMs);
    const shown = shownBy(store, key, this.view);
    if (shown?.value !== value)
      this.simulation.oracle.fail(`${node.id}: SET ${name} does not show`);
  }

  /** A counter that is forgotten and begun again is beyond what is promised. */
  private mayExpire(isCounter: boolean): boolean {
    const { plan } = this.simulation;
    return plan.expiry && (!isCounter || plan.troubles.absence === 0);
  }

  /** EXPIRE or PERSIST, as GETEX does. */
  private expire(node: SimNode, store: Store, name: string, chance: Chance): void {
    const { simulation } = this;
    const key = simulation.keys.get(name)!;
    const before = shownBy(store, key, this.view);
    const persists = chance.happens(0.3) || !node.serving!.clockWatch.knowsExpiries;
    const expiresAtMs = persists ? 0 : store.clock.nowMs() + lifetime(chance);
    const outcome = store.expire(key, 0, key.length, expiresAtMs);
    if (outcome === UNCHANGED && before === null) return;
    simulation.counts.expiries++;
    simulation.history.noteKey(name, () => `${node.id} EXPIRE ${name} ${expiresAtMs}`);
    if (outcome !== APPLIED) return simulation.oracle.fail(`EXPIRE came to ${outcome}`);
    simulation.oracle.expired(node.place, store, name, expiresAtMs);
    const after = shownBy(store, key, this.view);
    if (after?.value !== before?.value || after?.expiresAtMs !== expiresAtMs) {
      simulation.oracle.fail(`${node.id}: EXPIRE ${name} does not show`);
    }
  }

  private delete(node: SimNode, store: Store, name: string): void {
    // A counter that was deleted, forgotten and begun again is beyond what is promised.
    if (this.simulation.plan.troubles.absence > 0 && Number(name.slice(1)) % 2 === 1) return;
    const key = this.simulation.keys.get(name)!;
    if (!store.delete(key, 0, key.length)) return;
    this.simulation.counts.writes++;
    this.simulation.history.noteKey(name, () => `${node.id} DEL ${name}`);
    this.simulation.oracle.wrote(node.place, store, name, null, 0);
    if (store.find(key, 0, key.length) >= 0)
      this.simulation.oracle.fail(`${node.id}: DEL ${name} did not`);
  }

  private increment(node: SimNode, store: Store, name: string, chance: Chance): void {
    if (this.simulation.plan.troubles.absence > 0 && Number(name.slice(1)) % 2 === 0) return;
    const key = this.simulation.keys.get(name)!;
    const by = chance.between(-5, 9);
    const before = shownBy(store, key, this.view)?.value ?? "0";
    const outcome = store.increment(key, 0, key.length, this.delta.set(by < 0 ? -1 : 0, by));
    if (outcome === NOT_A_NUMBER && !/^-?\d+$/.test(before)) return;
    this.simulation.counts.increments++;
    const after = shownBy(store, key, this.view)?.value;
    this.simulation.history.noteKey(name, () => `${node.id} INCR ${name} by ${by} to ${after}`);
    const expected = String(BigInt(before) + BigInt(by));
    if (outcome !== APPLIED || after !== expected) {
      this.simulation.oracle.fail(
        `${node.id}: INCR ${name} from ${before} by ${by} came to ${after}`,
      );
    } else {
      this.simulation.oracle.incremented(node.place, store, name, BigInt(by));
    }
  }

  private flush(node: SimNode, store: Store): void {
    store.flush();
    this.simulation.counts.flushes++;
    this.simulation.history.note(() => `${node.id} FLUSH`);
    if (store.size !== 0) this.simulation.oracle.fail(`${node.id}: FLUSH left something`);
  }
}

/** How long something lives, in ms: mostly shorter than a run, sometimes than a clock is wrong by. */
function lifetime(chance: Chance): number {
  return chance.happens(0.8) ? chance.magnitude(10, 100_000) : chance.magnitude(100_000, 3e7);
}

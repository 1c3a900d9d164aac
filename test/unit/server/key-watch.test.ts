/** Who is told of a key that changes: those that watch it, as long as they do. */
import { expect, test } from "bun:test";
import type { User } from "../../../src/access/user.ts";
import type { KeyChange } from "../../../src/ports.ts";
import { KeyWatch } from "../../../src/server/key-watch.ts";
import { InProcessServer } from "../../support/in-process.ts";

const bytes = (text: string): Uint8Array => Buffer.from(text);
const someone = { name: "someone" } as User;

/** A watch over a store, what each watcher was told, and the end of the time that is gathered. */
function watched() {
  const { store, shared } = new InProcessServer();
  const due: (() => void)[] = [];
  const putOff = (task: () => void): (() => void) => {
    due.push(task);
    return () => {};
  };
  const timing = {
    nowMs: () => 0,
    after: (_: number, task: () => void) => putOff(task),
    soon: putOff,
  };
  const watch = new KeyWatch(store, shared.context.services.durability, timing);
  const told: string[] = [];
  const add = (name: string, prefix: string, user = someone): (() => void) => {
    const onChanges = (changes: readonly KeyChange[]): void => {
      for (const { key, facts } of changes) {
        told.push(`${name} ${Buffer.from(key)} ${facts === null ? "gone" : facts.kind}`);
      }
    };
    const onLost = (): void => void told.push(`${name} lost`);
    const onEnd = (): void => void told.push(`${name} end`);
    return watch.add(user, { prefix: bytes(prefix), onChanges, onLost, onEnd }, () => null)!;
  };
  const tell = async (): Promise<string[]> => {
    while (due.length > 0) {
      due.shift()!();
      await new Promise(setImmediate);
    }
    return told.splice(0).sort();
  };
  const set = (key: string): void => void store.set(bytes(key), 0, key.length, bytes("v"), 0, 1, 0);
  return { store, watch, add, tell, set };
}

test("each is told of the keys that begin with its prefix, once, and as they are then", async () => {
  const { add, store, set, tell } = watched();
  for (const prefix of ["", "ab", "abc", "b"]) add(`"${prefix}"`, prefix);
  for (const key of ["a", "ab", "abc", "xbc", "abc"]) set(key);
  store.delete(bytes("a"), 0, 1);
  expect(await tell()).toEqual([
    '"" a gone',
    '"" ab string',
    '"" abc string',
    '"" xbc string',
    '"ab" ab string',
    '"ab" abc string',
    '"abc" abc string',
  ]);
  store.flush();
  expect(await tell()).toEqual(['"" lost', '"ab" lost', '"abc" lost', '"b" lost']);
});

test("who does not watch any more is told nothing, and the others go on", async () => {
  const { add, set, store, tell, watch } = watched();
  const observers = store.observers.length;
  const endOne = add("one", "");
  add("two", "", { name: "gone" } as User);
  add("three", "");
  add("four", "", { name: "gone" } as User);
  endOne();
  endOne();
  watch.endUser({ name: "gone" } as User);
  set("key");
  expect(await tell()).toEqual(["four end", "three key string", "two end"]);
  watch.stop();
  set("key");
  expect(await tell()).toEqual(["three end"]);
  expect(store.observers.length).toBe(observers);
});

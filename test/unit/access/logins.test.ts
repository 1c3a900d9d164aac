import { describe, expect, test } from "bun:test";
import { LoginDelays } from "../../../src/access/login-delays.ts";
import { hostOf, isLocal } from "../../../src/access/host.ts";
import { User } from "../../../src/access/user.ts";
import { testUsers, usersOf } from "../../support/users.ts";

describe("delays", () => {
  test("each failure doubles them up to two seconds, and time forgives", () => {
    let nowMs = 0;
    const delays = new LoginDelays(() => nowMs);
    const seen: number[] = [];
    for (let i = 0; i < 7; i++) {
      seen.push(delays.delayMs("10.0.0.1:1", "a"));
      delays.noteFailure(`10.0.0.1:${i}`, "a");
    }
    expect(seen).toEqual([0, 250, 500, 1_000, 2_000, 2_000, 2_000]);
    expect(delays.delayMs("10.0.0.2:1", "a")).toBe(0);
    nowMs += 50_000;
    expect(delays.delayMs("10.0.0.1:1", "a")).toBe(500);
    nowMs += 20_000;
    expect([delays.delayMs("10.0.0.1:1", "a"), delays.addresses]).toEqual([0, 0]);
  });

  test("however many addresses fail, and however often, little is remembered, and nobody waits for ever", () => {
    let nowMs = 0;
    const delays = new LoginDelays(() => nowMs);
    for (let i = 0; i < 100_000; i++)
      delays.noteFailure(`10.${i >> 16}.${(i >> 8) & 255}.${i & 255}:1`, "a");
    expect(delays.addresses).toBe(4_096);
    for (let i = 0; i < 10_000; i++) delays.noteFailure("10.9.9.9:1", "a");
    expect(delays.delayMs("10.9.9.9:1", "a")).toBe(2_000);
    nowMs += 160_000;
    expect(delays.delayMs("10.9.9.9:1", "a")).toBe(0);
  });

  test("who has logged in from there waits for failures under that name alone", () => {
    let nowMs = 0;
    const delays = new LoginDelays(() => nowMs);
    const ofNames = (): number[] =>
      ["watch", "other"].map((name) => delays.delayMs("10.0.0.1:9", name));
    delays.noteSuccess("10.0.0.1:1", "watch");
    for (let i = 0; i < 4; i++) delays.noteFailure(`10.0.0.1:${i}`, `guess-${i}`);
    expect(ofNames()).toEqual([0, 2_000]);
    for (let i = 0; i < 2; i++) delays.noteFailure(`10.0.0.1:${i}`, "watch");
    expect(ofNames()).toEqual([500, 2_000]);
    // To log in once more forgives nothing: whoever guesses waits on.
    delays.noteSuccess("10.0.0.1:1", "watch");
    expect(ofNames()).toEqual([500, 2_000]);
    nowMs += 20_000;
    expect(ofNames()).toEqual([0, 2_000]);
    delays.noteFailure("10.0.0.2:1", "guess");
    expect(delays.delayMs("10.0.0.2:1", "watch")).toBe(250);
  });

  test("of those who have logged in, the latest are remembered", () => {
    const delays = new LoginDelays(() => 0);
    delays.noteFailure("10.0.0.1:1", "x");
    for (let i = 0; i < 5_000; i++) {
      delays.noteSuccess("10.0.0.1:1", `user-${i}`);
      delays.noteSuccess("10.0.0.1:1", "user-0");
    }
    const waiting = (name: string): number => delays.delayMs("10.0.0.1:1", name);
    expect(["user-0", "user-4999", "user-1000", "user-1"].map(waiting)).toEqual([0, 0, 0, 250]);
  });

  test.each([
    ["10.0.0.1:5", "10.0.0.1"],
    ["[::ffff:10.0.0.1]:5", "10.0.0.1"],
    ["[2001:db8:1:2:3:4:5:6]:5", "2001:db8:1:2::"],
    ["[2001:db8:1:2:9::7]:5", "2001:db8:1:2::"],
    ["[2001:db8::7]:5", "2001:db8:0:0::"],
    ["[::1]:5", "0:0:0:0::"],
    ["[fe80::1%eth0]:5", "fe80:0:0:0::"],
  ])("%s is %s", (address, host) => expect(hostOf(address)).toBe(host));

  test("which addresses are of this machine", () => {
    const local = ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"];
    expect(local.filter((it) => !isLocal(it))).toEqual([]);
    const others = [
      "10.0.0.1:1",
      "[::2]:1",
      "[::11]:1",
      "[::ffff:10.0.0.1]:1",
      "128.0.0.1:1",
      "1127.0.0.1:1",
    ];
    expect(others.filter(isLocal)).toEqual([]);
  });
});

/** Timing in which time passes only when somebody waits for it. */
function manual() {
  const waits: { atMs: number; task: () => void }[] = [];
  const timing = {
    now: 0,
    nowMs: () => timing.now,
    after: (delayMs: number, task: () => void) => {
      waits.push({ atMs: timing.now + delayMs, task });
      return () => {};
    },
    soon: () => () => {},
    waits,
    pass(ms: number) {
      timing.now += ms;
      for (const wait of waits.splice(0)) {
        if (wait.atMs <= timing.now) wait.task();
        else waits.push(wait);
      }
    },
  };
  return timing;
}

const password = Buffer.from("right");
const RULES = [`user a on >right ~* +@all`, "user off off >right", "user any on nopass"];
const here = "10.0.0.1:1";
const stays = (): boolean => false;

describe("logins", () => {
  test("the right password, a wrong one, a user that is off, and nobody", async () => {
    const timing = manual();
    const users = usersOf(RULES, { timing });
    expect(await users.logIn("a", password, here, stays)).toBe(users.find("a")!);
    expect(await users.logIn("any", Buffer.from("x"), here, stays)).toBe(users.find("any")!);
    for (const [i, [name, given]] of [
      ["a", "wrong"],
      ["off", "right"],
      ["nobody", "right"],
      ["a", ""],
    ].entries()) {
      const result = users.logIn(name, Buffer.from(given), `10.0.1.${i}:1`, stays);
      expect([name, await result]).toEqual([name, "wrong"]);
    }
  });

  test("after a failure the next one from there waits before it is looked at; others do not", async () => {
    const timing = manual();
    const users = usersOf(RULES, { timing });
    expect(await users.logIn("a", Buffer.from("wrong"), here, stays)).toBe("wrong");
    let result: unknown = "waits";
    void users.logIn("a", password, here, stays).then((it) => (result = it));
    expect(await users.logIn("a", password, "10.0.0.2:1", stays)).toBeInstanceOf(User);
    expect(result).toBe("waits");
    timing.pass(249);
    await Promise.resolve();
    expect(result).toBe("waits");
    timing.pass(1);
    while (result === "waits") await new Promise(setImmediate);
    expect(result).toBe(users.find("a")!);
  });

  test("who has logged in from there before does not wait for another's failures", async () => {
    const timing = manual();
    const users = usersOf(RULES, { timing });
    expect(await users.logIn("a", password, here, stays)).toBe(users.find("a")!);
    for (const _ of [1, 2]) {
      const failing = users.logIn("any-other", password, here, stays);
      timing.pass(250);
      expect(await failing).toBe("wrong");
    }
    expect(await users.logIn("a", password, here, stays)).toBe(users.find("a")!);
    // But for failures under that name.
    expect(await users.logIn("a", Buffer.from("wrong"), here, stays)).toBe("wrong");
    let result: unknown = "waits";
    void users.logIn("a", password, here, stays).then((it) => (result = it));
    await new Promise(setImmediate);
    expect(result).toBe("waits");
    timing.pass(250);
    while (result === "waits") await new Promise(setImmediate);
    expect(result).toBe(users.find("a")!);
  });

  test("who has hung up meanwhile is not looked at", async () => {
    const timing = manual();
    const users = usersOf(RULES, { timing });
    await users.logIn("a", Buffer.from("wrong"), here, stays);
    const late = users.logIn("a", Buffer.from("wrong"), here, () => true);
    timing.pass(250);
    expect(await late).toBe("busy");
  });

  test("argon2id: right, wrong, remembered, and forgotten when the user changes", async () => {
    const kept = await Bun.password.hash("right", {
      algorithm: "argon2id",
      memoryCost: 64,
      timeCost: 1,
    });
    const users = usersOf([`user a on ${kept} ~* +@all`, "user b on >x"], { timing: manual() });
    expect(await users.logIn("a", Buffer.from("wrong"), "10.0.0.3:1", stays)).toBe("wrong");
    expect(await users.logIn("nobody", Buffer.from(""), "10.0.0.4:1", stays)).toBe("wrong");
    const a = users.find("a")!;
    expect(await users.logIn("a", password, here, stays)).toBe(a);
    expect(a.known.size).toBe(1);
    expect(await users.logIn("a", password, here, stays)).toBe(a);
    expect(users.change("a", [`!${kept}`, ">other"])).toBeNull();
    expect(a.known.size).toBe(0);
    expect(await users.logIn("a", password, here, stays)).toBe("wrong");
  });

  test("who fails and comes many at once keeps nobody else from being checked", async () => {
    const kept = await Bun.password.hash("right", {
      algorithm: "argon2id",
      memoryCost: 64,
      timeCost: 1,
    });
    const timing = manual();
    const users = usersOf([`user a on ${kept} ~* +@all`], { timing });
    const guess = (name: string) => users.logIn(name, Buffer.from("wrong"), "10.0.0.9:1", stays);
    expect(await guess("a")).toBe("wrong");
    const guesses = Array.from({ length: 400 }, (_, i) => guess(i % 2 === 0 ? "a" : "nobody"));
    timing.pass(2_000);
    await Promise.resolve();
    const right = users.logIn("a", password, here, stays);
    const results = await Promise.all(guesses);
    expect(await right).toBe(users.find("a")!);
    expect(results.filter((it) => it === "wrong")).toHaveLength(8);
    expect(results.filter((it) => it === "busy")).toHaveLength(392);
    // The places are free again.
    const next = guess("a");
    timing.pass(2_000);
    expect(await next).toBe("wrong");
  });

  test("a password that is changed while it is checked is worth nothing", async () => {
    const kept = await Bun.password.hash("right", {
      algorithm: "argon2id",
      memoryCost: 64,
      timeCost: 1,
    });
    const users = usersOf([`user a on ${kept} ~* +@all`], { timing: manual() });
    const login = users.logIn("a", password, here, stays);
    users.change("a", ["resetpass", ">other"]);
    expect(await login).toBe("wrong");
  });
});

describe("who a client is when it arrives", () => {
  const openRules = ["-@admin"];

  test("logging in as the default user, with any password, gives no more than coming did", async () => {
    const users = testUsers({ openRules });
    const logIn = (address: string) =>
      users.logIn("default", Buffer.from("anything"), address, () => false);
    const remote = users.arrive("10.0.0.1:1", null);
    expect(await logIn("10.0.0.1:1")).toBe(remote);
    expect(await logIn("[2001:db8::1]:1")).toBe(remote);
    expect(remote.definition.isUnlimited).toBe(false);
    expect(await logIn("127.0.0.1:1")).toBe(users.find("default")!);
    expect(users.change("default", ["resetpass", ">secret"])).toBeNull();
    expect(await logIn("10.0.0.1:1")).toBe("wrong");
  });
  test("without users, everything here and less elsewhere, until somebody changes the default user", () => {
    const users = testUsers({ openRules });
    const [near, far] = [users.arrive("127.0.0.1:1", null), users.arrive(here, null)];
    expect([near.definition.isUnlimited, far.definition.isUnlimited]).toEqual([true, false]);
    expect([near.name, far.name, users.isOpen]).toEqual(["default", "default", true]);
    users.change("new", ["on", ">x"]);
    expect([far.definition.isUnlimited, users.isOpen]).toEqual([false, true]);
    users.change("default", [">x"]);
    expect(users.isOpen).toBe(false);
    expect(users.arrive(here, null).isSomebody).toBe(false);
    // Who was there before has what the default user has from now on.
    expect(far.definition).toBe(near.definition);
    users.change("default", ["-get"]);
    expect(far.definition).toBe(near.definition);
  });

  test("with a password or a file, nobody before it logs in; with a certificate, its user if it is on", () => {
    expect(testUsers({ password: "x", openRules }).arrive("127.0.0.1:1", null).isSomebody).toBe(
      false,
    );
    const users = usersOf(["user dash on +get ~*", "user gone off"], { byCertificate: true });
    expect(users.arrive("127.0.0.1:1", null).isSomebody).toBe(false);
    expect(users.arrive(here, "dash").name).toBe("dash");
    expect(users.arrive(here, "gone").isSomebody).toBe(false);
    expect(users.arrive(here, "nobody").isSomebody).toBe(false);
    expect(usersOf(["user dash on nopass"]).arrive(here, "dash").isSomebody).toBe(false);
  });
});

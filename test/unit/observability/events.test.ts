/** Each message that the program logs has an event, and each event a message. */
import { describe, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { EVENTS, eventOf, OTHER_EVENT } from "../../../src/observability/events.ts";

const SOURCE = join(import.meta.dir, "../../../src");
const rows = Object.values(EVENTS).flat();

const sources = readdirSync(SOURCE, { recursive: true })
  .map(String)
  .filter((path) => path.endsWith(".ts") && path !== "observability/events.ts")
  .map((path) => [path, readFileSync(join(SOURCE, path), "utf8")] as const);

const TEXT = /"((?:[^"\\\n]|\\.)*)"|`((?:[^`\\]|\\.)*)`/;
/** What is given to a log, or called a message on its way there. */
const LOGGED = [
  new RegExp(
    `\\b(?:logger|log|notices|root)\\.(?:info|warn|error|debug|trace)\\(\\s*(?:${TEXT.source})`,
    "g",
  ),
  new RegExp(`(?<![.\\w])(?:info|warn|error|debug|say|log|line)\\(\\s*(?:${TEXT.source})`, "g"),
  new RegExp(`\\bmessage(?: =|:)\\s*(?:[\\w. ]+\\? )?(?:${TEXT.source})`, "g"),
];

function messagesIn(text: string): string[] {
  return LOGGED.flatMap((pattern) =>
    Array.from(text.matchAll(pattern), ([, plain, template]) =>
      (plain ?? template).replace(/\$\{[^}]*\}/g, "x"),
    ),
  );
}

describe("every message has an event", () => {
  const logging = sources.filter(
    ([path, text]) => /\b(Logger|Log)\b/.test(text) && !/^(cli|core|commands\/(?!acl))/.test(path),
  );
  test.each(logging)("%s", (_, text) => {
    const messages = messagesIn(text).filter((it) => /^[A-Z].*[a-z]/.test(it));
    expect(messages.filter((it) => eventOf(it) === OTHER_EVENT)).toEqual([]);
  });

  test("and enough of them are found", () => {
    expect(new Set(logging.flatMap(([, text]) => messagesIn(text))).size).toBeGreaterThan(60);
  });
});

test("every event has its message in the source", () => {
  const all = sources.map(([, text]) => text.replaceAll(/"\s*\+\s*["`]/g, "")).join("\n");
  const missing = rows.filter(([, message]) => !message.split("…").every((it) => all.includes(it)));
  expect(missing).toEqual([]);
});

test("names are written in one way", () => {
  for (const [event] of rows) expect(event).toMatch(/^[a-z]+(_[a-z]+)*$/);
  const messages = rows.map(([, message]) => message);
  expect(messages.filter((it, at) => messages.indexOf(it) !== at)).toEqual([]);
});

test.each([
  ["Synced with a peer", "sync"],
  [
    "The certificate of [mqtt.tls] expires soon; put a new one in its place",
    "certificate_expiring",
  ],
  ["Taking no writes: cannot write x", "writes_refused"],
  ["Could not write a snapshot", "snapshot_failed"],
  ["Could not remove a backup", "backup_failed"],
  [
    "A sealed message was refused that is damaged, or of another version of sealing",
    "message_damaged",
  ],
  ["Anything else", OTHER_EVENT],
])("%s is %s", (message, event) => expect(eventOf(message)).toBe(event));

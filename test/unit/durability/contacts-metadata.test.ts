/** What outlasts a restart of the contacts, and how often it is made. */
import { expect, test } from "bun:test";
import { Contacts } from "../../../src/core/sync/contacts.ts";
import {
  contactsMetadata,
  forgottenMetadata,
  readContacts,
  whenChanged,
} from "../../../src/durability/store-metadata.ts";

test("contacts, purges and who is gone outlast a restart; purges count as learned at the start", () => {
  const contacts = new Contacts();
  contacts.note(1, 2, 5_000, 300, 4_000);
  contacts.note(3, 4, 6_000);
  contacts.note(5, 6, 7_000);
  contacts.forget(5, 6, 8_000);
  const [kept, gone] = [contactsMetadata(contacts), forgottenMetadata(contacts)];
  const back = readContacts(kept, gone, 9_000);
  expect(back.size).toBe(3);
  expect(back.get(1, 2)).toMatchObject({ ms: 5_000, purgedUpToMs: 300, learnedMs: 9_000 });
  expect(back.get(3, 4)).toMatchObject({ ms: 6_000, purgedUpToMs: 0, forgottenMs: 0 });
  expect(back.isForgotten(5, 6)).toBe(true);
  expect(forgottenMetadata(new Contacts()).length).toBe(0);
  // As a release that knows nothing of who is gone would read it, and the other way round.
  expect(readContacts(kept).size).toBe(3);
  expect(readContacts(undefined, undefined).size).toBe(0);
});

test("they are written down anew only when they have changed", () => {
  const contacts = new Contacts();
  let made = 0;
  const read = whenChanged(
    () => contacts.changes,
    () => {
      made++;
      return contactsMetadata(contacts);
    },
  );
  const changes = [
    () => contacts.note(1, 2, 5_000),
    () => contacts.meet(1, 2, 6_000),
    () => contacts.forget(1, 2, 7_000),
    () => contacts.dropSpent(8_000, 0),
  ];
  for (const [i, change] of changes.entries()) {
    change();
    for (let again = 0; again < 3; again++) expect(read()).toEqual(contactsMetadata(contacts));
    expect(made).toBe(i + 1);
  }
});

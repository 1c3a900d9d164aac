import { expect, test } from "bun:test";
import { ListReply } from "../../../src/commands/list-reply.ts";
import { ClientSession } from "../../../src/commands/client-session.ts";
import { testUsers } from "../../support/users.ts";
import { Reply, RESP2 } from "../../../src/protocol/reply.ts";

test("a reply of many elements is charged for the memory it takes, not only for what is in it", () => {
  const session = new ClientSession(1, "client", 0, 0, testUsers().nobody);
  const reply = new ListReply(RESP2, Infinity, session);
  const { part } = reply;
  const handOver = part.handOver.bind(part);
  let takenBytes = 0;
  part.handOver = () => {
    const piece = handOver();
    takenBytes += piece.buffer.byteLength;
    return piece;
  };
  const element = new Uint8Array(100);
  for (let i = 0; i < 50_000; i++) {
    part.copied(element, 0, element.length);
    reply.add();
  }
  expect(session.heldBytes).toBe(takenBytes);
  expect(takenBytes).toBeLessThan(1.5 * reply.bytes);
  reply.drop();
  expect(session.heldBytes).toBe(0);
});

test("of a short list no buffer is left that nothing comes into", () => {
  const session = new ClientSession(1, "client", 0, 0, testUsers().nobody);
  const list = new ListReply(RESP2, Infinity, session);
  const element = new Uint8Array(2_000);
  list.part.copied(element, 0, element.length);
  list.add();
  const write = list.after((reply) => reply.array(1));
  const reply = new Reply();
  expect(write(reply)).toBe(false);
  expect(list.part.bytes.buffer.byteLength).toBe(0);
  // It can be written into again.
  list.part.copied(element, 0, element.length);
  expect(list.part.written).toEqual(element);
});

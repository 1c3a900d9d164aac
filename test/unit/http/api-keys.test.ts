/** Bytes in URLs and in JSON: what goes in comes out. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { bytesField, jsonText } from "../../../src/http/json-writer.ts";
import { bytesOfField, decodePercent, encodePercent } from "../../../src/http/api-keys.ts";

const bytes = fc.oneof(
  fc.uint8Array({ maxLength: 40 }),
  fc.string({ unit: "binary", maxLength: 20 }).map((text) => new Uint8Array(Buffer.from(text))),
);

test("bytes come back from JSON, and as text wherever that is possible", () => {
  fc.assert(
    fc.property(bytes, (given) => {
      const field = JSON.parse(jsonText(bytesField("key", given))) as Record<string, string>;
      expect(Buffer.from(bytesOfField(field, "key")!)).toEqual(Buffer.from(given));
      const isText = Buffer.from(Buffer.from(given).toString()).equals(given);
      expect(Object.keys(field)).toEqual([isText ? "key" : "key_base64"]);
    }),
  );
});

test("bytes come back from a URL", () => {
  fc.assert(
    fc.property(bytes, (given) => {
      const text = encodePercent(given);
      expect(text).toMatch(/^[\w.~%-]*$/);
      expect(Buffer.from(decodePercent(text)!)).toEqual(Buffer.from(given));
    }),
  );
});

test.each(["%", "a%2", "%g0", "%%30"])("%j is no percent-encoding", (text) => {
  expect(decodePercent(text)).toBeUndefined();
});

test.each([{}, { key: 5 }, { key: "a", key_base64: "YQ==" }, { key_base64: "Y" }])(
  "%j holds no bytes",
  (object) => expect(bytesOfField(object, "key")).toBeUndefined(),
);

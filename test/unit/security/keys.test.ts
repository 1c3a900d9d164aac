/** Secrets, the keys that follow from them, and the files that hold them. */
import { describe, expect, test } from "bun:test";
import { chmodSync, mkdtempSync, writeFileSync } from "node:fs";
import { randomBytes } from "node:crypto";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { OperationalError } from "../../../src/operational-error.ts";
import {
  KEY_BYTES,
  NONCE_BYTES,
  open,
  openInto,
  seal,
  sealInto,
  TAG_BYTES,
} from "../../../src/security/aead.ts";
import { keyFor, secretOf, secretText, type Secret } from "../../../src/security/keys.ts";
import { readPrivateFile, readSecretFile } from "../../../src/security/secret-file.ts";

const bytes = (count: number): Buffer => randomBytes(count);

function secret(text: string): Secret {
  const made = secretOf(Buffer.from(text));
  if ("problem" in made) throw new Error(made.problem);
  return made;
}

const ONE = secret("0123456789abcdef0123456789abcdef");
const OTHER = secret("0123456789abcdef0123456789abcdeg");

describe("sealing", () => {
  const key = Buffer.alloc(KEY_BYTES, 7);
  const nonce = Buffer.alloc(NONCE_BYTES, 9);

  test("agrees with test case 16 of the GCM specification", () => {
    const hex = (text: string): Buffer => Buffer.from(text, "hex");
    const sealed = seal(
      hex("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308"),
      hex("cafebabefacedbaddecaf888"),
      hex("feedfacedeadbeeffeedfacedeadbeefabaddad2"),
      hex(
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72" +
          "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
      ),
    );
    expect(sealed.toString("hex")).toBe(
      "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa" +
        "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662" +
        "76fc6ece0f4e1768cddf8853bb2d551b",
    );
  });

  test("opens what was sealed, and nothing that differs in a bit", () => {
    const changes = fc.tuple(fc.uint8Array(), fc.uint8Array(), fc.nat(), fc.nat({ max: 7 }));
    fc.assert(
      fc.property(changes, ([clear, plain, at, bit]) => {
        const sealed = seal(key, nonce, clear, plain);
        expect(open(key, nonce, clear, sealed)).toEqual(Buffer.from(plain));
        const place = at % (sealed.length + clear.length);
        const flip = (bytes: Uint8Array, index: number): Uint8Array =>
          bytes.map((byte, i) => (i === index ? byte ^ (1 << bit) : byte));
        const changed = open(key, nonce, flip(clear, place - sealed.length), flip(sealed, place));
        expect(changed).toBeNull();
      }),
    );
  });

  test("opens nothing that is cut, even to nothing", () => {
    const sealed = seal(key, nonce, Buffer.alloc(0), Buffer.from("text"));
    for (let length = 0; length < sealed.length; length++) {
      expect(open(key, nonce, Buffer.alloc(0), sealed.subarray(0, length))).toBeNull();
    }
  });
});

describe("a key", () => {
  test("differs by secret, purpose and context", () => {
    const keys = [
      keyFor(ONE, "a"),
      keyFor(OTHER, "a"),
      keyFor(ONE, "b"),
      keyFor(ONE, "a", Buffer.from("b")),
      keyFor(ONE, "ab"),
    ];
    expect(new Set(keys.map((key) => key.toString("hex"))).size).toBe(keys.length);
    expect(keyFor(ONE, "a")).toEqual(keys[0]);
  });

  test("white space at the ends of a secret does not count", () => {
    expect(secret("  0123456789abcdef0123456789abcdef\r\n")).toEqual(ONE);
    expect(OTHER.id).not.toBe(ONE.id);
  });

  test("a new secret is one", () => {
    expect(secret(secretText(Buffer.alloc(32, 1))).bytes.length).toBe(43);
  });
});

describe("a secret's file", () => {
  const directory = mkdtempSync(join(tmpdir(), "merklekv-secret-"));
  const write = (name: string, text: string, mode: number): string => {
    const path = join(directory, name);
    writeFileSync(path, text);
    chmodSync(path, mode);
    return path;
  };
  const messageOf = (work: () => unknown): string => {
    try {
      work();
    } catch (error) {
      expect(error).toBeInstanceOf(OperationalError);
      return (error as Error).message;
    }
    throw new Error("nothing was refused");
  };

  test("is read when only its owner may read it", () => {
    const path = write("good", "0123456789abcdef0123456789abcdef\n", 0o600);
    expect(readSecretFile(path, "the cluster secret")).toEqual(ONE);
  });

  test.each([0o644, 0o604, 0o602, 0o620, 0o660, 0o666])("is refused with mode %o", (mode) => {
    const path = write(`mode-${mode}`, "0123456789abcdef0123456789abcdef", mode);
    expect(messageOf(() => readSecretFile(path, "the cluster secret"))).toContain(
      `forbid it with: chmod 600 ${path}`,
    );
  });

  test("is refused when it is short, empty, missing or no file", () => {
    const what = "the cluster secret";
    expect(messageOf(() => readSecretFile(write("short", "hunter2\n", 0o600), what))).toBe(
      `${what} in "${directory}/short" has 7 bytes, but a secret has at least 32; ` +
        "make one with: merklekv keygen",
    );
    expect(messageOf(() => readSecretFile(write("empty", "\n", 0o600), what))).toContain(
      "is empty, but",
    );
    expect(messageOf(() => readSecretFile(join(directory, "none"), what))).toBe(
      `cannot read ${what} in "${directory}/none": there is no such file`,
    );
    expect(messageOf(() => readPrivateFile(directory, what))).toContain("is not a file");
  });
});

test("long and short, sealing into given memory is sealing", () => {
  for (const length of [0, 1, 1_000, 65_535, 65_536, 65_537, 300_000]) {
    const [key, nonce, clear] = [bytes(KEY_BYTES), bytes(NONCE_BYTES), bytes(20)];
    const plain = bytes(length);
    const sealed = new Uint8Array(length + TAG_BYTES + 7);
    sealInto(key, nonce, clear, plain, sealed, 7);
    expect(Buffer.compare(sealed.subarray(7), seal(key, nonce, clear, plain))).toBe(0);
    const opened = new Uint8Array(length);
    expect(openInto(key, nonce, clear, sealed.subarray(7), opened)).toBe(true);
    expect(Buffer.compare(opened, plain)).toBe(0);
    sealed[7 + (length >> 1)] ^= 1;
    expect(openInto(key, nonce, clear, sealed.subarray(7), opened)).toBe(false);
    expect(openInto(key, nonce, clear, sealed.subarray(0, 5), opened)).toBe(false);
  }
});

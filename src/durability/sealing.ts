/**
 * Encryption at rest: the payload of each frame is sealed with AES-256-GCM, with a key for each
 * file. A sealed payload is
 *
 *   0   09               in the place of a record's type, see `record.ts`
 *   1   key id           4 bytes: which secret the key follows from
 *   5   directory id     4 bytes: the same in all files of a data directory
 *   9   file id          12 bytes: drawn when the file is begun
 *   21  nonce            12 bytes: 8 drawn when the file is opened for writing, a counter of 4
 *   33  records, sealed
 *       tag              16 bytes
 *
 * The frame around it is as any other: whether it is whole, and whether a crash cut it off, can be
 * seen without a key. The frame's position, and how much before it was durable, is sealed with it.
 *
 * No nonce is used twice with one key. The key follows from the secret and the ids of directory and
 * file, so what is sealed in other files does not matter. Within a file every frame that is sealed
 * counts on, also one that is sealed again because writing it failed, or in the place of one that
 * a crash cut off; and a process that goes on with the file of another draws 64 bits anew, which
 * are the same for two of a million openings of one file with a chance of one in 10^7.
 *
 * So a frame opens only at its place in its file. A file opens only among files of its directory:
 * the others have another directory id. A frame that is not sealed is not accepted in a file that
 * is, nor, while there is a key, a file that is not sealed behind one that is. What nobody can see
 * is that a whole directory is an older copy of itself.
 */
import { writeU32, writeU64 } from "../core/bytes.ts";
import { OperationalError } from "../operational-error.ts";
import { NONCE_BYTES, openInto, sealInto, TAG_BYTES } from "../security/aead.ts";
import { KEY_ID_BYTES, keyFor, type Secret } from "../security/keys.ts";
import { readSecretFile } from "../security/secret-file.ts";
import { finishFrame, FRAME_HEADER_BYTES } from "./frame.ts";

const PURPOSE = "storage frame";
/** What a sealed payload begins with. */
export const SEALED_FRAME = 0x09;
const DIRECTORY_ID_BYTES = 4;
const FILE_ID_BYTES = 16;
const NONCE_PREFIX_BYTES = 8;
const FILE_ID_AT = 1 + KEY_ID_BYTES;
const NONCE_AT = FILE_ID_AT + FILE_ID_BYTES;
const CLEAR_BYTES = NONCE_AT + NONCE_BYTES;
/** Position u64 and unsynced bytes u32 of the frame. */
const PLACE_BYTES = 12;
/** More than this is not kept for the next frame. */
const KEPT_BYTES = 4 * 1024 * 1024;
const MAX_COUNT = 0xffff_ffff;

/** In the place of a key's id: no key. */
export const NO_KEY = "none";
/** What is said of a frame that is whole and cannot be opened at this place by any key. */
export const WRONG_SEAL = "a frame's seal is wrong: it was changed, or it is from elsewhere";
/** What is said of a frame without a seal in a sealed file. */
export const UNSEALED_FRAME = "a frame is not sealed, though the file is";
/** Somebody may have put it there. */
export const UNSEALED_FILE =
  "it is not sealed, though what was written before it is; if storage.key_file was left out for a " +
  "while, leave it out once more, name it in storage.previous_key_files, and say SNAPSHOT";

/** A file cannot be read for want of its key. */
export class MissingKey extends OperationalError {
  constructor(
    path: string,
    /** Id of the key. */
    readonly keyId: string,
  ) {
    super(
      `${path} is sealed with the key ${keyId}, which is not there; name the file of that key in ` +
        "storage.key_file or storage.previous_key_files, or with --key-file",
    );
  }
}

/** The keys for what is on disk. */
export interface DiskKeys {
  /** What is written is sealed with; null to seal nothing. */
  readonly current: Secret | null;
  /** What was written with these can be read. */
  readonly previous: readonly Secret[];
  /** So many random words of 32 bits that nobody can guess. */
  readonly randomWords: (count: number) => Uint32Array;
}

/** Nothing is sealed. */
export const noKeys: DiskKeys = {
  current: null,
  previous: [],
  randomWords: () => {
    throw new Error("sealing without a key");
  },
};

/** Where keys are, by the names of the configuration; empty for none. */
export interface KeySettings {
  readonly key_file: string;
  readonly previous_key_files: readonly string[];
}

/** Reads the keys. Throws an OperationalError when one cannot be read, or others can read it. */
export function loadDiskKeys(
  { key_file, previous_key_files }: KeySettings,
  randomWords: DiskKeys["randomWords"],
): DiskKeys {
  const current = key_file === "" ? null : readSecretFile(key_file, "the storage key");
  const previous = previous_key_files.map((path) => readSecretFile(path, "a previous storage key"));
  return { current, previous, randomWords };
}

/** With what a file is sealed. */
export interface FileSeal {
  readonly keyId: string;
  /** Of the directory and the file. */
  readonly fileId: Uint8Array;
}

/** How the files of one directory are sealed, and opened. */
export class DirectorySeals {
  /** Ids of keys other than the current one that files need which were read; NO_KEY among them. */
  readonly otherKeys = new Set<string>();
  private directoryId: Uint8Array | null = null;
  private readonly secrets = new Map<string, Secret>();

  constructor(private readonly keys: DiskKeys) {
    const { current, previous } = keys;
    for (const secret of previous) this.secrets.set(secret.id, secret);
    if (current !== null) this.secrets.set(current.id, current);
  }

  /** Id of the key for what is written. */
  get keyId(): string {
    return this.keys.current?.id ?? NO_KEY;
  }

  /** Seals the frames of a new file; null if they are not sealed. */
  newFile(): FrameSealer | null {
    const { current } = this.keys;
    if (current === null) return null;
    this.directoryId ??= this.random(DIRECTORY_ID_BYTES);
    const own = this.random(FILE_ID_BYTES - DIRECTORY_ID_BYTES);
    const fileId = Buffer.concat([this.directoryId, own]);
    return this.goOn({ keyId: current.id, fileId });
  }

  /** Seals further frames of a file as those in it. */
  goOn(file: FileSeal | null): FrameSealer | null {
    if (file === null) return null;
    return new FrameSealer(file, this.keyOf(file)!, this.random(NONCE_PREFIX_BYTES));
  }

  /** Opens the frames of a file. Files are to be read in the order in which they were begun. */
  opener(path: string): FrameOpener {
    return new FrameOpener(path, this);
  }

  /** The key of a file; null when its secret is not given. */
  keyOf({ keyId, fileId }: FileSeal): Buffer | null {
    const secret = this.secrets.get(keyId);
    return secret === undefined ? null : keyFor(secret, PURPOSE, fileId);
  }

  /** Notes how a file is sealed. Null if that can be, else what is wrong. */
  admit(file: FileSeal | null): string | null {
    const keyId = file?.keyId ?? NO_KEY;
    if (keyId !== this.keyId) this.otherKeys.add(keyId);
    if (file === null) {
      return this.directoryId !== null && this.keys.current !== null ? UNSEALED_FILE : null;
    }
    const directoryId = file.fileId.subarray(0, DIRECTORY_ID_BYTES);
    this.directoryId ??= directoryId.slice();
    return Buffer.compare(this.directoryId, directoryId) === 0 ? null : WRONG_SEAL;
  }

  private random(bytes: number): Buffer {
    const words = this.keys.randomWords(bytes / 4);
    return Buffer.from(words.buffer, words.byteOffset, bytes);
  }
}

/** Seals the frames of one file, for one process. */
export class FrameSealer {
  private count = 0;
  private readonly room = new Room();
  private readonly clear = Buffer.alloc(CLEAR_BYTES);

  /** Use `DirectorySeals`. */
  constructor(
    readonly file: FileSeal,
    private readonly key: Buffer,
    noncePrefix: Uint8Array,
  ) {
    const { clear } = this;
    clear[0] = SEALED_FRAME;
    clear.write(file.keyId, 1, "hex");
    clear.set(file.fileId, FILE_ID_AT);
    clear.set(noncePrefix, NONCE_AT);
  }

  /** As `finishFrame`, sealed: a view, valid until the next one. */
  finish(bytes: Uint8Array, length: number, position: number, syncedBytes: number): Uint8Array {
    const { clear } = this;
    if (this.count === MAX_COUNT) throw new Error("too many frames in a file");
    writeU32(clear, NONCE_AT + NONCE_PREFIX_BYTES, this.count++);
    const records = bytes.subarray(FRAME_HEADER_BYTES, length);
    const nonce = clear.subarray(NONCE_AT);
    const sealedAt = FRAME_HEADER_BYTES + CLEAR_BYTES;
    const frameBytes = sealedAt + records.length + TAG_BYTES;
    const frame = this.room.of(frameBytes);
    frame.set(clear, FRAME_HEADER_BYTES);
    const place = withPlace(clear, position, syncedBytes);
    sealInto(this.key, nonce, place, records, frame, sealedAt);
    return finishFrame(frame, frameBytes, position, syncedBytes);
  }
}

/** Opens the frames of one file. */
export class FrameOpener {
  /** With what the file is sealed, null if it is not; undefined before the first frame. */
  file: FileSeal | null | undefined = undefined;
  private key: Buffer | null = null;
  private readonly room = new Room();

  /** Use `DirectorySeals`. */
  constructor(
    private readonly path: string,
    private readonly seals: DirectorySeals,
  ) {}

  /**
   * The records of a payload that was found at that position, valid until the next is opened; or
   * what is wrong with it. Throws an OperationalError when its key is not there.
   */
  open(payload: Uint8Array, position: number, syncedBytes: number): Uint8Array | string {
    const isSealed = payload[0] === SEALED_FRAME;
    if (isSealed && payload.length <= CLEAR_BYTES + TAG_BYTES) return WRONG_SEAL;
    if (this.file === undefined) {
      const file = isSealed ? sealOf(payload) : null;
      const flaw = this.seals.admit(file);
      if (flaw !== null) return flaw;
      if (file !== null) this.key = this.seals.keyOf(file);
      if (file !== null && this.key === null) throw new MissingKey(this.path, file.keyId);
      this.file = file;
    }
    if (this.file === null) return isSealed ? WRONG_SEAL : payload;
    if (!isSealed) return UNSEALED_FRAME;
    const { keyId, fileId } = sealOf(payload);
    if (keyId !== this.file.keyId || Buffer.compare(fileId, this.file.fileId) !== 0) {
      return WRONG_SEAL;
    }
    const clear = payload.subarray(0, CLEAR_BYTES);
    const nonce = clear.subarray(NONCE_AT);
    const sealed = payload.subarray(CLEAR_BYTES);
    const plainBytes = sealed.length - TAG_BYTES;
    const records = this.room.of(plainBytes);
    const place = withPlace(clear, position, syncedBytes);
    const isRight = openInto(this.key!, nonce, place, sealed, records);
    return isRight ? records.subarray(0, plainBytes) : WRONG_SEAL;
  }
}

/** Memory that is used again and again, unless so much is needed that it should be given back. */
class Room {
  private bytes = new Uint8Array(0);

  /** So many bytes at least. */
  of(length: number): Uint8Array {
    if (length > KEPT_BYTES) return new Uint8Array(length);
    if (this.bytes.length < length) this.bytes = new Uint8Array(2 ** Math.ceil(Math.log2(length)));
    return this.bytes;
  }
}

function sealOf(payload: Uint8Array): FileSeal {
  const keyId = Buffer.from(payload.subarray(1, FILE_ID_AT)).toString("hex");
  return { keyId, fileId: payload.slice(FILE_ID_AT, NONCE_AT) };
}

/** What is sealed in clear with a frame. */
function withPlace(clear: Uint8Array, position: number, syncedBytes: number): Uint8Array {
  const all = new Uint8Array(CLEAR_BYTES + PLACE_BYTES);
  all.set(clear);
  writeU64(all, CLEAR_BYTES, position);
  writeU32(all, CLEAR_BYTES + 8, position - syncedBytes);
  return all;
}

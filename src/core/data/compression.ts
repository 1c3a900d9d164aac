/**
 * Compression of what nodes send each other, by zstd. Between nodes that are near it saves nothing
 * but costs little; over a thin line it is most of the time. What does not get shorter is left
 * alone, and tried less and less often.
 *
 * What arrives may have been made to fill the memory: it is unpacked up to a bound and no further.
 */
import { zstdDecompressSync } from "node:zlib";

/** What is shorter is not worth the while, in bytes. */
export const MIN_COMPRESSED_BYTES = 1_024;
/** What is longer would hold up everybody else, so it goes as it is, in bytes. */
export const MAX_UNPACKED_BYTES = 1_048_576;
/** The fastest level; the next ones take twice the time for a few percent. */
const LEVEL = 1;
/** It has to become shorter by this part. */
const MIN_SAVING = 1 / 8;
/** After so many in a row that did not get shorter, the next is left alone, then two, then four… */
const PATIENCE = 4;
/** … and so many at most. */
const MAX_SKIPPED = 32;

/** The first four bytes of anything compressed; no CBOR map begins like this. */
const MAGIC = [0x28, 0xb5, 0x2f, 0xfd] as const;

/** Compresses one message after the other of a kind. */
export class Compressor {
  /** What has been saved by it, in bytes. */
  savedBytes = 0;
  /** How many in a row did not get shorter, and how many are to be left alone because of that. */
  private failures = 0;
  private toSkip = 0;

  /** The bytes, compressed; null when that does not pay. */
  compress(bytes: Uint8Array): Uint8Array | null {
    if (bytes.length < MIN_COMPRESSED_BYTES || bytes.length > MAX_UNPACKED_BYTES) return null;
    if (this.toSkip > 0) {
      this.toSkip--;
      return null;
    }
    const packed = Bun.zstdCompressSync(bytes, { level: LEVEL });
    if (packed.length > bytes.length * (1 - MIN_SAVING)) {
      this.failures++;
      const skipped = 2 ** (this.failures - PATIENCE);
      this.toSkip = skipped < 1 ? 0 : Math.min(MAX_SKIPPED, skipped);
      return null;
    }
    this.failures = 0;
    this.savedBytes += bytes.length - packed.length;
    return packed;
  }
}

/** Whether this is something compressed, and not a CBOR map. */
export function isCompressed(bytes: Uint8Array): boolean {
  return MAGIC.every((byte, at) => bytes[at] === byte);
}

/**
 * What was compressed; "oversized" when that is more than `maxBytes`, "malformed" when it is
 * damaged, or does not say how long it is. No more memory is used than that.
 */
export function decompress(
  bytes: Uint8Array,
  maxBytes: number,
): Uint8Array | "oversized" | "malformed" {
  const announced = announcedBytes(bytes);
  if (announced < 0) return "malformed";
  if (announced > maxBytes) return "oversized";
  try {
    const unpacked = zstdDecompressSync(bytes, { maxOutputLength: maxBytes });
    // Half of it would be unpacked to half.
    return unpacked.length === announced ? unpacked : "malformed";
  } catch (error) {
    const { code } = error as { code?: string };
    return code === "ERR_BUFFER_TOO_LARGE" ? "oversized" : "malformed";
  }
}

/** Lengths of the dictionary's number and of the content size, by their flags (RFC 8878, 3.1.1). */
const DICTIONARY_BYTES = [0, 1, 2, 4] as const;
const SIZE_BYTES = [0, 2, 4, 8] as const;

/** How long it says that it is when unpacked; -1 when it does not. */
function announcedBytes(bytes: Uint8Array): number {
  if (!isCompressed(bytes)) return -1;
  const descriptor = bytes[4];
  const isSingle = (descriptor & 0x20) !== 0;
  const sizeBytes = SIZE_BYTES[(descriptor >>> 6) as 0 | 1 | 2 | 3] || (isSingle ? 1 : 0);
  const at = (isSingle ? 5 : 6) + DICTIONARY_BYTES[(descriptor & 3) as 0 | 1 | 2 | 3];
  if (sizeBytes === 0 || at + sizeBytes > bytes.length) return -1;
  let size = sizeBytes === 2 ? 256 : 0;
  for (let i = 0; i < sizeBytes; i++) size += bytes[at + i] * 256 ** i;
  return size;
}

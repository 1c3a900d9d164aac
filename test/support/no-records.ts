/** A reader of records that takes nothing in, to be made into one that takes some. */
import type { RecordSink } from "../../src/durability/record-reader.ts";

/** See the file header. */
export const NO_RECORDS: RecordSink = {
  head: () => {},
  end: () => {},
  floor: () => {},
  metadata: () => {},
  drop: () => {},
  entry: () => {},
  patch: () => {},
  expiry: () => {},
};

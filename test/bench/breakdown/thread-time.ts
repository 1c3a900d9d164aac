/** Processor time of this thread to the nanosecond, which no function of the runtime gives. */
import { dlopen } from "bun:ffi";

const CLOCK_THREAD_CPUTIME_ID = 3;

const { symbols } = dlopen("libc.so.6", {
  clock_gettime: { args: ["int", "ptr"], returns: "int" },
});
const time = new BigInt64Array(2);

/** Nanoseconds since the thread began. Linux only. */
export function threadTimeNs(): number {
  symbols.clock_gettime(CLOCK_THREAD_CPUTIME_ID, time);
  return Number(time[0]) * 1e9 + Number(time[1]);
}

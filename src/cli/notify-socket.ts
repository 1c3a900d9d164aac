/**
 * The socket on which a service manager listens. The runtime has no call for datagrams on a Unix
 * socket, nor for the machine's monotonic clock, so both go through the C library.
 */
import { ptr } from "bun:ffi";
import { openCLibrary } from "./c-library.ts";

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2_000_000;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const FAMILY_BYTES = 2;
/** What `sun_path` of `sockaddr_un` has room for. */
const PATH_BYTES = 108;

const CLOCK_MONOTONIC = 1;

const FUNCTIONS = {
  clock_gettime: { args: ["i32", "ptr"], returns: "i32" },
  socket: { args: ["i32", "i32", "i32"], returns: "i32" },
  sendto: { args: ["i32", "ptr", "usize", "i32", "ptr", "u32"], returns: "i64" },
} as const;

/** A way to a service manager. */
export interface NotifySocket {
  /** Sends one datagram and does not wait; whether it went out. */
  send(text: string): boolean;
  /** Microseconds by the monotonic clock that all processes of the machine share. */
  monotonicUs(): bigint;
}

/**
 * Opens a way to the socket at `path`; a path that begins with `@` names an abstract one. Throws
 * an Error of one line when there is none.
 */
export function openNotifySocket(path: string): NotifySocket {
  const address = unixAddress(path);
  const { symbols } = openCLibrary(FUNCTIONS);
  const socket = symbols.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (socket < 0) throw new Error("no Unix socket can be made");
  return {
    send(text) {
      const bytes = Buffer.from(text);
      const flags = MSG_DONTWAIT | MSG_NOSIGNAL;
      const to = ptr(address);
      const sent = symbols.sendto(socket, ptr(bytes), bytes.length, flags, to, address.length);
      return Number(sent) >= 0;
    },
    monotonicUs() {
      const time = new BigInt64Array(2); // seconds and nanoseconds
      symbols.clock_gettime(CLOCK_MONOTONIC, ptr(time));
      return time[0] * 1_000_000n + time[1] / 1_000n;
    },
  };
}

/** A `sockaddr_un`. */
export function unixAddress(path: string): Uint8Array {
  const isAbstract = path.startsWith("@");
  if (!isAbstract && !path.startsWith("/")) throw new Error("only a path or @name is understood");
  // An abstract name begins with a zero byte and ends where the address does.
  const name = Buffer.from(isAbstract ? `\0${path.slice(1)}` : `${path}\0`);
  if (name.length > PATH_BYTES) throw new Error(`it is longer than ${PATH_BYTES} bytes`);
  const address = Buffer.alloc(FAMILY_BYTES + name.length);
  new Uint16Array(address.buffer, address.byteOffset, 1)[0] = AF_UNIX;
  name.copy(address, FAMILY_BYTES);
  return address;
}

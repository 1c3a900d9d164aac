/** A service manager, as far as a process sees one: a Unix datagram socket that hears sd_notify. */
import { dlopen, ptr } from "bun:ffi";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { unixAddress } from "../../src/cli/notify-socket.ts";

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOCK_NONBLOCK = 0o4_000;
const LARGEST_BYTES = 65_536;

/** What was heard so far, and where to say more. */
export interface HeardNotifications extends Disposable {
  /** For NOTIFY_SOCKET. */
  readonly path: string;
  /** Every assignment so far, in its order: `["READY=1", …]`. */
  heard(): readonly string[];
}

/** Listens on a socket of its own, abstract or in the file system. */
export function listenAsServiceManager(kind: "path" | "abstract"): HeardNotifications {
  const directory = mkdtempSync(join(tmpdir(), "merklekv-notify-"));
  const path = `${kind === "abstract" ? "@" : ""}${directory}/notify`;
  const { symbols } = dlopen("libc.so.6", {
    socket: { args: ["i32", "i32", "i32"], returns: "i32" },
    bind: { args: ["i32", "ptr", "u32"], returns: "i32" },
    recv: { args: ["i32", "ptr", "usize", "i32"], returns: "i64" },
    close: { args: ["i32"], returns: "i32" },
  });
  const socket = symbols.socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
  const address = unixAddress(path);
  if (symbols.bind(socket, ptr(address), address.length) !== 0) throw new Error(`bind ${path}`);
  const heard: string[] = [];
  const buffer = Buffer.alloc(LARGEST_BYTES);
  return {
    path,
    heard() {
      for (;;) {
        const length = Number(symbols.recv(socket, ptr(buffer), buffer.length, 0));
        if (length < 0) return heard;
        heard.push(...buffer.toString("utf8", 0, length).split("\n"));
      }
    },
    [Symbol.dispose]() {
      symbols.close(socket);
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

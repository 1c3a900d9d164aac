/** The C library, for what the runtime has no call for. */
import { dlopen, type FFIFunction, type Library } from "bun:ffi";
import { arch } from "node:os";

/** Functions of glibc, or of musl. Throws where there is neither. */
export function openCLibrary<Functions extends Record<string, FFIFunction>>(
  functions: Functions,
): Library<Functions> {
  const musl = arch() === "arm64" ? "libc.musl-aarch64.so.1" : "libc.musl-x86_64.so.1";
  try {
    return dlopen("libc.so.6", functions);
  } catch {
    return dlopen(musl, functions);
  }
}

/** The file system with an eye on how much is read, by which long work tells how far it is. */
import { realFileSystem, type FileSystem, type OpenFile } from "../durability/file-system.ts";
import { Progress } from "./progress.ts";

/** Tells `onRead` of all bytes that are read from files of this file system. */
export function watchReads(onRead: (bytes: number) => void): FileSystem {
  const watch = (file: OpenFile): OpenFile =>
    Object.create(file, {
      read: {
        async value(into: Uint8Array, position: number): Promise<number> {
          const length = await file.read(into, position);
          onRead(length);
          return length;
        },
      },
    }) as OpenFile;
  return Object.create(realFileSystem, {
    open: {
      value: async (...args: Parameters<FileSystem["open"]>) =>
        watch(await realFileSystem.open(...args)),
    },
  }) as FileSystem;
}

/** Length of these files together, of those that are there. */
export async function bytesOf(paths: readonly string[]): Promise<number> {
  let bytes = 0;
  for (const path of paths) bytes += Math.max(0, await realFileSystem.sizeOf(path).catch(() => 0));
  return bytes;
}

/** Does what reads so many bytes in all, and shows how far it is. */
export async function withProgress<T>(
  what: string,
  totalBytes: number,
  work: (files: FileSystem) => Promise<T>,
): Promise<T> {
  const progress = new Progress(what, totalBytes, "bytes");
  try {
    return await work(watchReads((bytes) => progress.add(bytes)));
  } finally {
    progress.end();
  }
}

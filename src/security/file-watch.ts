/**
 * Notices that files may have changed. A file that is replaced by renaming another is watched in
 * vain, so it is its directory that is watched; and of a link, as Kubernetes and certbot leave
 * them, that of everything the link leads to. A hint only: on network file systems nothing is
 * noticed.
 */
import { readlinkSync, watch, type FSWatcher } from "node:fs";
import { dirname, resolve } from "node:path";

/** More links than that lead in a circle. */
const MAX_LINKS = 40;

/** See the file header. Links may lead elsewhere after a change: `start` is to be called again. */
export class FileWatch {
  private watchers: FSWatcher[] = [];

  /** `onHint` may be called often. */
  constructor(
    private readonly paths: readonly string[],
    private readonly onHint: () => void,
  ) {}

  /** Watches, and no longer what was watched before. */
  start(): void {
    this.stop();
    for (const directory of new Set(this.paths.flatMap(directoriesOf))) {
      try {
        const watcher = watch(directory, { persistent: false }, this.onHint);
        watcher.on("error", () => watcher.close());
        this.watchers.push(watcher);
      } catch {
        // It is not there, or there are too many watches: the files are looked at now and then too.
      }
    }
  }

  /** Watches nothing any more. */
  stop(): void {
    for (const watcher of this.watchers.splice(0)) watcher.close();
  }
}

/** Where something changes when the file changes: its directory, and those of what it links to. */
function directoriesOf(path: string): string[] {
  const directories: string[] = [];
  let at = resolve(path);
  for (let links = 0; links < MAX_LINKS; links++) {
    directories.push(dirname(at));
    try {
      at = resolve(dirname(at), readlinkSync(at));
    } catch {
      break;
    }
  }
  return directories;
}

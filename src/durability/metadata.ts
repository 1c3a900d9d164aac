/**
 * Small values by name that outlast a restart. Some are set when they change; others live
 * elsewhere and are looked up now and then.
 */
export class Metadata {
  private readonly sources = new Map<string, () => Uint8Array>();

  constructor(private readonly known = new Map<string, Uint8Array>()) {}

  /** What was remembered under a name; undefined when nothing was. */
  get(name: string): Uint8Array | undefined {
    return this.known.get(name);
  }

  /** Whether anything is remembered under a name. */
  has(name: string): boolean {
    return this.known.has(name);
  }

  /** Keeps a copy; an empty value forgets. */
  set(name: string, value: Uint8Array): void {
    if (value.length === 0) this.known.delete(name);
    else this.known.set(name, value.slice());
  }

  /** Has `read` asked for the value from now on. */
  follow(name: string, read: () => Uint8Array): void {
    this.sources.set(name, read);
  }

  /** Asks all sources; calls back for each value that is not the one remembered. */
  refresh(changed: (name: string, value: Uint8Array) => void): void {
    for (const [name, read] of this.sources) {
      const value = read();
      if (Buffer.compare(value, this.known.get(name) ?? NOTHING) !== 0) changed(name, value);
    }
  }

  /** All that is known by now. What has changed still is to be remembered: see `refresh`. */
  all(): ReadonlyMap<string, Uint8Array> {
    const all = new Metadata(new Map(this.known));
    this.refresh((name, value) => all.set(name, value));
    return all.known;
  }
}

const NOTHING = new Uint8Array(0);

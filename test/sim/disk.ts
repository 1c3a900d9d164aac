/**
 * What a node finds again after a crash. Any engine can be put in here: it gets the store when
 * the node starts, fills it, and is told of the crash.
 */
import type { Contacts } from "../../src/core/contacts.ts";
import { Entry } from "../../src/core/entry.ts";
import type { Store } from "../../src/core/store.ts";

/** The disk of one node; it outlives the node's processes. */
export interface Disk {
  /**
   * A process starts: fills its empty store, and keeps what it needs to follow it. Nobody
   * observes the store yet.
   */
  open(store: Store, contacts: Contacts): void;
  /** Everything so far becomes durable. Called about once a second. */
  sync(): void;
  /** Another one with everything that is on this one, or could be made durable now. */
  copy(): Disk;
  /** The process is gone, at any moment, and with it what was not durable. */
  crash(): void;
}

/** No disk: a node comes back empty. */
export class NoDisk implements Disk {
  open(): void {}

  sync(): void {}

  copy(): Disk {
    return new NoDisk();
  }

  crash(): void {}
}

interface Image {
  readonly entries: Entry[];
  readonly floor: Store["floor"];
  readonly clockHigh: number;
  readonly clockLow: number;
  readonly purgedUpToMs: number;
  readonly purgedElsewhereMs: number;
  readonly contacts: [number, number, number, number][];
}

/**
 * A disk that holds the store as it was at the last `sync`, or, with `always`, as it was
 * when the process ended.
 */
export class ImageDisk implements Disk {
  private store: Store | null = null;
  private contacts: Contacts | null = null;
  private image: Image | null = null;

  constructor(private readonly always: boolean) {}

  open(store: Store, contacts: Contacts): void {
    this.store = store;
    this.contacts = contacts;
    const { image } = this;
    if (image === null) return;
    store.clock.observe(image.clockHigh, image.clockLow);
    const { timeHigh, timeLow, originHigh, originLow } = image.floor;
    store.applyFloor(timeHigh, timeLow, originHigh, originLow);
    store.purgedUpToMs = image.purgedUpToMs;
    store.purgedElsewhereMs = image.purgedElsewhereMs;
    for (const entry of image.entries) store.apply(entry);
    for (const contact of image.contacts) contacts.note(...contact);
  }

  sync(): void {
    const { store, contacts } = this;
    if (store === null || contacts === null) return;
    const entries: Entry[] = [];
    const view = new Entry();
    for (let id = 0; id < store.idLimit; id++) {
      if (!store.isUsed(id)) continue;
      store.read(id, view);
      entries.push(view.clone());
    }
    const image: Image = {
      entries,
      floor: { ...store.floor },
      clockHigh: store.clock.high,
      clockLow: store.clock.low,
      purgedUpToMs: store.purgedUpToMs,
      purgedElsewhereMs: store.purgedElsewhereMs,
      contacts: [],
    };
    contacts.forEach((...contact) => image.contacts.push(contact));
    this.image = image;
  }

  copy(): Disk {
    this.sync();
    const copy = new ImageDisk(this.always);
    copy.image = this.image;
    return copy;
  }

  crash(): void {
    if (this.always) this.sync();
    this.store = this.contacts = null;
  }
}

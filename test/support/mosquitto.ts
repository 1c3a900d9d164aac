/** A real mosquitto for tests: on a free port of 127.0.0.1, in a directory of its own. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { eventually } from "./eventually.ts";

// Debian puts it where only root's PATH looks.
const SEARCH_PATH = `${process.env["PATH"] ?? ""}:/usr/sbin:/usr/local/sbin`;

/** Where mosquitto is installed; null when it is not. */
export const mosquittoPath: string | null = Bun.which("mosquitto", { PATH: SEARCH_PATH });

/** Why tests that need mosquitto are skipped. Printed once when it is not installed. */
export const MOSQUITTO_MISSING = "mosquitto is not installed (Debian: apt-get install mosquitto)";
if (mosquittoPath === null) console.warn(`skipped: ${MOSQUITTO_MISSING}`);

/** A broker that tests start and stop; the port stays the same. */
export class Mosquitto {
  private child: Bun.Subprocess | null = null;

  private constructor(
    /** The port it listens on. */
    readonly port: number,
    private readonly directory: string,
  ) {}

  /**
   * Starts one. `settings` are further lines of its configuration; it listens on 127.0.0.1, unless
   * told otherwise.
   */
  static async start(settings: readonly string[] = [], host = "127.0.0.1"): Promise<Mosquitto> {
    const port = await freePort();
    const directory = mkdtempSync(join(tmpdir(), "merklekv-mosquitto-"));
    const lines = [`listener ${port} ${host}`, ...settings];
    if (!settings.some((line) => line.startsWith("allow_anonymous"))) {
      lines.push("allow_anonymous true");
    }
    writeFileSync(join(directory, "mosquitto.conf"), `${lines.join("\n")}\n`);
    const mosquitto = new Mosquitto(port, directory);
    await mosquitto.resume();
    return mosquitto;
  }

  /** The address for `mqtt.broker_address`. */
  get address(): string {
    return `mqtt://127.0.0.1:${this.port}`;
  }

  /** Starts it again after `pause`, and waits until it answers. */
  async resume(): Promise<void> {
    if (mosquittoPath === null) throw new Error(MOSQUITTO_MISSING);
    const child = Bun.spawn([mosquittoPath, "-c", join(this.directory, "mosquitto.conf")], {
      cwd: this.directory,
      stdout: "ignore",
      stderr: "ignore",
    });
    this.child = child;
    await eventually("mosquitto answers", () => {
      if (hasEnded(child)) throw new Error(`mosquitto ended with ${child.exitCode}`);
      return answersAt(this.port);
    });
  }

  /** Ends it in good order. Resolves when it is gone. */
  pause(): Promise<void> {
    return this.end("SIGTERM");
  }

  /** Lets it do nothing, with all connections open, until `thaw`. */
  freeze(): void {
    this.child?.kill("SIGSTOP");
  }

  /** Lets it go on. */
  thaw(): void {
    this.child?.kill("SIGCONT");
  }

  /** Ends it with SIGKILL. Resolves when it is gone. */
  crash(): Promise<void> {
    return this.end("SIGKILL");
  }

  /** Ends it for good and removes its directory. */
  async stop(): Promise<void> {
    await this.pause();
    rmSync(this.directory, { recursive: true, force: true });
  }

  private async end(signal: NodeJS.Signals): Promise<void> {
    const { child } = this;
    if (child === null) return;
    this.child = null;
    child.kill(signal);
    try {
      await eventually(`mosquitto ends on ${signal}`, () => hasEnded(child));
    } finally {
      child.kill("SIGKILL");
    }
  }
}

/**
 * A port that nobody listens on just now. It is below those that the system gives out by itself, so
 * nobody is given it before it is used, nor while who uses it is restarted.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = 10_000 + Math.floor(Math.random() * 20_000);
    const server = createServer();
    const isFree = await new Promise<boolean>((resolve) => {
      server.on("error", () => resolve(false)).listen(port, () => resolve(true));
    });
    if (!isFree) continue;
    await new Promise<void>((resolve) => server.close(() => resolve()));
    return port;
  }
}

function hasEnded({ exitCode, signalCode }: Bun.Subprocess): boolean {
  return exitCode !== null || signalCode !== null;
}

/** A CONNECT of MQTT 3.1.1 without a name. */
const CONNECT = Buffer.from("100c00044d515454040200050000", "hex");

/**
 * Whether a broker answers a CONNECT, be it by closing the connection. That somebody listens is not
 * enough: mosquitto 2.0 listens before its main loop runs, and loses a SIGTERM that comes between.
 */
function answersAt(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    let isConnected = false;
    const socket = connect(port, "127.0.0.1", () => {
      isConnected = true;
      socket.write(CONNECT);
    });
    socket.on("data", () => socket.destroy());
    // Where TLS is spoken, the connection is reset.
    socket.on("error", () => {}).on("close", () => resolve(isConnected));
  });
}

/** Who may come in at the embedded broker: whoever knows one name and its password. */
import { createHash, timingSafeEqual } from "node:crypto";
import type { Logger } from "../observability/log.ts";
import type { Timing } from "../timing.ts";

/** A name and its password. */
export interface BrokerAccount {
  readonly username: string;
  readonly password: string;
}

/** As the package calls it; `done` with an error refuses, with its `returnCode`. */
interface Authentication {
  authenticate?(
    client: { readonly id: string },
    username: string | undefined,
    password: Uint8Array | undefined,
    done: (error: (Error & { returnCode: number }) | null, isLetIn: boolean) => void,
  ): void;
}

/** Who gives another password waits so long for the answer, in ms. */
const REFUSAL_DELAY_MS = 1_000;
/** "Bad user name or password", as MQTT 3.1.1 counts. */
const BAD_CREDENTIALS = 4;

/** What the package asks of everybody who says CONNECT. Without an account all may come in. */
export function authentication(
  account: () => BrokerAccount | null,
  timing: Timing,
  logger: Logger,
): Authentication {
  return {
    authenticate(client, username, password, done) {
      const asked = account();
      if (asked === null) return done(null, true);
      const expected = [asked.username, asked.password].map(digest);
      const given = [username ?? "", password ?? ""].map(digest);
      // Both are compared, and each as a whole, so that the time taken tells nothing.
      const fitting = given.filter((it, i) => timingSafeEqual(it, expected[i]));
      if (fitting.length === expected.length) return done(null, true);
      logger.warn("The embedded broker refused a user name or password", { client: client.id });
      timing.after(REFUSAL_DELAY_MS, () => {
        const error = Object.assign(new Error("bad user name or password"), {
          returnCode: BAD_CREDENTIALS,
        });
        done(error, false);
      });
    },
  };
}

function digest(text: string | Uint8Array): Buffer {
  return createHash("sha256").update(text).digest();
}

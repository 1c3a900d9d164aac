/** Users, as connections hold on to them: what one may do can change while it is connected. */
import type { UserDefinition } from "./definition.ts";

/** A user of this node. */
export class User {
  /** Hashes of passwords that were found right, by the kept one; see `logins.ts`. */
  readonly known = new Map<string, Buffer>();
  private current: UserDefinition;

  constructor(
    readonly name: string,
    definition: UserDefinition,
    /** Somebody is this user: false before a login, when nothing is permitted. */
    readonly isSomebody = true,
  ) {
    this.current = definition;
  }

  /** What it may do now. Setting it takes effect with the next command of its connections. */
  get definition(): UserDefinition {
    return this.current;
  }

  set definition(definition: UserDefinition) {
    this.current = definition;
    this.known.clear();
  }
}

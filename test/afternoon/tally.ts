/** What was seen in the afternoon, one line each, and how much of it was as it should be. */
export class Tally {
  passed = 0;
  failed = 0;

  constructor(private readonly say: (line: string) => void) {}

  /** A heading. */
  section(title: string): void {
    this.say(`\n${title}`);
  }

  /** Something to be known that is neither right nor wrong. */
  note(text: string): void {
    this.say(`       ${text}`);
  }

  /** Runs a look; what it resolves with was seen. One that rejects was wrong, and the rest goes on. */
  async look(what: string, look: () => Promise<string | void>): Promise<void> {
    try {
      const seen = await look();
      this.passed++;
      this.say(`(pass) ${what}${seen ? `: ${seen}` : ""}`);
    } catch (error) {
      this.failed++;
      this.say(`(fail) ${what}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  /** The last line. */
  get counts(): string {
    return `${this.passed} passed, ${this.failed} failed`;
  }
}

/**
 * Something about the machine or the configuration that stops the program: a port in use, a
 * file that cannot be read. Its message is one line that says what, where and what to do;
 * it is shown without a stack.
 */
export class OperationalError extends Error {
  override name = "OperationalError";

  /** There is no room on a disk: making some may help. */
  readonly isFull: boolean;
  /** Nothing has failed: what was asked for cannot be done in this way, or not now. */
  readonly isRefusal: boolean;

  constructor(
    message: string,
    options: ErrorOptions & { isFull?: boolean; isRefusal?: boolean } = {},
  ) {
    super(message, options);
    this.isFull = options.isFull ?? false;
    this.isRefusal = options.isRefusal ?? false;
  }
}

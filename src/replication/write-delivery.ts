/**
 * Sees to it that what this node writes reaches the others, or that it is known that it did not:
 * publishes it, checks that it is heard (`echo-check.ts`), and counts what the broker refuses,
 * drops or does not pass on. Whoever compares nodes looks at those counts.
 */
import type { Timing } from "../timing.ts";
import { EchoCheck } from "./echo-check.ts";
import { Publisher } from "./publisher.ts";
import type { MessageSink, PublisherOptions } from "./publisher-options.ts";
import type { PublishProblem, Transport } from "./transport.ts";

/** What a packet has around topic and message, at most: an identifier, and no properties. */
const PACKET_OVERHEAD_BYTES = 10;

/** What a traceparent adds to that, as a user property. */
const TRACEPARENT_BYTES = 80;

/** What it is made with. */
export interface WriteDeliveryOptions extends Omit<PublisherOptions, "onMissed"> {
  readonly topic: string;
  readonly timing: Timing;
  readonly transport: () => Transport;
  /** As in MessageSink. */
  readonly agreement: () => MessageSink["agreement"];
  /** A message of so many bytes was sent. */
  readonly onSent: (bytes: number) => void;
  /** The broker did not take a message. */
  readonly onRefused: (problem: PublishProblem) => void;
  /** The node is not heard, or again; `isNews`: the others take it to be otherwise. */
  readonly onHeardChange: (isHeard: boolean, isNews: boolean) => void;
}

/** See the file header. */
export class WriteDelivery {
  readonly publisher: Publisher;
  /** Writes that the broker did not pass on, since the start. */
  refusedEvents = 0;
  /** How often others were to be compared with, for this node is not heard. */
  comparisonsAsked = 0;
  private readonly echo: EchoCheck;
  /** Whether it was heard when the others were told last. */
  private wasHeard = true;

  constructor(private readonly options: WriteDeliveryOptions) {
    this.publisher = new Publisher({
      ...options,
      onMissed: (events, message) => {
        this.refusedEvents += events;
        options.onRefused({ message });
      },
    });
    this.echo = new EchoCheck({
      timing: options.timing,
      beat: (acknowledged) =>
        this.publisher.beat((problem) => {
          if (problem) options.onRefused(problem);
          acknowledged(problem);
        }),
      onChange: (isHeard) => this.noteHeardChange(isHeard),
      onUnheard: () => this.comparisonsAsked++,
    });
  }

  /** This node's messages do not come back to it, as far as is known. */
  get isUnheard(): boolean {
    return this.echo.isUnheard;
  }

  /** A connection is up, and everybody who was there before is back: writes may leave. */
  start(): void {
    const { topic, transport } = this.options;
    this.publisher.start(this.createSink(transport()));
    this.echo.start(transport().isGranted(topic) && !this.publisher.isMuted);
  }

  /** The connection is over; `isOverMessage` as in `Publisher.stop`. */
  stop(isOverMessage: boolean): void {
    this.echo.stop();
    // It is known why the connection ended: the next one need not wait.
    if (this.publisher.stop(isOverMessage)) this.options.transport().hurry();
  }

  /** A batch of this node's came back. */
  noteOwnBatch(sequence: number): void {
    this.publisher.noteHeard(sequence);
    this.echo.noteHeard();
  }

  private noteHeardChange(isHeard: boolean): void {
    const { topic, transport, onHeardChange } = this.options;
    if (isHeard) transport().silenceOwn(topic);
    onHeardChange(isHeard, isHeard !== this.wasHeard);
    this.wasHeard = isHeard;
  }

  private createSink(transport: Transport): MessageSink {
    const { echo } = this;
    const { topic, agreement, onSent } = this.options;
    const overheadBytes = PACKET_OVERHEAD_BYTES + Buffer.byteLength(topic);
    return {
      get receiveMaximum() {
        return transport.receiveMaximum;
      },
      // A broker of MQTT 5 says what it does not take, and need not send it back.
      get isEchoing() {
        return echo.isHeard && transport.protocolVersion < 5;
      },
      get maxMessageBytes() {
        return transport.maxPacketBytes - overheadBytes;
      },
      get agreement() {
        return agreement();
      },
      get isPaced() {
        return transport.messagesPerSecond < Infinity;
      },
      pauseMs: () => transport.pauseMs(),
      send: (message, acknowledged, traceparent) => {
        onSent(message.length);
        const done = (problem?: PublishProblem): void => {
          if (problem === undefined && echo.isUnheard) this.refusedEvents++;
          acknowledged(problem);
        };
        const length = message.length + overheadBytes + TRACEPARENT_BYTES;
        const hasRoom = traceparent !== undefined && length <= transport.maxPacketBytes;
        if (hasRoom) transport.publish(topic, message, false, done, traceparent);
        else transport.publish(topic, message, false, done);
      },
      notePassed: (bytes) => transport.notePassed(bytes + overheadBytes),
      noteTooLong: (bytes) => transport.noteTooLong(bytes + overheadBytes),
    };
  }
}

// One viewer of a terminal in a sandbox: what it sends, and all it was told.
import { PassThrough } from 'node:stream';

import type { MeshClient } from '@wrenn/cli/client';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { eventually } from '@wrenn/kit/testkit/eventually';
import type { AttachStartSchema, ProcessServiceAttachRequestSchema } from '@wrenn/proto/wrenn/v1/process';

type Request = MessageInitShape<typeof ProcessServiceAttachRequestSchema>;
type Start = MessageInitShape<typeof AttachStartSchema>;

export const newTerminal = (tag: string, command: string, ...args: string[]) => ({
  case: 'newTerminal' as const,
  value: { tag, process: { command, args } },
});
export const tagged = (tag: string) => ({
  case: 'existing' as const,
  value: { selector: { case: 'tag' as const, value: tag } },
});

export class Terminal implements AsyncDisposable {
  pid = 0;
  screen: string | undefined; // As it was painted for who came later.
  sequence = 0n; // The last one seen.
  typedCount = 0; // Messages of keys that went on their way.
  exitCode: number | undefined;
  failure: unknown;
  readonly ended: Promise<void>;
  readonly #messages = new PassThrough({ objectMode: true });
  readonly #leave = new AbortController();
  readonly #output: Uint8Array[] = [];
  #reading = Promise.resolve();

  constructor(client: MeshClient, start: Start) {
    void this.#send({ part: { case: 'start', value: start } });
    this.ended = this.#follow(client).catch((error: unknown) => void (this.failure = error));
  }

  get output(): Buffer {
    return Buffer.concat(this.#output);
  }

  get text(): string {
    return this.output.toString();
  }

  // Resolves once it went on its way.
  async type(keys: string | Uint8Array): Promise<void> {
    await this.#send({ part: { case: 'input', value: Buffer.from(keys) } });
    this.typedCount++;
  }

  resize(columns: number, rows: number): Promise<void> {
    return this.#send({ part: { case: 'resize', value: { columns, rows } } });
  }

  signal(signal: number): Promise<void> {
    return this.#send({ part: { case: 'signal', value: signal } });
  }

  // Returns where it ends; looks behind `from`.
  async until(what: string, from = 0): Promise<number> {
    const at = () => this.text.indexOf(what, from);
    await eventually(`${JSON.stringify(what)} is shown`, () => at() >= 0 || this.failure !== undefined, 60_000).catch(
      (error: unknown) => {
        throw new Error(`it shows ${JSON.stringify(this.text.slice(-2000))}`, { cause: error });
      },
    );
    if (at() < 0) throw new Error('it broke off', { cause: this.failure });
    return at() + what.length;
  }

  // Takes nothing more until what is returned is called.
  standStill(): () => void {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#reading = promise;
    return resolve;
  }

  endKeys(): void {
    this.#messages.end();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#leave.abort();
    await this.ended;
  }

  #send(request: Request): Promise<void> {
    return new Promise((resolve) => this.#messages.write(request, () => resolve()));
  }

  async #follow(client: MeshClient): Promise<void> {
    for await (const { event } of client.processes.attach(this.#messages, { signal: this.#leave.signal })) {
      if (!event) continue;
      const { event: what, sequence } = event;
      if (sequence > 0n) this.#count(sequence, what.case === 'screen');
      if (what.case === 'started') this.pid = what.value.pid;
      if (what.case === 'screen') this.screen = Buffer.from(what.value.contents).toString();
      if (what.case === 'terminal') this.#output.push(what.value);
      if (what.case === 'exited') this.exitCode = what.value.exitCode;
      await this.#reading;
    }
  }

  #count(sequence: bigint, isFirst: boolean): void {
    const isNext = this.sequence === 0n || sequence === this.sequence + 1n;
    if (!isFirst && !isNext) throw new Error(`event ${sequence} behind event ${this.sequence}`);
    this.sequence = sequence;
  }
}

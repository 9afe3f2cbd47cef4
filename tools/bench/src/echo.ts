// One terminal that echoes, and how long a key takes to come back from it. Every byte is held against what was sent:
// one that is missing, changed or out of its order ends the measurement.
import { PassThrough } from 'node:stream';

import type { Guest } from '@wrenn/e2e/guest';
import type { RpcClient } from '@wrenn/kit/lanes';
import { Lanes } from '@wrenn/kit/lanes';
import { Process } from '@wrenn/proto/process/process';
import type { ProcessService } from '@wrenn/proto/wrenn/v1/process';

const limitMs = 60_000;
// The kernel echoes; what is typed is read, since a terminal that nobody reads fills up.
const command = { name: '/bin/sh', args: ['-c', 'stty raw echo; echo ready; exec cat > /dev/null'] };

export class EchoTerminal {
  checkedBytes = 0;
  readonly #type: (keys: Uint8Array) => void;
  readonly #leave: () => void;
  readonly #ready = Promise.withResolvers<void>();
  #begun = '';
  #awaited = Buffer.alloc(0);
  #came: PromiseWithResolvers<void> | undefined;
  #keyCount = 0;

  private constructor(type: (keys: Uint8Array) => void, leave: () => void, shown: AsyncIterable<Uint8Array>) {
    this.#type = type;
    this.#leave = leave;
    this.#follow(shown).catch((error: unknown) => {
      this.#ready.reject(error);
      this.#came?.reject(error);
    });
  }

  // By the public API: of a mesh, or of whatever serves it.
  static async throughMesh(
    processes: RpcClient<typeof ProcessService.method>,
    sandboxId: string,
  ): Promise<EchoTerminal> {
    const messages = new PassThrough({ objectMode: true });
    const leave = new AbortController();
    const process = { command: command.name, args: command.args };
    messages.write({
      part: { case: 'start', value: { sandboxId, terminal: { case: 'newTerminal', value: { process } } } },
    });
    async function* shown() {
      for await (const { event } of processes.attach(messages, { signal: leave.signal })) {
        if (event?.event.case === 'terminal') yield event.event.value;
      }
    }
    const type = (keys: Uint8Array) => void messages.write({ part: { case: 'input', value: keys } });
    return new EchoTerminal(type, () => leave.abort(), shown()).#opened();
  }

  // Straight at the guest's agent, by the calls that vm-runtime makes.
  static async atAgent(guest: Guest): Promise<EchoTerminal> {
    const lanes = new Lanes(`${await guest.address()}:49983`, 'the guest agent');
    const agent = lanes.client('interactive', Process);
    const keys = new PassThrough({ objectMode: true });
    const leave = new AbortController();
    const { signal } = leave;
    async function* shown() {
      const request = { process: { cmd: command.name, args: command.args }, pty: {} };
      for await (const { event } of agent.start(request, { signal })) {
        if (event?.event.case === 'start') {
          const selector = { case: 'pid' as const, value: event.event.value.pid };
          keys.write({ event: { case: 'start', value: { process: { selector } } } });
          void agent.streamInput(keys, { signal }).catch(() => undefined); // Its end is seen on the other stream.
        }
        if (event?.event.case === 'data' && event.event.value.output.value) yield event.event.value.output.value;
      }
    }
    const type = (value: Uint8Array) =>
      void keys.write({ event: { case: 'data', value: { input: { input: { case: 'pty', value } } } } });
    const end = () => {
      leave.abort();
      lanes.close();
    };
    return new EchoTerminal(type, end, shown()).#opened();
  }

  // How long one key, of bytes that no other has, takes to come back, in ms.
  async key(): Promise<number> {
    const keys = Buffer.from(`${(this.#keyCount++).toString(36)}.`);
    this.#came = Promise.withResolvers();
    this.#awaited = keys;
    const startedAtMs = performance.now();
    const late = setTimeout(() => this.#came?.reject(new Error(`no echo of ${String(keys)} came in time`)), limitMs);
    this.#type(keys);
    try {
      await this.#came.promise;
      return performance.now() - startedAtMs;
    } finally {
      clearTimeout(late);
    }
  }

  close(): void {
    this.#came = undefined;
    this.#leave();
  }

  async #opened(): Promise<this> {
    await this.#ready.promise;
    return this;
  }

  async #follow(shown: AsyncIterable<Uint8Array>): Promise<void> {
    for await (const bytes of shown) {
      if (this.#begun.endsWith('ready\n')) this.#check(bytes);
      else this.#begun += Buffer.from(bytes).toString();
      if (this.#begun.endsWith('ready\n')) this.#ready.resolve();
    }
    throw new Error('the terminal ended');
  }

  #check(bytes: Uint8Array): void {
    const expected = this.#awaited.subarray(0, bytes.length);
    if (!expected.equals(bytes))
      throw new Error(`"${Buffer.from(bytes).toString()}" came where "${String(this.#awaited)}" was due`);
    this.checkedBytes += bytes.length;
    this.#awaited = this.#awaited.subarray(bytes.length);
    if (this.#awaited.length === 0) this.#came?.resolve();
  }
}

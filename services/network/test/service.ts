// The service as an operator runs it: a process of its own, its environment, and a unix socket.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

import { Lanes, type RpcClient } from '@wrenn/kit/lanes';
import { runProgram } from '@wrenn/kit/run-program';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { NetworkService } from '@wrenn/proto/wrenn/network/v1/network';

import { type SendLimit, hostTable } from '../src/domain/firewall.ts';
import { type SlotRange, indexOfName, isWithin } from '../src/domain/slot.ts';

const main = join(import.meta.dirname, '../src/main.ts');

export interface ServiceOptions {
  readonly range: SlotRange;
  readonly dir: string; // Holds its state and its socket.
  readonly poolSize?: number;
  readonly sendLimit?: SendLimit;
}

export class RunningService implements AsyncDisposable {
  readonly client: RpcClient<typeof NetworkService.method>;
  readonly socket: string;
  readonly #child: ChildProcess;
  readonly #lanes: Lanes;
  #output = '';

  constructor({ range, dir, poolSize = 2, sendLimit }: ServiceOptions) {
    this.socket = join(dir, 'network.sock');
    this.#child = spawn(process.execPath, [main], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        PATH: process.env['PATH'],
        WRENN_LISTEN: `unix:${this.socket}`,
        WRENN_STATE_DIR: join(dir, 'state'),
        WRENN_FIRST_SLOT: String(range.first),
        WRENN_LAST_SLOT: String(range.last),
        WRENN_POOL_SIZE: String(poolSize),
        ...(sendLimit && {
          WRENN_SEND_BYTES_PER_SECOND: String(sendLimit.bytesPerSecond),
          WRENN_SEND_BURST_BYTES: String(sendLimit.burstBytes),
        }),
      },
    });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => (this.#output += text));
    }
    this.#lanes = new Lanes(`unix:${this.socket}`, 'network');
    this.client = this.#lanes.client('control', NetworkService);
  }

  get output(): string {
    return this.#output;
  }

  async serving(): Promise<this> {
    await eventually(
      'the service serves',
      () => {
        if (this.#hasEnded()) throw new Error(`the service ended: ${this.#output}`);
        return this.#output.includes('"msg":"serving"');
      },
      30_000,
    );
    return this;
  }

  // Sends a signal and resolves to the exit code once the process is gone; null if the signal ended it.
  async end(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    this.#child.kill(signal);
    return this.exitCode();
  }

  async exitCode(): Promise<number | null> {
    if (!this.#hasEnded()) await once(this.#child, 'exit');
    return this.#child.exitCode;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#lanes.close();
    await this.end();
  }

  #hasEnded(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }
}

export function startService(options: ServiceOptions): Promise<RunningService> {
  return new RunningService(options).serving();
}

// Everything in the kernel that belongs to the slots of a range: the leak check.
export async function remainsOf(range: SlotRange): Promise<string[]> {
  const isOurs = (name: string) => isWithin(range, indexOfName(name) ?? 0);
  const namespaces = existsSync('/run/netns') ? readdirSync('/run/netns').filter(isOurs) : [];
  const links = readdirSync('/sys/class/net').filter(isOurs);
  const tables = (await runProgram('nft', ['list', 'tables'])).split('\n');
  const routes = (await runProgram('ip', ['-4', 'route', 'show', 'table', 'all'])).split('\n');
  return [
    ...namespaces,
    ...links,
    ...tables.filter((line) => line === `table inet ${hostTable(range)}`),
    ...routes.filter((line) => line.split(' ').some(isOurs)),
  ];
}

// For the end of a suite that failed: takes away what it left.
export async function clear(range: SlotRange): Promise<void> {
  const commands = (await remainsOf(range)).map((name) => {
    if (name.startsWith('table')) return ['nft', 'delete', ...name.split(' ')];
    if (name.startsWith('wrenn-ns-')) return ['ip', 'netns', 'del', name];
    return name.startsWith('wrenn-v-') ? ['ip', 'link', 'del', name] : [];
  });
  for (const [program, ...args] of commands) {
    // Deleting a namespace may have taken its link along already.
    if (program) await runProgram(program, args).catch(() => undefined);
  }
}

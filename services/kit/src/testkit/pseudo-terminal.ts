// A program in a terminal, as a person has it: keys go in, what is shown comes out. By python3's own pseudo-terminals.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import type { Readable, Writable } from 'node:stream';

import { eventually } from './eventually.ts';

const helper = join(import.meta.dirname, 'pseudo-terminal.py');

export interface TerminalEnd {
  readonly exitCode: number; // Negative: the signal that ended it.
  readonly modes: 'raw' | 'cooked'; // As it left the terminal.
}

export class PseudoTerminal implements AsyncDisposable {
  shown = ''; // All that was shown so far.
  readonly ended: Promise<TerminalEnd>;
  readonly #child;
  readonly #orders: Writable;

  constructor(program: readonly string[], env: Readonly<Record<string, string>> = {}, columns = 80, rows = 24) {
    this.#child = spawn('python3', [helper, `${columns}`, `${rows}`, ...program], {
      env: { PATH: '/usr/local/bin:/usr/bin:/bin', TERM: 'xterm-256color', ...env },
      stdio: ['pipe', 'pipe', 'inherit', 'pipe', 'pipe'],
    });
    this.#child.stdout?.setEncoding('utf8').on('data', (shown: string) => (this.shown += shown));
    this.#child.stdin?.on('error', () => undefined); // It may end before it has read all.
    this.#orders = this.#child.stdio[3] as Writable;
    this.#orders.on('error', () => undefined);
    this.ended = this.#end();
  }

  type(keys: string | Uint8Array): void {
    this.#child.stdin?.write(keys);
  }

  resize(columns: number, rows: number): void {
    this.#orders.write(`resize ${columns} ${rows}\n`);
  }

  signal(number: number): void {
    this.#orders.write(`signal ${number}\n`);
  }

  // Until this is shown behind what was shown before `from`; returns where it ends.
  async until(what: string, from = 0): Promise<number> {
    const at = () => this.shown.indexOf(what, from);
    await eventually(`${JSON.stringify(what)} is shown`, () => at() >= 0, 60_000).catch((error: unknown) => {
      throw new Error(`it shows ${JSON.stringify(this.shown.slice(-2000))}`, { cause: error });
    });
    return at() + what.length;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.signal(9);
    await this.ended;
  }

  async #end(): Promise<TerminalEnd> {
    const [told] = await Promise.all([text(this.#child.stdio[4] as Readable), once(this.#child, 'close')]);
    const [exitCode, modes] = told.split(' ');
    return { exitCode: Number(exitCode), modes: modes as TerminalEnd['modes'] };
  }
}

// The terminal that this program runs in, as long as another one is joined to it: every key is passed on as it is,
// and whatever happens, it is given back as it was.
import { constants } from 'node:os';
import type { ReadStream, WriteStream } from 'node:tty';

import type { TerminalSize } from '@wrenn/proto/wrenn/v1/process';

import { FullScreen } from './full-screen.ts';

export type Size = Pick<TerminalSize, 'columns' | 'rows'>;

const endings = ['SIGTERM', 'SIGHUP', 'SIGINT', 'SIGQUIT'] as const;
// Reports of keys, pastes and the mouse, margins, colours, a hidden cursor: what a program may have left behind.
const asUsual = '\x1b[?1l\x1b>\x1b[?9;1000;1002;1003;1005;1006;2004l\x1b[r\x1b[m\x1b[?25h';

export class LocalTerminal implements Disposable {
  readonly #input: ReadStream;
  readonly #output: WriteStream;
  readonly #screen = new FullScreen();
  readonly #undo = new DisposableStack();
  #isTaken = false;

  constructor(input: ReadStream, output: WriteStream) {
    this.#input = input;
    this.#output = output;
  }

  // Takes it over. `onEnd` is told the code to exit with when a signal ends this program.
  take(onKeys: (keys: Buffer) => void, onResize: () => void, onEnd: (exitCode: number) => void): void {
    this.#isTaken = true;
    const giveBack = () => this.#giveBack();
    process.once('exit', giveBack);
    this.#undo.defer(() => void process.off('exit', giveBack));
    for (const name of endings) {
      const end = () => {
        this.#giveBack();
        onEnd(128 + constants.signals[name]);
      };
      process.on(name, end);
      this.#undo.defer(() => void process.off(name, end));
    }
    const closed = () => onEnd(128 + constants.signals.SIGHUP);
    this.#input.setRawMode(true).on('data', onKeys).on('end', closed).on('error', closed).resume();
    this.#undo.defer(() => void this.#input.off('data', onKeys).off('end', closed).off('error', closed).pause());
    this.#output.on('resize', onResize);
    this.#undo.defer(() => void this.#output.off('resize', onResize));
  }

  get size(): Size {
    return { columns: this.#output.columns || 80, rows: this.#output.rows || 24 };
  }

  // Whether a program draws on a screen of its own, on which a line of ours would stand in the way.
  get isFullScreen(): boolean {
    return this.#screen.isOn;
  }

  // Resolves when it is taken, so that a slow terminal slows who writes to it.
  show(bytes: Uint8Array): Promise<void> {
    this.#screen.see(bytes);
    return new Promise((resolve) => this.#output.write(bytes, () => resolve()));
  }

  say(line: string): void {
    this.#output.write(`\r\n\x1b[m[wrenn: ${line}]\r\n`);
  }

  pauseKeys(): void {
    this.#input.pause();
  }

  resumeKeys(): void {
    if (this.#isTaken) this.#input.resume();
  }

  [Symbol.dispose](): void {
    this.#giveBack();
    this.#undo.dispose();
  }

  #giveBack(): void {
    if (!this.#isTaken) return;
    this.#isTaken = false;
    if (this.#screen.isTouched) this.#output.write(`${this.#screen.isOn ? '\x1b[?1049l' : ''}${asUsual}`);
    this.#input.setRawMode(false);
  }
}

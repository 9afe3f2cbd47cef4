// Something that keeps others busy, in a process and session of its own: what is measured beside it must share
// neither an event loop nor a share of the processors with it. The program tells on stdout, a line at a time, how much
// it has done, until it is killed.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

export class LoadProcess implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #startedAtMs = performance.now();
  #told = '';

  protected constructor(program: string, args: readonly string[]) {
    this.#child = spawn(process.execPath, [join(import.meta.dirname, program), ...args], {
      detached: true,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
  }

  // Resolves once something was done.
  static async run(program: string, ...args: string[]): Promise<LoadProcess> {
    const load = new LoadProcess(program, args);
    await load.begun();
    return load;
  }

  protected async begun(): Promise<void> {
    const lines = createInterface(this.#child.stdout!);
    lines.on('line', (line) => (this.#told = line));
    await Promise.race([once(lines, 'line'), once(this.#child, 'exit').then(() => this.check())]);
  }

  // The last line.
  get told(): string {
    return this.#told;
  }

  get perSecond(): number {
    return (Number(this.#told) * 1000) / (performance.now() - this.#startedAtMs);
  }

  // Fails if it has ended.
  check(): void {
    if (this.#child.exitCode !== null) throw new Error(`the load ended with ${this.#child.exitCode}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.check();
    const ended = once(this.#child, 'exit');
    this.#child.kill();
    await ended;
  }
}

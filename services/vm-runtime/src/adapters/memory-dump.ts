// Writes what a stopped VM changed in its mapped memory. services/pager/README.md is the contract. The program is
// started while the VM still runs, and only waits for the word then: its start costs the guest nothing.
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { readFile, stat } from 'node:fs/promises';
import type { Readable, Writable } from 'node:stream';

import { type ProcessIdentity } from '@wrenn/kit/process-identity';
import { setAttributes } from '@wrenn/kit/telemetry/span';

import type { VmPaths } from './vm-paths.ts';

const limitMs = 30_000;
const pageBytes = 4096;

export class MemoryDump implements Disposable {
  readonly #child: ChildProcessByStdio<Writable, Readable, Readable>;
  readonly #written: Promise<number>;

  private constructor(child: ChildProcessByStdio<Writable, Readable, Readable>) {
    this.#child = child;
    this.#written = untilWritten(child);
    // Whoever asks for it hears of it.
    this.#written.catch(() => undefined);
  }

  static async ready(program: string, { pid }: ProcessIdentity, paths: VmPaths): Promise<MemoryDump> {
    const address = (await readFile(paths.ramAddress, 'utf8')).trim();
    const { size } = await stat(paths.ramBase);
    const where = ['--pid', String(pid), '--address', address, '--bytes', String(size), '--out', paths.ram];
    const child = spawn(program, ['dump', ...where], { stdio: ['pipe', 'pipe', 'pipe'], cwd: '/', env: {} });
    return new MemoryDump(child);
  }

  // Resolves once all of it is in the file.
  async write(): Promise<void> {
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), limitMs);
    try {
      this.#child.stdin.end('\n');
      const pages = await this.#written;
      setAttributes({ 'wrenn.memory.pages': pages, 'wrenn.memory.bytes': pages * pageBytes });
    } finally {
      clearTimeout(timer);
    }
  }

  // Calls it off, unless it has begun.
  [Symbol.dispose](): void {
    this.#child.stdin.end();
  }
}

// How many pages, as soon as it says so: its end comes behind it.
function untilWritten(child: ChildProcessByStdio<Writable, Readable, Readable>): Promise<number> {
  return new Promise((resolve, reject) => {
    let [said, complaint] = ['', ''];
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      said += text;
      const pages = /^\{"pages":(\d+)\}\n/.exec(said)?.[1];
      if (pages !== undefined) resolve(Number(pages));
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => (complaint += text));
    // One that has ended takes no word; why it did is told by its end.
    child.stdin.on('error', () => undefined);
    child.on('error', reject);
    child.on('close', (code, signal) => {
      reject(new Error(`the changed memory was not written (${signal ?? code}): ${complaint.trim().slice(0, 500)}`));
    });
  });
}

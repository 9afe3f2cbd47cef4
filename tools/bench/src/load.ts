// Transfers through the mesh, one after another (in: of 1 GiB; out: of the file that is there), by a client in a
// process and session of its own: what a command is measured beside must share neither an event loop nor a share
// of the processors with what measures it.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import type { TestMesh } from '@wrenn/e2e/mesh';

export type Direction = 'up' | 'down';
export const loadPath = '/srv/load';

export class Load implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #startedAtMs = performance.now();
  movedBytes = 0;

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  // Resolves once bytes flow.
  static async start(mesh: TestMesh, sandboxId: string, direction: Direction): Promise<Load> {
    const { gateway, gatewayBulk } = mesh.mesh.addresses;
    const program = join(import.meta.dirname, 'load-client.ts');
    const args = [program, gateway, gatewayBulk, sandboxId, loadPath, direction];
    const child = spawn(process.execPath, args, { detached: true, stdio: ['ignore', 'pipe', 'inherit'] });
    const load = new Load(child);
    const lines = createInterface(child.stdout!);
    lines.on('line', (line) => (load.movedBytes = Number(line)));
    await Promise.race([once(lines, 'line'), once(child, 'exit').then(() => load.check())]);
    return load;
  }

  // Fails if the transfers have ended.
  check(): void {
    if (this.#child.exitCode !== null) throw new Error(`the load ended with ${this.#child.exitCode}`);
  }

  get rate(): number {
    return this.movedBytes / 1e3 / (performance.now() - this.#startedAtMs);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.check();
    const ended = once(this.#child, 'exit');
    this.#child.kill();
    await ended;
  }
}

// One edge more of a mesh, as a host or a machine in front of all of them has it.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

import { repositoryRoot } from '@wrenn/cli/mesh/options';
import { runnable } from '@wrenn/cli/programs/programs';

export class EdgeProcess implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly ports: readonly number[]; // That it serves, in the order of its log.

  private constructor(child: ChildProcess, ports: readonly number[]) {
    this.#child = child;
    this.ports = ports;
  }

  // Resolves once it serves so many ports.
  static async start(env: Readonly<Record<string, string>>, portCount: number): Promise<EdgeProcess> {
    const child = spawn(process.execPath, [runnable(repositoryRoot, 'services/edge-proxy/src/main.ts')], {
      cwd: repositoryRoot,
      env: { WRENN_LISTEN: '127.0.0.1:0', ...env },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const ports: number[] = [];
    for await (const line of createInterface(child.stdout)) {
      const { port } = JSON.parse(line) as { port?: number };
      if (port !== undefined) ports.push(port);
      if (ports.length === portCount) break;
    }
    child.stdout.resume();
    return new EdgeProcess(child, ports);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = once(this.#child, 'exit');
    this.#child.kill();
    await ended;
  }
}

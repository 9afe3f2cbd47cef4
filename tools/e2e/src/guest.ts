// A sandbox under test, with the calls that tests make most.
import { listProcesses } from '@wrenn/cli/proc';
import { inMs } from '@wrenn/kit/deadlines';
import { durationOfMs } from '@wrenn/kit/duration';
import { Lanes } from '@wrenn/kit/lanes';
import type { ProcessIdentity } from '@wrenn/kit/process-identity';
import { SchedulerService } from '@wrenn/proto/wrenn/scheduler/v1/scheduler';
import type { Sandbox } from '@wrenn/proto/wrenn/v1/sandbox';

import type { TestMesh } from './mesh.ts';

export interface ExecOptions {
  readonly stdin?: string | Uint8Array;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  readonly user?: string;
  readonly timeoutMs?: number;
  readonly maxOutputBytes?: bigint;
}

export class Guest {
  readonly id: string;
  readonly #mesh: TestMesh;

  constructor(mesh: TestMesh, id: string) {
    this.#mesh = mesh;
    this.id = id;
  }

  async exec(command: string, args: readonly string[] = [], options: ExecOptions = {}) {
    const { stdin = '', env = {}, cwd = '', user = '', timeoutMs, maxOutputBytes = 0n } = options;
    const request = {
      sandboxId: this.id,
      process: { command, args: [...args], env: { ...env }, cwd, user },
      stdin: Buffer.from(stdin),
      maxOutputBytes,
      ...(timeoutMs !== undefined && { timeout: durationOfMs(timeoutMs) }),
    };
    const result = await this.#mesh.client.processes.exec(request, inMs((timeoutMs ?? 60_000) + 25_000));
    const text = { out: Buffer.from(result.stdout).toString(), err: Buffer.from(result.stderr).toString() };
    return { ...result, ...text };
  }

  // What a shell script prints; fails unless it succeeds.
  async sh(script: string, options: ExecOptions = {}): Promise<string> {
    const { exitCode, out, err } = await this.exec('/bin/sh', ['-c', script], options);
    if (exitCode !== 0) throw new Error(`exit code ${exitCode} of ${script}: ${err || out}`);
    return out.trimEnd();
  }

  // Starts a program that runs on, and resolves once it does.
  async start(command: string, args: readonly string[], { env = {}, cwd = '', user = '' }: ExecOptions = {}) {
    const process = { command, args: [...args], env: { ...env }, cwd, user };
    await this.#mesh.client.processes.start({ sandboxId: this.id, process })[Symbol.asyncIterator]().next();
  }

  // How many processes inside have such a command line.
  async count(commandLine: string): Promise<number> {
    const { out } = await this.exec('ps', ['-o', 'args']);
    return out.split('\n').filter((line) => line.trim() === commandLine).length;
  }

  async get(): Promise<Sandbox> {
    const { sandbox } = await this.#mesh.client.sandboxes.get({ sandboxId: this.id }, inMs(10_000));
    if (!sandbox) throw new Error(`${this.id}: an answer without a sandbox`);
    return sandbox;
  }

  async destroy(): Promise<void> {
    await this.#mesh.client.sandboxes.destroy({ sandboxId: this.id }, inMs(60_000));
  }

  async pause(waitDurable = false): Promise<void> {
    await this.#mesh.client.sandboxes.pause({ sandboxId: this.id, waitDurable }, inMs(120_000));
  }

  async resume(): Promise<void> {
    await this.#mesh.client.sandboxes.resume({ sandboxId: this.id }, inMs(60_000));
  }

  async fork(count: number): Promise<Guest[]> {
    const { sandboxes } = await this.#mesh.client.sandboxes.fork({ sandboxId: this.id, count }, inMs(120_000));
    return sandboxes.map(({ id }) => new Guest(this.#mesh, id));
  }

  // Where this machine reaches the guest.
  async address(): Promise<string> {
    const lanes = new Lanes(this.#mesh.mesh.addresses.scheduler, 'scheduler');
    try {
      const scheduler = lanes.client('control', SchedulerService);
      return (await scheduler.resolveSandbox({ sandboxId: this.id }, inMs(10_000))).guestAddress;
    } finally {
      lanes.close();
    }
  }

  vmm(): ProcessIdentity | undefined {
    return listProcesses().find(
      ({ args }) => args[0]?.includes('qemu-system') === true && args.includes(`wrenn-${this.id}`),
    );
  }
}

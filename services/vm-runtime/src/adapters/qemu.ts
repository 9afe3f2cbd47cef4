// The QEMU driver. Each VM's QEMU runs as a uid of its own without privileges, in its slot's network
// namespace, under seccomp and in a cgroup; it outlives this service, which may adopt it again.
import { spawn } from 'node:child_process';
import { chown, mkdir, open, readFile, rm } from 'node:fs/promises';
import { setPriority } from 'node:os';
import { join } from 'node:path';

import { WrennError, messageOf } from '@wrenn/kit/errors';
import { failpoint } from '@wrenn/kit/failpoint';
import type { SandboxId } from '@wrenn/kit/ids';
import {
  type ProcessIdentity,
  hasEndedWithin,
  identifyProcess,
  isRunning,
  signalProcess,
} from '@wrenn/kit/process-identity';

import type { Launch, Machine, Vmm } from '../domain/vm.ts';
import type { Cgroups, Limits } from './cgroups.ts';
import { type QemuPlatform, machineArgs, qemuProgram, vmName } from './qemu-args.ts';
import { connectMachine, reconnectMachine } from './qemu-machine.ts';
import { unprivileged } from './unprivileged.ts';
import { processesNamed } from './vmm-processes.ts';

export interface QemuOptions {
  readonly platform: Promise<QemuPlatform>; // New VMs wait for it.
  readonly vmsDir: string; // One directory a VM, shared with the journal.
  readonly ramDir: string;
  readonly cgroups: Cgroups;
}

const MiB = 1024 * 1024;
const connectLimitMs = 10_000;
const killLimitMs = 10_000;
const privateMode = 0o700;
// Guests come after this service, whose own they would else have.
const guestNiceness = 0;

export class Qemu implements Vmm {
  readonly #options: QemuOptions;

  constructor(options: QemuOptions) {
    this.#options = options;
  }

  async start(launch: Launch, signal: AbortSignal): Promise<Machine> {
    const { sandboxId, slot } = launch;
    const platform = await this.#options.platform;
    const paths = this.#paths(sandboxId);
    for (const dir of [paths.jail, paths.ramDir]) {
      await mkdir(dir, { recursive: true, mode: privateMode });
      await chown(dir, slot.vmmUid, slot.vmmUid);
    }
    await chown(launch.diskPath, slot.vmmUid, slot.vmmUid);
    await failpoint('vm.spawn.jailed');
    this.#options.cgroups.create(vmName(sandboxId), limitsOf(launch));
    await failpoint('vm.spawn.before');
    const process = await this.#spawn(machineArgs(platform, launch, paths), launch, paths);
    await failpoint('vm.spawn.after');
    try {
      const limited = AbortSignal.any([signal, AbortSignal.timeout(connectLimitMs)]);
      return await connectMachine(process, paths.qmp, limited);
    } catch (error) {
      signal.throwIfAborted();
      const said = (await readFile(paths.log, 'utf8')).trim().slice(-500);
      throw new WrennError('VMM_START_FAILED', `QEMU did not start: ${said || messageOf(error)}`, { cause: error });
    }
  }

  adopt(sandboxId: SandboxId, process: ProcessIdentity): Machine | undefined {
    return isRunning(process) ? reconnectMachine(process, this.#paths(sandboxId).qmp) : undefined;
  }

  async release(sandboxId: SandboxId): Promise<void> {
    const name = vmName(sandboxId);
    for (const process of processesNamed(name)) {
      signalProcess(process, 'SIGKILL');
      if (!(await hasEndedWithin(process, killLimitMs))) throw new Error(`QEMU ${process.pid} does not end`);
    }
    await failpoint('vm.release.killed');
    const paths = this.#paths(sandboxId);
    await rm(paths.ramDir, { recursive: true, force: true });
    await rm(paths.jail, { recursive: true, force: true });
    await failpoint('vm.release.removed');
    await this.#options.cgroups.remove(name);
  }

  async #spawn(args: readonly string[], launch: Launch, paths: Paths): Promise<ProcessIdentity> {
    const [program, ...rest] = [
      ...['ip', 'netns', 'exec', launch.slot.namespace],
      ...unprivileged(launch.slot.vmmUid),
      ...[qemuProgram, ...args],
    ] as [string, ...string[]];
    const log = await open(paths.log, 'w', 0o600);
    try {
      // Each program of the chain executes the next in place: the child's pid is QEMU's.
      const child = spawn(program, rest, { detached: true, cwd: '/', stdio: ['ignore', log.fd, log.fd], env: {} });
      await new Promise<void>((resolve, reject) => child.once('spawn', resolve).once('error', reject));
      this.#options.cgroups.enter(vmName(launch.sandboxId), child.pid!);
      setPriority(child.pid!, guestNiceness);
      child.unref();
      const process = identifyProcess(child.pid!);
      if (!process) throw new Error('it ended at once');
      return process;
    } catch (error) {
      throw new WrennError('VMM_START_FAILED', `QEMU did not start: ${messageOf(error)}`, { cause: error });
    } finally {
      await log.close();
    }
  }

  #paths(sandboxId: SandboxId) {
    const dir = join(this.#options.vmsDir, sandboxId);
    const jail = join(dir, 'jail');
    const ramDir = join(this.#options.ramDir, sandboxId);
    return { jail, ramDir, ram: join(ramDir, 'ram'), qmp: join(jail, 'qmp.sock'), log: join(dir, 'vmm.log') };
  }
}

type Paths = { jail: string; ramDir: string; ram: string; qmp: string; log: string };

// The guest's memory, and what QEMU itself takes: 256 MiB of translated code at most, and the rest.
function limitsOf(launch: Launch): Limits {
  return {
    memoryBytes: launch.memoryBytes + 512 * MiB,
    cpuPercent: launch.vcpuCount * 100 + 50,
    taskCount: launch.vcpuCount + 100,
  };
}

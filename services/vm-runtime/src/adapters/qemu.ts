// The QEMU driver. Each VM's QEMU runs as a uid of its own without privileges, in its slot's network
// namespace, under seccomp and in a cgroup; it outlives this service, which may adopt it again.
import { chown, mkdir, readFile, rm } from 'node:fs/promises';
import { basename } from 'node:path';

import { WrennError, hasReason, messageOf } from '@wrenn/kit/errors';
import { failpoint } from '@wrenn/kit/failpoint';
import type { SandboxId } from '@wrenn/kit/ids';
import { type ProcessIdentity, hasEndedWithin, isRunning, signalProcess } from '@wrenn/kit/process-identity';

import type { VmmFacts } from '../domain/snapshot.ts';
import type { Launch, Machine, MachineProcesses, Vmm } from '../domain/vm.ts';
import type { Cgroups, GroupUsage, Limits } from './cgroups.ts';
import type { Pager } from './pager.ts';
import type { HostPlatform } from './platform.ts';
import { vmName } from './qemu-args.ts';
import { type QemuMachine, connectMachine, reconnectMachine } from './qemu-machine.ts';
import { spawnQemu } from './qemu-process.ts';
import { type VmPaths, vmPaths } from './vm-paths.ts';
import { processesNamed } from './vmm-processes.ts';

export interface QemuOptions {
  readonly platform: Promise<HostPlatform>; // New VMs wait for it.
  readonly pager: Pager;
  readonly vmsDir: string;
  readonly ramDir: string;
  readonly cgroups: Cgroups;
}

const MiB = 1024 * 1024;
const connectLimitMs = 10_000;
const loadLimitMs = 30_000;
const killLimitMs = 10_000;
const privateMode = 0o700;

export class Qemu implements Vmm {
  readonly #options: QemuOptions;

  constructor(options: QemuOptions) {
    this.#options = options;
  }

  async facts(): Promise<VmmFacts> {
    return (await this.#options.platform).facts;
  }

  async start(launch: Launch, signal: AbortSignal): Promise<Machine> {
    const { sandboxId, slot } = launch;
    const platform = await this.#options.platform;
    const paths = this.#paths(sandboxId);
    for (const dir of [paths.jail, paths.frozen]) {
      await mkdir(dir, { recursive: true, mode: privateMode });
      await chown(dir, slot.vmmUid, slot.vmmUid);
    }
    await chown(launch.diskPath, slot.vmmUid, slot.vmmUid);
    await failpoint('vm.spawn.jailed');
    this.#options.cgroups.create(this.#cgroup(sandboxId), limitsOf(launch));
    await failpoint('vm.spawn.before');
    const processes = await this.#spawn(platform, launch);
    await failpoint('vm.spawn.after');
    try {
      const limited = AbortSignal.any([signal, AbortSignal.timeout(connectLimitMs)]);
      const machine = await connectMachine({ processes, paths, pager: this.#options.pager }, limited);
      if (launch.restore) await this.#awaitRestored(machine, sandboxId, signal);
      return machine;
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof WrennError && !hasReason(error, 'VMM_DIED', 'VMM_STUCK')) throw error;
      const said = (await readFile(paths.log, 'utf8')).trim().slice(-500);
      throw new WrennError('VMM_START_FAILED', `QEMU did not start: ${said || messageOf(error)}`, { cause: error });
    }
  }

  adopt(sandboxId: SandboxId, processes: MachineProcesses): Machine | undefined {
    if (!isRunning(processes.vmm)) return undefined;
    return reconnectMachine({ processes, paths: this.#paths(sandboxId), pager: this.#options.pager });
  }

  strike({ vmm }: MachineProcesses): void {
    signalProcess(vmm, 'SIGKILL');
  }

  async awaitEnd(sandboxId: SandboxId, { vmm, pager }: Pick<MachineProcesses, 'vmm' | 'pager'>): Promise<void> {
    if (!(await hasEndedWithin(vmm, killLimitMs))) throw new Error(`QEMU ${vmm.pid} does not end`);
    if (pager) await this.#awaitPagerEnd(pager, this.#paths(sandboxId));
  }

  async kill(sandboxId: SandboxId): Promise<void> {
    for (const vmm of processesNamed(vmName(sandboxId))) {
      signalProcess(vmm, 'SIGKILL');
      await this.awaitEnd(sandboxId, { vmm });
    }
    const paths = this.#paths(sandboxId);
    for (const pager of processesNamed(paths.pagerSocket, '--listen')) await this.#awaitPagerEnd(pager, paths);
  }

  // What its cgroup says, if it has one.
  groupUsage(sandboxId: SandboxId): Promise<GroupUsage> {
    return this.#options.cgroups.usage(this.#cgroup(sandboxId));
  }

  frozenDirectory(sandboxId: SandboxId): string {
    return this.#paths(sandboxId).frozen;
  }

  async release(sandboxId: SandboxId): Promise<void> {
    await this.kill(sandboxId);
    await failpoint('vm.release.killed');
    const paths = this.#paths(sandboxId);
    await rm(paths.frozen, { recursive: true, force: true });
    await rm(paths.jail, { recursive: true, force: true });
    await failpoint('vm.release.removed');
    await this.#options.cgroups.remove(this.#cgroup(sandboxId));
  }

  // It ends by itself when its VM does, after it has written down which pages were touched.
  async #awaitPagerEnd(pager: ProcessIdentity, paths: VmPaths): Promise<void> {
    if (!(await hasEndedWithin(pager, killLimitMs))) signalProcess(pager, 'SIGKILL');
    if (!(await hasEndedWithin(pager, killLimitMs))) throw new Error(`pager ${pager.pid} does not end`);
    await this.#options.pager.noteWork(paths);
  }

  async #spawn(platform: HostPlatform, launch: Launch): Promise<MachineProcesses> {
    const { pager, cgroups } = this.#options;
    const { sandboxId, slot, restore } = launch;
    const paths = this.#paths(sandboxId);
    const enterCgroup = (pid: number) => cgroups.enter(this.#cgroup(sandboxId), pid);
    const spawning = { platform, launch, paths, enterCgroup };
    if (!restore) return { vmm: await spawnQemu(spawning), memory: 'boot' };
    const { snapshot, memorySource: memory } = restore;
    if (memory === 'map') return { vmm: await spawnQemu(spawning), memory };
    const isEager = memory === 'copy';
    const served = await pager.start({ paths, uid: slot.vmmUid, snapshot, isEager, enterCgroup });
    return { vmm: await spawnQemu(spawning), memory, pager: served };
  }

  async #awaitRestored(machine: QemuMachine, sandboxId: SandboxId, signal: AbortSignal): Promise<void> {
    const limited = AbortSignal.any([signal, AbortSignal.timeout(loadLimitMs)]);
    const { pager } = machine.processes;
    await Promise.all([
      machine.awaitLoaded(limited),
      pager && this.#options.pager.awaitPrefetched(pager, this.#paths(sandboxId)),
    ]);
  }

  // Named after its mesh as well: several meshes on one machine share the hierarchy.
  #cgroup(sandboxId: SandboxId): string {
    return `${basename(this.#options.ramDir)}-${sandboxId}`;
  }

  #paths(sandboxId: SandboxId) {
    return vmPaths(this.#options, sandboxId);
  }
}

// The guest's memory, and what QEMU itself takes: 256 MiB of translated code at most, and the rest.
function limitsOf(launch: Launch): Limits {
  return {
    memoryBytes: launch.memoryBytes + 512 * MiB,
    cpuPercent: launch.vcpuCount * 100 + 50,
    taskCount: launch.vcpuCount + 100,
  };
}

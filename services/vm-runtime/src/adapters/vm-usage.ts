// What a VM takes, from where the kernel counts it: its cgroup, or its processes where the host has no cgroups; its
// network namespace, which a VMM is in; the blocks of its disk, which the store knows.
import { readFile } from 'node:fs/promises';

import type { SandboxId } from '@wrenn/kit/ids';
import { isRunning } from '@wrenn/kit/process-identity';

import type { UsageCounters, UsageMeter } from '../domain/usage-sampler.ts';
import type { MachineProcesses } from '../domain/vm.ts';
import type { GroupUsage } from './cgroups.ts';

export interface VmUsageParts {
  readonly groupUsage: (sandboxId: SandboxId) => Promise<GroupUsage>;
  readonly diskBytes: () => Promise<ReadonlyMap<SandboxId, number>>;
}

// Ticks of /proc/PID/stat: USER_HZ is 100 on every Linux that runs on x86-64.
const tickMs = 10;
const pageBytes = 4096;

export class VmUsage implements UsageMeter {
  readonly #parts: VmUsageParts;

  constructor(parts: VmUsageParts) {
    this.#parts = parts;
  }

  diskBytes(): Promise<ReadonlyMap<SandboxId, number>> {
    return this.#parts.diskBytes();
  }

  async read(sandboxId: SandboxId, { vmm, pager }: MachineProcesses): Promise<UsageCounters | undefined> {
    if (!isRunning(vmm)) return undefined;
    const pids = pager && isRunning(pager) ? [vmm.pid, pager.pid] : [vmm.pid];
    const [group, devices] = await Promise.all([
      this.#parts.groupUsage(sandboxId),
      readFile(`/proc/${vmm.pid}/net/dev`, 'utf8'),
    ]);
    const { rx, tx } = trafficOf(devices);
    return {
      cpuMs: group.cpuMs ?? (await sumOf(pids, cpuMsOf)),
      memoryBytes: group.memoryBytes ?? (await sumOf(pids, residentBytesOf)),
      // What the TAP receives is what the guest has sent.
      receivedBytes: tx,
      sentBytes: rx,
    };
  }
}

async function sumOf(pids: readonly number[], read: (pid: number) => Promise<number>): Promise<number> {
  const each = await Promise.all(pids.map(read));
  return each.reduce((sum, value) => sum + value, 0);
}

async function cpuMsOf(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) * tickMs;
}

async function residentBytesOf(pid: number): Promise<number> {
  const [, resident] = (await readFile(`/proc/${pid}/statm`, 'utf8')).split(' ');
  return Number(resident) * pageBytes;
}

// Of the TAP in a namespace's /proc/PID/net/dev.
export function trafficOf(devices: string): { readonly rx: number; readonly tx: number } {
  const line = devices.split('\n').find((each) => each.trim().startsWith('tap'));
  const values =
    line
      ?.slice(line.indexOf(':') + 1)
      .trim()
      .split(/\s+/)
      .map(Number) ?? [];
  return { rx: values[0] ?? 0, tx: values[8] ?? 0 };
}

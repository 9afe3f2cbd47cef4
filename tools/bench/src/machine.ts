// What the numbers were measured on.
import { cpus, release, totalmem } from 'node:os';

import type { TestMesh } from '@wrenn/e2e/mesh';
import { inMs } from '@wrenn/kit/deadlines';

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGiB: number;
  readonly kernel: string;
  readonly vmm: string;
  readonly accelerator: string;
  readonly node: string;
}

export async function describeMachine(mesh: TestMesh): Promise<Machine> {
  const { hosts } = await mesh.client.hosts.list({}, inMs(10_000));
  const capacity = hosts.find(({ isAlive }) => isAlive)?.capacity;
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    vmm: capacity?.vmm ?? 'unknown',
    accelerator: capacity?.accelerator ?? 'unknown',
    node: process.version,
  };
}
